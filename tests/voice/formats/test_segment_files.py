"""Segments in files, written, read back, and read as others do."""

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest

from mmestim.voice.formats import read_segments, write_segments
from mmestim.voice.localization import EditSegment

FORMATS = {"json": ".json", "csv": ".csv", "rttm": ".rttm", "textgrid": ".TextGrid", "audacity": ".txt"}
MANY = ["json", "csv", "rttm"]
SEGMENTS = [
    EditSegment.from_label("mp3", 0, 4.05, 0.75),
    EditSegment.from_label("paste", 0.5, 1.25, 0.5),
    EditSegment.from_label("cut", 2.0, score=0.9375),
    EditSegment.from_label("paste", 2.5, 3, 0.25),
]
HOSTILE = [
    "two words",
    " around ",
    "tab\tinside",
    'a "quote"',
    '"',
    "a, comma; and 'more'",
    "line\nbreak",
    "cr\rlf\r\n",
    "50%",
    "%20",
    "<NA>",
    "back\\slash\\n",
    "größer 音 \U0001f399",
    "\u2028\x85\x1f\xa0",
    "! comment",
    "take 2",
    "cut 0.5",
    "1e5",
    "=1+1",
    ";;",
    "SPEAKER x 1 0 1",
    "IntervalTier",
]


def written(segments, format, **options):
    text = io.StringIO(newline="")
    write_segments(segments, text, format, **options)
    return text.getvalue()


def round_trip(segments, format, path):
    write_segments(segments, path, **({"duration": 4.05} if format == "textgrid" else {}))
    return read_segments(path)


# Back again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_is_read_back(format, tmp_path):
    path = tmp_path / f"an interview{FORMATS[format]}"
    assert round_trip(SEGMENTS[::-1], format, path) == {"an interview": SEGMENTS}
    assert round_trip(SEGMENTS, format, str(path)) == {"an interview": SEGMENTS}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_come_back(format, label, tmp_path):
    segments = [EditSegment.from_label(label, 0.5, 1, 0.5), EditSegment.from_label(label, 2, score=0.25)]
    assert round_trip(segments, format, tmp_path / f"x{FORMATS[format]}") == {"x": segments}


@pytest.mark.parametrize("format", MANY)
def test_hostile_names_of_recordings_come_back(format, tmp_path):
    names = ["a.wav", "/a folder/b.wav", "", "\udcff\udcfe.wav", *HOSTILE]  # the fourth is no valid Unicode
    recordings = dict.fromkeys(names, SEGMENTS)
    assert round_trip(recordings, format, tmp_path / f"x{FORMATS[format]}") == recordings


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_found_can_be_written(format, tmp_path):
    path = tmp_path / f"x{FORMATS[format]}"
    assert round_trip([], format, path) == ({} if format in ("csv", "rttm") else {"x": []})
    if format in MANY:
        assert round_trip({}, format, path) == {}


@pytest.mark.parametrize("format", FORMATS)
def test_numbers_keep_their_digits(format, tmp_path):
    rng = np.random.default_rng(0)
    ends = np.sort(rng.uniform(0, 1e4, size=(200, 2)))
    segments = [
        EditSegment.from_label("mix", *pair, score) for pair, score in zip(ends, rng.uniform(size=200), strict=True)
    ]
    path = tmp_path / f"x{FORMATS[format]}"
    write_segments(segments, path, **({"duration": 1e4} if format == "textgrid" else {}))
    found = read_segments(path)["x"]
    segments.sort(key=lambda segment: segment.start)
    exact = format in ("json", "csv")
    assert not exact or found == segments
    times, scores = (
        ([[s.start, s.end] for s in side] for side in (found, segments)),
        [[s.score for s in side] for side in (found, segments)],
    )
    np.testing.assert_allclose(*times, rtol=0, atol=0 if format == "textgrid" else 1.01e-6)
    np.testing.assert_allclose(*scores, rtol=0 if format == "rttm" else 5.1e-6)


def test_a_category_that_is_not_the_taxonomys_is_kept_where_there_is_room(tmp_path):
    own = [EditSegment("dub", "of one's own", 0, 1)]
    for format in ("json", "csv"):
        assert round_trip(own, format, tmp_path / f"x{FORMATS[format]}")["x"] == own
    assert round_trip(own, "rttm", tmp_path / "x.rttm")["x"][0].category == ""


# As others read and write them ----------------------------------------------------------------------


def test_json():
    content = json.loads(written({"a.wav": SEGMENTS[2:3], "b.wav": []}, "json"))
    assert content == {
        "version": 1,
        "recordings": {
            "a.wav": [{"label": "cut", "category": "temporal", "start": 2.0, "end": 2.0, "score": 0.9375}],
            "b.wav": [],
        },
    }


