"""Tests of benchmarks/voice.py on minimal runs, without audiomentations."""

import gzip
import importlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from mmestim.voice import LABELS, AudioCorpus, VoiceEditDetector
from mmestim.voice.pretrained import pretrained_file


@pytest.fixture
def voice(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    monkeypatch.setitem(sys.modules, "audiomentations", None)  # importing it fails
    yield importlib.import_module("voice")
    sys.modules.pop("voice")
    sys.modules.pop("memory", None)


@pytest.fixture
def speech(tmp_path):
    """Return a folder of three clips of 2.5 s with hum and pauses."""
    folder = tmp_path / "speech"
    folder.mkdir()
    seconds = np.arange(40_000) / 16_000
    for number in range(3):
        hum = sum(np.sin(2 * np.pi * 110 * (1 + number / 7) * k * seconds) / k for k in range(1, 20))
        hum *= 0.1 * np.sin(2 * np.pi * 1.3 * seconds + number) ** 2
        soundfile.write(folder / f"{number}.wav", hum, 16_000)
    return folder


def rows(table, section):
    """Return the fields of the rows of the first table of a section."""
    lines = table.split(f"## {section}\n")[1].split("##")[0].splitlines()
    lines = [line for line in lines if line.startswith("| ") and not line.startswith("| -")]
    return [[field.strip() for field in line.split("|")[1:-1]] for line in lines][1:]


def test_a_quick_call_prints_and_writes_the_tables(voice, speech, tmp_path, capsys):
    out = tmp_path / "new"
    voice.main(["--simulate", "--quick", "--clips", "2", "--jobs", "1", "--speech", str(speech), "--out", str(out)])
    table = (out / "voice-simulate.md").read_text()
    assert capsys.readouterr().out == table
    assert "2 clips, 0.1 min" in table
    assert "--quick --clips 2" in table

    assert [row[1] for row in rows(table, "The whole set")] == ["1", "1"]  # from files and from memory
    edits = rows(table, "Each edit")
    assert [row[0] for row in edits] == ["none", *LABELS[1:]]
    assert all(float(field) > 0 for row in edits[1:] for field in row[1:])

    assert 'pip install "mmestim[bench]"' in table
    comparison = rows(table, "Comparison with audiomentations")
    assert [row[0] for row in comparison] == [case.edit for case in voice.CASES]
    assert all(float(row[4]) > 0 and row[5:] == ["-"] * 3 for row in comparison)

    memory = rows(table, "Memory over a corpus")
    assert [row[:2] for row in memory] == [["1", "2"], ["4", "8"]]
    assert all(float(row[3]) >= float(row[2]) > 0 for row in memory)


def test_a_missing_mode_or_speech_folder_is_reported(voice, tmp_path, capsys):
    with pytest.raises(SystemExit):
        voice.main([])
    assert "--simulate" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        voice.main(["--simulate", "--speech", str(tmp_path / "nowhere")])
    assert "set MMESTIM_DATA, or name one with --speech" in capsys.readouterr().err


def test_a_detector_is_fitted_once_and_its_report_is_resumed(voice, data_folder, tmp_path, capsys, monkeypatch):
    speech, out = data_folder / "speech" / "audio", tmp_path / "out"
    call = ["--detect", "--quick", "--speech", str(speech), "--work", str(tmp_path / "work"), "--out", str(out)]
    voice.main(call)
    report, (table,) = (out / "voice-detection.md").read_text(), (out / "voice-detection").iterdir()
    assert report in capsys.readouterr().out
    labels = [row[0] for row in rows(report, "Labels: features, 1.2 s, budget 0.01")]
    assert labels == ["unaltered", "tts", "cut", "mp3", "reverb"]
    assert [row[0] for row in rows(report, "Decisions: features, 1.2 s, budget 0.01")] == labels
    clips = [row[2] for row in rows(report, "Overview")]
    assert clips[:4] == [f"{name}, composed" for name in ("seen", "held out", "implementation", "unseen")]
    assert len(rows(report, "False alarms")) == 6

    # After an interruption, a call resumes with the stored scores and detector.
    lines = gzip.decompress(table.read_bytes()).splitlines(keepends=True)
    stored = b"".join(line for line in lines if not line.startswith(b"speed,"))
    table.write_bytes(gzip.compress(stored))
    monkeypatch.setattr(VoiceEditDetector, "fit", None)
    voice.main(call)
    printed = capsys.readouterr().out
    assert "features-1.2-0.01-0: speed" in printed
    assert "features-1.2-0.01-0: fit" not in printed
    assert rows(printed, "Overview") == rows(report, "Overview")
    assert gzip.decompress(table.read_bytes()).startswith(stored)

    # The report of the next call includes the results of calls with another budget.
    shutil.copy(table, table.with_name(table.name.replace("-0.01-", "-1-")))
    voice.main(call)
    names = [row[0] for row in rows(capsys.readouterr().out, "Overview")]
    assert names == ["features, 1.2 s"] * 8 + ["features, 1.2 s, budget 0.01"] * 8


def test_files_of_every_kind_are_measured(voice, data_folder, tmp_path, capsys, monkeypatch):
    field = importlib.import_module("_field")
    chosen = {name: field.ACQUISITIONS[name] for name in ("16 kHz", "Opus 24k")}
    monkeypatch.setattr(field, "ACQUISITIONS", chosen)
    out = tmp_path / "out"
    call = ["--field", "--quick", "--speech", str(data_folder / "speech" / "audio"), "--out", str(out)]
    voice.main([*call, "--edits", "cut", "opus"])
    report = (out / "voice-field.md").read_text()
    assert report in capsys.readouterr().out
    unedited = rows(report, "Unedited files: features, seed 0")
    assert [row[0] for row in unedited] == [*chosen, *field.SOURCES]
    assert [row[-1] == "-" for row in unedited] == [True, False, True, True]
    assert [row[0] for row in rows(report, "Recall on edited files: features, seed 0")] == ["16 kHz"]


def test_false_alarms_are_counted_for_each_kind_without_the_codec_of_the_file(voice):
    labels, speakers = ["cut", "mp3", "low_pass"], np.array(["a", "a", "b", "b"])
    detected = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], bool)
    lines = importlib.import_module("_field").alarm_lines(detected, labels, speakers, "mp3", 10)
    assert {(line.label, line.metric): line.value for line in lines} == {
        ("cut", "false_alarm_rate"): 0.25,
        ("mp3", "named"): 0.5,
        ("low_pass", "false_alarm_rate"): 0.5,
        ("any", "false_alarm_rate"): 0.75,
        ("processing", "false_alarm_rate"): 0.5,
        ("changed content", "false_alarm_rate"): 0.25,
    }


