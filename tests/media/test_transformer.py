"""Several readers, and their cache."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline

from mmestim import LateFusionClassifier, SliceDict
from mmestim.media import MediaError, MediaTransformer, Reader, Sample, TextTokens, VideoFrames, Waveform

RATE = 8000


class Bytes(Reader):
    """Reader of the first bytes of a file, which lists the files that it reads in another file."""

    def __init__(self, column=None, log=None, size=4):
        self.column, self.log, self.size = column, log, size

    @property
    def sample_shape(self):
        return (self.size,)

    @property
    def sample_dtype(self):
        return np.dtype(np.uint8)

    def read(self, value):
        with open(self.log, "a") as log:
            log.write(f"{os.path.basename(value)}\n")
        with open(value, "rb") as file:
            content = file.read()
        if len(content) < self.size:
            raise MediaError(str(value), f"is too short, of {len(content)} bytes.")
        return Sample(np.frombuffer(content[: self.size], np.uint8), "were cut." * (len(content) > self.size))


@pytest.fixture
def table(tmp_path):
    """Table of 24 files of four bytes, of which the first is the class."""
    rows = []
    for number in range(24):
        path = tmp_path / f"{number}.dat"
        path.write_bytes(bytes([number % 2, number, 7, 7]))
        rows.append(
            {"file": str(path), "words": ["rain", "sun"][number % 2], "label": number % 2, "group": number // 4}
        )
    return pd.DataFrame(rows)


def log_of(reader):
    with open(reader.log) as log:
        return sorted(log.read().split())


def test_blocks_follow_the_rows_with_and_without_a_cache(table, tmp_path):
    readers = {"bytes": Bytes("file", tmp_path / "log"), "words": TextTokens("words", n_tokens=2)}
    plain = MediaTransformer(readers).fit_transform(table)
    media = MediaTransformer(readers, cache=tmp_path / "cache").fit(table)
    cached = media.transform(table)
    assert isinstance(cached, SliceDict)
    for name, block in plain.items():
        assert_array_equal(cached[name], block)
        assert cached[name].dtype == block.dtype
    assert_array_equal(plain["bytes"][:, 1], np.arange(24))
    rows = [5, 3, 20]
    assert_array_equal(media.transform(table.iloc[rows])["bytes"], plain["bytes"][rows])
    assert_array_equal(cached[rows]["bytes"], plain["bytes"][rows])
    assert_array_equal(pickle.loads(pickle.dumps(cached))["bytes"], plain["bytes"])


def test_each_content_is_read_once(table, tmp_path):
    reader = Bytes("file", tmp_path / "log")
    media = MediaTransformer({"bytes": reader}, cache=tmp_path / "cache")
    first = np.asarray(media.fit_transform(table.iloc[:10])["bytes"])
    assert log_of(reader) == sorted(f"{number}.dat" for number in range(10))
    shutil.copyfile(table["file"][0], tmp_path / "copy.dat")
    again = clone(media).fit_transform(pd.DataFrame({"file": [*table["file"][:10], str(tmp_path / "copy.dat")]}))
    assert_array_equal(again["bytes"], first[[*range(10), 0]])
    assert len(log_of(reader)) == 10
    (tmp_path / "1.dat").write_bytes(b"new!")
    changed = clone(media).fit_transform(table.iloc[:3])["bytes"]
    assert_array_equal(changed[1], list(b"new!"))
    assert len(log_of(reader)) == 11
    other = MediaTransformer({"bytes": Bytes("file", tmp_path / "log", size=3)}, cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="2 of 2 values were cut"):
        assert other.fit_transform(table.iloc[:2])["bytes"].shape == (2, 3)


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_a_search_reads_each_file_once(table, tmp_path):
    reader = Bytes("file", tmp_path / "log")
    media = MediaTransformer({"bytes": reader}, cache=tmp_path / "cache")
    model = make_pipeline(media, LateFusionClassifier(max_epochs=2, cv=None, random_state=0))
    grid = {"latefusionclassifier__embedding_dim": [4, 8]}
    search = GridSearchCV(model, grid, cv=GroupKFold(3), n_jobs=2)
    search.fit(table, table["label"], groups=table["group"])
    assert log_of(reader) == sorted(f"{number}.dat" for number in range(24))
    assert search.predict(table.iloc[:5]).shape == (5,)


def test_files_that_cannot_be_read(table, tmp_path):
    (tmp_path / "3.dat").write_bytes(b"ab")
    table.loc[5, "file"] = str(tmp_path / "no.dat")
    table.loc[7, "file"] = None
    reader = Bytes("file", tmp_path / "log")
    for cache in (None, tmp_path / "cache"):
        media = MediaTransformer({"bytes": reader}, cache=cache)
        with pytest.raises(MediaError, match=r"3\.dat: is too short, of 2 bytes"):
            media.fit_transform(table)
        media.set_params(on_error="absent").fit(table)
        if cache is None:
            table.loc[5, "file"] = None  # Without a cache, the reader itself opens the file.
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"values that cannot be read count as absent, .*3\.dat: is too short"):
                block = media.transform(table)["bytes"]
            assert_array_equal(np.flatnonzero(np.isnan(np.asarray(block)).all(axis=1)), [3, 5, 7])
            assert media.skipped_[0].item == str(tmp_path / "3.dat")
        table.loc[5, "file"] = str(tmp_path / "no.dat")
    assert len(media.skipped_) == 2
    assert "does not exist" in str(media.skipped_[1])


def test_notes_are_repeated_from_the_cache(table, tmp_path):
    (tmp_path / "3.dat").write_bytes(b"longer")
    media = MediaTransformer({"bytes": Bytes("file", tmp_path / "log")}, cache=tmp_path / "cache").fit(table)
    for _ in range(2):
        with pytest.warns(UserWarning, match="Bytes: 1 of 24 values were cut"):
            media.transform(table)


def test_several_processes_give_the_same_rows(tmp_path):
    paths = []
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", np.full(RATE, (number + 1) / 64), RATE)
        paths.append(str(tmp_path / f"{number}.wav"))
    readers = {"audio": Waveform(sample_rate=RATE, duration=1.0)}
    media = MediaTransformer(readers, cache=tmp_path / "cache", n_jobs=2)
    block = media.fit_transform(paths)["audio"]
    assert_allclose(np.asarray(block)[:, 100], np.arange(1, 41) / 64)


_KILLED = """
import os, sys
import numpy as np
from mmestim.media import MediaTransformer, Reader, Sample