def test_csv_in_pandas():
    table = pd.read_csv(io.StringIO(written({"a, b.wav": SEGMENTS, "c.wav": SEGMENTS[:1]}, "csv")))
    assert table.columns.tolist() == ["file", "label", "category", "start", "end", "score"]
    assert table["file"].tolist() == ["a, b.wav"] * 4 + ["c.wav"]
    assert table.loc[2].tolist() == ["a, b.wav", "cut", "temporal", 2.0, 2.0, 0.9375]


def test_csv_from_a_spreadsheet(tmp_path):
    # Columns in another order, one more, and a byte order mark.
    (tmp_path / "x.csv").write_text(
        "score,file,label,category,end,start,note\n1,a.wav,mix,temporal,2,1,heard\n", encoding="utf-8-sig"
    )
    assert read_segments(tmp_path / "x.csv") == {"a.wav": [EditSegment.from_label("mix", 1, 2)]}


def test_rttm_as_pyannote_reads_it():
    text = written({"an interview": SEGMENTS}, "rttm")
    names = ["type", "uri", "channel", "start", "duration", "NA1", "NA2", "label", "confidence", "NA3"]
    table = pd.read_csv(io.StringIO(text), names=names, sep=r"\s+", keep_default_na=True)
    assert table["uri"].tolist() == ["an%20interview"] * 4
    assert set(table["type"]) == {"SPEAKER"}
    assert table.loc[1, ["channel", "start", "duration", "label"]].tolist() == [1, 0.5, 0.75, "paste"]
    assert table["confidence"].tolist() == [0.75, 0.5, 0.9375, 0.25]


def test_rttm_from_others():
    text = ";; comment\nSPKR-INFO a 1 <NA> <NA> <NA> unknown mix <NA>\n\nSPEAKER a 1 0.5 1 <NA> <NA> mix <NA>\r\n"
    assert read_segments(io.StringIO(text), "rttm") == {"a": [EditSegment.from_label("mix", 0.5, 1.5)]}


def test_audacity():
    assert written(SEGMENTS[1:3], "audacity") == "0.500000\t1.250000\tpaste 0.5\n2.000000\t2.000000\tcut 0.9375\n"


def test_audacity_by_hand():
    # With frequencies, as Audacity can export them, and without a score.
    text = "1.0\t2.5\tmix\n\\\t100.0\t2000.0\n3.0\t3.0\tcut\r\n\n"
    found = read_segments(io.StringIO(text), "audacity")
    assert found == {"recording": [EditSegment.from_label("mix", 1, 2.5), EditSegment.from_label("cut", 3)]}


TEXTGRID = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "paste"
        xmin = 0
        xmax = 4.5
        intervals: size = 5
        intervals [1]:
            xmin = 0.0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "paste 0.5"
        intervals [3]:
            xmin = 1.25
            xmax = 2.5
            text = ""
        intervals [4]:
            xmin = 2.5
            xmax = 3.0
            text = "paste 0.25"
        intervals [5]:
            xmin = 3.0
            xmax = 4.5
            text = ""
    item [2]:
        class = "TextTier"
        name = "cut"
        xmin = 0
        xmax = 4.5
        points: size = 1
        points [1]:
            number = 2.0
            mark = "cut 0.9375"
