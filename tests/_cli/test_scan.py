"""Scans of files from the command line."""

import io
import json
import os
import subprocess
import sys

import pytest
import soundfile

import mmestim
from mmestim.__main__ import main
from mmestim._cli.scan import file_names
from mmestim.voice import scan_files
from mmestim.voice.formats import read_segments

RATE = 16000


def test_results_and_unreadable_files_are_printed(model_path, recordings, capsys):
    assert main(["scan", str(recordings), "--model", model_path]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        [str(recordings / "a.wav"), "no edit found"],
        [str(recordings / "b.wav"), "edits found"],
        [str(recordings / "deep" / "a.flac"), "no edit found"],
    ]
    assert "echo" in out.splitlines()[1]
    assert err.splitlines()[0] == "2 of 5 files could not be read:"
    assert "c.wav: is silent" in err.splitlines()[1]


@pytest.mark.parametrize(
    "names, status",
    [(["a.wav"], 0), (["a.wav", "b.wav", "c.wav"], 1), (["c.wav", "d.mp3"], 2), (["a.wav", "c.wav"], 3)],
)
def test_exit_status(model_path, recordings, names, status, capsys):
    assert main(["scan", *(str(recordings / name) for name in names), "--model", model_path]) == status


@pytest.mark.parametrize(
    "error, status, message",
    [
        (RuntimeError("CUDA out of memory"), 2, "mmestim: CUDA out of memory"),
        (MemoryError("none"), 2, "MemoryError: none"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_no_failure_looks_like_a_result(recordings, error, status, message, capsys, monkeypatch):
    def fail(path, device):
        raise error

    monkeypatch.setattr("mmestim.persistence.load", fail)
    monkeypatch.setattr(os, "dup2", lambda *files: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    assert main(["scan", str(recordings), "--model", "x"]) == status
    assert message in capsys.readouterr().err


def test_names_that_standard_output_cannot_encode(model_path, tmp_path, monkeypatch, make_noise, add_echo):
    paths = [tmp_path / "日本.wav", tmp_path / os.fsdecode(b"\xe9t\xe9.wav")]
    for path in paths:
        with open(path, "wb") as file:
            soundfile.write(file, add_echo(make_noise(3, 51)), RATE, format="WAV")
    words = ["scan", *map(str, paths), "--model", model_path]
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    assert main(words) == 1
    assert rb"\u65e5\u672c.wav" in output.getvalue()
    output.truncate(output.seek(0))
    assert main([*words, "--format", "csv"]) == 1
    (tmp_path / "edits.csv").write_bytes(output.getvalue())
    assert set(read_segments(tmp_path / "edits.csv")) == set(map(str, paths))


def test_one_file_holds_all_recordings(model_path, recordings, tmp_path, capsys, edit_detector):
    expected = {
        file.path: list(file.segments) for file in scan_files(edit_detector, [recordings]) if hasattr(file, "path")
    }
    for format in ("json", "csv", "rttm"):
        target = tmp_path / f"edits.{format}"
        assert main(["scan", str(recordings), "--model", model_path, "--format", format, "--output", str(target)]) == 1
        nonempty = {name: segments for name, segments in expected.items() if segments}
        assert read_segments(target, format) == (expected if format == "json" else nonempty)
        assert "no edit found" in capsys.readouterr().out
    assert main(["scan", str(recordings), "--model", model_path, "--format", "json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["recordings"]) == list(expected)


def test_a_report_is_written_in_addition_to_the_lines(model_path, recordings, tmp_path, capsys):
    target = tmp_path / "r.html"
    assert main(["scan", str(recordings), "--model", model_path, "--report", str(target)]) == 1
    page = target.read_text(encoding="utf-8")
    assert page.count("<audio ") == page.count("<img ") == 3
    assert "Edits were found in 1 of 3 recordings that could be read. 2 could not be read." in page
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_recordings_get_different_files():
    paths = ["x/talk.wav", "x/talk.mp3", "x/talk.wav.mp3", "x/y/talk.wav", "x/other.wav"]
    expected = ["talk.wav", "talk.mp3", "talk.wav.mp3", os.path.join("y", "talk"), "other"]
    assert file_names(paths, ".txt") == [name + ".txt" for name in expected]


def test_files_of_recordings_mirror_their_folders(model_path, recordings, tmp_path, edit_detector, make_noise):
    twin = recordings / "b.ogg"
    soundfile.write(twin, make_noise(1, 60), RATE)
    target = tmp_path / "marks"
    try:
        assert (
            main(["scan", str(recordings), "--model", model_path, "--format", "textgrid", "--output", str(target)]) == 1
        )
    finally:
        os.remove(twin)
    names = sorted(str(path.relative_to(target)) for path in target.rglob("*.TextGrid"))
    assert names == ["a.TextGrid", "b.ogg.TextGrid", "b.wav.TextGrid", os.path.join("deep", "a.TextGrid")]
    (segments,) = read_segments(target / "b.wav.TextGrid").values()
    (file,) = scan_files(edit_detector, [recordings / "b.wav"])
    assert [segment.label for segment in segments] == [segment.label for segment in file.segments]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--output", "x.json"], "--output requires --format"),
        (["--format", "audacity"], "pass a folder as --output"),
        (["--report", "nowhere/x.html"], r"the folder 'nowhere' does not exist"),
        (["--format", "json", "--output", "."], r"'.' is a folder; pass the path of a file"),
    ],
)
def test_unwritable_targets_are_reported_before_any_work(recordings, words, message, capsys, monkeypatch):
    monkeypatch.setattr("mmestim.persistence.load", lambda path, device: pytest.fail("work began"))
    assert main(["scan", str(recordings), "--model", "x", *words]) == 2
    assert message in capsys.readouterr().err


def test_files_without_a_detector_are_refused(recordings, tmp_path, capsys, monkeypatch):
    assert main(["scan", str(recordings), "--model", str(tmp_path / "none.mme")]) == 2
    assert "none.mme" in capsys.readouterr().err
    monkeypatch.setattr("mmestim.persistence.load", lambda path, device: mmestim.ModalityGapAnalyzer())
    assert main(["scan", str(recordings), "--model", "other.mme"]) == 2
    assert "does not contain an edit detector" in capsys.readouterr().err


def test_an_interrupt_prints_no_traceback(model_path, recordings, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmestim.voice._detection.clip_analysis.scan_clip", interrupted)
    assert main(["scan", str(recordings), "--model", model_path]) == 130
    assert capsys.readouterr().err.strip() == "mmestim: interrupted"


def test_starting_the_command_line_does_not_import_voice():
    code = "import sys, mmestim.__main__; print('mmestim.voice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
