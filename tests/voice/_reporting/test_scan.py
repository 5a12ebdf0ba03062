"""Scans of files, from Python and from the command line."""

import io
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import mmestim
from mmestim.__main__ import main
from mmestim._cli.scan import file_names
from mmestim.voice import ScannedFile, Skipped, VoiceEditDetector, audio_files, scan_files
from mmestim.voice._reporting.printable import printable
from mmestim.voice.formats import read_segments
from mmestim.voice.localization import EditSegment

RATE = 16000


def noise(seconds, seed=0):
    return np.convolve(np.random.default_rng(seed).normal(size=round(seconds * RATE)), np.ones(9) / 20, "same")


def echo(waveform):
    return (waveform + 0.8 * np.pad(waveform, (4000, 0))[: len(waveform)]) / 2


@pytest.fixture(scope="module")
def detector():
    clips = [noise(1.25 + seed / 32, seed) for seed in range(8)]
    detector = VoiceEditDetector(["low_pass", "echo", "cut"], window=1.2, model="features", n_clips=120, random_state=0)
    return detector.fit(clips)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "deep").mkdir()
    (folder / "empty").mkdir()
    soundfile.write(folder / "a.wav", noise(3, 50), RATE)
    soundfile.write(folder / "b.wav", echo(noise(3, 51)), RATE)
    soundfile.write(folder / "c.wav", np.zeros(RATE), RATE)
    (folder / "d.mp3").write_text("no audio")
    soundfile.write(folder / "deep" / "a.flac", noise(2, 52), 22050)
    return folder


@pytest.fixture
def model(tmp_path, detector, monkeypatch):
    """Path of a model file for which `load` is patched to return the detector."""
    path = tmp_path / "model.mme"
    path.write_bytes(b"model")
    monkeypatch.setattr("mmestim.persistence.load", lambda path, device: detector)
    return str(path)


# From Python -----------------------------------------------------------------------------------------


def test_files_of_folders_are_listed_once(folder):
    names = ["a.wav", "b.wav", "c.wav", "d.mp3", os.path.join("deep", "a.flac")]
    paths = [str(folder / name) for name in names]
    assert audio_files([folder / "b.wav", folder]) == [paths[1], paths[0], *paths[2:]]
    assert audio_files(audio_files([folder, "nowhere.wav"])) == [*paths, "nowhere.wav"]
    with pytest.raises(TypeError, match=r"is one path\. Wrap it in a list"):
        audio_files("a.wav")


def test_a_scan_returns_the_results_of_the_detector(detector, folder):
    paths = [folder / "a.wav", folder / "b.wav", folder / "deep" / "a.flac"]
    files = list(scan_files(detector, paths))
    assert [file.path for file in files] == [str(path) for path in paths]
    assert [file.duration for file in files] == pytest.approx([3, 3, 32000 / 22050], abs=1e-4)
    assert [list(file.proba) for file in files] == [detector.labels_.tolist()] * 3
    np.testing.assert_array_equal([list(file.proba.values()) for file in files], detector.predict_proba(paths))
    predicted = detector.predict(paths)
    assert predicted[:, 1:].any()
    for file, row in zip(files, predicted, strict=True):
        assert set(file.found) == set(detector.labels_[1:][row[1:] == 1])
        assert file.is_edited == (row[0] == 0)
    assert [list(file.segments) for file in files] == detector.locate(paths)
    assert [file.explanation for file in files] == detector.explain(paths)


def test_unreadable_files_are_skipped_in_their_place(detector, folder):
    results = list(scan_files(detector, [folder / "empty", folder, folder / "nowhere.wav"]))
    skipped = {result.index: result for result in results if isinstance(result, Skipped)}
    assert [os.path.basename(item.item) for item in skipped.values()] == ["empty", "c.wav", "d.mp3", "nowhere.wav"]
    assert list(skipped) == [0, 3, 4, 6]
    reasons = ["holds no audio files", "is silent", "is not audio", "does not exist"]
    assert all(reason in item.reason for reason, item in zip(reasons, skipped.values(), strict=True))


