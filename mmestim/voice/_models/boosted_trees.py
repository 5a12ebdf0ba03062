"""Gradient-boosted trees of many labels as plain arrays, which are saved without pickle and evaluated together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from ..._utils.parallel import run_tasks

_BATCH_SIZE = 128  # rows
_MAX_DEPTH = 64
# Log-odds of a label that all or none of the training rows have.
_CONSTANT_LOGIT = 6.0

_NODE_DTYPES = {"feature": np.int32, "threshold": np.float64, "left": np.int32, "right": np.int32, "value": np.float64}
_NODE = np.dtype([("feature", "i8"), ("threshold", "f8"), ("left", "i8"), ("right", "i8"), ("value", "f8")])


class _LabelTrees(NamedTuple):
    """Trees of one label: the nodes of all trees in a row, and the number of each tree's first node."""

    baseline: float
    nodes: np.ndarray
    starts: np.ndarray


class BoostedTrees:
    """One binary classifier of gradient-boosted trees for each label.

    Parameters
    ----------
    baseline : float64 ndarray of shape (n_labels,)
        Log-odds of each label to which its trees add.
    nodes : dict of str to ndarray of shape (n_nodes,)
        `feature`, `threshold`, `left`, `right` and `value` of the nodes of all trees; a leaf is its own child.
    roots, labels : int64 ndarray of shape (n_trees,)
        Number of the first node and of the label of each tree.
    """

    def __init__(
        self, baseline: np.ndarray, nodes: dict[str, np.ndarray], roots: np.ndarray, labels: np.ndarray
    ) -> None:
        self.baseline, self.nodes, self.roots, self.labels = baseline, nodes, roots, labels
        self._depth = _depth(nodes, roots)
        self._labels_with_trees, self._first_trees = np.unique(labels, return_index=True)

    @classmethod
    def fit(
        cls,
        X: np.ndarray,
        targets: np.ndarray,
        is_labelled: np.ndarray,
        seed: int,
        n_jobs: int | None = None,
        **options: Any,
    ) -> BoostedTrees:
        """Fit the trees of all labels.

        Parameters
        ----------
        X : float32 ndarray of shape (n_rows, n_features)
            Finite features.
        targets, is_labelled : bool ndarray of shape (n_rows, n_labels)
            Whether each row has each label, and whether that is known.
        seed : int
            Seed of the features that are candidates for a split.
        n_jobs : int, default=None
            Number of processes.
        **options
            Parameters of `HistGradientBoostingClassifier`.

        Returns
        -------
        BoostedTrees
            The fitted trees.
        """
        tasks = ((targets[:, i], is_labelled[:, i], seed + i, options) for i in range(targets.shape[1]))
        return cls.from_labels(list(run_tasks(_fit_label, tasks, n_jobs, shared=(X,))))

    @classmethod
    def from_labels(cls, parts: Sequence[_LabelTrees]) -> BoostedTrees:
        """Return the trees of all labels in common arrays."""
        offsets = np.cumsum([0, *(len(part.nodes) for part in parts)])
        merged = np.concatenate([part.nodes for part in parts])
        shift = np.repeat(offsets[:-1], np.diff(offsets))
        nodes = {
            "feature": merged["feature"].astype(np.int32),
            "threshold": merged["threshold"],
            "left": (merged["left"] + shift).astype(np.int32),
            "right": (merged["right"] + shift).astype(np.int32),
            "value": merged["value"],
        }
        roots = np.concatenate([part.starts + offset for part, offset in zip(parts, offsets, strict=False)])
        labels = np.repeat(np.arange(len(parts)), [len(part.starts) for part in parts])
        return cls(np.array([part.baseline for part in parts]), nodes, roots.astype(np.int64), labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for `from_arrays`."""
        per_tree = {"baseline": self.baseline, "roots": self.roots, "labels": self.labels}
        return {f"trees.{name}": values for name, values in {**self.nodes, **per_tree}.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], n_labels: int, n_features: int) -> BoostedTrees:
        """Return trees from arrays of a file, or raise ValueError if the arrays do not describe trees."""
        dtypes = {**_NODE_DTYPES, "baseline": np.float64, "roots": np.int64, "labels": np.int64}
        if set(arrays) != {f"trees.{name}" for name in dtypes}:
            raise ValueError(f"its trees have {sorted(arrays)}, expected {sorted(dtypes)}.")
        named = {name: arrays[f"trees.{name}"] for name in dtypes}
        if any(values.ndim != 1 or values.dtype != dtypes[name] for name, values in named.items()):
            raise ValueError("its trees have arrays of the wrong type or number of dimensions.")
        nodes = {name: named[name] for name in _NODE_DTYPES}
        baseline, roots, labels = named["baseline"], named["roots"], named["labels"]
        size, numbers = len(nodes["value"]), np.arange(len(nodes["value"]))
        is_leaf = nodes["left"] == numbers
        is_consistent = (
            all(len(values) == size for values in nodes.values())
            and len(roots) == len(labels)
            and len(baseline) == n_labels
            and np.isfinite(baseline).all()
            and np.isfinite(nodes["value"]).all()
            and ((nodes["feature"] >= 0) & (nodes["feature"] < n_features)).all()
            # Children come after their parents, so that every path ends.
            and all(((nodes[side] >= numbers) & (nodes[side] < size)).all() for side in ("left", "right"))
            and (is_leaf == (nodes["right"] == numbers)).all()
            and ((roots >= 0) & (roots < size)).all()
            and ((labels >= 0) & (labels < n_labels)).all()
            and (np.diff(labels) >= 0).all()
        )
        if not is_consistent:
            raise ValueError("its trees are invalid: nodes, roots or labels contradict each other.")
        return cls(baseline, nodes, roots, labels)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the log-odds of the labels.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            Finite features.

        Returns
        -------
        float32 ndarray of shape (n_rows, n_labels)
            Log-odds as `HistGradientBoostingClassifier` computes them.
        """
        logits = np.empty((len(X), len(self.baseline)), np.float32)
        for start in range(0, len(X), _BATCH_SIZE):
            rows = np.asarray(X[start : start + _BATCH_SIZE], dtype=np.float64)
            current = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
            for _ in range(self._depth):
                values = np.take_along_axis(rows, self.nodes["feature"][current], axis=1)
                goes_left = values <= self.nodes["threshold"][current]
                current = np.where(goes_left, self.nodes["left"][current], self.nodes["right"][current])
            sums = np.tile(self.baseline, (len(rows), 1))
            if len(self.roots):
                leaf_values = self.nodes["value"][current]
                sums[:, self._labels_with_trees] += np.add.reduceat(leaf_values, self._first_trees, axis=1)
            logits[start : start + len(rows)] = sums
        return logits


def _fit_label(
    X: np.ndarray, target: np.ndarray, is_labelled: np.ndarray, seed: int, options: Mapping[str, Any]
) -> _LabelTrees:
    """Fit the trees of one label; there are none if all rows or no row has it."""
    y = target[is_labelled]
    if y.all() or not y.any():
        baseline = _CONSTANT_LOGIT if len(y) and y.all() else -_CONSTANT_LOGIT
        return _LabelTrees(baseline, np.zeros(0, _NODE), np.zeros(0, np.int64))
    model = HistGradientBoostingClassifier(random_state=seed % 2**31, early_stopping=False, **options)
    # On busy cores, threads wait for each other, which takes a hundred times as long as one thread.
    with threadpool_limits(1):
        model.fit(X[is_labelled], y)
    trees = [_convert_nodes(trees[0].nodes) for trees in model._predictors]
    starts = np.cumsum([0, *map(len, trees)])
    for tree, start in zip(trees, starts, strict=False):
        tree["left"] += start
        tree["right"] += start
    return _LabelTrees(float(model._baseline_prediction.item()), np.concatenate(trees), starts[:-1])


def _convert_nodes(nodes: np.ndarray) -> np.ndarray:
    """Convert nodes of scikit-learn to our format, in which a leaf is its own child."""
    converted, numbers = np.zeros(len(nodes), _NODE), np.arange(len(nodes))
    is_leaf = nodes["is_leaf"].astype(bool)
    converted["feature"] = np.where(is_leaf, 0, nodes["feature_idx"])
    converted["threshold"] = np.where(is_leaf, 0.0, nodes["num_threshold"])
    converted["value"] = nodes["value"]
    for side in ("left", "right"):
        converted[side] = np.where(is_leaf, numbers, nodes[side])
    return converted


def _depth(nodes: Mapping[str, np.ndarray], roots: np.ndarray) -> int:
    """Return the number of steps from the roots after which every path has ended."""
    current, depth = np.unique(roots), 0
    while len(current):
        children = np.concatenate([nodes["left"][current], nodes["right"][current]])
        current, depth = np.unique(children[children != np.tile(current, 2)]), depth + 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"its trees are deeper than {_MAX_DEPTH} nodes.")
    return depth
