"""How a detector is trained: what it learns from, what its scores mean, and from where on a label is found."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import clone
from sklearn.utils.validation import check_consistent_length
from torch import nn

from ..._training.devices import seed_for, seeded
from ..._training.options import TrainingOptions
from ..._utils.validation import check_choice, check_flag, check_number
from .._audio.corpus import AudioCorpus
from .._constants import RATE
from .._models.base import SHORTEST_SECONDS, WindowModel
from .._models.calibration import ScoreFusion, UnalteredCalibrator, tune_thresholds
from .._models.registry import MODELS, make_model
from .._simulation.simulator import EditSimulator, check_simulator
from .._training_data.sources import given_windows, held_out_windows, simulated_windows
from .._training_data.training_set import TrainingSet
from ..metrics import detection_report
from ..taxonomy import SPLICED_LABELS
from .clip_inference import FittedWindowModel

_N_CLIPS, _N_CLIPS_OF_FEATURES = 10_000, 5000
# Clips with several seams, for each ordinary one.
_DENSE_SHARE = 0.6


class Calibrated(NamedTuple):
    """Windows of speakers that models do not know, what these say of them, and what is true."""

    proba: np.ndarray
    is_positive: np.ndarray
    is_labelled: np.ndarray

    @property
    def is_unaltered(self) -> np.ndarray:
        """Windows that have no label for certain."""
        return (self.is_labelled & ~self.is_positive).all(axis=1)

    @property
    def is_certain(self) -> np.ndarray:
        """Windows of which it is known whether they have any."""
        return self.is_unaltered | (self.is_labelled & self.is_positive).any(axis=1)


class TrainedDetector:
    """The part of a detector that trains it."""

    # Of the detector.
    edits: Any
    window: Any
    hop: Any
    model: Any
    weights: Any
    fine_tune: Any
    optimizer: Any
    lr: Any
    weight_decay: Any
    max_grad_norm: Any
    n_clips: Any
    batch_size: Any
    precision: Any
    device: Any
    training_budget: Any
    sample_rate: Any
    simulator: Any
    sources: Any
    noises: Any
    impulse_responses: Any
    max_false_alarm_rate: Any
    n_jobs: Any
    verbose: Any
    history_: list[dict[str, Any]]
    training_report_: dict[str, Any]
    _columns: list[str]

    @property
    def _finds_edits(self) -> bool:
        raise NotImplementedError

    def _train(self, corpus, truth, speakers, seed, options):
        """The models of each length of windows, the shortest first."""
        fitted, calibrated, facts = {}, [], []
        for seconds in self._windows():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                own_seed = seed_for(seed, f"{seconds:g}")
                model = self._new_model()
                training_set = self._lesson(corpus, truth, speakers, seconds, own_seed, options, Path(folder))
                simulated = time.perf_counter()
                logits = model.fit(training_set)
                fusion, unknown = self._calibrate(training_set, logits)
                fitted[seconds] = FittedWindowModel(model, fusion)
                calibrated.append(unknown)
                self.history_ += training_set.history
                spent = {"data": simulated - began, "training": time.perf_counter() - simulated}
                facts.append({"seconds": spent, "n_windows": len(training_set.windows)})
        self._set_thresholds(calibrated)
        for seconds, unknown, own in zip(fitted, calibrated, facts, strict=True):
            self.training_report_[f"window {seconds:g}"] = own | self._report(unknown)
        return fitted

    def _windows(self) -> list[float]:
        windows = list(self.window) if isinstance(self.window, list | tuple) else [self.window]
        if not windows:
            raise ValueError("window=[] must have one length or more.")
        for seconds in windows:
            check_number("window", seconds, low=SHORTEST_SECONDS, high=60.0)
        if len(set(windows)) < len(windows):
            raise ValueError(f"window={self.window!r} has a length twice. Name each once.")
        return sorted(windows)

    def _check_hop(self, shortest: float) -> None:
        if self.hop is not None:
            # Between two of its windows there must be nothing that none looks at.
            check_number("hop", self.hop, low=0.01, high=shortest)

    def _check_parameters(self) -> TrainingOptions:
        """What can be wrong before there is any audio."""
        options = self._options()
        check_simulator(self._simulator())
        self._new_model()
        return options

    def _check_networks(self) -> None:
        """Build what is to be trained, and ask it something, before hours of work."""
        with seeded(0, torch.device("cpu")):
            self._new_model().check_networks(self._columns)

    def _options(self, device: Any = None) -> TrainingOptions:
        """The parameters checked, and how networks are trained; on a device of this machine."""
        self._check_hop(self._windows()[0])
        if isinstance(self.model, nn.Module):
            name = type(self.model).__name__
            raise TypeError(f"model is a {name} that is made already. Give the class, or a function that makes one.")
        if isinstance(self.model, str) or not callable(self.model):
            check_choice("model", self.model, MODELS, ", or a class of nn.Module")
        if self.model == "hybrid" and self.batch_size == 1:
            raise ValueError("batch_size=1: the networks of model='hybrid' need at least 2, for batch normalisation.")
        if self.n_clips is not None:
            check_number("n_clips", self.n_clips, low=1, integer=True)
        check_number("training_budget", self.training_budget, closed=False)
        check_flag("fine_tune", self.fine_tune)
        check_number("sample_rate", self.sample_rate, low=1, integer=True)
        check_number("max_false_alarm_rate", self.max_false_alarm_rate, high=1)
        if self.simulator is not None and not isinstance(self.simulator, EditSimulator):
            raise TypeError(f"simulator={self.simulator!r} must be an EditSimulator, or None.")
        return TrainingOptions.from_parameters(
            lr=1.0 if self.lr is None else self.lr,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            precision=self.precision,
            device=self.device if device is None else device,
            verbose=self.verbose,
        )

    def _default_simulator(self, **changes: Any) -> EditSimulator:
        return EditSimulator(
            self.edits,
            sample_rate=RATE,
            sources=self.sources,
            noises=self.noises,
            impulse_responses=self.impulse_responses,
            **changes,
        )

    def _simulator(self) -> EditSimulator:
        if self.simulator is None:
            return self._default_simulator()
        if self.simulator.sample_rate != RATE:
            raise ValueError(f"simulator has sample_rate={self.simulator.sample_rate}: it must be {RATE}, the models'.")
        return clone(self.simulator)

    def _lesson(self, corpus, truth, speakers, seconds, seed, options, folder):
        n_samples, labels, spliced_windows = round(seconds * RATE), self._columns, None
        simulator = self._simulator()
        if truth is None:
            how = {"labels": labels, "n_samples": n_samples, "n_jobs": self.n_jobs}
            n_clips = self.n_clips
            if n_clips is None:
                n_clips = _N_CLIPS_OF_FEATURES if self.model == "features" else _N_CLIPS
            self._say(f"{n_clips} clips are edited for windows of {seconds:g} s")
            windows = simulated_windows(
                simulator, corpus, n_clips, seed=seed_for(seed, "edits"), folder=folder / "windows", **how
            )
            if self.model == "hybrid" and set(labels) & set(SPLICED_LABELS):
                spliced_windows = simulated_windows(
                    simulator,
                    corpus,
                    round(_DENSE_SHARE * n_clips),
                    seed=seed_for(seed, "seams"),
                    folder=folder / "dense",
                    add_splices=True,
                    **how,
                )
        else:
            windows = given_windows(corpus, truth.clips, labels, n_samples, folder / "windows")
        self._say(f"{len(windows)} windows to learn from")
        # An ordinary classifier gives the scores of its model as they are, and learns from all clips.
        kept = [
            None if part is None else held_out_windows(part.clips, speakers, seed) & self._finds_edits
            for part in (windows, spliced_windows)
        ]
        return TrainingSet(
            windows,
            spliced_windows,
            *kept,
            labels,
            not self._finds_edits,
            options,
            self.lr,
            float(self.training_budget),
            seed,
            self.n_jobs,
        )

    def _calibrate(self, training_set, logits):
        """What log-odds mean, by the windows that the models do not know."""
        is_positive, is_labelled = (
            training_set.is_positive[training_set.held_out],
            training_set.is_labelled[training_set.held_out],
        )
        if self._finds_edits:
            fusion = ScoreFusion.fit(logits, is_positive, is_labelled)
        else:
            fusion = ScoreFusion.mean(*logits.shape[1:])
        return fusion, Calibrated(expit(fusion.logits(logits)), is_positive, is_labelled)

    def _set_thresholds(self, calibrated):
        """Thresholds and 'unaltered' from windows of speakers that models do not know, over all lengths of windows."""
        if not self._finds_edits:
            return
        each = [
            tune_thresholds(
                part.proba, part.is_positive, part.is_labelled, part.is_unaltered, self.max_false_alarm_rate
            )
            for part in calibrated
        ]
        own = expit(np.mean([np.log(t / (1 - t)) for t in each], axis=0))
        self._unaltered = UnalteredCalibrator.fit(
            np.concatenate([part.proba[part.is_certain] for part in calibrated]),
            np.concatenate([part.is_unaltered[part.is_certain] for part in calibrated]),
        )
        self.thresholds_ = np.r_[0.5, own]
        self.recalls_ = np.mean([_recalls(part, own) for part in calibrated], axis=0)

    def _report(self, part):
        """How well the windows of speakers that models do not know were told."""
        if not self._finds_edits:
            return {}
        truth = np.where(part.is_labelled, part.is_positive, np.nan)
        scores = detection_report(truth, part.proba, self._columns, self.thresholds_[1:])
        return {"n_held_out": len(truth), **scores}

    def _new_model(self, config: Any = None) -> WindowModel:
        return make_model(self.model, self.weights, RATE, fine_tune=self.fine_tune, config=config)

    def _say(self, what: str) -> None:
        if self.verbose:
            print(f"{type(self).__name__}: {what}")


def _recalls(part, thresholds):
    """Share of windows that are unaltered, and of those that have each label, of which that is said."""
    found = part.proba >= thresholds
    there = np.column_stack([part.is_unaltered, part.is_labelled & part.is_positive])
    hits, n = (there & np.column_stack([~found.any(axis=1), found])).sum(axis=0), there.sum(axis=0)
    return np.where(n > 0, hits / np.maximum(n, 1), np.nan)


def speakers_of(groups: Any, corpus: AudioCorpus) -> np.ndarray:
    """A number for the speaker of each clip."""
    if groups is None:
        groups = np.arange(len(corpus)) if corpus.speakers is None else [str(name) for name in corpus.speakers]
    check_consistent_length(np.empty(len(corpus)), groups)
    return np.unique(np.asarray(groups), return_inverse=True)[1]
