"""Scans of files from Python."""

import os

import numpy as np
import pytest
import soundfile

from mmestim.voice import ScannedFile, Skipped, VoiceEditDetector, audio_files, scan_files
from mmestim.voice._reporting.printable import printable
from mmestim.voice.localization import EditSegment

RATE = 16000


def test_files_of_folders_are_listed_once(recordings):
    names = ["a.wav", "b.wav", "c.wav", "d.mp3", os.path.join("deep", "a.flac")]
    paths = [str(recordings / name) for name in names]
    assert audio_files([recordings / "b.wav", recordings]) == [paths[1], paths[0], *paths[2:]]
    assert audio_files(audio_files([recordings, "nowhere.wav"])) == [*paths, "nowhere.wav"]
    with pytest.raises(TypeError, match=r"is one path\. Wrap it in a list"):
        audio_files("a.wav")


def test_a_scan_returns_the_results_of_the_detector(edit_detector, recordings):
    paths = [recordings / "a.wav", recordings / "b.wav", recordings / "deep" / "a.flac"]
    files = list(scan_files(edit_detector, paths))
    assert [file.path for file in files] == [str(path) for path in paths]
    assert [file.duration for file in files] == pytest.approx([3, 3, 32000 / 22050], abs=1e-4)
    assert [list(file.proba) for file in files] == [edit_detector.labels_.tolist()] * 3
    np.testing.assert_array_equal([list(file.proba.values()) for file in files], edit_detector.predict_proba(paths))
    predicted = edit_detector.predict(paths)
    assert predicted[:, 1:].any()
    for file, row in zip(files, predicted, strict=True):
        assert set(file.found) == set(edit_detector.labels_[1:][row[1:] == 1])
        assert file.is_edited == (row[0] == 0)
    assert [list(file.segments) for file in files] == edit_detector.locate(paths)
    assert [file.explanation for file in files] == edit_detector.explain(paths)


def test_unreadable_files_are_skipped_in_their_place(edit_detector, recordings):
    results = list(scan_files(edit_detector, [recordings / "empty", recordings, recordings / "nowhere.wav"]))
    skipped = {result.index: result for result in results if isinstance(result, Skipped)}
    assert [os.path.basename(item.item) for item in skipped.values()] == ["empty", "c.wav", "d.mp3", "nowhere.wav"]
    assert list(skipped) == [0, 3, 4, 6]
    reasons = ["contains no audio files", "is silent", "is not audio", "does not exist"]
    assert all(reason in item.reason for reason, item in zip(reasons, skipped.values(), strict=True))


def test_all_audio_of_a_folder_is_reported(edit_detector, tmp_path, monkeypatch, make_noise):
    (tmp_path / "locked").mkdir()
    (tmp_path / "call.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(999))
    soundfile.write(tmp_path / "huge.wav", np.full(RATE, 1e35), RATE, subtype="DOUBLE")
    soundfile.write(tmp_path / "ok.aiff", make_noise(2), RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    scandir = os.scandir

    def scandir_unless_locked(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_unless_locked)
    results = list(scan_files(edit_detector, [tmp_path]))
    assert [os.path.basename(getattr(r, "path", getattr(r, "item", ""))) for r in results] == [
        "call.m4a",
        "huge.wav",
        "locked",
        "ok.aiff",
    ]
    assert isinstance(results.pop(), ScannedFile)
    reasons = [
        "is not audio in a supported format",
        "samples of 1e+35, too large for audio",
        "cannot be listed: Permis",
    ]
    assert all(reason in result.reason for reason, result in zip(reasons, results, strict=True))
    monkeypatch.setattr("mmestim.voice._detection.clip_analysis.scan_clip", lambda *args, **kwargs: 1 / 0)
    (skipped,) = scan_files(edit_detector, [tmp_path / "ok.aiff"])
    assert skipped.reason == "could not be scanned. ZeroDivisionError: division by zero"


def test_results_do_not_depend_on_the_number_of_processes(edit_detector, recordings):
    from_one_process = list(scan_files(edit_detector, [recordings]))
    assert list(scan_files(edit_detector, [recordings], n_jobs=2)) == from_one_process


def test_results_come_one_by_one(edit_detector, recordings):
    results = scan_files(edit_detector, [recordings / "a.wav", recordings / "b.wav"])
    os.rename(recordings / "b.wav", recordings / "moved")
    try:
        assert isinstance(next(results), ScannedFile)
        assert "does not exist" in next(results).reason
    finally:
        os.rename(recordings / "moved", recordings / "b.wav")


def test_a_classifier_of_clips_is_refused_before_any_work(make_noise):
    clips = [make_noise(1.3, seed) for seed in range(6)]
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
