"""The smallest run of the benchmark of voice edits: all its tables, where audiomentations is not installed."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmestim.voice import LABELS


@pytest.fixture
def voice(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.setitem(sys.modules, "audiomentations", None)  # importing it fails
    yield importlib.import_module("voice")
    sys.modules.pop("voice")
    sys.modules.pop("memory", None)


@pytest.fixture
def speech(tmp_path):
    """A folder of three clips of hum and pauses, 2.5 s each."""
    folder = tmp_path / "speech"
    folder.mkdir()
    seconds = np.arange(40_000) / 16_000
    for number in range(3):
        hum = sum(np.sin(2 * np.pi * 110 * (1 + number / 7) * k * seconds) / k for k in range(1, 20))
        hum *= 0.1 * np.sin(2 * np.pi * 1.3 * seconds + number) ** 2
        soundfile.write(folder / f"{number}.wav", hum, 16_000)
    return folder


def rows(table, section):
    """Fields of the rows of a section's first table."""
    lines = table.split(f"## {section}\n")[1].split("##")[0].splitlines()
    return [[field.strip() for field in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][1:]


def test_a_quick_call_prints_and_leaves_the_tables(voice, speech, tmp_path, capsys):
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
    beside = rows(table, "Beside audiomentations")
    assert [row[0] for row in beside] == [case.edit for case in voice.CASES]
    assert all(float(row[4]) > 0 and row[5:] == ["-"] * 3 for row in beside)

    memory = rows(table, "Memory over a corpus")
    assert [row[:2] for row in memory] == [["1", "2"], ["4", "8"]]
    assert all(float(row[3]) >= float(row[2]) > 0 for row in memory)


def test_a_call_without_mode_or_speech_says_what_is_missing(voice, tmp_path, capsys):
    with pytest.raises(SystemExit):
        voice.main([])
    assert "--simulate" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        voice.main(["--simulate", "--speech", str(tmp_path / "nowhere")])
    assert "set MMESTIM_DATA, or name one with --speech" in capsys.readouterr().err
