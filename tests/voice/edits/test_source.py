"""Tests of synthetic speech: replaced clips and inserted excerpts."""

import numpy as np
import pytest

from mmestim.voice import EDITS, TimeMap
from mmestim.voice.edits import AudioPool
from mmestim.voice.edits.base import EDGE_SECONDS, rms
from mmestim.voice.taxonomy import OneOf

RATE = 16000
each_label = pytest.mark.parametrize("label", ["tts", "vc"])


@pytest.fixture(scope="module")
def pool(noise):
    """Return a pool of short and long recordings of each kind of synthetic speech."""
    return AudioPool(tts=[noise(2.0, 1, 0.3), noise(6.0, 2, 0.02)], vc=[noise(2.5, 3, 0.3), noise(5.5, 4, 0.02)])


def draws(label, duration, pool, n=100, variant="train", rate=RATE, **ranges):
    edit = EDITS[label]
    ranges = edit.info.variant(variant) | ranges
    assert edit.can_draw(duration, ranges, pool)
    return [edit.draw(np.random.default_rng(seed), duration, rate, ranges, pool) for seed in range(n)]


@each_label
def test_replaced_clip_is_the_unchanged_recording(label, clip, pool):
    edit, recordings = EDITS[label], getattr(pool, label)
    for parameters in [p for p in draws(label, 4.0, pool) if "at" not in p]:
        assert set(parameters) == {"index", "source", "seconds", "following"}
        edited, time_map, intervals, points, _ = edit.apply(clip, RATE, pool, **parameters)
        assert 3.0 <= len(edited) / RATE <= 5.0
        assert (intervals, points) == ([(0.0, len(edited) / RATE)], [])
        first = {"index": parameters["index"], "pause": 0.0, "seconds": parameters["seconds"]}
        # The first recording, which is not longer than the clip, is continued by the other.
        assert [step["index"] for step in (first, *parameters["following"])] == ([0, 1] if first["index"] == 0 else [1])
        end = 0
        for step in (first, *parameters["following"]):
            start = end + round(step["pause"] * RATE)
            assert np.abs(edited[end:start]).max(initial=0) <= 0.5 / 32768
            end, source = start + round(step["seconds"] * RATE), round(parameters["source"] * RATE) if end == 0 else 0
            np.testing.assert_array_equal(recordings[step["index"]][source : source + end - start], edited[start:end])
        assert end == len(edited)
        assert not any(np.shares_memory(edited, recording) for recording in recordings)
        # The clip is replaced completely.
        assert time_map.intervals(0.0, 4.0) == []
        assert time_map.intervals(1.0, 2.0) == []
        assert time_map.duration == len(edited) / RATE
        # A pause and a recording are each rounded to samples.
        error = abs(edit.duration_after(4.0, **parameters) - time_map.duration)
        assert error <= len(parameters["following"]) / RATE
        slow = time_map.then(TimeMap([0, time_map.duration], [0, 2 * time_map.duration]))
        assert slow.duration == 2 * time_map.duration
        assert slow.intervals(0.0, 4.0) == []


@each_label
@pytest.mark.parametrize("speakers", [None, [0, 1] * 6])
def test_short_recordings_of_a_speaker_are_joined(label, speakers, noise):
    recordings = [noise(1.5 + 0.1 * number, number) for number in range(12)]
    pool = AudioPool(**{label: recordings}, speakers={} if speakers is None else {label: speakers})
    step = 1 if speakers is None else 2
    durations = []
    for parameters in [p for p in draws(label, 8.0, pool) if "at" not in p]:
        indices = [parameters["index"], *(following["index"] for following in parameters["following"])]
        assert indices == [(indices[0] + step * number) % 12 for number in range(len(indices))]
        durations.append(len(EDITS[label].apply(noise(8.0, 5), RATE, pool, **parameters).waveform) / RATE)
    assert np.mean(durations) == pytest.approx(8.0, abs=0.25)
    assert np.abs(np.array(durations) - 8.0).max() <= 1.0


@each_label
def test_short_speech_is_used_up(label, noise):
    pool = AudioPool(**{label: [noise(1.0, 1), noise(0.02, 2), noise(0.8, 3)]})  # The second one is too short.
    for parameters in [p for p in draws(label, 9.0, pool, n=20) if "at" not in p]:
        assert {parameters["index"], *(step["index"] for step in parameters["following"])} == {0, 2}
        assert 1.95 <= EDITS[label].duration_after(9.0, **parameters) <= 2.3


