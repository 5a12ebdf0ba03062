"""Diagnosis of joint training: under-trained modalities, and the gain of other ways of training."""

from __future__ import annotations

import inspect
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from .._data.containers import open_rows, take_rows
from .._data.splits import Folds, check_groups, partition
from .._utils.validation import check_confidence_level
from ..balancers._base import Balancer
from ..balancers.gradient_conflict import GradientConflict
from ._analysis.modality_gap import ModalityGapAnalyzer
from ._analysis.shapley import MAX_MODALITIES, modality_contributions
from ._analysis.true_class_scores import gap_scores
from .base import MultimodalClassifier
from .joint import JointClassifier
from .late_fusion import LateFusionClassifier

_UNIMODAL_LOSSES, _TRAINED_APART = "with unimodal losses", "trained apart"


class Diagnosis:
    """Results of `diagnose`, which `print` shows as a report.

    >>> from mmestim import JointClassifier, diagnose
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, cv=None, max_epochs=5, random_state=0)
    >>> diagnose(clf, digits.data[:300], digits.target[:300], cv=2).joint.shape  # accuracy of each fold
    (2,)

    Accuracies are fractions of held-out rows, one per fold. Those of a modality are measured on the rows
    that have it, and are NaN in a fold without such rows. Parameters are stored as attributes.

    Parameters
    ----------
    modalities : list of str
        Names of the modalities, in the order of the columns of all arrays.
    joint : ndarray of shape (n_folds,)
        Accuracy of the joint network.
    alternatives : dict of str to ndarray of shape (n_folds,)
        Accuracy of the same encoders ``trained apart``, of the joint network ``with unimodal losses`` if it
        was trained without them or with a balancer, and of each balancer.
    inside, alone : ndarray of shape (n_folds, n_modalities)
        Accuracy from each modality by itself: inside the joint network, and trained alone.
    inside_probe, alone_probe : ndarray of shape (n_folds, n_modalities)
        Accuracy of a linear classifier of the frozen encoder's features, inside the joint network and
        trained alone. It measures the encoder independently of its head.
    contributions : ndarray of shape (n_folds, n_modalities)
        Mean Shapley value of each modality in the joint network.
    scores : ndarray of shape (n_samples, n_modalities)
        Probability of the true class from each modality inside the joint network, out of fold.
    analyzer : ModalityGapAnalyzer or None
        Mixture of the gaps between these scores. None if no row has two modalities.
    conflict : dict of str to ndarray of shape (n_folds, n_modalities)
        ``cosine`` and ``norm_ratio`` of `GradientConflict`, averaged over the epochs.
    confidence_level : float, default=0.95
        Confidence level of the intervals in the report.
    """

    def __init__(
        self,
        *,
        modalities: list[str],
        joint: NDArray[np.float64],
        alternatives: dict[str, NDArray[np.float64]],
        inside: NDArray[np.float64],
        alone: NDArray[np.float64],
        inside_probe: NDArray[np.float64],
        alone_probe: NDArray[np.float64],
        contributions: NDArray[np.float64],
        scores: NDArray[np.float64],
        analyzer: ModalityGapAnalyzer | None,
        conflict: dict[str, NDArray[np.float64]],
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
        """Accuracy that each modality's encoder lacks, and half the width of its simultaneous interval."""
        differences, n = (self.alone_probe - self.inside_probe).T, len(self.modalities)
        return {name: self.interval(values, n) for name, values in zip(self.modalities, differences, strict=True)}

    @property
    def gains(self) -> dict[str, tuple[float, float]]:
        """Accuracy that each alternative gains, and half the width of its simultaneous interval."""
        n = len(self.alternatives)
        return {name: self.interval(values - self.joint, n) for name, values in self.alternatives.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the results as lists and numbers that JSON can store.

        Returns
        -------
        dict
            All attributes except the analyzer and the scores; ``wasted`` and ``gains``; and ``gap`` with the
            means, weights and separation of the analyzer.
        """
        fields = {key: _as_json(value) for key, value in vars(self).items() if key not in ("analyzer", "scores")}
        gap = {}
        if self.analyzer is not None:
            gap = {name: _as_json(getattr(self.analyzer, name + "_")) for name in ("means", "weights", "separation")}
        return {**fields, "wasted": _as_json(self.wasted), "gains": _as_json(self.gains), "gap": gap}

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        level = f"{100 * self.confidence_level:g} %"
        lines = [f"{len(self.joint)} folds, accuracies in % with {level} intervals", ""]
        lines += [f"all modalities, joint network   {self._percent(self.joint)}"]
        lines += [f"  {name:<30}{self._percent(values)}" for name, values in self.alternatives.items()]
        width = max(8, *map(len, self.modalities))
        columns = ("inside joint", "its probe", "alone", "its probe", "lacks (probes)", "contribution")
        lines += ["", "each modality by itself; a linear probe measures its encoder independently of its head"]
        lines += [" " * (width + 2) + "".join(f"{column:<16}" for column in columns).rstrip()]
        for number, name in enumerate(self.modalities):
            cells = [
                self._percent(table[:, number])
                for table in (self.inside, self.inside_probe, self.alone, self.alone_probe)
            ]
            lack, half_width = self.wasted[name]
            cells += [
                f"{100 * lack:.1f} ± {100 * half_width:.1f}",
                f"{self.interval(self.contributions[:, number])[0]:+.2f}",
            ]
            lines.append(f"{name:{width}}  " + "".join(f"{cell:<16}" for cell in cells).rstrip())
        return "\n".join([*lines, "", *self._gap_lines(), *self._conflict_lines(), *self._verdict_lines()])

    def _gap_lines(self) -> list[str]:
        if self.analyzer is None:
            return []
        analyzer, gaps = self.analyzer, self.analyzer.gap(self.scores)
        if analyzer.bimodal_ and analyzer.n_peaks_ == 2:
            fraction = np.mean(analyzer.predict(self.scores[~np.isnan(gaps)]))
            separation = f"separation {analyzer.separation_:.1f}"
            return [f"Modality gap: {100 * fraction:.0f} % of the rows are imbalanced ({separation})."]
        mean = f"{np.nanmean(gaps):.2f}"
        return [f"Modality gap: no two groups of rows; the true class's probability differs by {mean} on average."]

    def _conflict_lines(self) -> list[str]:
        if not self.conflict:
            return []
        cosines, ratios = (
            [self.interval(column)[0] for column in self.conflict[key].T] for key in ("cosine", "norm_ratio")
        )
        values = ", ".join(
            f"{name} {cosine:+.2f} ({ratio:.2f})"
            for name, cosine, ratio in zip(self.modalities, cosines, ratios, strict=True)
        )
        return [f"Gradients of the fused loss and of the modality's own, cosine (ratio of norms): {values}."]

    def _verdict_lines(self) -> list[str]:
        if len(self.modalities) == 1:
            return ["There is a single modality: nothing to balance."]
        lines = []
        certain = {name: value for name, value in self.wasted.items() if value[0] > value[1]}
        for name, (lack, half_width) in sorted(certain.items(), key=lambda item: -item[1][0]):
            points = f"{100 * lack:.1f} ± {100 * half_width:.1f} points"
            lines.append(f"Under-trained: {name}, whose encoder lacks {points} of accuracy.")
        if not certain:
            lines.append("No modality is under-trained for certain.")
        name, (gain, half_width) = max(self.gains.items(), key=lambda item: item[1][0])
        if gain > half_width:
            points = f"{100 * gain:.1f} ± {100 * half_width:.1f} points"
            lines.append(f"Another way of training would help: {name}, by {points} of accuracy.")
        else:
            points = f"{100 * gain:+.1f} ± {100 * half_width:.1f} points"
            lines.append(f"No other way of training is shown to help; the best one, {name}: {points} of accuracy.")
        return lines

    def _percent(self, values: np.ndarray) -> str:
        mean, half_width = self.interval(values)
        return f"{100 * mean:.1f}" + ("" if np.isnan(half_width) else f" ± {100 * half_width:.1f}")

    def interval(self, values: np.ndarray, n_claims: int = 1) -> tuple[float, float]:
        """Return the mean over the folds and the half width of its interval by Student's t.

        Parameters
        ----------
        values : ndarray of shape (n_folds,)
            One value per fold; NaN values are ignored.
        n_claims : int, default=1
            Number of intervals that must hold simultaneously, for a Bonferroni correction.

        Returns
        -------
        mean : float
            Mean, NaN if there is no value.
        half_width : float
            Half width, NaN if there are fewer than two values.
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
    y: ArrayLike,
    *,
    balancers: Sequence[Balancer] = (),
    cv: Folds = 5,
    groups: ArrayLike | None = None,
    confidence_level: float = 0.95,
    n_jobs: int | None = None,
) -> Diagnosis:
    """Measure which modalities joint training under-trains, and whether balancing methods would help.

    In each fold these networks are trained: the joint network, the same network with unimodal losses and
    with each balancer, and each modality alone. All of them are evaluated on the held-out rows, as a whole
    and per modality.

    Parameters
    ----------
    estimator : JointClassifier
        Classifier to diagnose, fitted or not; clones of it are trained.
    X : array-like of shape (n_samples, n_features), or dict of str to array-like
        Rows like those of `JointClassifier.fit`.
    y : array-like of shape (n_samples,)
        Class labels.
    balancers : sequence of Balancer, default=()
        Balancing methods to compare with.
    cv : int, splitter or iterable of splits, default=5
        Splits that hold out every row once. An int is a number of folds, stratified by class, and of whole
        groups if `groups` is given.
    groups : array-like of shape (n_samples,), default=None
        Groups for the splitter and for early stopping.
    confidence_level : float, default=0.95
        Confidence level of the intervals over the folds, by Student's t. Intervals that are compared with
        each other hold simultaneously. The folds share training rows, so the intervals are slightly too
        narrow.
    n_jobs : int, default=None
        Number of processes, one fold each. `None` is one, -1 is all cores.

    Returns
    -------
    Diagnosis
        Results of all folds; print it for a report.

    Raises
    ------
    TypeError
        If the estimator is not a `JointClassifier`, or a balancer is not a `Balancer`.
    ValueError
        If the splits do not hold out every row once, or leave a class without a training row.

    See Also
    --------
    modality_contributions : Shapley values of each row.
    gap_scores : Probabilities from which the gap is measured.

    Notes
    -----
    A modality counts as under-trained if a linear classifier of its encoder's features, the probe, is more
    accurate when the encoder was trained alone. The probe favours the joint network compared with its head,
    which was not trained to predict from a single modality. Contributions are computed for up to six
    modalities and are NaN for more. Gradient conflict is measured only if the estimator has no balancer,
    because `GradientConflict` takes that place.

    Examples
    --------
    >>> from mmestim import JointClassifier, diagnose
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, max_epochs=10, random_state=0)
    >>> diagnosis = diagnose(clf, digits.data[:300], digits.target[:300], cv=2)
    >>> diagnosis.modalities, diagnosis.inside.shape
    (['pixels', 'fourier'], (2, 2))
    """
    if not isinstance(estimator, JointClassifier):
        raise TypeError(
            f"estimator is a {type(estimator).__name__}, but diagnose measures the training of a JointClassifier. "
            "For a search pass best_estimator_; for a Pipeline pass its last step, and X as that step receives it."
        )
    for balancer in balancers:
        if not isinstance(balancer, Balancer):
            raise TypeError(f"balancers has {balancer!r}, which is not an instance of a class in mmestim.balancers.")
    check_confidence_level(confidence_level)
    if X is None:
        raise TypeError("X=None: diagnose trains clones, which require rows.")
    y_true = column_or_1d(y)
    X = open_rows(X, y_true)
    groups = check_groups(groups, len(y_true))
    # One seed for all networks, so that they have equal initial weights and differ only in their training.
    seed = estimator.random_state
    if not isinstance(seed, numbers.Integral):
        seed = int(check_random_state(seed).randint(2**31 - 1))
    estimator = clone(estimator).set_params(random_state=seed)
    splits = partition(cv, y_true, groups)
    for fold, (train, _) in enumerate(splits):
        if missing := set(np.unique(y_true).tolist()) - set(y_true[train].tolist()):
            raise ValueError(
                f"cv={cv!r} leaves no row of class {min(missing)!r} to train on in fold {fold}. Use a stratified cv, "
                "or one that shuffles."
            )
    folds = Parallel(n_jobs)(
        delayed(_diagnose_fold)(estimator, X, y_true, groups, balancers, *split) for split in splits
    )
    scores = np.empty((len(y_true), folds[0]["scores"].shape[1]))
    for (_, held_out), fold in zip(splits, folds, strict=True):
        scores[held_out] = fold["scores"]
    return Diagnosis(
        modalities=folds[0]["modalities"],
        scores=scores,
        analyzer=_fit_analyzer(scores),
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


def _diagnose_fold(
    estimator: JointClassifier,
    X: Any,
    y: np.ndarray,
    groups: np.ndarray | None,
    balancers: Sequence[Balancer],
    train: np.ndarray,
    test: np.ndarray,
) -> dict[str, Any]:
    """Train all networks of one fold, and return their measurements by name."""
    X_train, X_test, y_train, y_test = take_rows(X, train), take_rows(X, test), y[train], y[test]
    fit_params = {} if groups is None else {"groups": groups[train]}
    joint = clone(estimator)
    if joint.balancer is None:
        joint.set_params(balancer=GradientConflict())
    joint.fit(X_train, y_train, **fit_params)
    parameters = estimator.get_params(deep=False)
    shared_names = inspect.signature(LateFusionClassifier).parameters.keys() - {"fusion"}
    shared_parameters = {name: value for name, value in parameters.items() if name in shared_names}
    apart = clone(LateFusionClassifier(**shared_parameters)).fit(X_train, y_train, **fit_params)
    alternatives = {_TRAINED_APART: apart.score(X_test, y_test)}
    if estimator.balancer is not None or estimator.unimodal_weight == 0:
        other = clone(estimator).set_params(balancer=None, unimodal_weight=estimator.unimodal_weight or 1.0)
        alternatives[_UNIMODAL_LOSSES] = other.fit(X_train, y_train, **fit_params).score(X_test, y_test)
    for balancer in balancers:
        other = clone(estimator).set_params(balancer=clone(balancer))
        alternatives[repr(balancer)] = other.fit(X_train, y_train, **fit_params).score(X_test, y_test)
    histories = joint.balance_history_ if isinstance(joint.balancer, GradientConflict) else []
    return {
        "modalities": list(joint.modalities_),
        "joint": joint.score(X_test, y_test),
        "alternatives": alternatives,
        "inside": _unimodal_accuracies(joint, X_test, y_test),
        "alone": _unimodal_accuracies(apart, X_test, y_test),
        "inside_probe": _probe_accuracies(joint, X_train, y_train, X_test, y_test),
        "alone_probe": _probe_accuracies(apart, X_train, y_train, X_test, y_test),
        "contributions": _mean_contributions(joint, X_test, y_test),
        "scores": gap_scores(joint, X_test, y_test),
        **{
            key: _reorder(joint, _mean_over_epochs(np.concatenate([history[key] for history in histories])))
            for key in (histories[0] if histories else ())
        },
    }


def _mean_contributions(classifier: JointClassifier, X: Any, y: np.ndarray) -> np.ndarray:
    if len(classifier.modalities_) > MAX_MODALITIES:
        return np.full(len(classifier.modalities_), np.nan)
    return modality_contributions(classifier, X, y).contributions_mean


def _reorder(classifier: JointClassifier, values: np.ndarray) -> np.ndarray:
    """Reorder values from the sorted names of the modalities to the order of `modalities_`."""
    names = sorted(classifier.modalities_)
    return np.array([values[names.index(name)] for name in classifier.modalities_])


def _mean_over_epochs(values: np.ndarray) -> np.ndarray:
    """Return the means over the epochs whose values are not NaN; NaN if there is no such epoch."""
    is_number = ~np.isnan(values)
    n_epochs = np.where(is_number.any(axis=0), is_number.sum(axis=0), np.nan)
    return np.where(is_number, values, 0).sum(axis=0) / n_epochs


def _unimodal_accuracies(classifier: MultimodalClassifier, X: Any, y: np.ndarray) -> np.ndarray:
    """Return the accuracy of each modality by itself, on the rows that have it."""
    accuracies = []
    for probabilities in classifier.predict_proba_per_modality(X).values():
        is_present = ~np.isnan(probabilities[:, 0])
        is_correct = classifier.classes_[probabilities[is_present].argmax(axis=1)] == y[is_present]
        accuracies.append(is_correct.mean() if len(is_correct) else np.nan)
    return np.array(accuracies)


def _probe_accuracies(
    classifier: MultimodalClassifier, X_train: Any, y_train: np.ndarray, X_test: Any, y_test: np.ndarray
) -> np.ndarray:
    """Return the accuracy of a linear classifier of each modality's features, on the rows that have it."""
    from sklearn.linear_model import LogisticRegression  # takes as long to import as the package

    accuracies = []
    train_features = _features_per_modality(classifier, X_train, y_train)
    test_features = _features_per_modality(classifier, X_test, y_test)
    for (features, labels), (new_features, new_labels) in zip(train_features, test_features, strict=True):
        if len(np.unique(labels)) < 2 or not len(new_labels):
            accuracies.append(np.nan)
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        accuracies.append(probe.fit(features, labels).score(new_features, new_labels))
    return np.array(accuracies)


def _features_per_modality(
    classifier: MultimodalClassifier, X: Any, y: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the features and labels of the rows that have each modality."""
    stops = np.cumsum([classifier.module_.embedding_sizes[name] for name in classifier.modalities_])[:-1]
    masks = [~np.isnan(probabilities[:, 0]) for probabilities in classifier.predict_proba_per_modality(X).values()]
    features = np.split(classifier.transform(X), stops, axis=1)
    return [(block[is_present], y[is_present]) for block, is_present in zip(features, masks, strict=True)]


def _fit_analyzer(scores: np.ndarray) -> ModalityGapAnalyzer | None:
    """Return an analyzer of the gaps, or None if there are none."""
    if scores.shape[1] < 2 or not ((~np.isnan(scores)).sum(axis=1) > 1).any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # converged_ and bimodal_ report the same.
        return ModalityGapAnalyzer().fit(scores)


def _as_json(value: Any) -> Any:
    """Return a value without arrays and with None for NaN, which JSON does not have."""
    if isinstance(value, np.ndarray | np.generic):
        return _as_json(value.tolist())
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
