"""What a detector is given: clips in any form, and what is known of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d, validate_data

from .._audio.corpus import AudioCorpus
from ..records import EditRecord
from ..taxonomy import LABELS, UNALTERED


def clips_of(estimator: BaseEstimator, X: Any, rate: int, source_rate: int, *, reset: bool) -> AudioCorpus:
    """The clips of X at the rate of the models.

    Parameters
    ----------
    estimator : estimator
        Remembers the length of the rows of an array.
    X : array, list, DataFrame or AudioCorpus
        As `VoiceEditDetector.fit` takes it.
    rate, source_rate : int
        Of the models, and of waveforms that are given, in Hz.
    reset : bool
        Whether the estimator is being fitted.
    """
    if isinstance(X, str | os.PathLike):
        raise TypeError(f"X={os.fspath(X)!r} is one path. Wrap it in a list: [X]; AudioCorpus(X) takes a folder.")
    if isinstance(X, AudioCorpus):
        if reset:
            _forget_columns(estimator)
        corpus = AudioCorpus(X, sample_rate=rate, max_duration=X.max_duration, on_error=X.on_error)
        corpus._skipped = X._skipped  # so that who gave the corpus sees what was left out
        return corpus
    has_columns = hasattr(X, "columns") and hasattr(X, "iloc")
    if not hasattr(X, "shape") and hasattr(X, "__array__"):
        X = np.asarray(X)
    if getattr(X, "ndim", 0) == 1 and getattr(getattr(X, "dtype", None), "kind", "f") in "fiu":  # tensors' have none
        raise ValueError(
            f"X is one waveform, of {len(X)} samples. Reshape your data by X.reshape(1, -1), or wrap it in a list: [X]."
        )
    has_rows = len(getattr(X, "shape", ())) == 2
    if "path" in X.columns if has_columns else not has_rows:
        if reset:
            _forget_columns(estimator)
        return AudioCorpus(X, sample_rate=rate, source_rate=source_rate)
    expected = getattr(estimator, "n_features_in_", None)
    if not reset and expected is not None and getattr(X, "ndim", 2) == 2 and X.shape[1] != expected:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting {expected} features as input: "
            "the clips that it was fitted on had so many samples. For clips of any length give a list of waveforms."
        )
    if not reset and expected is None:
        return AudioCorpus(np.asarray(X), sample_rate=rate, source_rate=source_rate)
    checked = validate_data(estimator, X, reset=reset, ensure_min_features=2)
    return AudioCorpus(checked, sample_rate=rate, source_rate=source_rate)


def _forget_columns(estimator):
    for name in ("n_features_in_", "feature_names_in_"):
        estimator.__dict__.pop(name, None)


class Truth(NamedTuple):
    """What is known of clips."""

    labels: list[str]  # of edits but 'unaltered', or the classes as text
    clips: Sequence[Any]  # of each an `EditRecord`, or a uint8 ndarray of shape (n_labels,)
    classes: np.ndarray | None = None  # where each clip has exactly one


def truth_of(y: Any, n_clips: int, known: Sequence[Sequence[str]]) -> Truth:
    """What a y that is not None says.

    Parameters
    ----------
    y : sequence
        Records, sets of labels, an indicator matrix, or class labels.
    n_clips : int
        Number of clips.
    known : sequence of sequence of str
        Labels of edits, without 'unaltered', that an indicator matrix may have columns for, with or without
        'unaltered' before them. Where several have so many columns, they cannot be told apart.
    """
    items = list(y) if isinstance(y, list | tuple) else None
    if items and all(isinstance(item, EditRecord) for item in items):
        _check_length(items, n_clips)
        present = {label for record in items for label in record.labels}
        return Truth([label for label in LABELS[1:] if label in present], items)
    if (
        items
        and all(isinstance(item, list | tuple | set | frozenset) for item in items)
        and any(isinstance(label, str) for item in items for label in item)
    ):
        _check_length(items, n_clips)
        unknown = sorted({str(label) for item in items for label in item} - set(LABELS))
        if unknown:
            raise ValueError(f"y has the label {unknown[0]!r}, which is not known. Use labels of {list(LABELS)}.")
        _check_unaltered([UNALTERED in item for item in items], [bool({*item} - {UNALTERED}) for item in items])
        labels = [label for label in LABELS[1:] if any(label in item for item in items)]
        return Truth(labels, [np.array([label in item for label in labels], np.uint8) for item in items])
    names = [str(name) for name in y.columns] if hasattr(y, "columns") else None
    array = y.toarray() if issparse(y) else np.asarray(y)
    if array.ndim == 2 and (array.shape[1] > 1 or names in [[label] for label in LABELS]):
        return _indicators(array, n_clips, names or _names_of_columns(array.shape[1], known))
    _check_length(array, n_clips)
    array = column_or_1d(array, warn=True)
    if array.dtype.kind in "fc":
        assert_all_finite(array, input_name="y")
    check_classification_targets(array)
    classes, codes = np.unique(array, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has 1 class, {classes[0]!r}: 2 or more are needed. For labels of edits give sets of them.")
    one_hot = np.eye(len(classes), dtype=np.uint8)
    return Truth([str(name) for name in classes], list(one_hot[codes]), classes)


def label_matrix(truth: Truth, labels: Sequence[str]) -> np.ndarray:
    """Indicators of 'unaltered' and the labels for each clip, float64 with NaN where it cannot be said."""
    matrix = np.zeros((len(truth.clips), 1 + len(labels)))
    for row, clip in zip(matrix, truth.clips, strict=True):
        if isinstance(clip, EditRecord):
            row[1:] = [label in clip.labels for label in labels]
            row[1:][[label in clip.inaudible for label in labels]] = np.nan
            row[0] = np.nan if clip.inaudible and not clip.labels else UNALTERED in clip.labels
        else:
            own = {label for label, there in zip(truth.labels, clip, strict=True) if there}
            row[1:] = [label in own for label in labels]
            row[0] = not own
    return matrix


def _indicators(array, n_clips, names):
    _check_length(array, n_clips)
    for number, name in enumerate(names):
        if name not in LABELS or name in names[:number]:
            wrong = "is there twice" if name in LABELS else f"is no label. Use labels of {list(LABELS)}"
            raise ValueError(f"y has the column {name!r}, which {wrong}.")
    if not np.isin(array, [0, 1]).all():
        raise ValueError("y is a matrix with other values than 0 and 1: it must say of each label whether it is there.")
    if UNALTERED in names:
        unaltered = np.arange(len(names)) == names.index(UNALTERED)
        _check_unaltered(array[:, unaltered].any(axis=1), array[:, ~unaltered].any(axis=1), is_matrix=True)
    # What no clip has cannot be learnt, and must not be said to have been looked for.
    labels = [label for label in LABELS[1:] if label in names and array[:, names.index(label)].any()]
    return Truth(labels, list(array[:, [names.index(label) for label in labels]].astype(np.uint8)))


def _check_unaltered(unaltered, edited, *, is_matrix=False):
    """Raise where a clip is 'unaltered' and edited, or, as only a matrix can say, neither: columns may be shifted."""
    for number, (without, having) in enumerate(zip(unaltered, edited, strict=True)):
        if (without and having) or (is_matrix and not without and not having):
            which = "both 'unaltered' and edited" if having else "neither 'unaltered' nor anything else"
            raise ValueError(
                f"y says of clip {number} that it is {which}. Give each clip its edits, or 'unaltered' alone; of a "
                "matrix without names check the order of the columns."
            )


def _names_of_columns(n_columns, known):
    fitting = []
    for labels in known:
        if n_columns - len(labels) not in (0, 1):
            continue
        in_order = [label for label in LABELS[1:] if label in labels]
        if list(labels) != in_order:
            raise ValueError(
                f"y is a matrix without names, and edits={list(labels)} are not in the order of mmestim.voice.LABELS: "
                "its columns could be taken for others. Give a DataFrame with labels as columns, or sets of labels."
            )
        names = [UNALTERED, *in_order] if n_columns > len(labels) else in_order
        if names not in fitting:
            fitting.append(names)
    if len(fitting) > 1:
        raise ValueError(
            f"y is a matrix of {n_columns} columns without names, which could be {fitting[0]} or {fitting[1]}. Give a "
            "DataFrame with labels as columns, or sets of labels."
        )
    if not fitting:
        raise ValueError(
            f"y has {n_columns} columns, and edits name {len(known[0])} labels: {list(known[0])}. Give one for each, "
            "or also one for 'unaltered' before them, or a DataFrame with labels as columns."
        )
    return fitting[0]


def _check_length(y, n_clips):
    if len(y) != n_clips:
        check_consistent_length(np.empty(n_clips), y)
