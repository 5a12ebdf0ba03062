"""Scans of files from Python."""

import dataclasses
import os

import numpy as np
import pytest
import soundfile

from mmestim.voice import ScannedFile, Skipped, VoiceEditDetector, audio_files, scan_files
from mmestim.voice._detection.explanation import describe_finding
from mmestim.voice._reporting.printable import printable
from mmestim.voice._reporting.scan import format_place
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
    analyses = edit_detector.analyze(paths)
    assert [file.analysis.duration for file in files] == pytest.approx([3, 3, 32000 / 22050], abs=1e-4)
    assert [list(file.analysis.probabilities) for file in files] == [edit_detector.labels_.tolist()] * 3
    assert any(file.analysis.labels for file in files)
    for file, analysis in zip(files, analyses, strict=True):
        assert fields(file.analysis) == fields(analysis)
        assert file.verdict == analysis.verdict
        assert file.name == file.path


def fields(analysis):
    """Fields of an analysis that can be compared."""
    values = dataclasses.asdict(analysis)
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def test_a_prior_is_that_of_all_results(edit_detector, recordings):
    default, likely = (list(scan_files(edit_detector, [recordings / "a.wav"], prior=prior)) for prior in (None, 0.9))
    assert fields(likely[0].analysis) == fields(default[0].analysis.with_prior(0.9))
    with pytest.raises(ValueError, match="prior=0 must be above 0"):
        scan_files(edit_detector, [recordings], prior=0)


def test_unreadable_files_are_skipped_in_their_place(edit_detector, recordings):
    results = list(scan_files(edit_detector, [recordings / "empty", recordings, recordings / "nowhere.wav"]))
    skipped = {result.index: result for result in results if isinstance(result, Skipped)}
    assert [os.path.basename(item.item) for item in skipped.values()] == ["empty", "d.mp3", "nowhere.wav"]
    assert list(skipped) == [0, 4, 6]
    reasons = ["contains no audio files", "is not audio", "does not exist"]
    assert all(reason in item.reason for reason, item in zip(reasons, skipped.values(), strict=True))


def test_all_audio_of_a_folder_is_reported(edit_detector, tmp_path, monkeypatch, make_voice):
    (tmp_path / "locked").mkdir()
    (tmp_path / "call.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(999))
    soundfile.write(tmp_path / "huge.wav", np.full(RATE, 1e35), RATE, subtype="DOUBLE")
    soundfile.write(tmp_path / "ok.aiff", make_voice(2), RATE)
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


def test_damage_is_left_out_and_reported(edit_detector, tmp_path, make_voice):
    soundfile.write(tmp_path / "x.flac", make_voice(8, 50), RATE)
    (intact,) = scan_files(edit_detector, [tmp_path / "x.flac"])
    content = bytearray((tmp_path / "x.flac").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    (tmp_path / "x.flac").write_bytes(content)
    (file,) = scan_files(edit_detector, [tmp_path / "x.flac"])
    ((start, end),) = file.gaps
    assert 2 < start < end < 6
    assert file.notes == (
        f"No sound could be decoded from {start:.2f} to {end:.2f} s, because the file is damaged there.",
    )
    assert file.analysis.duration == pytest.approx(intact.analysis.duration)
    assert all(last <= start or first >= end for first, last in file.analysis.window_spans)
    # Zeros in place of the gap would be taken for two cuts.
    assert file.verdict == intact.verdict == "no edit found"


def test_a_file_that_is_damaged_throughout_has_no_verdict(edit_detector, tmp_path, make_voice):
    # Three frames of a quarter of a second, the second of which is damaged.
    soundfile.write(tmp_path / "x.flac", make_voice(0.76, 50), RATE)
    content = bytearray((tmp_path / "x.flac").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    (tmp_path / "x.flac").write_bytes(content)
    (file,) = scan_files(edit_detector, [tmp_path / "x.flac"], prior=0.5)
    assert file.verdict == "cannot tell"
    assert file.summary == "Too little of it can be decoded."


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda voice: np.zeros(RATE), "It is silent."),
        (lambda voice: voice(0.2), "It lasts 0.20 s. Recordings below 0.35 s are too short."),
        (lambda voice: 0.3 * np.sin(np.arange(4 * RATE) / 5), "No speech was found in it."),
    ],
)
def test_recordings_that_cannot_be_judged_have_no_verdict(edit_detector, tmp_path, make, reason, make_voice):
    soundfile.write(tmp_path / "x.wav", make(make_voice), RATE)
    (file,) = scan_files(edit_detector, [tmp_path / "x.wav"])
    assert file.verdict == "cannot tell"
    assert file.summary.startswith(reason)
    assert file.analysis.labels == file.analysis.segments == ()


