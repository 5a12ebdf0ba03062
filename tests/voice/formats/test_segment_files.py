"""Segment files: round trips, the formats as other programs read and write them, and errors."""

import contextlib
import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from pyannote.database.util import load_rttm

from mmestim._utils.segment_formats import SEGMENT_FORMATS
from mmestim.voice.formats import read_segments, write_segments
from mmestim.voice.localization import EditSegment

FORMATS = {name: info.suffix for name, info in SEGMENT_FORMATS.items()}
MULTI_RECORDING_FORMATS = [name for name, info in SEGMENT_FORMATS.items() if info.holds_many]
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
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "'quoted'",
    "'=1",
    "''@",
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


# Round trips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_is_read_back(format, tmp_path):
    path = tmp_path / f"an interview{FORMATS[format]}"
    assert round_trip(SEGMENTS[::-1], format, path) == {"an interview": SEGMENTS}
    assert round_trip(SEGMENTS, format, str(path)) == {"an interview": SEGMENTS}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_are_read_back(format, label, tmp_path):
    segments = [EditSegment.from_label(label, 0.5, 1, 0.5), EditSegment.from_label(label, 2, score=0.25)]
    assert round_trip(segments, format, tmp_path / f"x{FORMATS[format]}") == {"x": segments}


@pytest.mark.parametrize("format", MULTI_RECORDING_FORMATS)
def test_hostile_recording_names_are_read_back(format, tmp_path):
    names = ["a.wav", "/a folder/b.wav", "", "\udcff\udcfe.wav", *HOSTILE]  # the fourth is not valid Unicode
    recordings = dict.fromkeys(names, SEGMENTS)
    assert round_trip(recordings, format, tmp_path / f"x{FORMATS[format]}") == recordings


@pytest.mark.parametrize("format", FORMATS)
def test_recordings_without_segments_can_be_written(format, tmp_path):
    path = tmp_path / f"x{FORMATS[format]}"
    assert round_trip([], format, path) == ({} if format in ("csv", "rttm") else {"x": []})
    if format in MULTI_RECORDING_FORMATS:
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
    read_back = read_segments(path)["x"]
    segments.sort(key=lambda segment: segment.start)
    if format in ("json", "csv"):
        assert read_back == segments
    times, scores = (
        ([[s.start, s.end] for s in side] for side in (read_back, segments)),
        [[s.score for s in side] for side in (read_back, segments)],
    )
    np.testing.assert_allclose(*times, rtol=0, atol=0 if format == "textgrid" else 1.01e-6)
    np.testing.assert_allclose(*scores, rtol=0 if format == "rttm" else 5.1e-6)


def test_json_and_csv_keep_categories_that_the_taxonomy_lacks(tmp_path):
    segments = [EditSegment("dub", "custom category", 0, 1)]
    for format in ("json", "csv"):
        assert round_trip(segments, format, tmp_path / f"x{FORMATS[format]}")["x"] == segments
    assert round_trip(segments, "rttm", tmp_path / "x.rttm")["x"][0].category == ""


# As other programs read and write them ---------------------------------------------------------------


def test_json_content():
    content = json.loads(written({"a.wav": SEGMENTS[2:3], "b.wav": []}, "json"))
    assert content == {
        "version": 1,
        "recordings": {
            "a.wav": [{"label": "cut", "category": "temporal", "start": 2.0, "end": 2.0, "score": 0.9375}],
            "b.wav": [],
        },
    }


def test_pandas_reads_csv():
    table = pd.read_csv(io.StringIO(written({"a, b.wav": SEGMENTS, "c.wav": SEGMENTS[:1]}, "csv")))
    assert table.columns.tolist() == ["file", "label", "category", "start", "end", "score"]
    assert table["file"].tolist() == ["a, b.wav"] * 4 + ["c.wav"]
    assert table.loc[2].tolist() == ["a, b.wav", "cut", "temporal", 2.0, 2.0, 0.9375]


def test_no_cell_of_csv_is_a_formula():
    label = '=HYPERLINK("x")'
    text = written({"=1+1": SEGMENTS[:1], "-a.wav": [EditSegment.from_label(label, 0, 1, -0.5)]}, "csv")
    rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows] == ["file", "'=1+1", "'-a.wav"]
    assert rows[2][1] == f"'{label}"
    assert rows[2][5] == "-0.5"  # a number


def test_csv_from_a_spreadsheet_is_read(tmp_path):
    # It has another order of columns, an extra column and a byte order mark.
    (tmp_path / "x.csv").write_text(
        "score,file,label,category,end,start,note\n1,a.wav,mix,temporal,2,1,heard\n", encoding="utf-8-sig"
    )
    assert read_segments(tmp_path / "x.csv") == {"a.wav": [EditSegment.from_label("mix", 1, 2)]}


