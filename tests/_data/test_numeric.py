"""Missing markers of every kind, dates, and offsets of columns."""

import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from mmestim import LateFusionClassifier, ModalityGapAnalyzer, gap_scores
from mmestim._data.numeric import column_offsets, sampled_rows

AUDIO = np.arange(12.0).reshape(6, 2) + 1
IMAGE = np.arange(18.0).reshape(6, 3)
ABSENT = [0, 4]
RNG = np.random.default_rng(0)
TWO = {"audio": slice(0, 2), "image": slice(2, None)}
NAMES = [*"abcde"]


def objects(marker, cells):
    """Return all columns as objects, with a marker in some cells of the audio."""
    rows = np.hstack([AUDIO, IMAGE]).astype(object)
    for row, column in cells:
        rows[row, column] = marker
    return rows


def masked(cells, dtype):
    mask = np.zeros((6, 5), dtype=bool)
    for cell in cells:
        mask[cell] = True
    return np.ma.masked_array(np.hstack([AUDIO, IMAGE]), mask).astype(dtype)


def nullable(cells, dtype):
    frame = pd.DataFrame(np.hstack([AUDIO, IMAGE]), columns=NAMES).astype(dtype)
    for row, column in cells:
        frame.iloc[row, column] = pd.NA
    return frame


def bfloat16(cells):
    rows = torch.from_numpy(np.hstack([AUDIO, IMAGE])).bfloat16()
    for cell in cells:
        rows[cell] = torch.nan
    return rows.requires_grad_()


def sparse(cells):
    rows = np.hstack([AUDIO, IMAGE])
    for cell in cells:
        rows[cell] = np.nan
    return csr_array(rows)


def ages(cells):
    """Return the audio as durations, in seconds."""
    frame = pd.DataFrame(np.hstack([AUDIO, IMAGE]), columns=NAMES)
    for column in (0, 1):
        values = pd.to_timedelta(AUDIO[:, column], unit="s").to_series()
        values.iloc[[row for row, missing in cells if missing == column]] = pd.NaT
        frame.isetitem(column, values.to_numpy())
    return frame


MARKERS = {
    "None": lambda cells: objects(None, cells),
    "pd.NA": lambda cells: objects(pd.NA, cells),
    "pd.NaT": lambda cells: objects(pd.NaT, cells),
    "np.NaT": lambda cells: objects(np.datetime64("NaT", "s"), cells),
    "nan": lambda cells: objects(np.nan, cells),
    "None in a list": lambda cells: objects(None, cells).tolist(),
    "pd.NA in a list": lambda cells: objects(pd.NA, cells).tolist(),
    "None in a frame": lambda cells: pd.DataFrame(objects(None, cells), columns=NAMES),
    "pd.NA in a frame": lambda cells: pd.DataFrame(objects(pd.NA, cells), columns=NAMES),
    "Int64": lambda cells: nullable(cells, "Int64"),
    "Float32": lambda cells: nullable(cells, "Float32"),
    "NaT in a frame": ages,
    "mask": lambda cells: masked(cells, "f8"),
    "mask of float32": lambda cells: masked(cells, "f4"),
    "mask of int8": lambda cells: masked(cells, "i1"),
    "list of masked rows": lambda cells: list(masked(cells, "f8")),
    "bfloat16": bfloat16,
    "sparse": sparse,
}


def in_blocks(rows):
    """Return the rows as a dict of blocks of the same type."""
    if isinstance(rows, list) and not isinstance(rows[0], np.ndarray):
        return {"audio": [row[:2] for row in rows], "image": [row[2:] for row in rows]}
    if isinstance(rows, list):
        return {"audio": [row[:2] for row in rows], "image": np.array([row[2:] for row in rows])}
    if isinstance(rows, pd.DataFrame):
        return {"audio": rows.iloc[:, :2], "image": rows.iloc[:, 2:]}
    return {"audio": rows[:, :2], "image": rows[:, 2:]}


