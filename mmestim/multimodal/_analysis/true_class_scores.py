"""Scores that each modality gives to the true class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _num_samples, check_array, check_consistent_length, column_or_1d

from ..._data.batches import Rows, read_ahead
from ..._data.containers import open_rows, present_rows, take_rows
from ..._data.numeric import with_nan
from ..._data.splits import Folds, check_groups, partition
from ..._networks.multimodal_networks import MultimodalModule, present_mask, true_class_proba
from ..._training.options import TrainingOptions
from ..base import MultimodalClassifier

# Largest difference from 1 of the sum of a row's probabilities; bfloat16 has three digits.
_SUM_TOLERANCE = 1e-2


def gap_scores(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    cv: Folds | None = None,
    groups: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Return the probability that each modality gives to the true class of each row.

    The result is the input of `ModalityGapAnalyzer`.

    Parameters
    ----------
    estimator : classifier of this package, Pipeline that ends in one, search over one, or dict
        Estimator of the scores. A dict of str to fitted scikit-learn classifiers has one per modality;
        a dict of str to ndarray of shape (n_samples, n_classes) contains the probabilities themselves.
    X : array-like of shape (n_samples, n_features), dict of str to array-like, or None
        Rows to score. If `estimator` and `X` are both dicts, each classifier gets the block of its name,
        without the rows that are all NaN; otherwise each gets all of X. Must be None with probabilities.
    y : array-like of shape (n_samples,)
        True classes.
    cv : int, splitter, iterable of splits or None, default=None
        `None` scores with the fitted estimator. Pass rows that it was not trained on, because a network
        that has memorised its rows has no gap left. Otherwise clones are trained, each row is scored by
        a clone that has not seen it, and the estimator may be unfitted. An int is a number of folds,
        stratified by class, and of whole groups if `groups` is given.
    groups : array-like of shape (n_samples,), default=None
        Groups of the rows. The splitter gets them, and clones of one estimator do too, for their own folds.
    labels : array-like of shape (n_classes,), default=None
        Classes in the order of the columns of given probabilities. `None` uses the sorted classes of y.
    n_jobs : int, default=None
        Number of processes that train clones. `None` is one, -1 is all cores.

    Returns
    -------
    ndarray of shape (n_samples, n_modalities)
        Scores between 0 and 1, one column per modality in the order of `modalities_` or of the dict.
        NaN if a row lacks the modality.

    Raises
    ------
    TypeError
        If the estimator has another type, or a classifier has no `predict_proba`.
    ValueError
        If probabilities are invalid, a classifier was not trained on a class of y, lengths differ, or
        `groups` is given without `cv`.

    See Also
    --------
    ModalityGapAnalyzer : Analysis of the gaps between the scores.

    Notes
    -----
    The scores are those of `predict_proba_per_modality`. For a `JointClassifier` with `unimodal_weight=0`
    they are the fused prediction with the features of the other modalities at zero. This is not
    informative if one of them gates the other.

    Examples
    --------
    >>> from mmestim import LateFusionClassifier, gap_scores
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> gap_scores(clf, digits.data, digits.target, cv=2).shape
    (1797, 2)
    """
    y_true = column_or_1d(y)
    are_classifiers = [hasattr(value, "fit") for value in estimator.values()] if isinstance(estimator, Mapping) else []
    if isinstance(estimator, Mapping) and not any(are_classifiers):
        if cv is not None or X is not None:
            raise ValueError("estimator is a dict of probabilities, which need no X and no cv: pass None for both.")
        classes = np.unique(y_true) if labels is None else column_or_1d(labels)
        return _select_true_class(_check_probabilities(estimator, classes, y_true), classes, y_true)
    if not all(are_classifiers):
        raise TypeError(
            "estimator mixes classifiers and other values: pass either classifiers or probabilities, per modality."
        )
    for name, classifier in estimator.items() if isinstance(estimator, Mapping) else ():
        if not hasattr(classifier, "predict_proba"):
            raise TypeError(
                f"{name!r}: {type(classifier).__name__} has no predict_proba. Wrap it in CalibratedClassifierCV."
            )
    if labels is not None:
        raise ValueError("labels is for given probabilities: classifiers have their own classes_.")
    if X is None:
        raise ValueError("X=None, but classifiers need rows to score; only probabilities need no X.")
    X = open_rows(X, y_true)
    if cv is None:
        if groups is not None:
            raise ValueError(
                "groups is for splits, but cv=None scores with the fitted estimator: pass cv, or no groups."
            )
        return _score(estimator, X, y_true)
    groups = check_groups(groups, len(y_true))
    splits = partition(cv, y_true, groups)
    tables = Parallel(n_jobs)(delayed(_fit_and_score)(estimator, X, y_true, groups, *split) for split in splits)
    return np.concatenate(tables)[np.argsort(np.concatenate([held_out for _, held_out in splits]))]


@torch.no_grad()
def true_class_scores(module: MultimodalModule, rows: Rows, options: TrainingOptions) -> np.ndarray:
    """Return the scores of a network in eval mode, for rows in order and modalities in the order of its names."""
    module.eval()
    tables = []
    for batch in read_ahead(rows, rows.epoch(rows.eval_batch_size(options.batch_size))):
        with options.autocast():
            _, features = module(batch)
            scores = [true_class_proba(module.unimodal_logits(features, name), batch.y) for name in module.names]
        for name, score in zip(module.names, scores, strict=True):
            if name in batch.present:
                score.masked_fill_(~present_mask(batch, name), torch.nan)
        tables.append(torch.stack(scores, dim=1))
    return torch.cat(tables).cpu().numpy()


