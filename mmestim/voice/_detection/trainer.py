"""Training of a detector: data, models, calibration and thresholds."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from joblib import effective_n_jobs
from scipy.special import expit

from ..._distributed.exchange import check_same, from_first
from ..._training.devices import seed_for
from ..._training.fingerprint import parameter_fingerprint
from ..._training.options import TrainingOptions
from ..._utils.parallel import local_workers
from ..._utils.types import FilePath
from .._audio.corpus import AudioCorpus
from .._constants import RATE
from .._models.base import WindowModel
from .._models.calibration import ScoreFusion, UnalteredCalibrator, tune_thresholds
from .._simulation.simulator import EditSimulator
from .._training_data.sources import given_windows, held_out_windows, simulated_windows
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from ..metrics import detection_report
from ..taxonomy import CHANGED_CONTENT, SPLICED_LABELS, TAXONOMY
from .clip_inference import FittedWindowModel
from .inputs import GroundTruth
from .parameters import new_window_model, resolve_simulator, window_lengths

if TYPE_CHECKING:
    from .detector import VoiceEditDetector

_N_CLIPS, _N_CLIPS_FOR_FEATURES = 10_000, 5000
# Windows whose waveforms the processes of a fit compare.
_N_DIGEST_WINDOWS = 64
# Clips with several splices, per ordinary clip.
_SPLICED_CLIP_RATIO = 0.6


class HeldOutScores(NamedTuple):
    """Calibrated probabilities and true labels of the windows of held-out speakers."""

    proba: np.ndarray  # (n_windows, n_labels)
    is_positive: np.ndarray
    is_labelled: np.ndarray

    @property
    def is_unaltered(self) -> np.ndarray:
        """Windows that are known to have no label."""
        return self.have_none_of(slice(None))

    def have_none_of(self, labels: Any) -> np.ndarray:
        """Return the windows that are known to have none of some labels, given as an index of the columns."""
        return (self.is_labelled & ~self.is_positive)[:, labels].all(axis=1)

    @property
    def is_certain(self) -> np.ndarray:
        """Windows that are known to have a label, or to have none."""
        return self.is_unaltered | (self.is_labelled & self.is_positive).any(axis=1)


class FittedDetector(NamedTuple):
    """Result of training."""

    models: dict[float, FittedWindowModel]  # by window length in seconds, the shortest first
    thresholds: np.ndarray | None  # (1 + n_labels,), 'unaltered' first; None for classes, as the next two
    recalls: np.ndarray | None  # (1 + n_labels,)
    unaltered: UnalteredCalibrator | None
    history: list[dict[str, Any]]
    report: dict[str, Any]  # numbers of clips and speakers, and by window length durations and held-out scores


@dataclass(frozen=True)
class DetectorTrainer:  # numpydoc ignore=PR02
    """Trainer of a detector's models, one for each window length.

    Parameters
    ----------
    labels : list of str
        Edits without 'unaltered', or classes.
    is_exclusive : bool
        Whether each clip has exactly one of the labels. Classes are neither calibrated nor thresholded, so no
        windows are held out.
    window_lengths : list of float
        Window lengths in seconds, the shortest first.
    simulator : EditSimulator
        Simulator of the edits, used when there is no ground truth.
    new_model : callable
        Function without arguments that returns an untrained `WindowModel`.
    n_clips : int
        Number of clips to simulate.
    adds_splices : bool
        Whether the model also learns from clips with several splices.
    options : TrainingOptions
        Options of the networks.
    lr : float or None
        Highest learning rate, instead of the model's own.
    training_budget : float
        Factor on the usual number of windows that networks are trained on.
    max_false_alarm_rate : float
        Largest fraction of the held-out windows, unedited or only encoded, in which other processing may be detected,
        and of those without changed content in which that may be detected.
    seed : int
        Seed of the simulation and of the models.
    n_jobs : int or None
        Number of processes.
    temp_folder : str, path or None
        Folder for the windows, which all workers share; None uses the workers of this machine.
    """

    labels: list[str]
    is_exclusive: bool
    window_lengths: list[float]
    simulator: EditSimulator
    new_model: Callable[[], WindowModel]
    n_clips: int
    adds_splices: bool
    options: TrainingOptions
    lr: float | None
    training_budget: float
    max_false_alarm_rate: float
    seed: int
    n_jobs: int | None
    temp_folder: FilePath | None

    @classmethod
    def from_estimator(
        cls, detector: VoiceEditDetector, labels: list[str], is_exclusive: bool, options: TrainingOptions, seed: int
    ) -> Self:
        """Return a trainer with the parameters of a detector."""
        check_same(partial(_digest_parameters, detector), "VoiceEditDetector")
        n_clips = detector.n_clips
        if n_clips is None:
            n_clips = _N_CLIPS_FOR_FEATURES if detector.model == "features" else _N_CLIPS
        return cls(
            labels=labels,
            is_exclusive=is_exclusive,
            window_lengths=window_lengths(detector.window),
            simulator=resolve_simulator(detector),
            new_model=partial(new_window_model, detector),
            n_clips=n_clips,
            adds_splices=detector.model == "hybrid" and bool(set(labels) & set(SPLICED_LABELS)),
            options=options,
            lr=detector.lr,
            training_budget=float(detector.training_budget),
            max_false_alarm_rate=detector.max_false_alarm_rate,
            seed=seed,
            n_jobs=detector.n_jobs,
            temp_folder=detector.temp_folder,
        )

    def train(self, corpus: AudioCorpus, truth: GroundTruth | None, speakers: np.ndarray) -> FittedDetector:
        """Train, calibrate and evaluate a model for each window length.

        Parameters
        ----------
        corpus : AudioCorpus
            Clips at the rate of the models.
        truth : GroundTruth or None
            Labels of the clips; None takes them as clean speech and simulates edits.
        speakers : int ndarray of shape (n_clips,)
            Number of each clip's speaker. About a quarter of the speakers are held out for calibration.

        Returns
        -------
        FittedDetector
            Models, calibration, thresholds and held-out scores.
        """
        models: dict[float, FittedWindowModel] = {}
        held_out: list[HeldOutScores] = []
        summaries: list[dict[str, Any]] = []
        history: list[dict[str, Any]] = []
        for seconds in self.window_lengths:
            with (
                local_workers() if self.temp_folder is None else nullcontext(),
                # Workers may still have the windows open, and a network drive then cannot remove the folder.
                tempfile.TemporaryDirectory(
                    dir=self.temp_folder and os.path.abspath(self.temp_folder),
                    ignore_cleanup_errors=self.temp_folder is not None,
                ) as folder,
            ):
                models[seconds], scores, summary = self._train_model(
                    corpus, truth, speakers, seconds, Path(folder), history
                )
            held_out.append(scores)
            summaries.append(summary)
        report = {
            "n_clips": len(corpus),
            "n_speakers": len(np.unique(speakers)),
            "is_simulated": truth is None,
            **{f"window {seconds:g}": summary for seconds, summary in zip(models, summaries, strict=True)},
        }
        if self.is_exclusive:
            return FittedDetector(models, None, None, None, history, report)
        thresholds, recalls, unaltered = self._set_thresholds(held_out)
        for summary, scores in zip(summaries, held_out, strict=True):
            summary |= self._evaluate(scores, thresholds)
        return FittedDetector(models, thresholds, recalls, unaltered, history, report)

    def _train_model(
        self,
        corpus: AudioCorpus,
        truth: GroundTruth | None,
        speakers: np.ndarray,
        seconds: float,
        folder: Path,
        history: list[dict[str, Any]],
    ) -> tuple[FittedWindowModel, HeldOutScores, dict[str, Any]]:
        """Train the model of one window length, and add its epochs to the history."""
        start = time.perf_counter()
        seed = seed_for(from_first(self.seed), f"{seconds:g}")
        model = self.new_model()
        training_set = self._build_training_set(corpus, truth, speakers, seconds, seed, folder)
        data_end = time.perf_counter()
        logits = model.fit(training_set)
        fusion, scores = self._calibrate(training_set, logits)
        history += training_set.history
        durations = {"data": data_end - start, "training": time.perf_counter() - data_end}
        summary = {"seconds": durations, "n_windows": len(training_set.windows)}
        return FittedWindowModel(model, fusion), scores, summary

    def _build_training_set(
        self,
        corpus: AudioCorpus,
        truth: GroundTruth | None,
        speakers: np.ndarray,
        seconds: float,
        seed: int,
        folder: Path,
    ) -> TrainingSet:
        spliced_windows: WindowSet | None = None
        if truth is None:
            windows, spliced_windows = self._simulate(corpus, seconds, seed, folder)
        else:
            self.options.log_stage(f"reading {len(corpus)} clips in windows of {seconds:g} s")
            windows = given_windows(corpus, truth.clips, self.labels, round(seconds * RATE), folder / "windows")
        if self.temp_folder is not None:
            for part in filter(None, (windows, spliced_windows)):
                part.flush()
        check_same(partial(_digest, windows), "VoiceEditDetector")
        # Classes are not calibrated, so the model of a classifier is trained on all clips.
        held_out, spliced_held_out = (
            None if part is None else held_out_windows(part.clips, speakers, seed) & (not self.is_exclusive)
            for part in (windows, spliced_windows)
        )
        assert held_out is not None
        return TrainingSet(
            windows=windows,
            spliced_windows=spliced_windows,
            held_out=held_out,
            spliced_held_out=spliced_held_out,
            labels=self.labels,
            is_exclusive=self.is_exclusive,
            options=self.options,
            lr=self.lr,
            budget=self.training_budget,
            seed=seed,
            n_jobs=self.n_jobs,
        )

    def _simulate(
        self, corpus: AudioCorpus, seconds: float, seed: int, folder: Path
    ) -> tuple[WindowSet, WindowSet | None]:
        simulate = partial(
            simulated_windows,
            self.simulator,
            corpus,
            labels=self.labels,
            n_samples=round(seconds * RATE),
            n_jobs=self.n_jobs,
        )
        self.options.log_stage(f"simulating {self.n_clips} clips for windows of {seconds:g} s")
        windows = simulate(n_clips=self.n_clips, seed=seed_for(seed, "edits"), folder=folder / "windows")
        if not self.adds_splices:
            return windows, None
        n_spliced = round(_SPLICED_CLIP_RATIO * self.n_clips)
        self.options.log_stage(f"simulating {n_spliced} clips with several splices")
        spliced_windows = simulate(
            n_clips=n_spliced, seed=seed_for(seed, "seams"), folder=folder / "spliced", add_splices=True
        )
        return windows, spliced_windows

    def _calibrate(self, training_set: TrainingSet, logits: np.ndarray) -> tuple[ScoreFusion, HeldOutScores]:
        """Fit the fusion of a model's scores on the held-out windows."""
        is_positive = training_set.is_positive[training_set.held_out]
        is_labelled = training_set.is_labelled[training_set.held_out]
        if self.is_exclusive:
            fusion = ScoreFusion.mean(*logits.shape[1:])
        else:
            self.options.log_stage(f"calibrating on {len(logits)} windows of held-out speakers")
            fusion = ScoreFusion.fit(logits, is_positive, is_labelled)
        return fusion, HeldOutScores(expit(fusion.logits(logits)), is_positive, is_labelled)

    def _set_thresholds(self, held_out: Sequence[HeldOutScores]) -> tuple[np.ndarray, np.ndarray, UnalteredCalibrator]:
        """Return thresholds, recalls and the calibrator of 'unaltered', over the windows of all lengths."""
        per_length = [self._tune(scores) for scores in held_out]
        thresholds = expit(np.mean([np.log(t / (1 - t)) for t in per_length], axis=0))
        unaltered = UnalteredCalibrator.fit(
            np.concatenate([scores.proba[scores.is_certain] for scores in held_out]),
            np.concatenate([scores.is_unaltered[scores.is_certain] for scores in held_out]),
        )
        recalls = np.mean([label_recalls(scores, thresholds) for scores in held_out], axis=0)
        return np.r_[0.5, thresholds], recalls, unaltered

    def _tune(self, scores: HeldOutScores) -> np.ndarray:
        """Return the threshold of each label for windows of one length."""
        rows = [TAXONOMY.get(label) for label in self.labels]
        is_encoding = np.array([row is not None and row.category == "encoding" for row in rows])
        is_changed = np.array([row is not None and row.kind == CHANGED_CONTENT for row in rows])
        # Most files were encoded, so a window that was only encoded must look as little edited as an unedited one.
        was_only_sent = scores.have_none_of(~is_encoding)
        # Limits of their own, since processing is mistaken for another far more often than for changed content.
        thresholds = np.zeros(len(self.labels))
        for is_chosen, may_not_alarm in (
            (~is_changed, was_only_sent),
            (is_changed, scores.have_none_of(is_changed)),
        ):
            if is_chosen.any():
                chosen = HeldOutScores(*(values[:, is_chosen] for values in scores))
                thresholds[is_chosen] = tune_thresholds(*chosen, may_not_alarm, self.max_false_alarm_rate)
        return thresholds

    def _evaluate(self, scores: HeldOutScores, thresholds: np.ndarray) -> dict[str, Any]:
        truth = np.where(scores.is_labelled, scores.is_positive, np.nan)
        report = detection_report(truth, scores.proba, self.labels, thresholds[1:])
        return {"n_held_out": len(truth), **report}