@pytest.mark.parametrize("container", ["array", "dict"])
@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_of_a_whole_block_makes_the_modality_absent(marker, container, fit, read):
    rows = MARKERS[marker]([(row, column) for row in ABSENT for column in (0, 1)])
    X, modalities = (rows, TWO) if container == "array" else (in_blocks(rows), None)
    expected = AUDIO.copy()
    expected[ABSENT] = np.nan
    arrays = read(fit(X, modalities), X)
    np.testing.assert_array_equal(arrays["audio"], expected)
    np.testing.assert_array_equal(arrays["image"], IMAGE)


@pytest.mark.parametrize("container", ["array", "dict"])
@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_in_a_part_of_a_block_is_the_error_of_nan(marker, container, fit):
    rows = MARKERS[marker]([(3, 1)])
    X, modalities = (rows, TWO) if container == "array" else (in_blocks(rows), None)
    with pytest.raises(ValueError, match=r"NaN in 1 of 2 values: modality 'audio' in row 3.*whole block"):
        fit(X, modalities)


@pytest.mark.parametrize("marker", [None, np.nan, pd.NA, np.ma.masked])
@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_missing_rows_of_a_list_make_the_modality_absent(marker, kind, fit, read):
    rows = [marker if row in ABSENT else kind(values.tolist()) for row, values in enumerate(AUDIO)]
    expected = AUDIO.copy()
    expected[ABSENT] = np.nan
    X = {"audio": rows, "image": IMAGE}
    np.testing.assert_array_equal(read(fit(X, None), X)["audio"], expected)


@pytest.mark.parametrize("marker", ["None", "pd.NA", "Int64", "mask", "mask of int8", "bfloat16", "sparse"])
def test_scores_of_one_classifier_per_modality_recognise_absent_rows(marker):
    class Constant:
        classes_ = np.array([0, 1])

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return np.full((X.shape[0], 2), 0.5)

    X = in_blocks(MARKERS[marker]([(row, column) for row in ABSENT for column in (0, 1)]))
    scores = gap_scores({"audio": Constant(), "image": Constant()}, X, np.arange(6) % 2)
    assert np.flatnonzero(np.isnan(scores[:, 0])).tolist() == ABSENT
    assert not np.isnan(scores[:, 1]).any()


def test_analysis_of_given_scores_recognises_every_marker():
    scores = RNG.uniform(0.2, 0.8, size=(40, 2))
    missing = np.zeros((40, 2), dtype=bool)
    missing[::5, 1] = True
    with_nan = np.where(missing, np.nan, scores)
    expected = ModalityGapAnalyzer(max_iter=500).fit(with_nan)
    y = np.arange(40) % 2
    tables = {"audio": np.column_stack([scores[:, 0], 1 - scores[:, 0]])}
    tables["image"] = np.column_stack([with_nan[:, 1], 1 - with_nan[:, 1]])
    masked_tables = {name: np.ma.masked_invalid(table) for name, table in tables.items()}
    np.testing.assert_array_equal(gap_scores(masked_tables, None, y), gap_scores(tables, None, y))
    for marked in (
        np.ma.masked_array(scores, missing),
        np.where(missing, None, scores),
        pd.DataFrame(with_nan).convert_dtypes(),
        torch.from_numpy(with_nan).requires_grad_(),
    ):
        analyzer = ModalityGapAnalyzer(max_iter=500).fit(marked)
        np.testing.assert_array_equal(analyzer.transform(marked), expected.transform(with_nan))


