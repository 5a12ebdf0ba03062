"""Gradient-boosted trees of many labels, kept as plain arrays: they travel without pickle and answer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

_ROWS_AT_ONCE = 128
# What a probability of 0 or 1 stands for where a label is always or never there.
_CONSTANT_LOGIT = 6.0


class _Label(NamedTuple):
    """The trees of one label: nodes one tree after another, and where each begins."""

    baseline: float
    nodes: np.ndarray
    starts: np.ndarray


class BoostedTrees:
    """One binary classifier for each label.

    Parameters
    ----------
    baseline : float64 ndarray of shape (n_labels,)
        What the trees of a label add to.
    nodes : dict of str to ndarray of shape (n_nodes,)
        `feature`, `threshold`, `left`, `right` and `value` of the nodes of all trees; a leaf is its own child.
    roots, labels : int64 ndarray of shape (n_trees,)
        First node and label of each tree.
    """

    def __init__(
        self, baseline: np.ndarray, nodes: dict[str, np.ndarray], roots: np.ndarray, labels: np.ndarray
    ) -> None:
        self.baseline, self.nodes, self.roots, self.labels = baseline, nodes, roots, labels
        self._depth = _depth(nodes, roots)
        self._grown, self._firsts = np.unique(labels, return_index=True)

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
        """Trees for all labels.

        Parameters
        ----------
        X : float32 ndarray of shape (n_rows, n_features)
            Finite.
        targets, known : bool ndarray of shape (n_rows, n_labels)
            Which labels each row has, and where that is known.
        seed : int
            Of the features that splits look at.
        n_jobs : int, default=None
            Processes.
        **options
            Parameters of `HistGradientBoostingClassifier`.
        """
        parts = Parallel(n_jobs)(
            delayed(_fit_label)(X, targets[:, i], is_labelled[:, i], seed + i, options) for i in range(targets.shape[1])
        )
        return cls.from_labels(parts)

    @classmethod
    def from_labels(cls, parts: Sequence[_Label]) -> BoostedTrees:
        """All labels' trees together."""
        sizes = np.cumsum([0, *(len(part.nodes) for part in parts)])
        together = np.concatenate([part.nodes for part in parts])
        shift = np.repeat(sizes[:-1], np.diff(sizes))
        nodes = {
            "feature": together["feature"].astype(np.int32),
            "threshold": together["threshold"],
            "left": (together["left"] + shift).astype(np.int32),
            "right": (together["right"] + shift).astype(np.int32),
            "value": together["value"],
        }
        roots = np.concatenate([part.starts + size for part, size in zip(parts, sizes, strict=False)])
        labels = np.repeat(np.arange(len(parts)), [len(part.starts) for part in parts])
        return cls(np.array([part.baseline for part in parts]), nodes, roots.astype(np.int64), labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that they are, by name."""
        own = {"baseline": self.baseline, "roots": self.roots, "labels": self.labels}
        return {f"trees.{name}": values for name, values in {**self.nodes, **own}.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], n_labels: int, n_features: int) -> BoostedTrees:
        """Trees from such arrays, if they are trees."""
        dtypes = {**_NODE_DTYPES, "baseline": np.float64, "roots": np.int64, "labels": np.int64}
        if set(arrays) != {f"trees.{name}" for name in dtypes}:
            raise ValueError(f"its trees have {sorted(arrays)}, expected {sorted(dtypes)}.")
        found = {name: arrays[f"trees.{name}"] for name in dtypes}
        if any(values.ndim != 1 or values.dtype != dtypes[name] for name, values in found.items()):
            raise ValueError("its trees have arrays of another kind than numbers in a row.")
        nodes = {name: found[name] for name in _NODE_DTYPES}
        baseline, roots, labels = found["baseline"], found["roots"], found["labels"]
        size, here = len(nodes["value"]), np.arange(len(nodes["value"]))
        is_leaf = nodes["left"] == here
        fits = (
            all(len(values) == size for values in nodes.values())
            and len(roots) == len(labels)
            and len(baseline) == n_labels
            and np.isfinite(baseline).all()
            and np.isfinite(nodes["value"]).all()
            and ((nodes["feature"] >= 0) & (nodes["feature"] < n_features)).all()
            # Children come after their parents, so that every path ends.
            and all(((nodes[side] >= here) & (nodes[side] < size)).all() for side in ("left", "right"))
            and (is_leaf == (nodes["right"] == here)).all()
            and ((roots >= 0) & (roots < size)).all()
            and ((labels >= 0) & (labels < n_labels)).all()
            and (np.diff(labels) >= 0).all()
        )
        if not fits:
            raise ValueError("its trees are none: nodes, roots or labels do not fit together.")
        return cls(baseline, nodes, roots, labels)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Log-odds of the labels.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            Finite.

        Returns
        -------
        float32 ndarray of shape (n_rows, n_labels)
            As `HistGradientBoostingClassifier` has them.
        """
        logits = np.empty((len(X), len(self.baseline)), np.float32)
        for start in range(0, len(X), _ROWS_AT_ONCE):
            rows = np.asarray(X[start : start + _ROWS_AT_ONCE], dtype=np.float64)
            at = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
            for _ in range(self._depth):
                goes_left = np.take_along_axis(rows, self.nodes["feature"][at], axis=1) <= self.nodes["threshold"][at]
                at = np.where(goes_left, self.nodes["left"][at], self.nodes["right"][at])
            sums = np.tile(self.baseline, (len(rows), 1))
            if len(self.roots):
                sums[:, self._grown] += np.add.reduceat(self.nodes["value"][at], self._firsts, axis=1)
            logits[start : start + len(rows)] = sums
        return logits


_NODE_DTYPES = {"feature": np.int32, "threshold": np.float64, "left": np.int32, "right": np.int32, "value": np.float64}
_MOST_DEPTH = 64
_NODE = np.dtype([("feature", "i8"), ("threshold", "f8"), ("left", "i8"), ("right", "i8"), ("value", "f8")])


def _fit_label(X, target, is_labelled, seed, options):
    """Trees of one label, or none where it is always or never there."""
    y = target[is_labelled]
    if y.all() or not y.any():
        baseline = _CONSTANT_LOGIT if len(y) and y.all() else -_CONSTANT_LOGIT
        return _Label(baseline, np.zeros(0, _NODE), np.zeros(0, np.int64))
    model = HistGradientBoostingClassifier(random_state=seed % 2**31, early_stopping=False, **options)
    # Where others use the cores, threads wait for each other, a hundred times as long as one takes alone.
    with threadpool_limits(1):
        model.fit(X[is_labelled], y)
    trees = [_plain(trees[0].nodes) for trees in model._predictors]
    starts = np.cumsum([0, *map(len, trees)])
    for tree, start in zip(trees, starts, strict=False):
        tree["left"] += start
        tree["right"] += start
    return _Label(float(model._baseline_prediction.item()), np.concatenate(trees), starts[:-1])


def _plain(nodes):
    """scikit-learn's nodes as ours: a leaf is its own child."""
    plain, here = np.zeros(len(nodes), _NODE), np.arange(len(nodes))
    is_leaf = nodes["is_leaf"].astype(bool)
    plain["feature"] = np.where(is_leaf, 0, nodes["feature_idx"])
    plain["threshold"] = np.where(is_leaf, 0.0, nodes["num_threshold"])
    plain["value"] = nodes["value"]
    for side in ("left", "right"):
        plain[side] = np.where(is_leaf, here, nodes[side])
    return plain


def _depth(nodes, roots):
    """Steps from the roots after which every path has ended."""
    at, depth = np.unique(roots), 0
    while len(at):
        children = np.concatenate([nodes["left"][at], nodes["right"][at]])
        at, depth = np.unique(children[children != np.tile(at, 2)]), depth + 1
        if depth > _MOST_DEPTH:
            raise ValueError(f"its trees are deeper than {_MOST_DEPTH} nodes.")
    return depth
