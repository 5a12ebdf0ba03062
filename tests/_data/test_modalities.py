"""Containers of X, absent modalities, error messages and memory."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from skorch.helper import SliceDict

from mmestim import LateFusionClassifier, stack_modalities
from mmestim._data import blocks as blocks_module
from mmestim._data import numeric
from mmestim._data.modalities import check_X

CPU = torch.device("cpu")
AUDIO = np.arange(24.0).reshape(6, 4)
IMAGE = 100 - np.arange(36.0).reshape(6, 2, 3)
X = np.hstack([AUDIO, IMAGE.reshape(6, 6)])
TWO = {"audio": slice(0, 4), "image": slice(4, None)}
SHAPES = {"image": (2, 3)}
NAMES = [f"t{i}" for i in range(4)] + [f"p{i}" for i in range(6)]


class Plain(ClassifierMixin, BaseEstimator):
    """Estimator that stores only the attributes set by check_X."""


def fit_modalities(X, groups=None, shapes=None):
    estimator = Plain()
    n_samples = len(next(iter(X.values()))) if isinstance(X, dict) else len(X)
    blocks, _ = check_X(estimator, X, np.arange(n_samples) % 2, modalities=groups, shapes=shapes, reset=True)
    estimator.offsets_ = blocks.fit_offsets(np.arange(n_samples))
    return estimator, blocks


def read_by_stream(blocks, batch_size=4):
    """Return the blocks as predictions read them, with NaN where a modality is absent."""
    arrays = {name: np.full((len(blocks), *shape), np.nan, np.float32) for name, shape in blocks.shapes.items()}
    start = 0
    for size, x, presence in blocks.stream(batch_size):
        for name, mask in presence.items():
            assert x[name].dtype == torch.float32
            arrays[name][start : start + size][mask] = x[name].numpy()
        start += size
    assert start == len(blocks)
    return arrays


def read_by_take(blocks, max_memory):
    """Return the blocks as training reads them, with NaN where a modality is absent."""
    blocks.load(max_memory, CPU)
    arrays = {name: np.full((len(blocks), *shape), np.nan, np.float32) for name, shape in blocks.shapes.items()}
    for name, block in arrays.items():
        rows = np.flatnonzero(blocks.present(name))[::-1].copy()
        block[rows] = blocks.take(name, torch.from_numpy(rows), CPU).numpy()
    return arrays


def assert_reads(blocks, **expected):
    for arrays in (read_by_stream(blocks), read_by_take(blocks, 0), read_by_take(blocks, 1)):
        assert list(arrays) == list(expected)
        for name, block in expected.items():
            np.testing.assert_array_equal(arrays[name], block.astype(np.float32))


def memory_map(folder, array):
    np.save(folder / "X.npy", array)
    return np.load(folder / "X.npy", mmap_mode="r")


# Containers ----------------------------------------------------------------------------------------


def test_stacking_puts_flattened_blocks_side_by_side():
    stacked, groups, shapes = stack_modalities(audio=AUDIO, image=IMAGE, clip=np.ones((6, 1, 2, 1, 2)))
    np.testing.assert_array_equal(stacked[:, :10], X)
    assert groups == {"audio": slice(0, 4), "image": slice(4, 10), "clip": slice(10, 14)}
    assert shapes == {"image": (2, 3), "clip": (1, 2, 1, 2)}
    assert fit_modalities(stacked, groups, shapes)[1].shapes == {"audio": (4,), **shapes}


READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False
FRAME = pd.DataFrame(X, columns=NAMES)
BY_NAME = {"audio": NAMES[:4], "image": NAMES[4:]}


@pytest.mark.parametrize(
    "X, groups",
    [
        pytest.param(X, TWO, id="float64"),
        pytest.param(X.astype(np.float16), TWO, id="float16"),
        pytest.param(X.astype(np.int16), TWO, id="int16"),
        pytest.param(READ_ONLY, TWO, id="read-only"),
        pytest.param(np.asfortranarray(X.astype(np.float32)), TWO, id="fortran"),
        pytest.param(np.repeat(X, 2, axis=0)[::2], TWO, id="strided rows"),
        pytest.param(X[::-1].copy()[::-1], TWO, id="reversed rows"),
        pytest.param(X.tolist(), TWO, id="list"),
        pytest.param(X.astype(object), TWO, id="object"),
        pytest.param(torch.from_numpy(X), TWO, id="tensor"),
        pytest.param(FRAME, TWO, id="DataFrame by slice"),
        pytest.param(FRAME, BY_NAME, id="DataFrame by name"),
        pytest.param(FRAME.astype({"t0": "int8"}).convert_dtypes(), BY_NAME, id="nullable DataFrame"),
        pytest.param(pd.DataFrame(X), TWO, id="DataFrame without names"),
        pytest.param({"audio": AUDIO, "image": IMAGE}, None, id="dict"),
        pytest.param({"audio": AUDIO, "image": IMAGE}, TWO, id="dict and groups"),
        pytest.param({"audio": FRAME[NAMES[:4]], "image": IMAGE.tolist()}, None, id="dict of all sorts"),
        pytest.param(SliceDict(audio=AUDIO.astype(np.float32), image=np.asfortranarray(IMAGE)), None, id="SliceDict"),
        pytest.param(
            SliceDict(audio=torch.tensor(AUDIO), image=torch.tensor(IMAGE).requires_grad_()), None, id="tensors"
        ),
    ],
)
def test_every_container_gives_the_same_blocks(X, groups):
    estimator, blocks = fit_modalities(X, groups, SHAPES)
    assert_reads(blocks, audio=AUDIO, image=IMAGE)
    assert estimator.n_features_in_ == 10
    assert estimator.shapes_ == SHAPES
    assert_reads(check_X(estimator, X, reset=False)[0], audio=AUDIO, image=IMAGE)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_maps_of_every_type_are_read_in_place(tmp_path, dtype, order):
    array = (X % 2).astype(dtype, order=order)
    mapped = memory_map(tmp_path, array)
    for container, groups in [(mapped, TWO), ({"audio": mapped[:, :4], "image": mapped[:, 4:]}, None)]:
        _, blocks = fit_modalities(container, groups)
        assert_reads(blocks, audio=array[:, :4], image=array[:, 4:])
        assert not any(blocks.load(1024, CPU).is_in_memory(name) for name in blocks.shapes)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "selection, columns",
    [
        (slice(0, 4), [0, 1, 2, 3]),
        (slice(-6, -3), [4, 5, 6]),
        (slice(1, None, 3), [1, 4, 7]),
        (slice(3, None, -1), [3, 2, 1, 0]),
        (slice(9, 10), [9]),
        ([9, 0, 5], [9, 0, 5]),
        ([-1, -3], [9, 7]),
        (range(2, 9, 2), [2, 4, 6, 8]),
        (np.array([0, 1], dtype=np.uint8), [0, 1]),
        ([True] * 3 + [False] * 7, [0, 1, 2]),
        (("p5", "t0"), [9, 0]),
        (pd.Index(["t3"]), [3]),
    ],
)
def test_groups_select_columns_in_their_order(selection, columns, order):
    frame = pd.DataFrame(np.array(X, order=order), columns=NAMES)
    other_columns = [column for column in range(10) if column not in columns]
    estimator, blocks = fit_modalities(frame, {"a": selection, "b": other_columns})
    assert {name: group.tolist() for name, group in estimator.modalities_.items()} == {"a": columns, "b": other_columns}
    assert_reads(blocks, a=X[:, columns], b=X[:, other_columns])


def test_one_modality_without_groups():
    estimator, blocks = fit_modalities(X, shapes={"x": (2, 5)})
    assert list(estimator.modalities_) == ["x"]
    assert_reads(blocks, x=X.reshape(6, 2, 5))


@pytest.mark.parametrize("rows", [AUDIO, {"audio": AUDIO}])
def test_one_axis_shape_is_stored_because_it_marks_a_signal(rows):
    groups = {"audio": slice(None)}
    assert fit_modalities(rows, groups)[0].shapes_ == {}
    assert fit_modalities(rows, groups, {"audio": [np.int64(4)]})[0].shapes_ == {"audio": (4,)}


def test_arrays_and_dicts_mix_between_fit_and_predict():
    in_dict = {"image": IMAGE, "audio": AUDIO}
    flat = {"image": IMAGE.reshape(6, 6), "audio": AUDIO}
    for estimator, order in [
        (fit_modalities(X, TWO, SHAPES)[0], ["audio", "image"]),
        (fit_modalities(in_dict, TWO)[0], ["audio", "image"]),
        (fit_modalities(in_dict)[0], ["image", "audio"]),
    ]:
        side_by_side = stack_modalities(**{name: in_dict[name] for name in order})[0]
        for rows in (side_by_side, in_dict, flat, SliceDict(audio=AUDIO, image=IMAGE)):
            blocks, _ = check_X(estimator, rows, reset=False)
            assert_reads(blocks, **{name: in_dict[name] for name in order})


# Absent modalities ---------------------------------------------------------------------------------

ABSENT = X.copy()
ABSENT[[0, 5], :4] = np.nan
ABSENT[2, 4:] = np.nan


@pytest.mark.parametrize(
    "rows, groups",
    [
        pytest.param(ABSENT, TWO, id="array"),
        pytest.param(ABSENT.astype(np.float16), {"audio": [0, 1, 2, 3], "image": [4, 5, 6, 7, 8, 9]}, id="float16"),
        pytest.param(pd.DataFrame(ABSENT, columns=NAMES).convert_dtypes(), BY_NAME, id="pd.NA"),
        pytest.param({"audio": ABSENT[:, :4], "image": ABSENT[:, 4:].reshape(6, 2, 3)}, None, id="dict"),
    ],
)
def test_absent_modality_is_a_block_of_nan(rows, groups):
    _, blocks = fit_modalities(rows, groups, SHAPES)
    assert_reads(blocks, audio=ABSENT[:, :4], image=ABSENT[:, 4:].reshape(6, 2, 3))
    assert blocks.present("audio").tolist() == [False, True, True, True, True, False]
    assert blocks.present("image").tolist() == [True, True, False, True, True, True]


def with_cells(*cells):
    rows = ABSENT.copy()
    for row, column, value in cells:
        rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    "rows, message",
    [
        (with_cells((3, 1, np.nan), (4, 9, np.nan)), r"NaN in 1 of 4 values: modality 'audio' in row 3.*Impute"),
        (with_cells((4, slice(5, None), np.nan)), r"NaN in 5 of 6 values: modality 'image' in row 4.*whole block"),
        (with_cells((5, 6, np.inf)), r"infinity.*modality 'image' in row 5.*clip"),
        (with_cells((1, 0, 1e39)), r"beyond float32: modality 'audio' in row 1"),
        (with_cells((5, slice(None), np.nan)), r"NaN: row 5 has only NaN.*\(audio, image\).*drop the row"),
    ],
)
def test_invalid_values_are_located_in_the_error(rows, message, monkeypatch):
    monkeypatch.setattr(blocks_module, "_CHUNK_SIZE", 8)  # the row is counted across chunks
    estimator, blocks = fit_modalities(rows, TWO)
    for max_memory in (0, 1):
        with pytest.raises(ValueError, match=message):
            blocks.load(max_memory, CPU)
    for batch_size in (1, 4):
        with pytest.raises(ValueError, match=message):
            read_by_stream(check_X(estimator, rows, reset=False)[0], batch_size)


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "groups, error, message",
    [
        ({"a": slice(0, 6), "v": slice(4, None)}, ValueError, r"overlap: column 4 \('p0'\) is in 'a' and in 'v'"),
        ({"a": slice(0, 3), "v": slice(5, None)}, ValueError, r"2 of 10 .* no modality.* column 3 \('t3'\).*drop"),
        ({"a": slice(0, 10), "v": slice(10, None)}, ValueError, r"'v'.* selects no column; X has 10 feature"),
        ({"a": []}, ValueError, r"'a'.* selects no column"),
        ({"a": slice(0, 11)}, ValueError, r"'a'.*slice\(0, 11.* past the last column; X has 10"),
        ({"a": slice(-11, None)}, ValueError, r"'a'.* past the last column"),
        ({"a": [0, 10]}, ValueError, r"'a'.*index 10 .* X has 10"),
        ({"a": [0, -10]}, ValueError, r"'a'.* column 0 \('t0'\) twice"),
        ({"a": slice("t0", "t3")}, ValueError, r"'a'.*slice\('t0'.*list of column names"),
        ({"a": [0.5]}, ValueError, r"'a'.*\[0.5\].*list of int"),
        ({"a": [[0, 1], [2, 3]]}, ValueError, r"'a'.*nested.*list of int"),
        ({"a": ["t0", "z"]}, ValueError, r"'a'.* no column 'z'.* begin with \['t0'"),
        ({"a": "t0"}, TypeError, r"'a'.*'t0'.*list of column names"),
        ({"a": 3}, TypeError, r"'a'.*3.*list of int"),
        ({1: slice(None)}, TypeError, r"name 1.*string"),
        ({"": slice(None)}, TypeError, r"name ''.*string"),
        ({}, TypeError, r"modalities=\{\}.*dict.*None"),
        ([slice(None)], TypeError, r"modalities=\[slice.*dict.*None"),
    ],
)
def test_bad_groups_are_named_in_the_error(groups, error, message):
    with pytest.raises(error, match=message):
        fit_modalities(FRAME, groups)


@pytest.mark.parametrize("rows", [X, pd.DataFrame(X), {"a": X}])
def test_column_names_need_a_frame_that_has_them(rows):
    with pytest.raises(ValueError, match=r"'a'.*names, but X has none.*DataFrame.*give slices"):
        fit_modalities(rows, {"a": ["0"]})


@pytest.mark.parametrize(
    "shapes, error, message",
    [
        ({"image": (2, 4)}, ValueError, r"\(2, 4\) holds 8 values, but modality 'image' has 6"),
        ({"video": (2, 3)}, ValueError, r"'video', which is not a modality.*'audio', 'image'"),
        ({"image": 6}, TypeError, r"'image'.*6.*tuple of positive int"),
        ({"image": (6.0,)}, TypeError, r"'image'.*tuple of positive int"),
        ({"image": (-2, -3)}, TypeError, r"'image'.*tuple of positive int"),
        ({"image": ()}, TypeError, r"'image'.*tuple of positive int"),
        ((2, 3), TypeError, r"shapes=\(2, 3\).*dict"),
    ],
)
def test_bad_shapes_are_named_in_the_error(shapes, error, message):
    with pytest.raises(error, match=message):
        fit_modalities(X, TWO, shapes)


@pytest.mark.parametrize(
    "blocks, message",
    [
        ({}, "empty dict"),
        ({"audio": AUDIO, "image": IMAGE[:5]}, r"differ in length: \{'audio': 6, 'image': 5\}"),
        ({"audio": AUDIO[:, 0]}, r"'audio' has shape \(6,\).*n_samples"),
        ({"audio": [["a", "b"]] * 6}, "'audio'.*numeric"),
        ({"audio": [[1, 2], [3]]}, "'audio'.*inhomogeneous"),
        ({"audio": AUDIO[:0]}, r"'audio'.*0 sample"),
        ({"audio": AUDIO[:, :0]}, r"'audio'.*0 feature"),
        ({"audio": AUDIO * 1j}, "'audio'.*[Cc]omplex"),
    ],
)
def test_bad_blocks_are_named_in_the_error(blocks, message):
    with pytest.raises(ValueError, match=message):
        stack_modalities(**blocks)
    with pytest.raises(ValueError, match=message):
        check_X(Plain(), blocks, np.zeros(6), reset=True)


@pytest.mark.parametrize(
    "groups, shapes, message",
    [
        (
            {"audio": slice(0, 4), "video": slice(4, None)},
            None,
            r"'audio', 'image'.*expected.*'video'.*modalities=None",
        ),
        ({"audio": slice(0, 6), "image": slice(6, None)}, None, r"'audio' has rows of shape \(4,\), expected \(6,\)"),
        (TWO, {"image": (3, 2)}, r"'image' has rows of shape \(2, 3\), expected \(3, 2\)"),
    ],
)
def test_dict_must_agree_with_groups_and_shapes(groups, shapes, message):
    with pytest.raises(ValueError, match=message):
        fit_modalities({"audio": AUDIO, "image": IMAGE}, groups, shapes)


def test_y_must_match_the_rows_of_a_dict():
    for y, message in [(None, "requires y"), (np.zeros(5), r"inconsistent.*6, 5")]:
        with pytest.raises(ValueError, match=message):
            check_X(Plain(), {"audio": AUDIO}, y, reset=True)


FRAMES = {"audio": FRAME[NAMES[:4]], "image": FRAME[NAMES[4:]]}


@pytest.mark.parametrize(
    "fitted_on, rows, message",
    [
        (X, X[:, :9], "9 features.*expecting 10"),
        (X, X[:, :, None], r"one array of shape \(6, 10, 1\)"),
        (FRAME, FRAME[NAMES[::-1]], "same order"),
        (FRAME, FRAME[NAMES[:9]], "missing:\n- p5"),
        (FRAME, FRAME.rename(columns={"p5": "q"}), "unseen.*:\n- q"),
        (FRAME, {**FRAMES, "image": FRAME[NAMES[:3:-1]]}, "'image' has column 'p5' where fit had 'p0'.*order"),
        (FRAMES, {**FRAMES, "audio": FRAME[["t0", "t2", "t1", "t3"]]}, "'audio' has column 't2' where fit had 't1'"),
        (FRAMES, X[:, :9], "9 features.*expecting 10"),
        (X, {"audio": AUDIO}, "dict with the modalities.*'audio'.*expected.*'image'.*absent one as a block of NaN"),
        (X, {"audio": AUDIO, "image": IMAGE, "text": X}, "'text'.*expected.*'audio', 'image'"),
        (X, {"audio": AUDIO, "image": IMAGE[:, :, :2]}, r"'image' has rows of shape \(2, 2\), expected \(2, 3\)"),
        (X, {"audio": AUDIO, "image": IMAGE.swapaxes(1, 2)}, r"'image' has rows of shape \(3, 2\), expected \(2, 3\)"),
        (X, {"audio": AUDIO[:5], "image": IMAGE}, "differ in length"),
    ],
)
def test_predict_requires_the_columns_of_fit(fitted_on, rows, message):
    estimator, _ = fit_modalities(fitted_on, TWO, SHAPES)
    with pytest.raises(ValueError, match=message):
        check_X(estimator, rows, reset=False)


def test_refit_replaces_the_columns():
    estimator, _ = fit_modalities(FRAME, TWO)
    check_X(estimator, {"audio": AUDIO}, np.arange(6) % 2, reset=True)
    assert not hasattr(estimator, "feature_names_in_")
    assert estimator.n_features_in_ == 4
    assert_reads(check_X(estimator, {"audio": FRAME[NAMES[3::-1]]}, reset=False)[0], audio=X[:, 3::-1])


# Memory --------------------------------------------------------------------------------------------


def test_max_memory_is_spent_on_small_blocks_first():
    rows = np.zeros((1024, 1024))  # as float32, 1 MiB has 256 columns
    groups = {"large": slice(0, 640), "middle": slice(640, 896), "small": slice(896, None)}
    for max_memory, in_memory in [
        (0, ""),
        (0.5, "small"),
        (1.4, "small"),
        (1.5, "small middle"),
        (4, "small middle large"),
    ]:
        _, blocks = fit_modalities(rows, groups)
        blocks.load(max_memory, CPU)
        assert [name for name in groups if blocks.is_in_memory(name)] == [
            name for name in groups if name in in_memory.split()
        ]


@pytest.mark.parametrize("container", ["slices", "list", "wide and narrow", "fortran", "map", "frame", "dict"])
def test_blocks_are_never_copied_whole(container, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks_module, "_CHUNK_SIZE", 2**14)
    monkeypatch.setattr(numeric, "_MAX_VALUES", 2**14)
    rows = np.zeros((1000, 2000))  # 16 MB
    groups = {"a": slice(0, 1000), "b": slice(1000, None)}
    if container == "list":
        groups = {"a": [*range(0, 1998, 2), 1999], "b": [*range(1, 1999, 2), 1998]}
    elif container == "wide and narrow":
        groups = {"a": [0, 1, 1999], "b": range(2, 1999)}
    elif container == "fortran":
        rows = np.asfortranarray(rows)
    elif container == "map":
        rows = memory_map(tmp_path, rows.astype(np.int16))
    elif container == "frame":
        rows = pd.DataFrame(rows, copy=False)
    elif container == "dict":
        rows, groups = {"a": rows[:, :1000], "b": rows[:, 1000:].reshape(1000, 20, 50)}, None
    tracemalloc.start()
    try:
        estimator, blocks = fit_modalities(rows, groups)
        blocks.load(64, CPU)  # torch's own memory is not traced
        for name in blocks.load(0, CPU).shapes:
            for part in torch.randperm(1000).split(16):
                blocks.take(name, part, CPU)
        for _ in check_X(estimator, rows, reset=False)[0].stream(16):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize("absent", [False, True])
def test_models_do_not_depend_on_where_rows_are_stored(absent, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    rows = (rng.standard_normal((60, 10)) + y[:, None]).astype(np.float32)
    if absent:
        rows[::3, :4] = rows[1::3, 4:] = np.nan
    mapped = memory_map(tmp_path, rows)

    def proba(rows, max_memory=1024):
        settings = {"encoder": "mlp", "embedding_dim": 4, "max_epochs": 3, "device": "cpu", "random_state": 0}
        clf = LateFusionClassifier(TWO, max_memory=max_memory, **settings)
        return clf.fit(rows, y).predict_proba(rows)

    expected = proba(rows)
    for other in (proba(rows, 0), proba(mapped), proba({"audio": mapped[:, :4], "image": mapped[:, 4:]})):
        np.testing.assert_array_equal(other, expected)


FIT_A_MAP = """
import re, sys, threading, time
import numpy as np
from mmestim import LateFusionClassifier

def private():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

def watch():
    while True:
        seen.append(private())
        time.sleep(0.002)

X = np.memmap(sys.argv[1], dtype=sys.argv[2], mode="w+", shape=(6000, 8192))
X[::2, ::4096] = 1
X.flush()
X = np.memmap(sys.argv[1], dtype=sys.argv[2], mode="r", shape=(6000, 8192))
y = np.arange(len(X)) % 2
clf = LateFusionClassifier(
    {"a": slice(0, 4096), "v": slice(4096, None)}, encoder="linear", embedding_dim=4, max_epochs=1,
    early_stopping=False, device="cpu", random_state=0,
)
clf.fit(X[:64], y[:64])  # imports what is imported late
seen = [private()]
threading.Thread(target=watch, daemon=True).start()
clf.fit(X, y)
assert (clf.predict(X) == y).all()
print(max(seen) - seen[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see private memory")
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_large_memory_map_stays_on_disk(dtype, tmp_path):
    done = subprocess.run([sys.executable, "-c", FIT_A_MAP, tmp_path / "X", dtype], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60, "MiB of private memory on top of the imports"