@each_label
def test_excerpt_is_inserted_at_the_level_of_the_clip(label, clip, pool):
    edit = EDITS[label]
    for parameters in [p for p in draws(label, 4.0, pool) if "at" in p]:
        edited, time_map, intervals, points, _ = edit.apply(clip, RATE, pool, **parameters)
        at, n_new = round(parameters["at"] * RATE), round(parameters["seconds"] * RATE)
        assert (intervals, points) == ([(at / RATE, (at + n_new) / RATE)], [])
        np.testing.assert_array_equal(edited[:at], clip[:at])
        np.testing.assert_array_equal(edited[at + n_new :], clip[at:])
        assert 20 * np.log10(rms(edited[at + 160 : at + n_new - 160]) / rms(clip)) == pytest.approx(0, abs=0.3)
        assert time_map.intervals(0.0, 0.2) == [(0.0, 0.2)]
        assert time_map.intervals(3.8, 4.0) == [pytest.approx((3.8 + n_new / RATE, 4.0 + n_new / RATE))]
        assert abs(edit.duration_after(4.0, **parameters) - len(edited) / RATE) < 0.51 / RATE


@each_label
def test_drawn_excerpts_vary(label, pool):
    drawn = draws(label, 4.05, pool, n=400)
    insertions = [p for p in drawn if "at" in p]
    assert 0.4 < len(insertions) / len(drawn) < 0.6
    assert {p["index"] for p in drawn} == {0, 1}
    for p in insertions:
        assert 0.3 <= p["seconds"] <= 2.025  # Most of the clip stays real.
        assert EDGE_SECONDS <= p["at"] <= 4.05 - EDGE_SECONDS
        assert 0 <= p["fade"] <= 0.01
    assert max(p["seconds"] for p in draws(label, 20.0, pool) if "at" in p) > 2.5
    assert {p["fade"] for p in draws(label, 4.05, pool, variant="held_out") if "at" in p} == {0.02}


@each_label
def test_short_clip_is_replaced(label, pool, noise):
    for duration in (0.05, 0.3, 0.75):
        for parameters in draws(label, duration, pool, n=20):
            assert "at" not in parameters
            edited = EDITS[label].apply(noise(duration, 5), RATE, pool, **parameters)
            assert duration / 2 <= len(edited.waveform) / RATE <= 1.5 * duration
    lengths = OneOf((0.8,))  # Longer than each recording, so no excerpt can be inserted.
    short_pool = AudioPool(tts=[noise(0.7, 6)], vc=[noise(0.7, 6)])
    assert all(p["seconds"] == 0.7 and "at" not in p for p in draws(label, 4.0, short_pool, n=20, length=lengths))


@each_label
def test_short_recordings_are_not_used(label, noise):
    tiny, usable = noise(0.02, 6), noise(1.0, 7)
    drawn = draws(label, 4.0, AudioPool(**{label: [tiny, usable, tiny]}))
    assert {p["index"] for p in drawn} == {1}
    assert drawn == draws(label, 4.0, AudioPool(**{label: [tiny, usable, tiny]}))
    with pytest.raises(ValueError, match=rf"2 {label} were tried, and none lasts 0\.5 s\. .* add longer ones"):
        draws(label, 4.0, AudioPool(**{label: [tiny, noise(0.49, 8)]}), n=1)


@each_label
@pytest.mark.parametrize("pause", [0.06, 0.4])
@pytest.mark.parametrize("duration", [2.5, 4.0])
def test_excerpts_start_and_end_in_pauses(label, pause, duration, noise, noise_bursts):
    pool = AudioPool(**{label: [noise_bursts(11.0, 9, 0.6, pause)]})
    lengths = []
    for parameters in [p for p in draws(label, duration, pool) if "at" not in p]:
        edited = EDITS[label].apply(noise(duration, 5), RATE, pool, **parameters).waveform
        for end in (edited, edited[::-1]):
            assert rms(end[:160]) < 1e-3
            assert rms(end[: round(0.09 * RATE)]) > 0.01  # The level above which silence is trimmed.
        lengths.append(len(edited) / RATE)
    assert abs(np.mean(lengths) - duration) < pause + 0.1  # Pauses at the ends are excluded.
    assert np.abs(np.array(lengths) - duration).max() <= 1.0 + 2 * pause


def test_excerpt_is_within_a_recording_barely_longer_than_the_clip(noise_bursts):
    pool = AudioPool(tts=[noise_bursts(2.55, 9, 0.6, 0.05)])
    for p in [p for p in draws("tts", 2.5, pool) if "at" not in p]:
        assert 0 <= p["source"] <= p["source"] + p["seconds"] <= 2.55 + 1e-9
    silent_pool = AudioPool(tts=[np.zeros(3 * RATE, dtype=np.float32)])
    assert all(p["seconds"] > 1.0 for p in draws("tts", 2.5, silent_pool) if "at" not in p)


