"""Tests that every edit must pass."""

import importlib.util
import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from mmestim.voice import EDITS, LABELS, TAXONOMY
from mmestim.voice.edits import AudioPool
from mmestim.voice.edits.base import EDGE_SECONDS

RATE = 16000
OPTIONAL = {"soxr": "soxr", "signalsmith": "python_stretch"}
VARIANTS = [
    (label, variant)
    for label in LABELS[1:]
    for variant in ("train", "held_out", "implementation")
    if variant == "train" or getattr(TAXONOMY[label], variant)
]
every_edit = pytest.mark.parametrize("label, variant", VARIANTS, ids=lambda value: value)


def voice(seconds, seed, rate=RATE):
    """Harmonics of a gliding pitch in syllables, with breath."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 200) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tones = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 20) if k * pitch.max() < rate / 2)
    syllables = np.clip(np.sin(2 * np.pi * 3 * t + rng.uniform(0, 6)) + 0.4, 0, 1)
    return (0.1 * syllables * (tones + 0.2 * rng.normal(size=len(t))) + 1e-4 * rng.normal(size=len(t))).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def speech_clip():
    """Return a read-only clip of 4 s that resembles speech."""
    waveform = voice(4.0, 0)
    waveform.flags.writeable = False
    return waveform


def pool_at(rate):
    rng = np.random.default_rng(1)
    response = (rng.normal(size=rate // 2) * np.exp(-np.arange(rate // 2) / rate * 12) * 0.1).astype(np.float32)
    response[0] = 1
    voices = [voice(seconds, 13 + number, rate) for number, seconds in enumerate((3.0, 5.0, 2.0, 4.0, 2.5))]
    return AudioPool(
        tts=[voice(2.5, 10, rate), voice(6.0, 11, rate)],
        vc=[voice(3.0, 12, rate)],
        voices=voices,
        speaker_voices=voices[1:3],
        noises=[rng.normal(scale=0.1, size=3 * rate).astype(np.float32)],
        impulse_responses=[response],
    )


@pytest.fixture(scope="module")
def pool():
    """Return a pool of all kinds of audio."""
    return pool_at(RATE)


def draws(label, variant, duration, rate, pool, n=6):
    """Draw parameters; skip the test if a package that they need is not installed."""
    edit, ranges = EDITS[label], TAXONOMY[label].variant(variant)
    assert edit.can_draw(duration, ranges, pool)
    drawn = [edit.draw(np.random.default_rng(seed), duration, rate, ranges, pool) for seed in range(n)]
    packages = [[OPTIONAL[v] for v in p.values() if isinstance(v, str) and v in OPTIONAL] for p in drawn]
    if missing := {p for names in packages for p in names if not importlib.util.find_spec(p)}:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    return drawn


@every_edit
def test_edits_are_deterministic(label, variant, speech_clip, pool):
    edit, ranges = EDITS[label], TAXONOMY[label].variant(variant)
    for seed, first in enumerate(draws(label, variant, 4.0, RATE, pool)):
        second = edit.draw(np.random.default_rng(seed), 4.0, RATE, ranges, pool)
        assert first == second
        assert json.loads(json.dumps(first)) == first
        first_edit = edit.apply(speech_clip, RATE, pool, **first)
        second_edit = edit.apply(speech_clip.copy(), RATE, pool, **second)
        np.testing.assert_array_equal(first_edit.waveform, second_edit.waveform)
        assert first_edit.time_map == second_edit.time_map


@every_edit
def test_edits_are_thread_safe(label, variant, speech_clip, pool):
    drawn = draws(label, variant, 4.0, RATE, pool, n=4)
    sequential_waveforms = [EDITS[label].apply(speech_clip, RATE, pool, **parameters).waveform for parameters in drawn]
    with ThreadPoolExecutor(4) as executor:
        calls = [executor.submit(EDITS[label].apply, speech_clip, RATE, pool, **parameters) for parameters in drawn]
        for expected, call in zip(sequential_waveforms, calls, strict=True):
            np.testing.assert_array_equal(call.result().waveform, expected)


@every_edit
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_outputs_are_consistent(label, variant, rate):
    clip, pool = voice(3.0, 0, rate), pool_at(rate)
    before = clip.copy()
    for parameters in draws(label, variant, 3.0, rate, pool, n=4):
        edited, time_map, intervals, points, _ = EDITS[label].apply(clip, rate, pool, **parameters)
        np.testing.assert_array_equal(clip, before)
        assert (edited.dtype, edited.ndim) == (np.float32, 1)
        assert edited.flags.c_contiguous
        assert np.isfinite(edited).all()
        assert time_map.before[[0, -1]].tolist() == pytest.approx([0, 3], abs=1e-9)
        assert time_map.duration == pytest.approx(len(edited) / rate, abs=1e-9)
        expected_duration = EDITS[label].duration_after(3.0, **parameters)
        assert expected_duration == pytest.approx(len(edited) / rate, abs=3.5 / rate)
        spans = sorted(intervals)
        assert all(0 <= start < end <= time_map.duration + 1e-9 for start, end in spans)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert all(0 < point < time_map.duration for point in points)
        assert bool(points) == ("point" in TAXONOMY[label].scopes)
        assert bool(intervals) == ("point" not in TAXONOMY[label].scopes)
        if len(edited) == len(clip):  # The edit must be audible.
            assert np.abs(edited - clip).max() > 1e-3 * np.abs(clip).max()


@every_edit
def test_samples_outside_the_intervals_are_unchanged(label, variant, speech_clip, pool):
    if "clip" in TAXONOMY[label].scopes and "interval" not in TAXONOMY[label].scopes:
        return
    for parameters in draws(label, variant, 4.0, RATE, pool, n=12):
        edited, time_map, intervals, points, _ = EDITS[label].apply(speech_clip, RATE, pool, **parameters)
        if intervals == [(0.0, time_map.duration)]:
            continue
        changed = np.zeros(len(edited), dtype=bool)
        for start, end in [*intervals, *((point, point) for point in points)]:
            changed[max(0, round((start - 0.0305) * RATE)) : round((end + 0.0305) * RATE)] = True  # fades
        old = np.flatnonzero(np.r_[True, np.diff(time_map(np.arange(len(speech_clip)) / RATE)) > 0])
        new = np.round(time_map(old / RATE) * RATE).astype(int)
        is_unchanged = new < len(edited)
        is_unchanged[is_unchanged] = ~changed[new[is_unchanged]]
        assert is_unchanged.any()
        np.testing.assert_array_equal(edited[new[is_unchanged]], speech_clip[old[is_unchanged]])


# These edits replace, add or resynthesise samples, so that a click does not remain one click.
NO_CLICKS = ("tts", "vc", "mix", "background_noise", "autotune")


@every_edit
def test_clicks_follow_the_time_map(label, variant, pool):
    quiet = 1e-4 * np.random.default_rng(0).normal(size=4 * RATE)
    moments = np.arange(0.35, 3.7, 0.25)
    for parameters in draws(label, variant, 4.0, RATE, pool, n=4):
        if label in NO_CLICKS or parameters.get("place") == "pause" or "amr" in parameters.get("codec", ""):
            continue
        clicks = quiet.copy()
        for moment in moments:
            at = round(moment * RATE)
            clicks[at : at + 32] += np.hanning(32) * np.sin(2 * np.pi * 700 * np.arange(32) / RATE)
        edited, time_map, intervals, points, _ = EDITS[label].apply(clicks.astype(np.float32), RATE, pool, **parameters)
        splice_points = [moment for span in intervals for moment in span] + points
        errors = []
        for moment in moments:
            pieces = time_map.intervals(moment - 0.03, moment + 0.03)
            if len(pieces) != 1 or any(abs(pieces[0][0] - point) < 0.08 for point in splice_points):
                continue
            middle = float(time_map(moment + 16 / RATE))
            low, high = (round((middle + off) * RATE) for off in (-0.05, 0.05))
            if 0 <= low < high <= len(edited):
                level = np.convolve(edited[low:high] ** 2, np.hanning(64), "same")
                errors.append((low + np.argmax(level)) / RATE - middle)
        # Encoders at low bitrates smear single clicks.
        error = np.median(errors) if TAXONOMY[label].category == "encoding" else np.abs(errors).max()
        assert abs(error) < 0.001


@every_edit
def test_silent_and_short_clips_stay_finite(label, variant, pool):
    for parameters in draws(label, variant, 4.0, RATE, pool, n=3):
        edited = EDITS[label].apply(np.zeros(4 * RATE, dtype=np.float32), RATE, pool, **parameters).waveform
        assert np.isfinite(edited).all()
    edit, ranges = EDITS[label], TAXONOMY[label].variant(variant)
    for duration in (0.05, 0.3, 0.8, 1.3):
        if not edit.can_draw(duration, ranges, pool):
            continue
        short = voice(duration, 3)
        for seed in range(3):
            parameters = edit.draw(np.random.default_rng(seed), duration, RATE, ranges, pool)
            edited = edit.apply(short, RATE, pool, **parameters)
            assert np.isfinite(edited.waveform).all()
            assert len(edited.waveform) > 0


@every_edit
def test_drawn_values_are_in_their_ranges(label, variant, pool):
    ranges = TAXONOMY[label].variant(variant)
    for parameters in draws(label, variant, 10.0, RATE, pool, n=30):
        for name, value in parameters.items():
            if name in ranges:
                assert value in ranges[name], (name, value)


def test_intervals_are_away_from_the_ends(pool):
    for label in LABELS[1:]:
        for parameters in draws(label, "train", 4.0, RATE, pool, n=20):
            if "start" in parameters:
                assert parameters["start"] >= EDGE_SECONDS - 1e-9
                assert parameters["end"] <= 4.0 - EDGE_SECONDS + 1e-9


@pytest.mark.parametrize("label", [label for label in LABELS[1:] if EDITS[label].needs])
def test_edits_without_their_audio_are_not_drawn(label):
    assert not EDITS[label].can_draw(4.0, TAXONOMY[label].ranges, AudioPool())


@pytest.mark.parametrize("span", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (5.0, 6.0)])
def test_invalid_intervals_are_reported(speech_clip, pool, span):
    start, end = span
    with pytest.raises(ValueError, match=rf"start={start} and end={end} must be seconds of a clip of 4.000 s"):
        EDITS["echo"].apply(speech_clip, RATE, pool, delay=0.1, gain=0.5, n_taps=1, start=start, end=end)


def test_edits_have_docstrings():
    for edit in EDITS.values():
        assert re.match(r"[A-Z].*\.", type(edit).__doc__)
