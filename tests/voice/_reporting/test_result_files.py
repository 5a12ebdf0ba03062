"""Files of all results of a scan."""

import hashlib
import json

import pandas as pd
import pytest

from mmestim.voice import Skipped, write_results
from mmestim.voice.formats import read_segments
from mmestim.voice.localization import EditSegment


@pytest.fixture
def results(make_scanned, mix_and_cuts):
    return [
        make_scanned("short.wav", 0.1, reason="It lasts 0.1 s."),
        make_scanned("talk.wav", 4.0, mix_and_cuts, channel=2, n_channels=2, sample_rate=44100, gaps=((1.0, 1.5),)),
        make_scanned("=1+1.wav", 3.0, notes=("It was joined.", "It is long.")),
        make_scanned("call.wav", 4.0, [EditSegment.from_label("echo", 0.0, 4.0)]),
        Skipped(4, "@bad.wav", "is no audio."),
    ]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.mme"
    path.write_bytes(b"model")
    return path


def test_json_has_everything(results, model, tmp_path):
    write_results(results, tmp_path / "x.json", model=model)
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["model"] == {"file": str(model), "sha256": hashlib.sha256(b"model").hexdigest()}
    assert content["unread"] == [{"file": "@bad.wav", "reason": "is no audio."}]
    assert [(file["file"], file["verdict"], file["reason"]) for file in content["files"]] == [
        ("short.wav", "cannot tell", "It lasts 0.1 s."),
        ("talk.wav", "changed content", ""),
        ("=1+1.wav", "no edit found", ""),
        ("call.wav", "processing only", ""),
    ]
    talk, analysis = content["files"][1], results[1].analysis
    assert (talk["changed_content"], talk["processing"]) == (["mix", "cut"], [])
    for name in ("probabilities", "thresholds", "prior", "duration", "explanation"):
        assert talk[name] == getattr(analysis, name)
    assert [talk[name] for name in ("channel", "n_channels", "sample_rate", "gaps")] == [2, 2, 44100, [[1.0, 1.5]]]
    assert content["files"][2]["notes"] == ["It was joined.", "It is long."]


def test_csv_has_a_row_for_each_segment_and_each_other_file(results, model, tmp_path):
    write_results(results, tmp_path / "x.csv", model=model)
    table = pd.read_csv(tmp_path / "x.csv")
    assert table["file"].tolist() == ["short.wav", *["talk.wav"] * 3, "'=1+1.wav", "call.wav", "'@bad.wav"]
    verdicts = ["cannot tell", *["changed content"] * 3, "no edit found", "processing only", "could not be read"]
    assert table["verdict"].tolist() == verdicts
    assert table["label"].fillna("").tolist() == ["", "mix", "cut", "cut", "", "echo", ""]
    assert table["kind"].dropna().tolist() == [*["changed content"] * 3, "processing"]
    assert table["reason"].dropna().tolist() == ["It lasts 0.1 s.", "is no audio."]
    assert set(table["model_sha256"]) == {hashlib.sha256(b"model").hexdigest()}
    assert table["duration"].tolist()[:-1] == [0.1, 4, 4, 4, 3, 4]
    columns = ["threshold_cut", "threshold_mix", "threshold_echo", "prior"]
    assert (table.loc[1:5, columns] == [0.6, 0.7, 0.5, 0.4]).all(axis=None)
    assert table["probability_echo"].tolist()[1:-1] == [0.1, 0.1, 0.1, 0.1, 0.9]
    assert table.loc[1, ["channel", "n_channels", "sample_rate", "gaps"]].tolist() == [2, 2, 44100, "1.000-1.500"]
    assert table["notes"][4] == "It was joined. It is long."


def test_segments_are_read_from_both(results, tmp_path):
    expected = {file.name: list(file.analysis.segments) for file in results if not isinstance(file, Skipped)}
    assert "talk.wav, channel 2" in expected
    write_results(results, tmp_path / "x.json")
    assert read_segments(tmp_path / "x.json") == expected
    write_results(results, tmp_path / "x.csv")
    assert read_segments(tmp_path / "x.csv") == {name: segments for name, segments in expected.items() if segments}


def test_a_scan_without_results_is_written(tmp_path):
    for format in ("json", "csv"):
        write_results([], tmp_path / "x", format)
        assert read_segments(tmp_path / "x", format) == {}


def test_other_formats_are_refused(results, tmp_path):
    with pytest.raises(ValueError, match="format='rttm' is not supported"):
        write_results(results, tmp_path / "x.rttm")
