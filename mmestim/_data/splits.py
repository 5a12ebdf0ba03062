"""Rows that train and rows that judge: the inner split of a fit, and folds of training rows."""

from __future__ import annotations

import numbers
import reprlib
import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, check_cv
from sklearn.utils.validation import check_consistent_length


def inner_split(rows, codes, groups, fraction, seed):
    """Training and validation rows; the training rows validate where none can be spared."""
    if groups is not None:
        check_consistent_length(codes, groups)
    if fraction == 0:
        return rows, rows
    rng = np.random.default_rng(seed)
    if groups is None:
        held_out = _stratified_rows(rows, codes, fraction, rng)
    else:
        held_out = _grouped_rows(rows, codes, groups, fraction, seed)
    valid = np.isin(rows, held_out)
    return (rows[~valid], rows[valid]) if valid.any() else (rows, rows)


def ensure_training_rows(present, train, valid):
    """The split, with the validation rows that have a modality moved over if no training row has it."""
    if present[train].any():
        return train, valid
    move = present[valid]
    train, valid = np.concatenate([train, valid[move]]), valid[~move]
    return train, valid if len(valid) else train


def _stratified_rows(rows, codes, fraction, rng):
    """Rows to hold out, spread over the classes; one row of each class always stays."""
    rows = rng.permutation(rows)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    first = np.r_[True, np.diff(codes[rows]) != 0]
    spare = rows[~first]
    n_valid = min(round(fraction * len(rows)), len(spare))
    # Every k-th of the rows sorted by class: proportional, whatever the number of classes.
    start = rng.random()
    return spare[((np.arange(n_valid) + start) * len(spare) / max(n_valid, 1)).astype(int)]


def _grouped_rows(rows, codes, groups, fraction, seed):
    """Rows of whole groups to hold out, classes as balanced as the groups allow."""
    groups = np.unique(np.asarray(groups), return_inverse=True)[1][rows]
    # One fold validates, or, where most rows are to validate, one fold trains.
    share = min(fraction, 1 - fraction)
    # More folds than the largest class has rows are refused.
    n_splits = min(max(2, round(1 / share)), len(np.unique(groups)), np.bincount(codes[rows]).max())
    if n_splits < 2:
        return rows[:0]
    split = _grouped_folds(codes[rows], groups, n_splits, seed)
    # Of the folds that leave every class in training, the first.
    n_classes = len(np.unique(codes[rows]))
    for kept, held_out in split if fraction <= 0.5 else [pair[::-1] for pair in split]:
        if len(np.unique(codes[rows[kept]])) == n_classes:
            return rows[held_out]
    return rows[:0]


def _grouped_folds(codes, groups, n_splits, seed):
    """Positions of the rows in and out of each fold of whole groups."""
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # A class smaller than the number of folds is no trouble here.
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(codes, codes, groups))


def cross_splits(rows, codes, groups, cv, seed):
    """Some of the rows to train on and the rest to score, for each fold: numbers of the rows among all.

    `codes` and `groups` are of all rows. A splitter splits all of them; a number of folds is of `rows`.
    """
    if not isinstance(cv, numbers.Integral):
        splits = list(check_cv(cv).split(np.zeros(len(codes)), codes, groups))
        check_partition(cv, splits, len(codes))
        splits = [tuple(np.intersect1d(part, rows) for part in split) for split in splits]
    elif cv > (n_units := len(rows if groups is None else np.unique(np.asarray(groups)[rows]))):
        units = "rows" if groups is None else "groups"
        raise ValueError(f"cv={cv} is more than the {n_units} {units} to train on. Use a smaller cv.")
    elif groups is None:
        # Every cv-th of the rows sorted by class: proportional, however small a class is.
        order = np.random.default_rng(seed).permutation(rows)
        order = order[np.argsort(codes[order], kind="stable")]
        splits = [(np.setdiff1d(rows, order[first::cv]), np.sort(order[first::cv])) for first in range(cv)]
    else:
        if cv > (largest := np.bincount(codes[rows]).max()):
            raise ValueError(f"cv={cv} is more than the {largest} rows of the largest class. Use a smaller cv.")
        groups = np.unique(np.asarray(groups), return_inverse=True)[1][rows]
        splits = [(rows[kept], rows[held_out]) for kept, held_out in _grouped_folds(codes[rows], groups, cv, seed)]
    splits = [split for split in splits if len(split[1])]
    if not all(len(kept) for kept, _ in splits):
        raise ValueError(
            f"cv={reprlib.repr(cv)} has a fold without rows to train on. Use a number of folds, or other splits."
        )
    return splits


def check_partition(cv, splits, n_rows):
    """Raise unless the splits hold out every row once."""
    held_out = np.concatenate([np.empty(0, dtype=int), *(np.asarray(part) for _, part in splits)])
    if not np.array_equal(np.sort(held_out), np.arange(n_rows)):
        raise ValueError(
            f"cv={reprlib.repr(cv)} must hold out every row once. Use a number of folds, or a splitter like KFold."
        )
