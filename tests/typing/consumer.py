"""Use of the public API as a type checker sees it. The tests do not run this file: mypy reads it in strict mode."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, KFold

from mmestim import (
    ContributionDisplay,
    Diagnosis,
    DiagnosisDisplay,
    EditTimelineDisplay,
    JointClassifier,
    LateFusionClassifier,
    ModalityGapAnalyzer,
    ModalityGapClassifier,
    ModalityGapDisplay,
    SliceDict,
    UDIClassifier,
    VoiceEditDetector,
    balancers,
    diagnose,
    gap_scores,
    load,
    modality_contributions,
    save,
    stack_modalities,
)
from mmestim.balancers import OGM, Balancer
from mmestim.datasets import load_digit_views
from mmestim.voice import (
    AudioCorpus,
    Between,
    ClipAnalysis,
    EditRecord,
    EditSimulator,
    ScannedFile,
    Skipped,
    scan_files,
    write_report,
    write_results,
)
from mmestim.voice.formats import read_segments, write_segments
from mmestim.voice.localization import EditSegment, IntervalTracker
from mmestim.voice.metrics import detection_report

Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]

# Multimodal classifiers ------------------------------------------------------------------------------

X, columns, shapes = stack_modalities(audio=np.ones((9, 10)), image=np.zeros((9, 8, 8)))
assert_type(columns, dict[str, slice])
y = ["real", "fake", "real"] * 3

udi = UDIClassifier(columns, shapes=shapes, encoder="mlp", cv=None, random_state=0)
assert_type(udi.fit(X, y, groups=range(9)), UDIClassifier)
assert_type(udi.predict(X), NDArray[Any])
assert_type(udi.predict_proba(X), Float32s)
assert_type(udi.predict_proba_per_modality(X), dict[str, Float32s])
assert_type(udi.transform(X), Float32s)
assert_type(udi.anchor_, str)
assert_type(udi.order_, list[str])
assert_type(udi.branch_scores_, dict[str, float])
assert_type(udi.guidance_history_["image"]["weights"], NDArray[np.floating])
assert_type(udi.history_, list[dict[str, Any]])
assert_type(udi.classes_, NDArray[Any])
assert_type(udi.modalities_["audio"], NDArray[np.int64])
assert_type(udi.n_iter_, int)
network: torch.nn.Module = udi.module_
accuracy: float = udi.score(X, y)
UDIClassifier.published(columns, max_epochs=20).fit(X, y)

UDIClassifier(guidance=(1.0, 0.5), anchor="audio", follower_init="warm", fusion="sum", lr=0.01, lr_schedule=None)
LateFusionClassifier(columns, lr={"audio": 1e-2, "image": "auto", "head": 1e-3})
LateFusionClassifier(
    {"audio": [0, 1], "image": ["pixel"]},
    encoder={"audio": "conv1d", "image": torch.nn.Linear(64, 8)},
    cv=KFold(3),
    optimizer=torch.optim.RMSprop,
    class_weight="balanced",
    device=torch.device("cpu"),
    random_state=np.random.RandomState(0),
    checkpoint=Path("checkpoint"),
)
splits = [(np.arange(4), np.arange(4, 9)), (np.arange(4, 9), np.arange(4))]
late = LateFusionClassifier(cv=splits, store_oof=True, class_weight={"real": 2.0, "fake": 1.0}).fit(X, y)
assert_type(late.oof_proba_["image"], Float32s)
assert_type(late.fusion_weights_, dict[str, float])


def make_encoder(input_shape: tuple[int, ...], embedding_dim: int) -> torch.nn.Module:
    return torch.nn.Linear(input_shape[0], embedding_dim)


joint = JointClassifier(columns, fusion="gated", encoder=make_encoder, balancer=OGM(alpha=0.5), precision="bf16")
joint.fit(SliceDict(audio=np.ones((9, 10)), image=np.zeros((9, 8, 8))), np.array(y), sample_weight=np.ones(9))
assert_type(joint.balancers_, list[Balancer])
assert_type(joint.balance_history_[0]["ratio"], Float32s)

gap = ModalityGapClassifier(columns, monitor="valid_accuracy", warmup_fraction=0.2).fit(X, y)
assert_type(gap.analyzer_, ModalityGapAnalyzer | None)
assert_type(gap.fine_tuned_, bool)

search = GridSearchCV(udi, {"lr": [1e-2, 1e-3]}, cv=2).fit(X, y)
udi.set_params(max_epochs=5).fit(X, y)

# Analyses and displays -------------------------------------------------------------------------------

analyzer = ModalityGapAnalyzer(signed=True).fit(gap_scores(udi, X, y))
assert_type(analyzer.means_, Floats)
assert_type(analyzer.bimodal_, bool)
assert_type(analyzer.predict([[0.9, 0.2]]), NDArray[np.bool_])
diagnosis = diagnose(joint, X, y, balancers=[OGM(), balancers.MMPareto()], cv=3)
assert_type(diagnosis, Diagnosis)
assert_type(diagnosis.gains, dict[str, tuple[float, float]])
modality_contributions(udi, X, y, confidence_level=0.9)
ContributionDisplay.from_estimator(udi, X, y).ax_.set_title("Contributions")
DiagnosisDisplay.from_diagnosis(diagnosis).ax_.set_xlabel("accuracy")
ModalityGapDisplay.from_estimator(udi, X, y, bins=20).figure_.set_facecolor("white")
digits = load_digit_views(views=["pixels", "fourier"])
udi.fit(digits.data, digits.target)

# Files -----------------------------------------------------------------------------------------------

save(udi, Path("udi.mme"))
loaded: UDIClassifier = load("udi.mme", device="cpu")

# Voice -----------------------------------------------------------------------------------------------

clips = [np.zeros(16000), np.zeros(8000)]
simulator = EditSimulator({"low_pass": "held_out", "echo": {"delay": Between(0.1, 0.2)}}, n_edits=1, order="fixed")
waveforms, records = simulator.simulate(clips, n_jobs=2)
assert_type(waveforms, list[Float32s])
assert_type(records, list[EditRecord])

detector = VoiceEditDetector.from_pretrained()
assert_type(detector, VoiceEditDetector)
analysis = detector.analyze(["clip.wav", *clips])[0]
assert_type(analysis, ClipAnalysis)
assert_type(analysis.probabilities, dict[str, float])
assert_type(analysis.window_probabilities, Float32s)
assert_type(analysis.verdict, str)
assert_type(detector.predict_proba(clips), Float32s)
assert_type(detector.locate(clips), list[list[EditSegment]])
assert_type(detector.thresholds_, Floats)
assert_type(detector.labels_, NDArray[np.str_])
mean_precision: float = detector.score(AudioCorpus("speech", on_error="skip"))

own = VoiceEditDetector(["cut", "echo"], window=[0.35, 1.2], model="features", noises="noises", sources={"tts": clips})
own.fit(clips, records).fit(clips, [{"cut"}, {"echo", "cut"}]).fit(clips, ["a", "b"], groups=[0, 1])
VoiceEditDetector("all", model=lambda n_outputs: torch.nn.Linear(400, n_outputs), precision="bf16", lr=1e-3)

for result in scan_files(detector, ["recordings"], channels="each", prior=0.9):
    assert_type(result, ScannedFile | Skipped)
write_results([], "results.csv")
write_report([], "report.html", detector)
EditTimelineDisplay.from_estimator(detector, "clip.wav").image_.set_alpha(0.5)
write_segments(read_segments("labels.TextGrid", "textgrid"), "segments.rttm")
IntervalTracker(["mix"], onset={"mix": 0.6}, min_duration_on=0.1)([0.0, 0.1], [[0.2], [0.9]], 0.2)
detection_report([[1], [0]], [[0.9], [0.2]], ["mix"])
