"""Scans of files from the command line."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import mmestim
from mmestim.__main__ import main
from mmestim._cli.scan import file_names
from mmestim.voice import ScannedFile, scan_files
from mmestim.voice.formats import read_segments

RATE = 16000
# Exit statuses, which are added.
CHANGED, FAILED, PROCESSING, UNREAD, NO_VERDICT = 1, 2, 4, 8, 16


def test_results_and_unreadable_files_are_printed(model_path, recordings, capsys):
    assert main(["scan", str(recordings), "--model", model_path]) == PROCESSING + UNREAD + NO_VERDICT
    out, err = capsys.readouterr()
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        [str(recordings / "a.wav"), "no edit found"],
        [str(recordings / "b.wav"), "processing only"],
        [str(recordings / "c.wav"), "cannot tell"],
        [str(recordings / "deep" / "a.flac"), "no edit found"],
    ]
    assert "\tprocessing: echo " in out.splitlines()[1]
    assert "\tIt is silent." in out.splitlines()[2]
    assert err.splitlines()[0] == "1 of 5 files could not be read:"
    assert "d.mp3: is not audio" in err.splitlines()[1]


def test_standard_input_is_scanned(model_path, recordings, tmp_path, monkeypatch, capsys):
    report, results = tmp_path / "r.html", tmp_path / "r.json"
    words = ["scan", "-", "--model", model_path, "--report", str(report), "--format", "json", "--output", str(results)]
    with (recordings / "b.wav").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert main(words) == PROCESSING
    assert capsys.readouterr().out.startswith("standard input\tprocessing only\tprocessing: echo ")
    assert [item["file"] for item in json.loads(results.read_text())["files"]] == ["standard input"]
    assert report.read_text(encoding="utf-8").count("<audio ") == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no audio")))
    assert main(words[:4]) == UNREAD
    assert "\n  standard input: is not audio" in capsys.readouterr().err


def test_channels_are_scanned_alone_if_they_must_be(model_path, tmp_path, make_voice, add_echo, capsys):
    plain, edited = make_voice(3, 50), add_echo(make_voice(3, 51))
    soundfile.write(tmp_path / "same.wav", np.column_stack([plain, 0.7 * plain]), RATE)
    soundfile.write(tmp_path / "inverted.wav", np.column_stack([edited, -edited]), RATE)
    assert main(["scan", str(tmp_path), "--model", model_path]) == PROCESSING
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    names = ["inverted.wav, channel 1", "inverted.wav, channel 2", "same.wav"]
    assert [line[0] for line in lines] == [str(tmp_path / name) for name in names]
    assert [line[1] for line in lines] == ["processing only", "processing only", "no edit found"]
    assert [line[3] for line in lines] == ["The channels cancel each other, so each was scanned alone."] * 2 + [""]
    main(["scan", str(tmp_path / "same.wav"), "--model", model_path, "--channels", "each"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_files_that_are_left_out_are_counted(model_path, recordings, tmp_path, capsys):
    for name in ("a.txt", "b.TXT", "c.pdf", ".hidden"):
        (tmp_path / name).write_text("no audio")
    (tmp_path / "a.wav").write_bytes((recordings / "a.wav").read_bytes())
    main(["scan", str(tmp_path), "--model", model_path])
    assert "left out, because their suffix is not one of audio or video: 2 .txt, " in capsys.readouterr().err


@pytest.mark.parametrize(
    "names, status",
    [
        (["a.wav"], 0),
        (["a.wav", "b.wav"], PROCESSING),
        (["a.wav", "b.wav", "d.mp3"], PROCESSING + UNREAD),
        (["d.mp3"], UNREAD),
        (["a.wav", "c.wav", "d.mp3"], UNREAD + NO_VERDICT),
    ],
)
def test_exit_status(model_path, recordings, names, status, capsys):
    assert main(["scan", *(str(recordings / name) for name in names), "--model", model_path]) == status


def test_exit_status_of_each_verdict(model_path, recordings, edit_detector, capsys, monkeypatch):
    (scanned,) = scan_files(edit_detector, [recordings / "a.wav"])
    analysis = dataclasses.replace(scanned.analysis, labels=("cut", "echo"), segments=())
    changed = dataclasses.replace(scanned, analysis=analysis)
    short = dataclasses.replace(scanned, analysis=analysis.without_verdict("It lasts 0.1 s."))
    for results, status in (
        ([changed], CHANGED),
        ([short], NO_VERDICT),
        ([short, scanned, changed], NO_VERDICT + CHANGED),
    ):
        monkeypatch.setattr("mmestim.voice._reporting.scan.scan_files", lambda *args, found=results, **kwargs: found)
        assert main(["scan", str(recordings), "--model", model_path]) == status
    lines = [line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["cannot tell", "It lasts 0.1 s.", ""]
    assert lines[0][0] == "changed content"
    assert lines[0][1].startswith("changed content: cut ")
    assert "; processing: echo " in lines[0][1]


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


def test_names_that_standard_output_cannot_encode(model_path, tmp_path, monkeypatch, make_voice, add_echo):
    paths = [tmp_path / "日本.wav", tmp_path / os.fsdecode(b"\xe9t\xe9.wav")]
    for path in paths:
        with open(path, "wb") as file:
            soundfile.write(file, add_echo(make_voice(3, 51)), RATE, format="WAV")
    words = ["scan", *map(str, paths), "--model", model_path]
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    assert main(words) == PROCESSING
    assert rb"\u65e5\u672c.wav" in output.getvalue()
    output.truncate(output.seek(0))
    assert main([*words, "--format", "csv"]) == PROCESSING
    (tmp_path / "edits.csv").write_bytes(output.getvalue())
    assert set(read_segments(tmp_path / "edits.csv")) == set(map(str, paths))


def test_one_file_holds_all_recordings(model_path, recordings, tmp_path, capsys, edit_detector):
    results = list(scan_files(edit_detector, [recordings]))
    expected = {file.path: list(file.analysis.segments) for file in results if isinstance(file, ScannedFile)}
    nonempty = {name: segments for name, segments in expected.items() if segments}
    words = ["scan", str(recordings), "--model", model_path, "--format"]
    for format in ("json", "csv", "rttm"):
        target = tmp_path / f"edits.{format}"
        assert main([*words, format, "--output", str(target)]) == PROCESSING + UNREAD + NO_VERDICT
        assert read_segments(target, format) == (expected if format == "json" else nonempty)
        assert "no edit found" in capsys.readouterr().out
        assert main([*words, format]) == PROCESSING + UNREAD + NO_VERDICT
        assert capsys.readouterr().out == target.read_bytes().decode()
    content = json.loads((tmp_path / "edits.json").read_text())
    assert [file["file"] for file in content["files"]] == list(expected)
    assert [os.path.basename(item["file"]) for item in content["unread"]] == ["d.mp3"]
    assert content["model"]["sha256"] == hashlib.sha256(b"model").hexdigest()


def test_a_report_is_written_in_addition_to_the_lines(model_path, recordings, tmp_path, capsys):
    target = tmp_path / "r.html"
    words = ["scan", str(recordings), "--model", model_path, "--report", str(target)]
    assert main([*words, "--prior", "0.9"]) == PROCESSING + UNREAD + NO_VERDICT
    page = target.read_text(encoding="utf-8")
    assert page.count("<audio ") == page.count("<img ") == 3
    assert "No changed content was found in 4 recordings that could be read. 1 shows traces of processing only." in page
    assert "if 90 % of such recordings are unedited" in page
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main([*words, "--prior", "1"]) == FAILED
    assert "prior=1.0 must be below 1" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("words", [["--format", "json", "--output"], ["--format", "rttm", "--output"], ["--report"]])
def test_a_full_disk_loses_no_results(model_path, recordings, tmp_path, words, capsys):
    """The lines are printed, the other output is written, and the status tells both the findings and the failure."""
    other = ["--report", str(tmp_path / "r.html")] if "--report" not in words else ["--format", "csv", "--output"]
    other += [str(tmp_path / "r.csv")] if "--report" in words else []
    status = main(["scan", str(recordings), "--model", model_path, *words, "/dev/full", *other])
    assert status == PROCESSING + UNREAD + NO_VERDICT + FAILED
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert err.splitlines()[-1] == "mmestim: '/dev/full' could not be written or read: No space left on device."
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("r.")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_full_standard_output_is_reported():
    code = "import sys; from mmestim.__main__ import main; sys.exit(main(['info', sys.argv[1]]))"
    path = os.path.join(os.path.dirname(__file__), os.pardir, "persistence", "data", "model.mme")
    with open("/dev/full", "wb") as full:
        run = subprocess.run([sys.executable, "-c", code, path], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (run.returncode, run.stderr) == (FAILED, "mmestim: [Errno 28] No space left on device: 'standard output'\n")


def test_recordings_get_different_files():
    paths = ["x/talk.wav", "x/talk.mp3", "x/talk.wav.mp3", "x/y/talk.wav", "x/other.wav"]
    expected = ["talk.wav", "talk.mp3", "talk.wav.mp3", os.path.join("y", "talk"), "other"]
    assert file_names(paths, ".txt") == [name + ".txt" for name in expected]


def test_files_of_recordings_mirror_their_folders(model_path, recordings, tmp_path, edit_detector, make_voice):
    twin = recordings / "b.ogg"
    soundfile.write(twin, make_voice(1, 60), RATE)
    target = tmp_path / "marks"
    try:
        words = ["scan", str(recordings), "--model", model_path, "--format", "textgrid", "--output", str(target)]
        assert not main(words) & FAILED
    finally:
        os.remove(twin)
    names = sorted(str(path.relative_to(target)) for path in target.rglob("*.TextGrid"))
    assert names == ["a.TextGrid", "b.ogg.TextGrid", "b.wav.TextGrid", os.path.join("deep", "a.TextGrid")]
    (segments,) = read_segments(target / "b.wav.TextGrid").values()
    (file,) = scan_files(edit_detector, [recordings / "b.wav"])
    assert [segment.label for segment in segments] == [segment.label for segment in file.analysis.segments]


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


def test_the_hop_of_the_windows_is_set(model_path, recordings, capsys, monkeypatch):
    assert main(["scan", str(recordings), "--model", model_path, "--hop", "60"]) == 2
    assert "hop=60.0 must be" in capsys.readouterr().err
    hops = []
    monkeypatch.setattr(
        "mmestim.voice._reporting.scan._iter_results", lambda detector, *_: hops.append(detector.hop) or []
    )
    main(["scan", str(recordings), "--model", model_path, "--hop", "0.5"])
    assert hops == [0.5]


def test_an_interrupt_prints_no_traceback(model_path, recordings, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmestim.voice._detection.clip_analysis.scan_clip", interrupted)
    assert main(["scan", str(recordings), "--model", model_path]) == 130
    assert capsys.readouterr().err.strip() == "mmestim: interrupted"


def test_starting_the_command_line_does_not_import_voice():
    code = "import sys, mmestim.__main__; print('mmestim.voice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
