"""Splits of rows: training and validation rows of a fit, and folds of the training rows."""

from __future__ import annotations

import numbers
import reprlib
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedGroupKFold, check_cv

from .._distributed.exchange import from_first
from .._utils.validation import check_choice, check_number

# Number of folds of cv='auto', and rows up to which it splits at all. Both are our choice.
AUTO_FOLDS, AUTO_ROWS = 5, 5000

# Training rows and held-out rows.
Split = tuple[np.ndarray, np.ndarray]


class Splitter(Protocol):
    """Splitter of scikit-learn, such as KFold."""

    def split(self, X: Any, y: Any, groups: Any, /) -> Iterable[tuple[Any, Any]]:
        """Return the training rows and the held-out rows of each fold."""
        ...


# Folds as scikit-learn's parameter `cv` describes them.
Folds = int | Splitter | Sequence[tuple[ArrayLike, ArrayLike]]


def check_groups(groups: Any, n_rows: int) -> np.ndarray | None:
    """Return one label per row as an array, or None without groups.

    Parameters
    ----------
    groups : array-like of shape (n_rows,) or None
        Groups of the rows.
    n_rows : int
        Number of rows of X.

    Returns
    -------
    ndarray of shape (n_rows,) or None
        The labels, which can be sorted.

    Raises
    ------
    ValueError
        If the shape is another one, a label is missing, or the labels are of several types.
    """
    if groups is None:
        return None
    try:
        labels = np.asarray(groups)
    except ValueError as error:
        raise ValueError(f"groups is not an array of one label per row: {error}") from error
    if labels.ndim != 1:
        raise ValueError(
            f"groups is of type {type(groups).__name__} and shape {labels.shape}, expected shape ({n_rows},): one "
            "label per row. Pass one column of a table, or combine several."
        )
    if len(labels) != n_rows:
        raise ValueError(f"groups has {len(labels)} labels, but X has {n_rows} rows. Pass one label per row.")
    is_missing = np.fromiter(map(_is_missing, labels), bool, n_rows) if labels.dtype == object else labels != labels
    if isinstance(groups, np.ma.MaskedArray):
        is_missing |= np.ma.getmaskarray(groups)
    if is_missing.any():
        raise ValueError(
            f"groups has no label (None, NaN or similar) in {is_missing.sum()} of {n_rows} rows, the first is row "
            f"{is_missing.argmax()}. Give every row a label, such as one of its own, or pass groups=None."
        )
    try:
        np.unique(labels)
    except TypeError:
        types = sorted({type(label).__name__ for label in labels})
        raise ValueError(f"groups has labels of several types: {', '.join(types)}. Convert them to one type.") from None
    return labels


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # pd.NA has no truth value.
        return True


def inner_split(rows: np.ndarray, codes: np.ndarray, groups: Any, fraction: float, seed: int) -> Split:
    """Return training and validation rows of a fit.

    Parameters
    ----------
    rows : int ndarray of shape (n_rows,)
        Rows to split.
    codes : int ndarray of shape (n_rows_of_X,)
        Class of every row of X.
    groups : array-like of shape (n_rows_of_X,) or None
        Group of every row of X. A group is not split.
    fraction : float
        Fraction of the rows to validate on.
    seed : int
        Seed of the split.

    Returns
    -------
    train, valid : int ndarray
        Row numbers. If no row can be held out, all rows are in both.
    """
    if fraction == 0:
        return rows, rows
    rng = np.random.default_rng(seed)
    if groups is None:
        held_out = _stratified_rows(rows, codes, fraction, rng)
    else:
        held_out = _grouped_rows(rows, codes, groups, fraction, seed)
    is_valid = np.isin(rows, held_out)
    return (rows[~is_valid], rows[is_valid]) if is_valid.any() else (rows, rows)


def ensure_training_rows(present: np.ndarray, train: np.ndarray, valid: np.ndarray) -> Split:
    """Move the validation rows that have a modality to the training rows, if no training row has it.

    Parameters
    ----------
    present : bool ndarray of shape (n_rows_of_X,)
        Mask of the rows that have the modality.
    train, valid : int ndarray
        Split of the rows.

    Returns
    -------
    train, valid : int ndarray
        Row numbers. If no validation row remains, the training rows validate.
    """
    if present[train].any():
        return train, valid
    is_moved = present[valid]
    train, valid = np.concatenate([train, valid[is_moved]]), valid[~is_moved]
    return train, valid if len(valid) else train


