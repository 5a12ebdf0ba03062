"""Accuracy of scans whose windows are closer together or farther apart, beside their time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from joblib import Parallel, delayed
from sklearn.metrics import average_precision_score, roc_auc_score

from _detection_data import RATE, ClipSet
from _simulation_tables import head, row
from mmestim.voice import EditRecord, VoiceEditDetector
from mmestim.voice._detection.clip_analysis import ClipAnalysis, analyze_recording
from mmestim.voice.localization import record_segments
from mmestim.voice.metrics import per_label_scores, segment_f1
from mmestim.voice.metrics.detection import mean_of_defined
from mmestim.voice.taxonomy import SPLICED_LABELS

# In windows.
HOPS = (0.5, 0.75, 0.9, 1.0)


def hop_table(clips: ClipSet, detectors: dict[str, VoiceEditDetector], n_jobs: int) -> Iterator[str]:
    """Yield a table of the time and the accuracy of detectors for each hop."""
    seconds = np.diff(clips.boundaries).mean() / RATE
    yield (
        f"{len(clips)} whole utterances of {seconds:.0f} s on average, of speakers that no detector was trained on, "
        "with zero to three edits, each utterance scored as one recording. Hop: in windows. Time: of the processor, "
        "beside that of the first row. Splices: mean over labels with splice points. Any: unedited utterances with "
        "any label.\n"
    )
    yield from head("", "hop", "time", "ROC-AUC", "average precision", "splices ROC-AUC", "places F1", "any, %")
    for name, detector in detectors.items():
        first = None
        for hop in HOPS:
            parts = np.array_split(np.arange(len(clips)), n_jobs)
            results = Parallel(n_jobs)(delayed(_analyze)(detector, clips, part, hop) for part in parts)
            used = sum(seconds for _, seconds in results)
            first = first or used
            scores = _scores(clips, [analysis for part, _ in results for analysis in part])
            yield row(name, hop, f"{used / first:.2f}", *scores)


def _analyze(
    detector: VoiceEditDetector, clips: ClipSet, numbers: np.ndarray, hop: float
) -> tuple[list[ClipAnalysis], float]:
    """Analyze clips, and return the time of the processor as well."""
    detector.set_params(hop=hop * min(detector.models_))
    start = time.process_time()
    analyses = [analyze_recording(detector, [clips.clip(n) / np.float32(32768)], locate=True) for n in numbers]
    detector.set_params(hop=None)
    return analyses, time.process_time() - start


def _scores(clips: ClipSet, analyses: list[ClipAnalysis]) -> Iterator[str]:
    labels = list(analyses[0].probabilities)[1:]
    proba = np.array([[analysis.probabilities[label] for label in labels] for analysis in analyses])
    truth = np.array([[_truth(record, label) for label in labels] for record in clips.records])
    auc, precision = (per_label_scores(metric, truth, proba) for metric in (roc_auc_score, average_precision_score))
    places = segment_f1(
        [record_segments(record) for record in clips.records], [analysis.segments for analysis in analyses]
    )
    unedited = [bool(analysis.labels) for analysis, row in zip(analyses, truth, strict=True) if not np.any(row != 0)]
    splices = auc[[label in SPLICED_LABELS for label in labels]]
    for score in (mean_of_defined(auc), mean_of_defined(precision), mean_of_defined(splices), places):
        yield f"{score:.3f}"
    yield f"{100 * np.mean(unedited):.0f}"


def _truth(record: EditRecord, label: str) -> float:
    return np.nan if label in record.inaudible else float(label in record.labels)