@pytest.mark.parametrize("unit", ["D", "s", "ms", "us", "ns"])
def test_dates_are_seconds_in_every_unit_and_container(unit, fit, read):
    days = np.array(["2020-01-01", "2020-01-02", "NaT", "2020-01-05", "2020-02-01", "2021-01-01"], dtype="M8[D]")
    dates = days.astype(f"M8[{unit}]")[:, None]
    rest = np.ones((6, 1))
    frame = pd.DataFrame({"when": dates[:, 0], "rest": 1.0})
    containers = [{"t": dates, "rest": rest}, {"t": frame[["when"]], "rest": rest}]
    zoned = frame.assign(when=frame["when"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    by_name = {"t": ["when"], "rest": ["rest"]}
    estimators = [fit(X) for X in containers] + [fit(X, by_name) for X in (frame, zoned)]
    for estimator, X in zip(estimators, [*containers, frame, zoned], strict=True):
        seconds = read(estimator, X)["t"] + estimator.offsets_.get("t", 0)
        np.testing.assert_allclose(seconds[:, 0], (days - np.datetime64(0, "D")) / np.timedelta64(1, "s"), rtol=1e-7)


def test_masked_and_late_dates_are_accepted(fit, read):
    dates = np.array(
        ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-05", "2020-02-01", "3021-01-01"], dtype="M8[s]"
    )
    masked = np.ma.masked_array(dates[:, None], [[True]] + [[False]] * 5)
    frame = pd.DataFrame({"t": pd.Series(dates)})
    rest = np.ones((6, 1))
    late = read(fit({"t": frame, "rest": rest}), {"t": frame, "rest": rest})["t"]
    np.testing.assert_allclose(late[-1], dates[-1].astype(float), rtol=1e-6)
    expected = late.copy()
    expected[0] = np.nan
    samples = [{"t": date, "rest": one} for date, one in zip(masked, rest, strict=True)]
    for X in ({"t": masked, "rest": rest}, samples):
        np.testing.assert_array_equal(read(fit(X), X)["t"], expected)


def test_date_objects_are_refused(fit):
    with pytest.raises(TypeError, match=r"datetime\.date"):
        fit(np.array([[datetime.date(2020, 1, 1)]] * 6))


# Offsets -------------------------------------------------------------------------------------------

NOISE = RNG.normal(size=200)


@pytest.mark.parametrize(
    "column, has_offset",
    [
        (NOISE, False),
        (NOISE + 1e4, False),
        (NOISE + 1e6, True),
        (NOISE - 1e9, True),
        (1e9 * NOISE, False),
        (np.where(np.arange(200) == 7, 0, NOISE + 1e9), True),  # one outlier
        (np.where(np.arange(200) < 10, 1e9 + 4, 1e9), True),  # a rare level
        (np.where(np.arange(200) < 10, 0.0, 1.0), False),
        (np.full(200, 255.5), False),
        (np.full(200, 1.7e9), True),
        (np.full(200, 0.0), False),
        (np.where(np.arange(200) < 10, 128009, 128001), False),  # tokens, which must not change
        (np.arange(200) * 4.0 + 2**23, False),
        (np.arange(200) % 2 + 2.0**26, True),
        (NOISE * 1e300, False),
        (NOISE * 1e30 + 1e39, True),
    ],
)
def test_a_column_has_an_offset_only_where_float32_loses_its_differences(column, has_offset):
    rows = np.column_stack([NOISE, column])
    offsets = column_offsets(rows)
    assert offsets[0] == 0
    assert (offsets[1] != 0) == has_offset
    if has_offset:
        assert column.min() <= offsets[1] <= column.max()


@pytest.mark.parametrize("dtype", ["f2", "f4", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("scale", [1, 100, 1e4, 6e4, 1e6, 1e9])
def test_offsets_depend_on_the_values_and_not_on_their_type(dtype, scale):
    limits = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    rows = np.clip(np.round(NOISE * 3 + scale), float(limits.min), float(limits.max) * 0.99)[:, None].astype(dtype)
    np.testing.assert_array_equal(column_offsets(rows), column_offsets(rows.astype(np.float64)))


def test_the_sample_of_rows_is_bounded_and_repeats():
    rows = np.arange(5, 100_000)
    for n_values in (1, 1000, 2**24):
        sample = sampled_rows(rows, n_values)
        assert 16 <= len(sample) <= 256
        assert (np.diff(sample) > 0).all()
        np.testing.assert_array_equal(sample, sampled_rows(rows, n_values))


def test_tokens_reach_the_encoder_unchanged():
    ids = np.where(np.arange(60)[:, None] % 7 == [0, 1, 2], 128_009, 128_001)

    class Recorder(torch.nn.Module):
        seen: set = set()  # noqa: RUF012

        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 4)

        def forward(self, x):
            self.seen.update(x.flatten().tolist())
            return self.linear(x / 1e5)

    X = {"text": ids, "noise": RNG.normal(size=(60, 2))}
    clf = LateFusionClassifier(encoder={"text": Recorder}, max_epochs=1, device="cpu", random_state=0)
    clf.fit(X, np.arange(60) % 2).predict(X)
    assert Recorder.seen - {0.0} == {128_001.0, 128_009.0}
    assert clf.offsets_ == {}