def test_scans_are_timed_and_their_memory_is_measured(voice, data_folder, tmp_path, capsys, monkeypatch):
    module = importlib.import_module("_scan_speed")
    monkeypatch.setattr(module, "FORMATS", {"WAV, 16 kHz": module.as_sound})
    call = ["--scan", "--quick", "--models", "features", "--edits", "cut", "mp3", "--jobs", "1"]
    voice.main([*call, "--speech", str(data_folder / "speech" / "audio"), "--out", str(tmp_path)])
    report = (tmp_path / "voice-scan.md").read_text()
    assert [row[0] for row in rows(report, "WAV, 16 kHz")] == ["reading", "LCNN", "features, 1 processes"]
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows(report, "WAV, 16 kHz"))
    assert [float(row[1]) for row in rows(report, "Hops")] == [0.5, 0.75, 0.9, 1]
    assert all(float(row[2]) > 0 and 0 <= float(row[3]) <= 1 for row in rows(report, "Hops"))
    assert all(float(row[3]) >= float(row[2]) > 0 for row in rows(report, "Memory"))


def test_every_acquisition_writes_a_file_that_can_be_read(voice, tmp_path):
    acquisitions = importlib.import_module("_acquisitions").ACQUISITIONS
    waveform = (0.1 * np.sin(np.arange(32_000) ** 1.5 / 2000)).astype(np.float32)
    for name, acquisition in acquisitions.items():
        read = AudioCorpus([acquisition.write(waveform, tmp_path / name)])[0]
        seconds = float(name.split()[0]) if acquisition.group == "length" else 2.0
        assert abs(len(read) / 16_000 - min(seconds, 2.0)) < 0.1, name