def _fit_and_score(
    estimator: Any, X: Any, y: np.ndarray, groups: np.ndarray | None, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Train clones on some rows, and return their scores on other rows."""
    X_train, X_test, y_train = take_rows(X, train), take_rows(X, test), y[train]
    if not isinstance(estimator, Mapping):
        prefix = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
        fit_params = {} if groups is None else {f"{prefix}groups": groups[train]}
        return _score(clone(estimator).fit(X_train, y_train, **fit_params), X_test, y[test])
    fitted = {}
    for name, classifier in estimator.items():
        block, present = _select_block(X_train, name)
        fitted[name] = clone(classifier).fit(block, y_train[present])
    return _score(fitted, X_test, y[test])


def _score(estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
    """Return the scores of fitted estimators, one column per modality."""
    if isinstance(estimator, Mapping):
        columns = []
        for name, classifier in estimator.items():
            block, present = _select_block(X, name)
            column = np.full(len(y), np.nan)
            if len(present):
                probabilities = {name: classifier.predict_proba(block)}
                column[present] = _select_true_class(probabilities, classifier.classes_, y[present])[:, 0]
            columns.append(column)
        return np.column_stack(columns)
    if not is_multimodal(estimator):
        raise TypeError(
            f"estimator={estimator!r} gives no scores per modality: pass a classifier of this package, a Pipeline "
            "that ends in one, a search over one, or a dict of classifiers or of probabilities, one per modality."
        )
    estimator, X = unwrap(estimator, X)
    return _select_true_class(estimator.predict_proba_per_modality(X), estimator.classes_, y)


def _select_block(X: Any, name: str) -> tuple[Any, np.ndarray]:
    """Return the input of one modality's classifier, and the numbers of its rows."""
    if not isinstance(X, Mapping):
        return X, np.arange(_num_samples(X))
    if name not in X:
        raise ValueError(f"X has no block {name!r}, but estimator has a classifier for it. Its blocks are {list(X)}.")
    block = X[name]
    # Keep lists of texts or tokens: converting them fails, or pads all rows to the longest.
    if isinstance(block, list) and np.asarray(block[0]).dtype.kind not in "biuf":
        return block, np.arange(len(block))
    present = present_rows(block)
    return take_rows(block, present), present


def is_multimodal(estimator: Any) -> bool:
    """Return whether it is a classifier of this package, a Pipeline that ends in one, or a fitted search over one."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    return isinstance(estimator[-1] if isinstance(estimator, Pipeline) else estimator, MultimodalClassifier)


def unwrap(estimator: Any, X: Any) -> tuple[MultimodalClassifier, Any]:
    """Return the classifier inside a Pipeline or search, and X as the classifier receives it."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not isinstance(estimator, Pipeline):
        return estimator, X
    return estimator[-1], estimator[:-1].transform(X) if len(estimator) > 1 else X


def class_codes(classes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the number of each row's class, or raise ValueError if y has a class outside `classes`."""
    position = {label: column for column, label in enumerate(classes.tolist())}
    unknown = [label for label in np.unique(y).tolist() if label not in position]
    if unknown:
        raise ValueError(
            f"y has the class {unknown[0]!r}, for which there are no scores: their classes are {list(position)}. "
            "With cv, each class needs rows in more than one fold."
        )
    return np.array([position[label] for label in y.tolist()], dtype=int)


def _select_true_class(probabilities: Mapping[str, np.ndarray], classes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the probability of each row's class, one column per modality."""
    codes = class_codes(classes, y)
    return np.column_stack([table[np.arange(len(y)), codes] for table in probabilities.values()])


def _check_probabilities(probabilities: Mapping[str, Any], classes: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the probabilities as arrays, or raise ValueError if they are invalid."""
    if len(set(classes.tolist())) < len(classes):
        raise ValueError(f"labels={classes.tolist()} has a class twice.")
    checked = {}
    for name, table in probabilities.items():
        table = check_array(with_nan(table), dtype=np.float64, ensure_all_finite="allow-nan", input_name=name)
        check_consistent_length(table, y)
        if table.shape[1] != len(classes):
            raise ValueError(
                f"the probabilities of {name!r} have {table.shape[1]} columns for {len(classes)} classes "
                f"({classes.tolist()}). Pass the class of each column as labels."
            )
        is_absent = np.isnan(table).all(axis=1)
        is_valid = (table >= 0).all(axis=1) & (np.abs(table.sum(axis=1) - 1) < _SUM_TOLERANCE)
        is_wrong = ~is_absent & ~is_valid
        if is_wrong.any():
            row = is_wrong.argmax()
            raise ValueError(
                f"the probabilities of {name!r} in row {row}, {table[row].tolist()}, are not at least 0 with the sum "
                "1. Pass the output of predict_proba, or a row of NaN if the modality is absent."
            )
        checked[name] = table
    if not checked:
        raise ValueError("estimator is an empty dict: pass a classifier, or probabilities, for each modality.")
    return checked