"""


def test_textgrid():
    assert written(SEGMENTS[1:], "textgrid", duration=4.5) == TEXTGRID
    assert 'text = "a ""quote"" 1"' in written([EditSegment.from_label('a "quote"', 0, 1)], "textgrid", duration=1)


def test_textgrid_of_nothing_has_a_tier():
    text = written([], "textgrid", duration=2)
    assert "size = 1\n" in text
    assert 'text = ""' in text


def test_what_overlaps_is_in_tiers_of_its_own():
    overlapping = [EditSegment.from_label("mix", start, start + 2.5) for start in range(4)]
    touching = [EditSegment.from_label("tts", 0, 1), EditSegment.from_label("tts", 1, 2)]
    twice = [EditSegment.from_label("cut", 1, score=score) for score in (0.5, 0.6)]
    text = written([*overlapping, *touching, *twice], "textgrid", duration=6)
    tiers = [line.split('"')[1] for line in text.splitlines() if "name = " in line]
    assert tiers == ["mix", "mix (2)", "mix (3)", "tts", "cut", "cut (2)"]
    found = read_segments(io.StringIO(text), "textgrid")["recording"]
    assert sorted(found, key=str) == sorted([*overlapping, *touching, *twice], key=str)


def test_textgrid_as_praat_writes_it(tmp_path):
    # The short form, with comments, and in UTF-16, as it is with letters that are not ASCII.
    text = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n4.5\n<exists>\n2\n"IntervalTier"\n"größer"\n'
        '0\n4.5\n2\n0\n1.5\n"mix" ! heard twice "so"\n1.5\n4.5\n" "\n"TextTier"\n"cuts"\n0\n4.5\n1\n2.25\n"cut 0.5"\n'
    )
    expected = [EditSegment.from_label("mix", 0, 1.5), EditSegment.from_label("cut", 2.25, score=0.5)]
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "x.TextGrid").write_text(text, encoding=encoding)
        assert read_segments(tmp_path / "x.TextGrid") == {"x": expected}


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "format, text, message",
    [
        ("json", "{", "Expecting"),
        ("json", "[1]", "TypeError"),
        ("json", '{"version": 2, "recordings": {}}', "use a later one"),
        ("json", '{"version": 1}', "recordings"),
        ("json", '{"version": 1, "recordings": {"a": [{"label": "cut"}]}}', "missing"),
        ("json", "[" * 100_000, "Recursion"),
        ("csv", "label,start,end\n", "no 'file'"),
        ("csv", "file,label,category,start,end,score\na,cut,temporal,1\n", "line 2"),
        ("csv", "file,label,category,start,end,score\na,cut,temporal,1,one,1\n", "line 2: could not convert"),
        ("csv", 'file,label,category,start,end,score\n"' + "a" * 200_000, "field larger"),
        ("rttm", "\nSPEAKER a 1 0.5 1\n", "line 2: it has 5 fields"),
        ("rttm", "SPEAKER a 1 <NA> 1 <NA> <NA> mix 1 <NA>", "line 1: could not convert"),
        ("rttm", "SPEAKER a 1 -1 1 <NA> <NA> mix <NA> <NA>\n", "line 1: start=-1"),
        ("audacity", "1.0 2.0 mix\n", "line 1: it must have start, end and label"),
        ("audacity", "2.0\t1.0\tmix\n", "line 1: start=2"),
        ("audacity", "1.0\t2.0\t\n", "line 1: label"),
        ("textgrid", "hello", "too early"),
        ("textgrid", '"ooTextFile" "Sound" 1 2', "must begin"),
        ("textgrid", TEXTGRID[:-20], "too early"),
        ("textgrid", TEXTGRID.replace("TextTier", "PitchTier"), "'PitchTier'"),
        ("textgrid", TEXTGRID.replace("xmax = 1.25", "xmax = 0.25"), "start=0.5 and end=0.25"),
        ("textgrid", TEXTGRID.replace("size = 5", "size = 1e999"), "Overflow"),
        ("textgrid", TEXTGRID.replace("size = 2", "size = 3"), "too early"),
    ],
)
def test_what_cannot_be_read_says_where(format, text, message):
    with pytest.raises(ValueError, match=rf"(?s)cannot be read as {format}.*{message}"):
        read_segments(io.StringIO(text), format)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_errors_or_segments(format, tmp_path):
    rng = np.random.default_rng(0)
    whole = written(SEGMENTS, format, **({"duration": 5} if format == "textgrid" else {})).encode()
    path = tmp_path / f"x{FORMATS[format]}"
    for _ in range(100):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        path.write_bytes(damaged[: rng.integers(len(damaged))].tobytes())
        with contextlib.suppress(ValueError):
            assert isinstance(read_segments(path), dict)


def test_the_suffix_tells_the_format(tmp_path):
    for path in ("x.wav", "x", io.StringIO()):
        with pytest.raises(ValueError, match="Give format="):
            write_segments([], path)
    with pytest.raises(ValueError, match="format='xml' is not known"):
        write_segments([], "x.json", "xml")
    with open(tmp_path / "x.CSV", "w", newline="") as file:
        write_segments(SEGMENTS, file)
    with open(tmp_path / "x.CSV", newline="") as file:
        assert read_segments(file) == {"x": SEGMENTS}
    assert (tmp_path / "x.CSV").read_text().startswith("file,")


@pytest.mark.parametrize("format", ["textgrid", "audacity"])
def test_one_recording_a_file(format, tmp_path):
    duration = {"duration": 5} if format == "textgrid" else {}
    with pytest.raises(ValueError, match=f"format='{format}' holds one recording, not 2"):
        written({"a": [], "b": []}, format, **duration)
    assert written({"a": SEGMENTS}, format, **duration) == written(SEGMENTS, format, **duration)


def test_a_textgrid_needs_the_duration():
    with pytest.raises(ValueError, match="needs the seconds"):
        written([], "textgrid")
    with pytest.raises(ValueError, match="others take none"):
        written([], "json", duration=1)
    with pytest.raises(ValueError, match=r"a segment ends at 4\.05"):
        written(SEGMENTS, "textgrid", duration=4)
    # A time that was rounded is no reason to fail.
    assert "xmax = 4.05\n" in written(SEGMENTS, "textgrid", duration=4.0499999)
