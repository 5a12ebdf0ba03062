"""Which modality joint training wastes, how much of it, and whether it would help to train otherwise."""

from __future__ import annotations

import inspect
import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import t
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, check_cv
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._data.splits import check_partition
from .._utils.validation import check_confidence_level
from ..balancers._base import Balancer
from ..balancers.gradient_conflict import GradientConflict
from ._analysis.modality_gap import ModalityGapAnalyzer
from ._analysis.shapley import MOST_MODALITIES, modality_contributions
from ._analysis.true_class_scores import gap_scores, take_rows
from .joint import JointClassifier
from .late_fusion import LateFusionClassifier

UNIMODAL_LOSSES, APART = "with unimodal losses", "trained apart"


class Diagnosis:
    """What `diagnose` found; `print` it to read it.

    Accuracies are fractions, one for each fold, of held-out rows; those of a modality are of the rows that
    have it, NaN in a fold where none has. Parameters are stored as attributes.

    Parameters
    ----------
    modalities : list of str
        Names of the modalities, in the order of all that is per modality.
    joint : ndarray of shape (n_folds,)
        Accuracy of the joint network.
    alternatives : dict of str to ndarray of shape (n_folds,)
        Accuracy of the same encoders ``trained apart`` and, where the joint network is not that already,
        ``with unimodal losses``.
    inside, alone : ndarray of shape (n_folds, n_modalities)
        Accuracy from each modality by itself, inside the joint network and trained alone.
    inside_probe, alone_probe : ndarray of shape (n_folds, n_modalities)
        The same of a linear classifier of the frozen encoder's features: what the encoder has learnt,
        whatever its head makes of it.
    contributions : ndarray of shape (n_folds, n_modalities)
        Mean Shapley value of each modality in the joint network.
    scores : ndarray of shape (n_samples, n_modalities)
        Probability of the true class from each modality inside the joint network, out of fold.
    analyzer : ModalityGapAnalyzer or None
        Mixture of the gaps between them; None for a single modality or if no row has two.
    conflict : dict of str to ndarray of shape (n_folds, n_modalities)
        ``cosine`` and ``norm_ratio`` of `GradientConflict`, each the mean over the epochs.
    confidence_level : float, default=0.95
        Of the intervals in the text.
    """

    def __init__(
        self,
        *,
        modalities: list[str],
        joint: np.ndarray,
        alternatives: dict[str, np.ndarray],
        inside: np.ndarray,
        alone: np.ndarray,
        inside_probe: np.ndarray,
        alone_probe: np.ndarray,
        contributions: np.ndarray,
        scores: np.ndarray,
        analyzer: ModalityGapAnalyzer | None,
        conflict: dict[str, np.ndarray],
        confidence_level: float = 0.95,
    ) -> None:
        self.modalities = modalities
        self.joint = joint
        self.alternatives = alternatives
        self.inside = inside
        self.alone = alone
        self.inside_probe = inside_probe
        self.alone_probe = alone_probe
        self.contributions = contributions
        self.scores = scores
        self.analyzer = analyzer
        self.conflict = conflict
        self.confidence_level = confidence_level

    @property
    def wasted(self) -> dict[str, tuple[float, float]]:
        """For each modality, accuracy that its encoder lacks, and half the width of its (joint) interval."""
        lost, n = (self.alone_probe - self.inside_probe).T, len(self.modalities)
        return {name: self.interval(values, n) for name, values in zip(self.modalities, lost, strict=True)}

    @property
    def gains(self) -> dict[str, tuple[float, float]]:
        """For each alternative, accuracy gained, and half the width of its (joint) interval."""
        n = len(self.alternatives)
        return {name: self.interval(values - self.joint, n) for name, values in self.alternatives.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers, for a file.

        Returns
        -------
        dict
            The attributes but the analyzer and the scores, and ``wasted`` and ``gains``.
        """
        plain = {key: _plain(value) for key, value in vars(self).items() if key not in ("analyzer", "scores")}
        gap = {}
        if self.analyzer is not None:
            gap = {name: _plain(getattr(self.analyzer, name + "_")) for name in ("means", "weights", "separation")}
        return {**plain, "wasted": _plain(self.wasted), "gains": _plain(self.gains), "gap": gap}

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [f"{len(self.joint)} folds, accuracies in % with {100 * self.confidence_level:g} % intervals", ""]
        lines += [f"all modalities, joint network   {self._percent(self.joint)}"]
        lines += [f"  {name:<30}{self._percent(values)}" for name, values in self.alternatives.items()]
        width = max(8, *map(len, self.modalities))
        columns = ("inside joint", "its probe", "alone", "its probe", "lacks (probes)", "contribution")
        lines += ["", "each modality by itself; a linear probe judges what its encoder has learnt"]
        lines += [" " * (width + 2) + "".join(f"{column:<16}" for column in columns).rstrip()]
        for number, name in enumerate(self.modalities):
            cells = [
                self._percent(table[:, number])
                for table in (self.inside, self.inside_probe, self.alone, self.alone_probe)
            ]
            lacks, half = self.wasted[name]
            cells += [
                f"{100 * lacks:.1f} ± {100 * half:.1f}",
                f"{self.interval(self.contributions[:, number])[0]:+.2f}",
            ]
            lines.append(f"{name:{width}}  " + "".join(f"{cell:<16}" for cell in cells).rstrip())
        return "\n".join([*lines, "", *self._gap_lines(), *self._conflict_lines(), *self._verdict_lines()])

    def _gap_lines(self):
        if self.analyzer is None:
            return []
        found = self.analyzer
        if found.bimodal_ and found.n_peaks_ == 2:
            share = np.mean(found.predict(self.scores[~np.isnan(found.gap(self.scores))]))
            return [
                f"Modality gap: {100 * share:.0f} % of the rows are imbalanced (separation {found.separation_:.1f})."
            ]
        gap = np.nanmean(found.gap(self.scores))
        return [f"Modality gap: no two groups of rows; the true class's probability differs by {gap:.2f} on average."]

    def _conflict_lines(self):
        if not self.conflict:
            return []
        means = ([self.interval(column)[0] for column in self.conflict[key].T] for key in ("cosine", "norm_ratio"))
        found = ", ".join(f"{name} {c:+.2f} ({r:.2f})" for name, c, r in zip(self.modalities, *means, strict=True))
        return [f"Gradients of the fused loss and of the modality's own, cosine (ratio of norms): {found}."]

    def _verdict_lines(self):
        if len(self.modalities) == 1:
            return ["There is a single modality: nothing to balance."]
        lines = []
        lost = {name: value for name, value in self.wasted.items() if value[0] > value[1]}
        for name, (value, half) in sorted(lost.items(), key=lambda item: -item[1][0]):
            lines.append(f"Under-trained: {name}, whose encoder lacks {100 * value:.1f} ± {100 * half:.1f} points.")
        if not lost:
            lines.append("No modality is under-trained for certain.")
        name, (value, half) = max(self.gains.items(), key=lambda item: item[1][0])
        if value > half:
            lines.append(f"To train otherwise would help: {name}, by {100 * value:.1f} ± {100 * half:.1f} points.")
        else:
            gain = f"{100 * value:+.1f} ± {100 * half:.1f} points"
            lines.append(f"To train otherwise is not shown to help: {name}, the best tried, {gain}.")
        return lines

    def _percent(self, values):
        mean, half = self.interval(values)
        return f"{100 * mean:.1f}" + ("" if np.isnan(half) else f" ± {100 * half:.1f}")

    def interval(self, values: np.ndarray, n_claims: int = 1) -> tuple[float, float]:
        """Mean over the folds and half width of its interval.

        Parameters
        ----------
        values : ndarray of shape (n_folds,)
            One for each fold; NaN are left out.
        n_claims : int, default=1
            How many such intervals are to hold together.

        Returns
        -------
        mean : float
            NaN if there is no value.
        half_width : float
            NaN if there are fewer than two.
        """
        values = values[~np.isnan(values)]
        if not len(values):
            return np.nan, np.nan
        n = len(values)
        quantile = t.ppf(1 - (1 - self.confidence_level) / (2 * n_claims), n - 1) if n > 1 else np.nan
        return float(values.mean()), float(quantile * values.std(ddof=1) / n**0.5) if n > 1 else np.nan


def diagnose(
    estimator: JointClassifier,
    X: Any,
    y: Any,
    *,
    balancers: Sequence[Balancer] = (),
    cv: Any = 5,
    groups: Any = None,
    confidence_level: float = 0.95,
    n_jobs: int | None = None,
) -> Diagnosis:
    """Which modality is under-trained by joint training, by how much, and whether balancing would help.

    In each fold the joint network is trained, the same with unimodal losses and under any balancers, and
    each modality alone; all are judged on the rows held out, together and modality by modality.

    Parameters
    ----------
    estimator : JointClassifier
        What to diagnose, fitted or not; clones of it are trained.
    X : array-like of shape (n_samples, n_features), or dict of str to array-like
        Rows like those of `JointClassifier.fit`.
    y : array-like of shape (n_samples,)
        Class labels.
    balancers : sequence of Balancer, default=()
        Balancing methods to try beside.
    cv : int, splitter or iterable of splits, default=5
        How to hold rows out, each once; if a number, stratified, and by whole groups if `groups` is given.
    groups : array-like of shape (n_samples,), default=None
        Groups for the splitter, and for early stopping.
    confidence_level : float, default=0.95
        Of the intervals over the folds, by Student's t; where several are compared they hold together. The
        folds share training rows, so that the intervals are a little too short.
    n_jobs : int, default=None
        Processes that take folds; `None` is one, -1 all cores.

    Returns
    -------
    Diagnosis
        The findings; print it for a report.

    Raises
    ------
    TypeError
        If the estimator is not a `JointClassifier`, or a balancer is none.
    ValueError
        If the splits do not hold out every row once, or leave a class without a row to train on.

    See Also
    --------
    modality_contributions : The Shapley values, row by row.
    gap_scores : The probabilities under the gap analysis.

    Notes
    -----
    A modality counts as under-trained if a linear classifier of its encoder's features does better where
    the encoder was trained alone; the probe is kinder to the joint network than its head, which was never
    asked to do with one modality. Contributions are for up to six modalities, NaN for more. Gradient conflict is
    measured only where the estimator has no balancer,
    whose place `GradientConflict` takes.

    Examples
    --------
    >>> from mmestim import JointClassifier, diagnose
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, max_epochs=10, random_state=0)
    >>> found = diagnose(clf, digits.data[:300], digits.target[:300], cv=2)
    >>> found.modalities, found.inside.shape
    (['pixels', 'fourier'], (2, 2))
    """
    if not isinstance(estimator, JointClassifier):
        raise TypeError(
            f"estimator is a {type(estimator).__name__}, and diagnose looks into the training of a JointClassifier. "
            "Of a search pass best_estimator_; of a Pipeline its last step, with X as that sees it."
        )
    for balancer in balancers:
        if not isinstance(balancer, Balancer):
            raise TypeError(f"balancers has {balancer!r}, which is no instance of a class in mmestim.balancers.")
    check_confidence_level(confidence_level)
    if X is None:
        raise TypeError("X=None: diagnose trains clones, which need the rows.")
    y = column_or_1d(y)
    check_consistent_length(*(X.values() if isinstance(X, Mapping) else [X]), y)
    if groups is not None and isinstance(cv, numbers.Integral):
        cv = StratifiedGroupKFold(cv)
    # One seed for all networks, so that they begin alike and differ in how they are trained.
    seed = estimator.random_state
    if not isinstance(seed, numbers.Integral):
        seed = int(check_random_state(seed).randint(2**31 - 1))
    estimator = clone(estimator).set_params(random_state=seed)
    splits = list(check_cv(cv, y, classifier=True).split(np.zeros(len(y)), y, groups))
    check_partition(cv, splits, len(y))
    for fold, (train, _) in enumerate(splits):
        if missing := set(np.unique(y).tolist()) - set(y[train].tolist()):
            raise ValueError(
                f"cv={cv!r} leaves no row of class {min(missing)!r} to train on in fold {fold}. Use a stratified cv, "
                "or one that shuffles."
            )
    folds = Parallel(n_jobs)(delayed(_fold)(estimator, X, y, groups, balancers, *split) for split in splits)
    scores = np.empty((len(y), folds[0]["scores"].shape[1]))
    for (_, held_out), fold in zip(splits, folds, strict=True):
        scores[held_out] = fold["scores"]
    return Diagnosis(
        modalities=folds[0]["modalities"],
        scores=scores,
        analyzer=_analyzed(scores),
        alternatives={
            name: np.array([fold["alternatives"][name] for fold in folds]) for name in folds[0]["alternatives"]
        },
        conflict={key: np.stack([fold[key] for fold in folds]) for key in ("cosine", "norm_ratio") if key in folds[0]},
        confidence_level=confidence_level,
        **{
            key: np.array([fold[key] for fold in folds])
            for key in ("joint", "inside", "alone", "inside_probe", "alone_probe", "contributions")
        },
    )


def _fold(estimator, X, y, groups, balancers, train, test):
    """All that one fold tells."""
    X_train, X_test, y_train, y_test = take_rows(X, train), take_rows(X, test), y[train], y[test]
    known = {} if groups is None else {"groups": np.asarray(groups)[train]}
    joint = clone(estimator)
    if joint.balancer is None:
        joint.set_params(balancer=GradientConflict())
    joint.fit(X_train, y_train, **known)
    shared = inspect.signature(LateFusionClassifier).parameters.keys() - {"fusion"}
    apart = clone(LateFusionClassifier(**{k: v for k, v in estimator.get_params(deep=False).items() if k in shared}))
    alternatives = {APART: apart.fit(X_train, y_train, **known).score(X_test, y_test)}
    if estimator.balancer is not None or estimator.unimodal_weight == 0:
        other = clone(estimator).set_params(balancer=None, unimodal_weight=estimator.unimodal_weight or 1.0)
        alternatives[UNIMODAL_LOSSES] = other.fit(X_train, y_train, **known).score(X_test, y_test)
    for balancer in balancers:
        other = clone(estimator).set_params(balancer=clone(balancer))
        alternatives[repr(balancer)] = other.fit(X_train, y_train, **known).score(X_test, y_test)
    history = joint.balance_history_ if isinstance(joint.balancer_, GradientConflict) else {}
    return {
        "modalities": list(joint.modalities_),
        "joint": joint.score(X_test, y_test),
        "alternatives": alternatives,
        "inside": _accuracies(joint, X_test, y_test),
        "alone": _accuracies(apart, X_test, y_test),
        "inside_probe": _probes(joint, X_train, y_train, X_test, y_test),
        "alone_probe": _probes(apart, X_train, y_train, X_test, y_test),
        "contributions": _contributions(joint, X_test, y_test),
        "scores": gap_scores(joint, X_test, y_test),
        **{key: _in_order(joint, _known_mean(values)) for key, values in history.items()},
    }


def _contributions(classifier, X, y):
    if len(classifier.modalities_) > MOST_MODALITIES:
        return np.full(len(classifier.modalities_), np.nan)
    return modality_contributions(classifier, X, y).contributions_mean


def _in_order(classifier, values):
    """Values in the order of the modalities' names, put into that of `modalities_`."""
    names = sorted(classifier.modalities_)
    return np.array([values[names.index(name)] for name in classifier.modalities_])