class Slow(Reader):
    def __init__(self, column=None):
        self.column = column
    sample_shape = property(lambda self: (2,))
    sample_dtype = property(lambda self: np.dtype(np.int32))
    reads_files = property(lambda self: False)
    def read(self, value):
        if value == os.environ.get("KILL"):
            os._exit(9)
        return Sample(np.full(2, int(value), np.int32))

media = MediaTransformer({"x": Slow()}, cache=sys.argv[1])
values = [str(value) for value in range(3000)]
print(np.array_equal(np.asarray(media.fit_transform(values)["x"]), np.repeat(np.arange(3000), 2).reshape(-1, 2)))
"""


def test_a_killed_process_leaves_a_cache_that_can_be_used(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(_KILLED)
    command = [sys.executable, str(script), str(tmp_path / "cache")]
    killed = subprocess.run(command, env={**os.environ, "KILL": "2500"}, check=False)
    assert killed.returncode == 9
    [index] = (tmp_path / "cache").glob("*/index.jsonl")
    n_lines = index.read_bytes().count(b"\n")
    assert 0 < n_lines < 2500
    with open(index, "ab") as file:
        file.write(b'{"digest": "unfini')
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"
    assert index.read_bytes().count(b"\n") == 3000


def test_videos_end_to_end(make_video, tmp_path):
    labels = np.arange(12) % 2
    clips = [make_video(tmp_path / f"{row}.mp4", tone=300 + 600 * y, n_frames=12) for row, y in enumerate(labels)]
    table = pd.DataFrame({"clip": clips, "label": labels})
    readers = {
        "audio": Waveform("clip", sample_rate=RATE, duration=0.5),
        "frames": VideoFrames("clip", n_frames=1, size=(16, 16), color="gray"),
    }
    media = MediaTransformer(readers, cache=tmp_path / "cache")
    clf = LateFusionClassifier(encoder={"frames": "resnet18"}, max_epochs=2, cv=None, random_state=0)
    model = make_pipeline(media, clf)
    with pytest.warns(UserWarning, match="last longer than duration=0.5 s"):
        model.fit(table, table["label"])
    with pytest.warns(UserWarning, match="last longer"):
        assert set(model.predict(table)) <= {0, 1}


class Numbers(Reader):
    """Reader of objects with numbers, whose length and type are not checked."""

    def __init__(self, column=None, dtype=None):
        self.column, self.dtype = column, dtype

    sample_shape = property(lambda self: (2,))
    sample_dtype = property(lambda self: np.dtype("f4") if self.dtype is None else self.dtype)
    reads_files = property(lambda self: False)

    def read(self, value):
        return Sample(np.array(value["numbers"], float))


class Silent(dict):
    """Dict that looks the same whatever it holds."""

    def __repr__(self):
        return "Silent"


@pytest.mark.parametrize("cached", [True, False])
def test_readers_of_others_are_checked(cached, tmp_path):
    cache = tmp_path / "cache" if cached else None
    values = [Silent(numbers=[1, 2]), Silent(numbers=[3, 4])]
    block = MediaTransformer({"x": Numbers()}, cache=cache).fit_transform(values)["x"]
    assert_array_equal(block, [[1, 2], [3, 4]])
    assert np.asarray(block).dtype == np.float32
    with pytest.raises(ValueError, match=r"Numbers.read returned an array of shape \(3,\), but sample_shape is \(2,\)"):
        MediaTransformer({"x": Numbers()}, cache=cache).fit_transform([Silent(numbers=[1, 2, 3])])
    for dtype in (np.dtype(object), np.float32):
        with pytest.raises(TypeError, match=r"sample_dtype=.* must be a np\.dtype of numbers"):
            MediaTransformer({"x": Numbers(dtype=dtype)}, cache=cache).fit(values)


def test_a_cache_is_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"The parameter cache='.*file' must be a writable folder"):
        MediaTransformer({"a": TextTokens()}, cache=tmp_path / "file").fit_transform(["a"])


@pytest.mark.parametrize(
    "X, column, error, message",
    [
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), None, ValueError, "X has 2 columns: name one by column="),
        (pd.DataFrame({"a": ["x"]}), "c", ValueError, "column='c' is not in X. Its columns are .'a'."),
        (["x"], "c", TypeError, "column='c' needs a DataFrame, got list"),
        ("x.wav", None, TypeError, "X is one path or text"),
        ({"a": ["x"]}, None, TypeError, "X is a dict: pass a DataFrame"),
        (pd.DataFrame([["x", "y"]], columns=["a", "a"]), "a", ValueError, "several columns with the name 'a'"),
        ([["x", "y"]], None, ValueError, "several values in a row"),
    ],
)
def test_columns_are_checked(X, column, error, message):
    with pytest.raises(error, match=message):
        TextTokens(column).fit(X)


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        ({}, TypeError, "readers=None must be a dict"),
        ({"readers": {"a": "b"}}, TypeError, r"readers\['a'\]='b' must be a reader"),
        ({"readers": {"a": TextTokens()}, "on_error": "skip"}, ValueError, "on_error='skip' is not supported"),
        ({"readers": {"a": TextTokens()}, "verbose": 1}, TypeError, "verbose=1 must be True or False"),
    ],
)
def test_parameters_are_checked(parameters, error, message):
    with pytest.raises(error, match=message):
        MediaTransformer(**parameters).fit(["a"])


@pytest.mark.parametrize("X", [["a", None], np.array(["a", np.nan], object), pd.Series(["a", pd.NA]), [["a"], [None]]])
def test_missing_values_of_every_kind_are_absent(X):
    block = TextTokens(n_tokens=1, vocabulary=["a"]).fit_transform(X)
    assert_array_equal(block, [[2], [np.nan]])