def test_pyannote_reads_rttm(tmp_path):
    write_segments({"an interview": SEGMENTS, "b": SEGMENTS[2:3]}, tmp_path / "x.rttm")
    annotations = load_rttm(tmp_path / "x.rttm")
    tracks = {
        name: [(segment.start, segment.end, label) for segment, _, label in annotation.itertracks(yield_label=True)]
        for name, annotation in annotations.items()
    }
    # A segment that pyannote regards as empty would not be in an annotation.
    expected = [(s.start, s.end if s.label != "cut" else s.start + 0.001, s.label) for s in SEGMENTS]
    assert sorted(tracks) == ["an%20interview", "b"]
    np.testing.assert_allclose([t[:2] for t in tracks["an%20interview"]], [e[:2] for e in expected])
    assert [t[2] for t in tracks["an%20interview"]] == [e[2] for e in expected]
    assert len(tracks["b"]) == 1
    with open(tmp_path / "again.rttm", "w") as file:
        annotations["b"].write_rttm(file)
    assert read_segments(tmp_path / "again.rttm")["b"] == [EditSegment.from_label("cut", 2.0)]


def test_rttm_from_other_programs_is_read():
    text = ";; comment\nSPKR-INFO a 1 <NA> <NA> <NA> unknown mix <NA>\n\nSPEAKER a 1 0.5 1 <NA> <NA> mix <NA>\r\n"
    assert read_segments(io.StringIO(text), "rttm") == {"a": [EditSegment.from_label("mix", 0.5, 1.5)]}


def test_audacity_content():
    assert written(SEGMENTS[1:3], "audacity") == "0.500000\t1.250000\tpaste 0.5\n2.000000\t2.000000\tcut 0.9375\n"


def test_audacity_labels_made_by_hand_are_read():
    # The text has frequencies, which Audacity can export, and no scores.
    text = "1.0\t2.5\tmix\n\\\t100.0\t2000.0\n3.0\t3.0\tcut\r\n\n"
    recordings = read_segments(io.StringIO(text), "audacity")
    assert recordings == {"recording": [EditSegment.from_label("mix", 1, 2.5), EditSegment.from_label("cut", 3)]}


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


def test_textgrid_content():
    assert written(SEGMENTS[1:], "textgrid", duration=4.5) == TEXTGRID
    assert 'text = "a ""quote"" 1"' in written([EditSegment.from_label('a "quote"', 0, 1)], "textgrid", duration=1)


def test_a_textgrid_without_segments_has_a_tier():
    text = written([], "textgrid", duration=2)
    assert "size = 1\n" in text
    assert 'text = ""' in text


def test_overlapping_segments_are_in_separate_tiers():
    overlapping = [EditSegment.from_label("mix", start, start + 2.5) for start in range(4)]
    touching = [EditSegment.from_label("tts", 0, 1), EditSegment.from_label("tts", 1, 2)]
    twice = [EditSegment.from_label("cut", 1, score=score) for score in (0.5, 0.6)]
    text = written([*overlapping, *touching, *twice], "textgrid", duration=6)
    tiers = [line.split('"')[1] for line in text.splitlines() if "name = " in line]
    assert tiers == ["mix", "mix (2)", "mix (3)", "tts", "cut", "cut (2)"]
    read_back = read_segments(io.StringIO(text), "textgrid")["recording"]
    assert sorted(read_back, key=str) == sorted([*overlapping, *touching, *twice], key=str)


def test_a_textgrid_from_praat_is_read(tmp_path):
    # Praat's short form, with comments. Praat writes UTF-16 if a text is not ASCII.
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
        ("json", '{"version": 2, "recordings": {}}', "Use a later release"),
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
def test_errors_name_the_place(format, text, message):
    with pytest.raises(ValueError, match=rf"(?s)cannot be read as {format}.*{message}"):
        read_segments(io.StringIO(text), format)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_give_errors_or_segments(format, tmp_path):
    rng = np.random.default_rng(0)
    content = written(SEGMENTS, format, **({"duration": 5} if format == "textgrid" else {})).encode()
    path = tmp_path / f"x{FORMATS[format]}"
    for _ in range(100):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        path.write_bytes(damaged[: rng.integers(len(damaged))].tobytes())
        with contextlib.suppress(ValueError):
            assert isinstance(read_segments(path), dict)


def test_the_suffix_determines_the_format(tmp_path):
    for path in ("x.wav", "x", io.StringIO()):
        with pytest.raises(ValueError, match="Give format="):
            write_segments([], path)
    with pytest.raises(ValueError, match="format='xml' is not supported"):
        write_segments([], "x.json", "xml")
    with open(tmp_path / "x.CSV", "w", newline="") as file:
        write_segments(SEGMENTS, file)
    with open(tmp_path / "x.CSV", newline="") as file:
        assert read_segments(file) == {"x": SEGMENTS}
    assert (tmp_path / "x.CSV").read_text().startswith("file,")


@pytest.mark.parametrize("format", ["textgrid", "audacity"])
def test_some_formats_hold_one_recording(format, tmp_path):
    duration = {"duration": 5} if format == "textgrid" else {}
    with pytest.raises(ValueError, match=f"format='{format}' holds one recording, not 2"):
        written({"a": [], "b": []}, format, **duration)
    assert written({"a": SEGMENTS}, format, **duration) == written(SEGMENTS, format, **duration)


def test_a_textgrid_requires_the_duration():
    with pytest.raises(ValueError, match="requires the duration"):
        written([], "textgrid")
    with pytest.raises(ValueError, match="do not accept it"):
        written([], "json", duration=1)
    with pytest.raises(ValueError, match=r"a segment ends at 4\.05"):
        written(SEGMENTS, "textgrid", duration=4)
    # A rounded time must not raise an error.
    assert "xmax = 4.05\n" in written(SEGMENTS, "textgrid", duration=4.0499999)