@pytest.mark.parametrize("fade", [0.002, 0.01])
def test_splice_points_have_no_steps(fade):
    wave = np.sin(2 * np.pi * 3.3 * np.arange(4 * RATE) / RATE).astype(np.float32)
    pool = AudioPool(tts=[wave])
    spliced, faded = (
        EDITS["tts"].apply(wave, RATE, pool, index=0, offset=0.37, seconds=1.0, at=1.0, fade=f).waveform
        for f in (0.0, fade)
    )
    for at in (16000, 32000):
        jump, max_step = np.abs(np.diff(spliced[at - 2 : at + 2])).max(), np.abs(np.diff(wave)).max()
        assert jump > 0.2
        around = faded[at - round(fade * RATE) - 2 : at + round(fade * RATE) + 2]
        assert np.abs(np.diff(around)).max() <= np.pi / 2 / (fade * RATE) * 2 * jump + max_step


def test_excerpt_contains_speech(clip, noise):
    recording = noise(6.0, 7)
    recording[: 4 * RATE] = 0
    pool = AudioPool(vc=[recording])
    for parameters in draws("vc", 1.0, pool, n=40):
        edited, _, ((start, end),), *_ = EDITS["vc"].apply(clip[:RATE], RATE, pool, **parameters)
        assert rms(edited[round(start * RATE) : round(end * RATE)]) >= 0.04
        assert "at" in parameters or 0.5 <= parameters["seconds"] <= 1.5


def test_excerpt_retains_its_level_in_a_silent_clip(pool):
    silent = np.zeros(4 * RATE, dtype=np.float32)
    edited = EDITS["tts"].apply(silent, RATE, pool, index=0, offset=0.0, seconds=1.0, at=1.0, fade=0.0).waveform
    assert rms(edited[RATE : 2 * RATE]) == pytest.approx(0.3, rel=0.05)
    silent_pool = AudioPool(tts=[np.zeros(2 * RATE, dtype=np.float32)])
    assert not EDITS["tts"].apply(silent, RATE, silent_pool, index=0, offset=0.0, seconds=1.0).waveform.any()


@each_label
def test_each_label_uses_the_pool_of_its_name(label, clip, pool):
    label_pool = AudioPool(**{label: getattr(pool, label)})
    other_label = "vc" if label == "tts" else "tts"
    assert EDITS[label].can_draw(4.0, EDITS[label].info.ranges, label_pool)
    assert not EDITS[other_label].can_draw(4.0, EDITS[other_label].info.ranges, label_pool)
    parameters = {"index": 0, "offset": 0.0, "seconds": 0.5, "at": 1.0, "fade": 0.0}
    with pytest.raises(ValueError, match=f"number 0 of {other_label}, and there are 0"):
        EDITS[other_label].apply(clip, RATE, label_pool, **parameters)
    drawn = draws(label, 4.0, label_pool, length=OneOf((0.5,)))
    assert {p["seconds"] for p in drawn if "at" in p} == {0.5}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"at": None, "source": 1.6}, "uses 0.500 s from 1.600 s on of a recording of 2.000 s"),
        ({"at": None, "source": -0.1}, "source=-0.1 must be at least 0"),
        ({"index": 2}, "number 2 of tts, and there are 2"),
        ({"seconds": 0.0}, "seconds=0.0 must be above 0"),
        ({"seconds": 3.0}, "uses 3.000 s of a recording of 2.000 s"),
        ({"offset": -0.1}, "offset=-0.1 must be at least 0"),
        ({"at": 4.1}, "at=4.1 must be at least 0 and at most 4.0"),
        ({"fade": -1.0}, "fade=-1.0 must be at least 0"),
        ({"at": None, "following": [{"index": 0, "pause": -0.1, "seconds": 1.0}]}, "pause=-0.1 must be at least 0"),
        ({"at": None, "following": [{"index": 2, "pause": 0.1, "seconds": 1.0}]}, "number 2 of tts, and there are 2"),
        ({"at": None, "following": [{"index": 0, "pause": 0.1, "seconds": 3.0}]}, "uses 3.000 s from 0.000 s on"),
    ],
)
def test_invalid_parameters_are_reported(clip, pool, change, message):
    valid = {"index": 0, "offset": 0.0, "seconds": 0.5, "at": 1.0, "fade": 0.0}
    with pytest.raises(ValueError, match=message):
        EDITS["tts"].apply(clip, RATE, pool, **valid | change)
