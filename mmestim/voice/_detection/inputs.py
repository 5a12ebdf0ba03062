"""Inputs of a detector: clips, speakers and ground truth in the forms that `fit` accepts."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d, validate_data

from .._audio.corpus import AudioCorpus
from .._constants import RATE
from .._simulation.simulator import labels_for_corpus
from ..records import EditRecord
from ..taxonomy import CATEGORIES, LABELS, UNALTERED
from .parameters import column_orders, resolve_simulator

if TYPE_CHECKING:
    from .detector import VoiceEditDetector

# Ground truth as users give it: records, sets of labels, an indicator matrix, or one class per clip.
GivenLabels = Sequence[EditRecord] | Sequence[Collection[str]] | ArrayLike


def resolve_clips(detector: VoiceEditDetector, X: Any, *, reset: bool) -> AudioCorpus:
    """Return the clips of `X` as a corpus at the rate of the models.

    Parameters
    ----------
    detector : VoiceEditDetector
        Stores the number of features if `X` is a 2-D array.
    X : array, list, DataFrame or AudioCorpus
        Clips as `VoiceEditDetector.fit` accepts them.
    reset : bool
        Whether the detector is being fitted.

    Returns
    -------
    AudioCorpus
        The clips, which are read when they are needed.

    Raises
    ------
    TypeError, ValueError
        If `X` is one path or one waveform, or has another number of features than the array of the fit.
    """
    if isinstance(X, str | os.PathLike):
        raise TypeError(f"X={os.fspath(X)!r} is one path. Wrap it in a list: [X]; AudioCorpus(X) takes a folder.")
    if isinstance(X, AudioCorpus):
        if reset:
            _remove_feature_attributes(detector)
        corpus = AudioCorpus(X, sample_rate=RATE, max_duration=X.max_duration, on_error=X.on_error)
        corpus._skipped = X._skipped  # The caller's corpus lists the skipped clips.
        return corpus
    is_dataframe = hasattr(X, "columns") and hasattr(X, "iloc")
    if not hasattr(X, "shape") and hasattr(X, "__array__"):
        X = np.asarray(X)
    # The dtype of a tensor has no `kind`.
    if getattr(X, "ndim", 0) == 1 and getattr(getattr(X, "dtype", None), "kind", "f") in "fiu":
        raise ValueError(
            f"X is one waveform, of {len(X)} samples. Reshape your data by X.reshape(1, -1), or wrap it in a list: [X]."
        )
    is_matrix = len(getattr(X, "shape", ())) == 2
    if "path" in X.columns if is_dataframe else not is_matrix:
        if reset:
            _remove_feature_attributes(detector)
        corpus = AudioCorpus(X, sample_rate=RATE, source_rate=detector.sample_rate)
        if not reset:
            corpus.max_duration = math.inf  # Files are streamed, except in `fit`.
        return corpus
    expected = getattr(detector, "n_features_in_", None)
    if not reset and expected is not None and getattr(X, "ndim", 2) == 2 and X.shape[1] != expected:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(detector).__name__} is expecting {expected} features as input, "
            "the number of samples of the clips it was fitted on. For clips of any length pass a list of waveforms."
        )
    if not reset and expected is None:
        return AudioCorpus(np.asarray(X), sample_rate=RATE, source_rate=detector.sample_rate)
    checked = validate_data(detector, X, reset=reset, ensure_min_features=2)
    return AudioCorpus(checked, sample_rate=RATE, source_rate=detector.sample_rate)


def resolve_speakers(groups: Any, corpus: AudioCorpus) -> np.ndarray:
    """Return the speaker number of each clip; without groups, clips of a corpus without speakers have one each."""
    if groups is None:
        groups = np.arange(len(corpus)) if corpus.speakers is None else [str(name) for name in corpus.speakers]
    check_consistent_length(np.empty(len(corpus)), groups)
    return np.unique(np.asarray(groups), return_inverse=True)[1]


class TrainingData(NamedTuple):
    """Clips to learn from."""

    corpus: AudioCorpus
    truth: GroundTruth | None  # None if the edits are simulated
    labels: list[str]  # edits without 'unaltered', or the classes as text
    speakers: np.ndarray  # number of each clip's speaker


def resolve_training_data(detector: VoiceEditDetector, X: Any, y: Any, groups: Any) -> TrainingData:
    """Return the arguments of `VoiceEditDetector.fit` as clips, labels and speakers."""
    corpus = resolve_clips(detector, X, reset=True)
    truth = None if y is None else resolve_ground_truth(y, len(corpus), column_orders(detector))
    labels = labels_for_corpus(resolve_simulator(detector), corpus) if truth is None else truth.labels
    if not labels:
        raise ValueError("nothing can be learnt: no edit can be simulated from these clips, or y has no labels.")
    return TrainingData(corpus, truth, labels, resolve_speakers(groups, corpus))


class GroundTruth(NamedTuple):
    """Labels of clips."""

    labels: list[str]  # edits without 'unaltered', or the classes as text
    clips: Sequence[Any]  # for each clip an `EditRecord`, or a uint8 ndarray of shape (n_labels,)
    classes: np.ndarray | None = None  # set if each clip has exactly one label


def resolve_ground_truth(y: Any, n_clips: int, column_orders: Sequence[Sequence[str]]) -> GroundTruth:
    """Return the labels of clips from a `y` that is not None.

    Parameters
    ----------
    y : sequence
        Records, sets of labels, an indicator matrix, or class labels.
    n_clips : int
        Number of clips.
    column_orders : sequence of sequence of str
        Possible columns of an indicator matrix without names: labels without 'unaltered'. The matrix may have
        'unaltered' before them. A matrix that fits several of them is ambiguous.

    Returns
    -------
    GroundTruth
        The labels of each clip.

    Raises
    ------
    ValueError
        If `y` is ambiguous, contradicts itself, or has unknown labels or another length than the clips.
    """
    items = list(y) if isinstance(y, list | tuple) else None
    if items and all(isinstance(item, EditRecord) for item in items):
        _check_length(items, n_clips)
        present = {label for record in items for label in record.labels}
        return GroundTruth([label for label in LABELS[1:] if label in present], items)
    if (
        items
        and all(isinstance(item, list | tuple | set | frozenset) for item in items)
        and any(isinstance(label, str) for item in items for label in item)
    ):
        return _from_label_sets(items, n_clips)
    names = [str(name) for name in y.columns] if hasattr(y, "columns") else None
    array = y.toarray() if issparse(y) else np.asarray(y)
    if array.ndim == 2 and (array.shape[1] > 1 or names in [[label] for label in LABELS]):
        return _from_indicators(array, n_clips, names or _column_names(array.shape[1], column_orders))
    _check_length(array, n_clips)
    array = column_or_1d(array, warn=True)
    if array.dtype.kind in "fc":
        assert_all_finite(array, input_name="y")
    check_classification_targets(array)
    classes, codes = np.unique(array, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has 1 class, {classes[0]!r}: 2 or more are needed. For labels of edits pass sets of them.")
    one_hot = np.eye(len(classes), dtype=np.uint8)
    return GroundTruth([str(name) for name in classes], list(one_hot[codes]), classes)


def set_labels(detector: VoiceEditDetector, labels: list[str], classes: np.ndarray | None) -> None:
    """Set the fitted attributes that follow from the labels, and from the classes of an ordinary classifier."""
    detector._model_labels = labels
    detector.labels_ = np.array([UNALTERED, *labels] if classes is None else labels)
    detector.classes_ = [np.array([0, 1])] * (1 + len(labels)) if classes is None else classes
    detector.categories_ = np.array(CATEGORIES)


def label_matrix(truth: GroundTruth, labels: Sequence[str]) -> np.ndarray:
    """Return an indicator matrix of 'unaltered' and the labels, float64 with NaN where a label is unknown."""
    matrix = np.zeros((len(truth.clips), 1 + len(labels)))
    for row, clip in zip(matrix, truth.clips, strict=True):
        if isinstance(clip, EditRecord):
            row[1:] = [label in clip.labels for label in labels]
            row[1:][[label in clip.inaudible for label in labels]] = np.nan
            row[0] = np.nan if clip.inaudible and not clip.labels else UNALTERED in clip.labels
        else:
            clip_labels = {label for label, is_present in zip(truth.labels, clip, strict=True) if is_present}
            row[1:] = [label in clip_labels for label in labels]
            row[0] = not clip_labels
    return matrix


def _remove_feature_attributes(detector: VoiceEditDetector) -> None:
    for name in ("n_features_in_", "feature_names_in_"):
        vars(detector).pop(name, None)


def _from_label_sets(items: Sequence[Iterable[str]], n_clips: int) -> GroundTruth:
    _check_length(items, n_clips)
    unknown = sorted({str(label) for item in items for label in item} - set(LABELS))
    if unknown:
        raise ValueError(f"y has the label {unknown[0]!r}, which is not supported. Use labels of {list(LABELS)}.")
    _check_unaltered([UNALTERED in item for item in items], [bool({*item} - {UNALTERED}) for item in items])
    labels = [label for label in LABELS[1:] if any(label in item for item in items)]
    return GroundTruth(labels, [np.array([label in item for label in labels], np.uint8) for item in items])


def _from_indicators(array: np.ndarray, n_clips: int, names: Sequence[str]) -> GroundTruth:
    _check_length(array, n_clips)
    for number, name in enumerate(names):
        if name not in LABELS:
            raise ValueError(f"y has the column {name!r}, which is no label. Use labels of {list(LABELS)}.")
        if name in names[:number]:
            raise ValueError(f"y has the column {name!r} twice.")
    if not np.isin(array, [0, 1]).all():
        raise ValueError("y is a matrix with values other than 0 and 1. Pass 1 where a clip has the label, else 0.")
    if UNALTERED in names:
        is_unaltered_column = np.arange(len(names)) == names.index(UNALTERED)
        _check_unaltered(
            array[:, is_unaltered_column].any(axis=1), array[:, ~is_unaltered_column].any(axis=1), is_matrix=True
        )
    # A label that no clip has cannot be learnt, so it must not be reported as tested.
    labels = [label for label in LABELS[1:] if label in names and array[:, names.index(label)].any()]
    return GroundTruth(labels, list(array[:, [names.index(label) for label in labels]].astype(np.uint8)))


def _check_unaltered(is_unaltered: Any, is_edited: Any, *, is_matrix: bool = False) -> None:
    """Raise if a clip is both 'unaltered' and edited, or if a row of a matrix is neither: columns may be shifted."""
    for number, (unaltered, edited) in enumerate(zip(is_unaltered, is_edited, strict=True)):
        if (unaltered and edited) or (is_matrix and not unaltered and not edited):
            which = "both 'unaltered' and edited" if edited else "neither 'unaltered' nor edited"
            raise ValueError(
                f"y marks clip {number} as {which}. Give each clip its edits, or 'unaltered' alone. If y is a matrix "
                "without names, check the order of its columns."
            )


def _column_names(n_columns: int, column_orders: Sequence[Sequence[str]]) -> list[str]:
    candidates: list[list[str]] = []
    for labels in column_orders:
        if n_columns - len(labels) not in (0, 1):
            continue
        in_order = [label for label in LABELS[1:] if label in labels]
        if list(labels) != in_order:
            raise ValueError(
                f"y is a matrix without names, and edits={list(labels)} are not in the order of mmestim.voice.LABELS, "
                "so its columns are ambiguous. Pass a DataFrame with labels as columns, or sets of labels."
            )
        names = [UNALTERED, *in_order] if n_columns > len(labels) else in_order
        if names not in candidates:
            candidates.append(names)
    if len(candidates) > 1:
        raise ValueError(
            f"y is a matrix of {n_columns} columns without names, which could be {candidates[0]} or {candidates[1]}. "
            "Pass a DataFrame with labels as columns, or sets of labels."
        )
    if not candidates:
        raise ValueError(
            f"y has {n_columns} columns, but edits name {len(column_orders[0])} labels: {list(column_orders[0])}. Pass "
            "one column for each, with or without one for 'unaltered' before them, or a DataFrame with labels as "
            "columns."
        )
    return candidates[0]


def _check_length(y: Any, n_clips: int) -> None:
    if len(y) != n_clips:
        check_consistent_length(np.empty(n_clips), y)