def _known_mean(values):
    """Means over the epochs, without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)


def _accuracies(classifier, X, y):
    """Of each modality by itself, on the rows that have it."""
    accuracies = []
    for shares in classifier.predict_proba_per_modality(X).values():
        here = ~np.isnan(shares[:, 0])
        hits = classifier.classes_[shares[here].argmax(axis=1)] == y[here]
        accuracies.append(hits.mean() if len(hits) else np.nan)
    return np.array(accuracies)


def _probes(classifier, X_train, y_train, X_test, y_test):
    """Accuracy of a linear classifier of each modality's features, on the rows that have it."""
    ends = np.cumsum([classifier.module_.embedding_sizes[name] for name in classifier.modalities_])[:-1]
    sides = []
    for X, y in ((X_train, y_train), (X_test, y_test)):
        present = [~np.isnan(shares[:, 0]) for shares in classifier.predict_proba_per_modality(X).values()]
        features = np.split(classifier.transform(X), ends, axis=1)
        sides.append([(f[here], y[here]) for f, here in zip(features, present, strict=True)])
    accuracies = []
    for (seen, labels), (new, truth) in zip(*sides, strict=True):
        if len(np.unique(labels)) < 2 or not len(truth):
            accuracies.append(np.nan)
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        accuracies.append(probe.fit(seen, labels).score(new, truth))
    return np.array(accuracies)


def _analyzed(scores):
    """The mixture under the gaps, if there are any; what it is not sure of stands in it."""
    if scores.shape[1] < 2 or not ((~np.isnan(scores)).sum(axis=1) > 1).any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ModalityGapAnalyzer().fit(scores)


def _plain(value):
    """The same without arrays, and None for NaN, which JSON has not."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