def test_all_audio_of_a_folder_is_reported(detector, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "call.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(999))
    soundfile.write(tmp_path / "huge.wav", np.full(RATE, 1e35), RATE, subtype="DOUBLE")
    soundfile.write(tmp_path / "ok.aiff", noise(2), RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    scandir = os.scandir

    def scandir_unless_locked(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_unless_locked)
    results = list(scan_files(detector, [tmp_path]))
    assert [os.path.basename(getattr(r, "path", getattr(r, "item", ""))) for r in results] == [
        "call.m4a",
        "huge.wav",
        "locked",
        "ok.aiff",
    ]
    assert isinstance(results.pop(), ScannedFile)
    reasons = ["is not audio that can be read here", "samples of 1e+35, which no audio has", "cannot be listed: Permis"]
    assert all(reason in result.reason for reason, result in zip(reasons, results, strict=True))
    monkeypatch.setattr("mmestim.voice._detection.clip_analysis.scan_clip", lambda *args, **kwargs: 1 / 0)
    (skipped,) = scan_files(detector, [tmp_path / "ok.aiff"])
    assert skipped.reason == "could not be scanned. ZeroDivisionError: division by zero"


def test_results_do_not_depend_on_the_number_of_processes(detector, folder):
    from_one_process = list(scan_files(detector, [folder]))
    assert list(scan_files(detector, [folder], n_jobs=2)) == from_one_process


def test_results_come_one_by_one(detector, folder):
    results = scan_files(detector, [folder / "a.wav", folder / "b.wav"])
    os.rename(folder / "b.wav", folder / "moved")
    try:
        assert isinstance(next(results), ScannedFile)
        assert "does not exist" in next(results).reason
    finally:
        os.rename(folder / "moved", folder / "b.wav")


def test_a_classifier_of_clips_is_refused_before_any_work():
    clips = [noise(1.3, seed) for seed in range(6)]
    detector = VoiceEditDetector(window=0.35, model="features").fit(clips, [0, 1] * 3)
    with pytest.raises(AttributeError, match="scan_files requires a detector of edits"):
        scan_files(detector, [])


def test_a_summary_is_one_line_with_places():
    segments = (
        EditSegment.from_label("low_pass", 0, 8),
        *(EditSegment.from_label("cut", moment) for moment in range(1, 8)),
    )
    file = ScannedFile("x.wav", 8.0, {"low_pass": 0.9, "cut": 0.75}, ("low_pass", "cut"), segments, "")
    assert file.summary == (
        "low_pass 90 % throughout; cut 75 % at 1.00 s, at 2.00 s, at 3.00 s, at 4.00 s, at 5.00 s and 2 more"
    )


def test_names_cannot_break_a_line_or_a_terminal():
    assert printable("a\nb\t\x1b[2J\u202ecba\udcff\u2028é") == r"a\nb\t\x1b[2J\u202ecba\udcff\u2028é"


# From the command line -------------------------------------------------------------------------------


def test_results_and_unreadable_files_are_printed(model, folder, capsys):
    assert main(["scan", str(folder), "--model", model]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        [str(folder / "a.wav"), "no edit found"],
        [str(folder / "b.wav"), "edits found"],
        [str(folder / "deep" / "a.flac"), "no edit found"],
    ]
    assert "echo" in out.splitlines()[1]
    assert err.splitlines()[0] == "2 of 5 files could not be read:"
    assert "c.wav: is silent" in err.splitlines()[1]


@pytest.mark.parametrize(
    "names, status",
    [(["a.wav"], 0), (["a.wav", "b.wav", "c.wav"], 1), (["c.wav", "d.mp3"], 2), (["a.wav", "c.wav"], 3)],
)
def test_exit_status(model, folder, names, status, capsys):
    assert main(["scan", *(str(folder / name) for name in names), "--model", model]) == status


@pytest.mark.parametrize(
    "error, status, message",
    [
        (RuntimeError("CUDA out of memory"), 2, "mmestim: CUDA out of memory"),
        (MemoryError("none"), 2, "MemoryError: none"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_no_failure_looks_like_a_result(folder, error, status, message, capsys, monkeypatch):
    def fail(path, device):
        raise error

    monkeypatch.setattr("mmestim.persistence.load", fail)
    monkeypatch.setattr(os, "dup2", lambda *files: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    assert main(["scan", str(folder), "--model", "x"]) == status
    assert message in capsys.readouterr().err


def test_names_that_standard_output_cannot_encode(model, tmp_path, monkeypatch):
    paths = [tmp_path / "日本.wav", tmp_path / os.fsdecode(b"\xe9t\xe9.wav")]
    for path in paths:
        with open(path, "wb") as file:
            soundfile.write(file, echo(noise(3, 51)), RATE, format="WAV")
    words = ["scan", *map(str, paths), "--model", model]
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    assert main(words) == 1
    assert rb"\u65e5\u672c.wav" in output.getvalue()
    output.truncate(output.seek(0))
    assert main([*words, "--format", "csv"]) == 1
    (tmp_path / "edits.csv").write_bytes(output.getvalue())
    assert set(read_segments(tmp_path / "edits.csv")) == set(map(str, paths))


def test_one_file_holds_all_recordings(model, folder, tmp_path, capsys, detector):
    expected = {file.path: list(file.segments) for file in scan_files(detector, [folder]) if hasattr(file, "path")}
    for format in ("json", "csv", "rttm"):
        target = tmp_path / f"edits.{format}"
        assert main(["scan", str(folder), "--model", model, "--format", format, "--output", str(target)]) == 1
        nonempty = {name: segments for name, segments in expected.items() if segments}
        assert read_segments(target, format) == (expected if format == "json" else nonempty)
        assert "no edit found" in capsys.readouterr().out
    assert main(["scan", str(folder), "--model", model, "--format", "json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["recordings"]) == list(expected)


def test_a_report_is_written_in_addition_to_the_lines(model, folder, tmp_path, capsys):
    target = tmp_path / "r.html"
    assert main(["scan", str(folder), "--model", model, "--report", str(target)]) == 1
    page = target.read_text(encoding="utf-8")
    assert page.count("<audio ") == page.count("<img ") == 3
    assert "Edits were found in 1 of 3 recordings that could be read. 2 could not be read." in page
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_recordings_get_different_files():
    paths = ["x/talk.wav", "x/talk.mp3", "x/talk.wav.mp3", "x/y/talk.wav", "x/other.wav"]
    expected = ["talk.wav", "talk.mp3", "talk.wav.mp3", os.path.join("y", "talk"), "other"]
    assert file_names(paths, ".txt") == [name + ".txt" for name in expected]


def test_files_of_recordings_mirror_their_folders(model, folder, tmp_path, detector):
    twin = folder / "b.ogg"
    soundfile.write(twin, noise(1, 60), RATE)
    target = tmp_path / "marks"
    try:
        assert main(["scan", str(folder), "--model", model, "--format", "textgrid", "--output", str(target)]) == 1
    finally:
        os.remove(twin)
    names = sorted(str(path.relative_to(target)) for path in target.rglob("*.TextGrid"))
    assert names == ["a.TextGrid", "b.ogg.TextGrid", "b.wav.TextGrid", os.path.join("deep", "a.TextGrid")]
    (segments,) = read_segments(target / "b.wav.TextGrid").values()
    (file,) = scan_files(detector, [folder / "b.wav"])
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
def test_unwritable_targets_are_reported_before_any_work(folder, words, message, capsys, monkeypatch):
    monkeypatch.setattr("mmestim.persistence.load", lambda path, device: pytest.fail("work began"))
    assert main(["scan", str(folder), "--model", "x", *words]) == 2
    assert message in capsys.readouterr().err


def test_files_without_a_detector_are_refused(folder, tmp_path, capsys, monkeypatch):
    assert main(["scan", str(folder), "--model", str(tmp_path / "none.mme")]) == 2
    assert "none.mme" in capsys.readouterr().err
    monkeypatch.setattr("mmestim.persistence.load", lambda path, device: mmestim.ModalityGapAnalyzer())
    assert main(["scan", str(folder), "--model", "other.mme"]) == 2
    assert "does not contain an edit detector" in capsys.readouterr().err


def test_an_interrupt_prints_no_traceback(model, folder, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmestim.voice._detection.clip_analysis.scan_clip", interrupted)
    assert main(["scan", str(folder), "--model", model]) == 130
    assert capsys.readouterr().err.strip() == "mmestim: interrupted"


def test_training_from_the_command_line(tmp_path, capsys, monkeypatch):
    saved = {}
    monkeypatch.setattr("mmestim.persistence.save", lambda detector, path: saved.update({path: detector}))
    clean, noises = tmp_path / "clean", tmp_path / "noises"
    for folder in (clean, noises):
        folder.mkdir()
    for seed in range(6):
        soundfile.write(clean / f"{seed}.wav", noise(1.4, seed), RATE)
    soundfile.write(noises / "n.wav", noise(2, 70), RATE)
    (clean / "bad.wav").write_text("no audio")
    target = str(tmp_path / "m.mme")
    words = "--window 1.2 --model features --n-clips 30 --edits low_pass background_noise --seed 3".split()
    assert main(["train", str(clean), "-o", target, *words, "--noises", str(noises)]) == 0
    out, err = capsys.readouterr()
    assert "Trained on 6 clips, each counted as a separate speaker" in out
    assert "low_pass" in out
    assert "It does not test for tts, vc, cut" in out
    assert "1 of 7 files cannot be used:" in err
    detector = saved[target]
    assert detector.get_params()["random_state"] == 3
    assert detector.labels_.tolist() == ["unaltered", "low_pass", "background_noise"]
    assert pickle.loads(pickle.dumps(detector)).noises == str(noises)


def test_a_model_from_the_command_line_can_scan(tmp_path, capsys):
    clean = tmp_path / "clean"
    clean.mkdir()
    for seed in range(6):
        soundfile.write(clean / f"{seed}.wav", noise(1.4, seed), RATE)
    soundfile.write(tmp_path / "edited.wav", echo(noise(3, 51)), RATE)
    target = str(tmp_path / "m.mme")
    words = "--window 1.2 --model features --n-clips 60 --edits low_pass echo --seed 0".split()
    assert main(["train", str(clean), "-o", target, *words]) == 0
    assert "Trained on 6 clips, each counted as a separate speaker" in capsys.readouterr().out
    assert main(["scan", str(tmp_path / "edited.wav"), "--model", target, "--device", "cpu"]) == 1
    assert "\tedits found\techo " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model", "cnn"], "model='cnn' is not known"),
        (["--edits", "lowpass"], "edits has 'lowpass'"),
    ],
)
def test_training_checks_its_options_before_reading_files(tmp_path, capsys, monkeypatch, words, message):
    soundfile.write(tmp_path / "0.wav", noise(1.4, 0), RATE)
    monkeypatch.setattr("mmestim.voice.AudioCorpus", None)
    assert main(["train", str(tmp_path), "-o", str(tmp_path / "m.mme"), *words]) == 2
    assert message in capsys.readouterr().err


def test_an_unwritable_model_is_reported_before_training(tmp_path, capsys):
    assert main(["train", str(tmp_path), "-o", str(tmp_path / "nowhere" / "m.mme")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_starting_the_command_line_does_not_import_voice():
    code = "import sys, mmestim.__main__; print('mmestim.voice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