def _stratified_rows(rows: np.ndarray, codes: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return rows to hold out, spread over the classes; one row of each class always stays."""
    rows = rng.permutation(rows)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    is_first = np.r_[True, np.diff(codes[rows]) != 0]
    candidates = rows[~is_first]
    n_valid = min(round(fraction * len(rows)), len(candidates))
    # Every k-th of the rows sorted by class gives proportional classes, whatever their number.
    start = rng.random()
    return candidates[((np.arange(n_valid) + start) * len(candidates) / max(n_valid, 1)).astype(int)]


def _grouped_rows(rows: np.ndarray, codes: np.ndarray, groups: Any, fraction: float, seed: int) -> np.ndarray:
    """Return rows of whole groups to hold out, with classes as balanced as the groups allow."""
    group_codes = np.unique(np.asarray(groups), return_inverse=True)[1][rows]
    # One fold validates or, for fractions above 0.5, trains.
    fold_fraction = min(fraction, 1 - fraction)
    # StratifiedGroupKFold refuses more folds than the largest class has rows.
    n_splits = min(max(2, round(1 / fold_fraction)), len(np.unique(group_codes)), np.bincount(codes[rows]).max())
    if n_splits < 2:
        return rows[:0]
    folds = _grouped_folds(codes[rows], group_codes, n_splits, seed)
    # The first fold that leaves every class in training is held out.
    n_classes = len(np.unique(codes[rows]))
    for train, held_out in folds if fraction <= 0.5 else [fold[::-1] for fold in folds]:
        if len(np.unique(codes[rows[train]])) == n_classes:
            return rows[held_out]
    return rows[:0]


def _grouped_folds(codes: np.ndarray, group_codes: np.ndarray, n_splits: int, seed: int) -> list[Split]:
    """Return the positions of the training and held-out rows of each fold; no group is split."""
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # Classes smaller than the number of folds are allowed here.
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(codes, codes, group_codes))


def check_cv_parameter(cv: Any) -> None:
    """Raise unless `cv` is 'auto', None, a number of folds, a splitter or a list of splits."""
    if isinstance(cv, numbers.Integral):
        check_number("cv", cv, low=2, integer=True)
    elif isinstance(cv, str):
        check_choice("cv", cv, ("auto", None), ", a number of folds, a splitter, or a list of splits")
    elif cv is not None and (isinstance(cv, type) or (not isinstance(cv, Sequence) and not hasattr(cv, "split"))):
        raise TypeError(
            f"cv={cv!r} must be 'auto', a number of folds, a scikit-learn splitter, a list of splits, or None for one "
            "hold-out."
        )


def fold_splits(
    rows: np.ndarray, codes: np.ndarray, presence: np.ndarray, groups: Any, cv: Any, seed: int
) -> list[Split] | None:
    """Return the training rows and the held-out rows of each fold of a cross-fit.

    Folds given by a number are stratified over the class and the modalities that a row has. Without
    groups, the only row of a class is held out in no fold.

    Parameters
    ----------
    rows : int ndarray of shape (n_rows,)
        Rows to split.
    codes : int ndarray of shape (n_rows_of_X,)
        Class of every row of X.
    presence : bool ndarray of shape (n_modalities, n_rows_of_X)
        Rows that have each modality.
    groups : array-like of shape (n_rows_of_X,) or None
        Group of every row of X. A group is not split.
    cv : 'auto', int, splitter, iterable or None
        Number of folds, or splits of all rows of X. ``'auto'`` is 5 folds for at most 5000 rows, and none
        for more rows.
    seed : int
        Seed of the split, if `cv` is a number.

    Returns
    -------
    list of (int ndarray, int ndarray) or None
        Row numbers; None if there is to be one hold-out instead.
    """
    if isinstance(cv, str):
        n_units = len(rows if groups is None else np.unique(np.asarray(groups)[rows]))
        cv = min(AUTO_FOLDS, n_units, np.bincount(codes[rows]).max())
        if len(rows) > AUTO_ROWS or cv < 2:
            return None
    if cv is None:
        return None
    if not isinstance(cv, numbers.Integral):  # A splitter may shuffle differently on each process.
        return from_first(cross_splits(rows, codes, groups, cv, seed))
    strata = np.unique(np.vstack([codes, presence]), axis=1, return_inverse=True)[1].ravel()
    if groups is not None:
        # Splits of groups need a stratum with as many rows as folds.
        return cross_splits(rows, strata if np.bincount(strata[rows]).max() >= cv else codes, groups, cv, seed)
    splits = [_with_every_class(codes, *split) for split in cross_splits(rows, strata, None, cv, seed)]
    splits = [split for split in splits if len(split[1])]
    return splits if len(splits) > 1 else None


def _with_every_class(codes: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Split:
    """Move the held-out rows of classes that no training row has to the training rows."""
    is_moved = ~np.isin(codes[held_out], codes[train])
    return np.union1d(train, held_out[is_moved]), held_out[~is_moved]


def cross_splits(rows: np.ndarray, codes: np.ndarray, groups: Any, cv: Any, seed: int) -> list[Split]:
    """Return the training rows and the held-out rows of each fold.

    Parameters
    ----------
    rows : int ndarray of shape (n_rows,)
        Rows to split.
    codes : int ndarray of shape (n_rows_of_X,)
        Class of every row of X.
    groups : array-like of shape (n_rows_of_X,) or None
        Group of every row of X. A group is not split.
    cv : int, splitter or iterable
        Number of folds of `rows`, or splits of all rows of X.
    seed : int
        Seed of the split, if `cv` is a number.

    Returns
    -------
    list of (int ndarray, int ndarray)
        Row numbers. Folds without held-out rows are left out.

    Raises
    ------
    ValueError
        If there are too many folds, the splits do not hold out every row once, or a fold has no training row.
    """
    splits: list[Split]
    if not isinstance(cv, numbers.Integral):
        splits = list(check_cv(cv).split(np.zeros(len(codes)), codes, groups))
        check_partition(cv, splits, len(codes))
        splits = [(np.intersect1d(train, rows), np.intersect1d(held_out, rows)) for train, held_out in splits]
    else:
        splits = _numbered_splits(rows, codes, groups, int(cv), seed)
    splits = [split for split in splits if len(split[1])]
    if not all(len(train) for train, _ in splits):
        raise ValueError(
            f"cv={reprlib.repr(cv)} has a fold without rows to train on. Use a number of folds, or other splits."
        )
    return splits


def _numbered_splits(rows: np.ndarray, codes: np.ndarray, groups: Any, cv: int, seed: int) -> list[Split]:
    if cv > (n_units := len(rows if groups is None else np.unique(np.asarray(groups)[rows]))):
        units = "rows" if groups is None else "groups"
        raise ValueError(f"cv={cv} is more than the {n_units} {units} to train on. Use a smaller cv.")
    if groups is None:
        # Every cv-th of the rows sorted by class gives proportional classes, however small they are.
        order = np.random.default_rng(seed).permutation(rows)
        order = order[np.argsort(codes[order], kind="stable")]
        return [(np.setdiff1d(rows, order[first::cv]), np.sort(order[first::cv])) for first in range(cv)]
    if cv > (largest := np.bincount(codes[rows]).max()):
        raise ValueError(f"cv={cv} is more than the {largest} rows of the largest class. Use a smaller cv.")
    group_codes = np.unique(np.asarray(groups), return_inverse=True)[1][rows]
    folds = _grouped_folds(codes[rows], group_codes, cv, seed)
    return [(rows[train], rows[held_out]) for train, held_out in folds]


def partition(cv: Any, y: np.ndarray, groups: np.ndarray | None) -> list[Split]:
    """Return the training rows and the held-out rows of each split of scikit-learn.

    Parameters
    ----------
    cv : int, splitter or iterable of splits
        An int is a number of folds, stratified by class, and of whole groups if there are groups.
    y : ndarray of shape (n_rows,)
        Class labels.
    groups : ndarray of shape (n_rows,) or None
        Group of every row.

    Returns
    -------
    list of (int ndarray, int ndarray)
        Row numbers.

    Raises
    ------
    ValueError
        If the splits do not hold out every row once.
    """
    if groups is not None and isinstance(cv, numbers.Integral):
        cv = StratifiedGroupKFold(cv)
    splits = list(check_cv(cv, y, classifier=True).split(np.zeros(len(y)), y, groups))
    check_partition(cv, splits, len(y))
    return splits


def check_partition(cv: Any, splits: Iterable[tuple[Any, Any]], n_rows: int) -> None:
    """Raise ValueError unless the splits hold out every row once."""
    held_out = np.concatenate([np.empty(0, dtype=int), *(np.asarray(part) for _, part in splits)])
    if not np.array_equal(np.sort(held_out), np.arange(n_rows)):
        raise ValueError(
            f"cv={reprlib.repr(cv)} must hold out every row once. Use a number of folds, or a splitter like KFold."
        )