def test_full_and_partial_edits_of_a_window_are_scored_separately(voice):
    scores = importlib.import_module("_detection_scores")
    labels, truth = ["unaltered", "echo", "mp3"], np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1.0]])
    proba = np.array([[0.8, 0.2, 0], [0.7, 0.3, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0, 0.4, 1]])
    covers_window = np.zeros((5, 3), bool)
    covers_window[2, 1] = covers_window[4, 2] = True
    lines = scores.detection_lines(truth, covers_window, proba, labels, np.full(3, 0.5), np.arange(5), labels[1:], 5)
    scores_by_metric = {(line.label, line.metric): line.value for line in lines}
    assert scores_by_metric["echo", "roc_auc"] == 0.5
    assert [scores_by_metric["echo", f"{metric}, throughout"] for metric in ("n_positive", "roc_auc")] == [1, 1]
    assert [scores_by_metric["echo", f"{metric}, in part"] for metric in ("n_positive", "roc_auc")] == [1, 0]
    # The scores omit the window that has an edit of the other extent.
    assert [scores_by_metric["unaltered", f"roc_auc, {extent}"] for extent in ("throughout", "in part")] == [1, 0.5]
    assert scores_by_metric["mean of prototype's", "roc_auc, throughout"] == 1


def test_missed_aims_are_reported(voice):
    report, scores = (importlib.import_module(name) for name in ("_detection_report", "_detection_scores"))
    run = importlib.import_module("_detection_runs").Run

    def aims(auc, seconds):
        lines = [scores.Line("mean of prototype's", "roc_auc", auc, auc - 0.005, auc + 0.005)]
        parts = {"seen, composed": lines, "fit": [scores.Line("", "fit", seconds)]}
        text = report.markdown({run("features", 4.05, 1.0, 0, ""): parts}, [])
        return {row[0]: row[-1] for row in rows(text, "Aims") if row[1] == "features"}

    assert list(aims(0.93, 200).values()) == ["met", "met"]
    assert list(aims(0.907, 301).values()) == ["missed, within the interval", "missed"]
    text = report.markdown({run("features", 4.05, 1.0, 0, ""): {"fit": []}}, [])
    assert {row[-1] for row in rows(text, "Aims")} == {"not run"}


def test_the_card_has_the_stored_figures(voice):
    card = importlib.import_module("_model_card")
    with pretrained_file() as path:
        written = path.with_name(card.CARD).read_text(encoding="utf-8")
    assert card.card(Path(card.__file__).parent / "results") == written


def test_synthetic_speech_is_scored_by_its_extent(voice):
    """Clips that are synthetic throughout are detected with certainty, those in part not at all."""
    module = importlib.import_module("_synthesizers")

    detector = SimpleNamespace(
        thresholds_=np.array([0.5, 0.6]),
        predict_proba=lambda clips: np.array([[0.5, clip.max()] for clip in clips]),
    )
    evaluation = SimpleNamespace(labels=["unaltered", "tts"], detector=detector)

    def record(end):
        return SimpleNamespace(labels=["tts"], intervals={"tts": [(0.0, end)]}, duration=2.0)

    records = [record(end) for end in (2.0, 1.0, 2.0, 1.0)]
    waveforms = [np.full(10, level) for level in (0.9, 0.1, 0.5, 0.1)]
    speakers = np.array(["a", "a", "b", "b"])
    clips = module.EditedClips(waveforms, records, speakers)
    lines = module.extent_lines(evaluation, clips, np.array([0.2, 0.3]), np.array(["a", "b"]), 5)
    values = {line.metric: line.value for line in lines}
    assert [values[f"{metric}, throughout"] for metric in ("n_positive", "roc_auc", "recall")] == [2, 1, 0.5]
    assert [values[f"{metric}, in part"] for metric in ("n_positive", "roc_auc", "recall")] == [2, 0, 0]