def _digest_parameters(detector: VoiceEditDetector) -> str:
    """Return a digest of what the processes of one fit must agree on."""
    n_jobs = effective_n_jobs(detector.n_jobs)  # Networks train in tasks, or on all processes together.
    return parameter_fingerprint(detector, n_jobs)


def _digest(windows: WindowSet) -> str:
    """Return a digest of the labels of windows and of some of the waveforms."""
    some = np.unique(np.linspace(0, len(windows) - 1, _N_DIGEST_WINDOWS).astype(int))
    arrays = (windows.targets, windows.lengths, windows.clips, windows.waveforms[some])
    return hashlib.blake2b(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def label_recalls(scores: HeldOutScores, thresholds: np.ndarray) -> np.ndarray:
    """Return the recall of each label.

    Parameters
    ----------
    scores : HeldOutScores
        Probabilities and labels of windows.
    thresholds : ndarray of shape (n_labels,)
        Probability from which each label is detected.

    Returns
    -------
    ndarray of shape (1 + n_labels,)
        Recall of 'unaltered', then of each label; NaN where no window has it.
    """
    is_detected = scores.proba >= thresholds
    is_present = np.column_stack([scores.is_unaltered, scores.is_labelled & scores.is_positive])
    is_predicted = np.column_stack([~is_detected.any(axis=1), is_detected])
    n_hits, n_present = (is_present & is_predicted).sum(axis=0), is_present.sum(axis=0)
    return np.where(n_present > 0, n_hits / np.maximum(n_present, 1), np.nan)
