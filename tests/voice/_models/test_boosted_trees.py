"""Boosted trees of many labels."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import HistGradientBoostingClassifier

from mmestim.voice._models.boosted_trees import BoostedTrees


@pytest.fixture(scope="module")
def forest():
    """Features, targets, mask of known targets, and trees fitted on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8)).astype(np.float32)
    targets = np.column_stack([X[:, 0] > 0, X[:, 1] * X[:, 2] > 0, np.zeros(300, bool), np.ones(300, bool)])
    is_labelled = np.ones_like(targets)
    is_labelled[::3, 0] = False
    return X, targets, is_labelled, BoostedTrees.fit(X, targets, is_labelled, 5, max_iter=12, max_leaf_nodes=7)


def test_trees_agree_with_scikit_learn(forest):
    X, targets, is_labelled, trees = forest
    logits = trees.decision_function(X)
    for label in (0, 1):
        rows = is_labelled[:, label]
        model = HistGradientBoostingClassifier(
            max_iter=12, max_leaf_nodes=7, early_stopping=False, random_state=5 + label
        ).fit(X[rows], targets[rows, label])
        assert_allclose(logits[:, label], model.decision_function(X), atol=1e-5)
    assert (logits[:, 2] < -5).all()
    assert (logits[:, 3] > 5).all()


def test_trees_are_restored_from_arrays(forest):
    X, _, _, trees = forest
    restored = BoostedTrees.from_arrays(trees.arrays(), 4, 8)
    assert_array_equal(restored.decision_function(X), trees.decision_function(X))


@pytest.mark.parametrize(
    "name, spoil",
    [
        ("left", lambda a: np.maximum(a - 1, 0)),  # a child before its parent: paths without end
        ("left", lambda a: a + len(a)),
        ("right", lambda a: a[:-1]),
        ("feature", lambda a: a + 8),
        ("feature", lambda a: a.astype(np.int64)),
        ("value", lambda a: a * np.nan),
        ("roots", lambda a: a - 1),
        ("labels", lambda a: a[::-1].copy()),
        ("baseline", lambda a: a[:-1]),
    ],
)
def test_invalid_arrays_are_rejected(forest, name, spoil):
    arrays = forest[3].arrays()
    arrays[f"trees.{name}"] = spoil(arrays[f"trees.{name}"])
    with pytest.raises(ValueError, match="its trees"):
        BoostedTrees.from_arrays(arrays, 4, 8)