def test_results_do_not_depend_on_the_number_of_processes(edit_detector, recordings):
    from_one_process = list(scan_files(edit_detector, [recordings]))
    for one, two in zip(from_one_process, scan_files(edit_detector, [recordings], n_jobs=2), strict=True):
        assert isinstance(one, Skipped) == isinstance(two, Skipped)
        assert one == two if isinstance(one, Skipped) else fields(one.analysis) == fields(two.analysis)


def test_results_come_one_by_one(edit_detector, recordings):
    results = scan_files(edit_detector, [recordings / "a.wav", recordings / "b.wav"])
    os.rename(recordings / "b.wav", recordings / "moved")
    try:
        assert isinstance(next(results), ScannedFile)
        assert "does not exist" in next(results).reason
    finally:
        os.rename(recordings / "moved", recordings / "b.wav")


def test_a_classifier_of_clips_is_refused_before_any_work(make_voice):
    clips = [make_voice(1.3, seed) for seed in range(6)]
    detector = VoiceEditDetector(window=0.35, model="features").fit(clips, [0, 1] * 3)
    with pytest.raises(AttributeError, match="scan_files requires a detector of edits"):
        scan_files(detector, [])


def test_a_summary_is_one_line_with_places(make_scanned):
    segments = [EditSegment.from_label("echo", 0, 8), *(EditSegment.from_label("cut", time) for time in range(1, 8))]
    file = make_scanned("x.wav", 8.0, segments)
    assert file.verdict == "changed content"
    assert file.summary == (
        "changed content: cut 90 % at 1.00 s, at 2.00 s, at 3.00 s, at 4.00 s, at 5.00 s and 2 more; "
        "processing: echo 90 % throughout"
    )
    assert make_scanned("x.wav", 8.0).summary == ""
    assert make_scanned("x.wav", 0.1, reason="It lasts 0.1 s.").summary == "It lasts 0.1 s."


@pytest.mark.parametrize(
    "facts, words",
    [
        ({}, "0 to 7.4 kHz"),
        ({"n_channels": 1, "sample_rate": 8000}, "1 channel, 8 kHz, 0 to 4 kHz"),
        ({"n_channels": 2, "sample_rate": 44100}, "2 channels averaged, 44.1 kHz, 0 to 7.4 kHz"),
        ({"channel": 2, "n_channels": 2, "container": "WAV"}, "channel 2 of 2, WAV, 0 to 7.4 kHz"),
    ],
)
def test_a_result_says_what_was_analyzed(make_scanned, facts, words):
    assert make_scanned("x.wav", 8.0, **facts).looked_at == words


@pytest.mark.parametrize(
    "label, start, end, words",
    [
        ("cut", 1.0, 1.0, "at 1.00 s"),
        ("cut", 1.0, 5.05, "between 1.00 and 5.05 s"),
        ("cut", 0.0, 8.0, "somewhere"),
        ("echo", 1.0, 5.05, "from 1.00 to 5.05 s"),
        ("echo", 0.0, 8.0, "throughout"),
    ],
)
def test_places_in_words(make_scanned, label, start, end, words):
    segment = EditSegment.from_label(label, start, end)
    assert format_place(segment, 8.0) == words
    finding = describe_finding(make_scanned("x.wav", 8.0, [segment]).analysis)
    assert (words in finding) == (words not in ("somewhere", "throughout"))


def test_names_cannot_break_a_line_or_a_terminal():
    assert printable("a\nb\t\x1b[2J\u202ecba\udcff\u2028é") == r"a\nb\t\x1b[2J\u202ecba\udcff\u2028é"
