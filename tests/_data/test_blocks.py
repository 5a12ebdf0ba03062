"""Offsets of blocks: precision, prediction by the same code, and independence of the container."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from torch.utils.data import Dataset, TensorDataset

from mmestim import LateFusionClassifier, SliceDict
from mmestim._data import blocks as blocks_module
from mmestim._data.blocks import Blocks
from mmestim._data.modalities import check_X
from mmestim._data.sources import ArrayRows

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
Y = np.arange(120) % 2
# Both have whole numbers, so that every container holds them exactly.
FAR = RNG.integers(-1, 2, (120, 2)) + 4 * Y[:, None] + np.int64(1_000_000_000)
NEAR = RNG.integers(-9, 10, (120, 3))
TWO = {"x0": slice(0, 2), "x1": slice(2, None)}
FAST = {"max_epochs": 15, "embedding_dim": 8, "optimizer": "adamw", "lr": 0.05, "device": "cpu", "random_state": 0}


class Items(Dataset):
    """Map-style Dataset with a target at the end of each item."""

    def __len__(self):
        return len(Y)

    def __getitem__(self, row):
        return {"x0": torch.from_numpy(FAR[row]), "x1": NEAR[row]}, int(Y[row])


def memory_map(folder, array):
    np.save(folder / "X.npy", array)
    return np.load(folder / "X.npy", mmap_mode="r")


BOTH = np.hstack([FAR, NEAR])
CONTAINERS = {
    "float64": lambda folder: (BOTH.astype("f8"), TWO),
    "int64": lambda folder: (BOTH, TWO),
    "int32": lambda folder: (BOTH.astype("i4"), TWO),
    "uint64": lambda folder: ({"x0": FAR.astype("u8"), "x1": NEAR}, None),
    "fortran": lambda folder: (np.asfortranarray(BOTH), {"x0": [0, 1], "x1": [2, 3, 4]}),
    "list": lambda folder: (BOTH.tolist(), TWO),
    "objects": lambda folder: (BOTH.astype(object), TWO),
    "frame": lambda folder: (pd.DataFrame(BOTH), TWO),
    "frame of mixed types": lambda folder: (pd.DataFrame(BOTH).astype({0: "Int64", 3: "float32"}), TWO),
    "dict": lambda folder: ({"x0": FAR, "x1": NEAR.astype("i1")}, None),
    "SliceDict of frames": lambda folder: (SliceDict(x0=pd.DataFrame(FAR), x1=pd.DataFrame(NEAR)), None),
    "list of blocks": lambda folder: ([FAR, torch.from_numpy(NEAR)], None),
    "TensorDataset": lambda folder: (TensorDataset(*map(torch.from_numpy, (FAR, NEAR, Y))), None),
    "Dataset": lambda folder: (Items(), None),
    "list of samples": lambda folder: (list(zip(FAR, NEAR, strict=True)), None),
    "memory map": lambda folder: (memory_map(folder, BOTH.astype("f8")), TWO),
    "memory map of int64": lambda folder: (memory_map(folder, BOTH), TWO),
    "masked": lambda folder: (np.ma.masked_array(BOTH), TWO),
    "tensor": lambda folder: (torch.from_numpy(BOTH).double().requires_grad_(), TWO),
    "sparse": lambda folder: (csr_array(BOTH), TWO),
    "sparse block": lambda folder: ({"x0": FAR, "x1": csr_array(NEAR)}, None),
}


@pytest.fixture(scope="module")
def expected():
    """Probabilities from an array of float64."""
    X = BOTH.astype(np.float64)
    return LateFusionClassifier(TWO, **FAST).fit(X, Y).predict_proba(X)


@pytest.mark.parametrize("container", CONTAINERS)
def test_clusters_far_from_zero_are_told_apart_in_every_container(container, tmp_path, expected):
    X, modalities = CONTAINERS[container](tmp_path)
    clf = LateFusionClassifier(modalities, **FAST).fit(X, Y)
    assert clf.score(X, Y) == 1
    assert list(clf.offsets_) == ["x0"]
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), expected)


@pytest.mark.parametrize("fitted_on", ["float64", "memory map", "sparse block"])
@pytest.mark.parametrize("predicted_on", ["frame", "TensorDataset", "memory map of int64", "sparse"])
def test_containers_mix_between_fit_and_predict(fitted_on, predicted_on, tmp_path, expected):
    X, modalities = CONTAINERS[fitted_on](tmp_path)
    clf = LateFusionClassifier(modalities, **FAST).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(CONTAINERS[predicted_on](tmp_path)[0]), expected)


def test_an_offset_is_that_of_the_rows_with_weight_and_of_the_last_fit():
    X, weight = BOTH.astype(np.float64), np.ones(120)
    X[100:, :2] = 3e5
    weight[100:] = 0
    clf = LateFusionClassifier(TWO, **FAST).fit(X, Y, sample_weight=weight)
    assert clf.offsets_["x0"].min() > 9e8
    assert clf.score(X[:100], Y[:100]) == 1
    assert clf.fit(X - [1e9, 1e9, 0, 0, 0], Y, sample_weight=weight).offsets_ == {}


def offsets_of(array, shape, rows=None):
    blocks = Blocks({"x": ArrayRows(array)}, {"x": shape})
    return blocks, blocks.fit_offsets(np.arange(len(array)) if rows is None else rows)


def test_values_beyond_float32_are_judged_after_the_offset():
    far = 1e39 + 1e30 * RNG.normal(size=(50, 1))
    blocks, _ = offsets_of(far, (1,))
    block, present = blocks.read("x", slice(None))
    assert present.all()
    assert np.isfinite(block).all()
    far[7] = -1e39
    blocks, _ = offsets_of(far, (1,))
    with pytest.raises(ValueError, match="beyond float32: modality 'x' in row 7"):
        blocks.load(1, CPU)


def test_the_offset_of_a_rare_modality_is_found(monkeypatch):
    monkeypatch.setattr(blocks_module, "_CHUNK_SIZE", 8)
    far = np.full((2000, 2), np.nan)
    far[[1203, 1204, 1205, 1999]] = 1e9 + RNG.normal(size=(4, 2))
    _, offsets = offsets_of(far, (2,))
    assert (offsets["x"] > 9e8).all()
    assert offsets_of(far, (2,), np.arange(1000))[1] == {}


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_offset_has_the_shape_of_a_sample(order):
    far = np.array(1e9 + np.arange(24.0) * 1e6 + RNG.normal(size=(50, 24)), order=order).reshape(50, 2, 3, 4)
    blocks, offsets = offsets_of(far, (2, 3, 4))
    assert offsets["x"].shape == (2, 3, 4)
    expected = (far - offsets["x"]).astype(np.float32)
    np.testing.assert_array_equal(blocks.read("x", slice(None))[0], expected)
    np.testing.assert_array_equal(blocks.load(1, CPU).take("x", torch.arange(50), CPU).numpy(), expected)


def test_the_data_of_the_caller_are_never_changed():
    X = BOTH.astype(np.float64)
    before = X.copy()
    X.setflags(write=False)
    clf = LateFusionClassifier(TWO, **FAST).fit(X, Y)
    clf.predict(X)
    np.testing.assert_array_equal(X, before)


def test_sparse_blocks_are_never_dense_as_a_whole(monkeypatch):
    monkeypatch.setattr(blocks_module, "_CHUNK_SIZE", 2**14)
    rows = csr_array(([1.0] * 4000, (np.arange(4000) % 1000, np.arange(4000) % 1999)), shape=(1000, 4000))  # 32 MB
    largest = []
    toarray = csr_array.toarray
    monkeypatch.setattr(csr_array, "toarray", lambda self: largest.append(self.shape[0]) or toarray(self))
    X, y = {"text": rows, "rest": NEAR[np.arange(1000) % 120]}, np.arange(1000) % 2
    clf = LateFusionClassifier(encoder="linear", embedding_dim=2, max_epochs=1, device="cpu", random_state=0)
    clf.fit(X, y).predict(X)
    assert max(largest) < 500  # a batch of five folds has 320 rows
    blocks, _ = check_X(clf, X, reset=False)
    assert not blocks.load(1e6, CPU).is_in_memory("text")


@pytest.mark.parametrize("max_memory, is_held", [(1e-3, False), (1, True)])
def test_features_replace_a_block_within_the_memory(max_memory, is_held):
    far, _ = offsets_of(FAR, (2,))  # the block has offsets
    far.load(1, CPU)
    expected = torch.arange(360.0).view(120, 3)
    far.replace("x", 3, lambda features: features.copy_(expected), max_memory, CPU)
    assert far.is_in_memory("x") == is_held
    assert far.shapes["x"] == (3,)
    rows = torch.tensor([7, 0, 119])
    torch.testing.assert_close(far.take("x", rows, CPU), expected[rows])
