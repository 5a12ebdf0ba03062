"""Arrays on disk as blocks of modalities."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import cross_val_predict

from mmestim import LateFusionClassifier, SliceDict
from mmestim._data.sources import StoredArray

N_ROWS = 120


class RecordingArray:
    """Array on disk that reads as h5py does, and records how many rows are read at once."""

    chunks = None

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype
        self.n_rows_read = []

    def __getitem__(self, rows):
        if isinstance(rows, np.ndarray):
            assert (np.diff(rows) > 0).all(), "h5py reads rows in increasing order only"
        part = self._array[rows].copy()
        self.n_rows_read.append(len(part))
        return part


@pytest.fixture
def blocks():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=N_ROWS)
    a = (rng.normal(size=(N_ROWS, 6)) + y[:, None]).astype(np.float32)
    b = (20 * rng.normal(size=(N_ROWS, 8, 8)) + 100 + 20 * y[:, None, None]).clip(0, 255).astype(np.uint8)
    return {"a": a, "b": b}, y


def h5py_arrays(blocks, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "blocks.h5", "w") as file:
        for name, block in blocks.items():
            file.create_dataset(name, data=block, chunks=(7, *block.shape[1:]), compression="gzip")
    file = h5py.File(folder / "blocks.h5")
    return {name: file[name] for name in blocks}


def zarr_arrays(blocks, folder):
    group = pytest.importorskip("zarr").open_group(folder / "blocks.zarr", mode="w")
    return {name: group.create_array(name, data=block, chunks=(7, *block.shape[1:])) for name, block in blocks.items()}


@pytest.mark.parametrize("store", [h5py_arrays, zarr_arrays])
@pytest.mark.parametrize("max_memory", [0, 1024])
def test_arrays_on_disk_give_the_same_model_as_arrays_in_memory(store, max_memory, blocks, tmp_path):
    X, y = blocks
    stored = store(X, tmp_path)
    clf = LateFusionClassifier(max_epochs=3, max_memory=max_memory, random_state=0)
    expected = clf.fit(X, y).predict_proba(X)
    assert_array_equal(clf.fit(stored, y).predict_proba(stored), expected)
    predicted = cross_val_predict(clf, SliceDict(**stored), y, cv=2)
    assert_array_equal(predicted, cross_val_predict(clf, SliceDict(**X), y, cv=2))


def test_arrays_on_disk_are_never_read_whole():
    y = np.arange(300) % 3
    large = RecordingArray(np.random.default_rng(0).integers(255, size=(300, 128, 128)).astype(np.uint8))
    X = SliceDict(a=np.ones((300, 2)) * y[:, None], b=large)[np.arange(280)]
    assert not large.n_rows_read
    clf = LateFusionClassifier(max_epochs=1, batch_size=16, max_memory=0, cv=None, random_state=0)
    clf.fit(X, y[:280]).predict(X)
    assert 16 <= max(large.n_rows_read) < 280


@pytest.mark.parametrize("rows", [[5, 3, 3, 0], [110, 0], slice(2, 9, 3), [], np.arange(N_ROWS) % 2 == 0])
def test_rows_are_read_in_any_order(rows, blocks):
    X, _ = blocks
    array = StoredArray(RecordingArray(X["b"]))
    rows = rows if isinstance(rows, slice) else np.array(rows, dtype=bool if len(rows) == N_ROWS else int)
    assert_array_equal(array[rows], X["b"][rows])
    taken = array.take(rows)
    assert taken.shape == X["b"][rows].shape
    assert_array_equal(taken[:], X["b"][rows])
    assert_array_equal(np.asarray(taken), X["b"][rows])


def test_absent_rows_are_nan(blocks):
    """The first row is absent, because folds of unequal size are filled up with some row."""
    X, y = blocks
    rows = np.where(np.arange(N_ROWS) % 3 == 0, -1, np.arange(N_ROWS))
    array = StoredArray(X["b"], rows)
    assert array.dtype == np.float32
    assert_array_equal(np.isnan(array[:]).all(axis=(1, 2)), rows < 0)
    dense = {"a": X["a"], "b": np.where((rows < 0)[:, None, None], np.nan, X["b"])}
    clf = LateFusionClassifier(max_epochs=2, random_state=0)
    stored = {"a": X["a"], "b": array}
    assert_array_equal(clf.fit(stored, y).predict_proba(stored), clf.fit(dense, y).predict_proba(dense))


def test_arrays_on_disk_without_numbers_are_refused(blocks):
    X, y = blocks
    text = RecordingArray(np.full((N_ROWS, 2), "a"))
    with pytest.raises(ValueError, match="modality 'b': an array on disk has values of type <U1"):
        LateFusionClassifier().fit({"a": X["a"], "b": text}, y)
    vector = RecordingArray(np.zeros(N_ROWS))
    with pytest.raises(ValueError, match=r"modality 'b': it has shape \(120,\)"):
        LateFusionClassifier().fit({"a": X["a"], "b": vector}, y)
