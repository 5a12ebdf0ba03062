"""Tests of cut, paste and mix: expected samples, splice points, levels and time maps."""

import numpy as np
import pytest
import soundfile

from mmestim.voice import EDITS
from mmestim.voice.edits import AudioPool
from mmestim.voice.edits.base import EDGE_SECONDS, rms
from mmestim.voice.edits.temporal import MIN_DISTANCE_SECONDS, excerpt, fits, speech_level, up_to
from mmestim.voice.taxonomy import Between, Either, OneOf

RATE = 16000
CUT, PASTE, MIX = (EDITS[label] for label in ("cut", "paste", "mix"))


def smooth(seconds):
    return np.sin(2 * np.pi * 3.3 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


@pytest.fixture(scope="module")
def pool(noise):
    """Return a pool of a quiet and a loud voice, of the speaker and of others."""
    return AudioPool(
        speaker_voices=[noise(3.0, 1, level=0.02), noise(5.0, 2, level=0.5)],
        voices=[noise(3.0, 1, level=0.02), noise(5.0, 2, level=0.5)],
    )


def draws(edit, duration, pool, n=50, variant="train", rate=RATE, **ranges):
    ranges = edit.info.variant(variant) | ranges
    assert edit.can_draw(duration, ranges, pool)
    return [edit.draw(np.random.default_rng(seed), duration, rate, ranges, pool) for seed in range(n)]


def step_at(waveform, seconds, within=0.015):
    """Return the largest difference between neighbouring samples around a moment."""
    return np.abs(np.diff(waveform[round((seconds - within) * RATE) : round((seconds + within) * RATE)])).max()


# Cut ------------------------------------------------------------------------------------------------


def test_cuts_remove_the_expected_samples(clip):
    edited, time_map, intervals, points, _ = CUT.apply(
        clip, RATE, AudioPool(), cuts=[[0.5, 1.0], [2.0, 2.25]], fade=0.0, place="any"
    )
    np.testing.assert_array_equal(edited, np.r_[clip[:8000], clip[16000:32000], clip[36000:]])
    assert intervals == []
    assert points == [0.5, 1.5]
    assert time_map.before.tolist() == [0, 0.5, 1.0, 2.0, 2.25, 4.0]
    assert time_map.after.tolist() == [0, 0.5, 0.5, 1.5, 1.5, 3.25]
    # Intervals of the clip before the edit.
    assert time_map.intervals(0.25, 0.5) == [(0.25, 0.5)]
    assert time_map.intervals(0.75, 1.5) == [(0.5, 1.0)]
    assert time_map.intervals(2.0, 2.2) == []
    assert time_map.intervals(0.0, 4.0) == [(0.0, 3.25)]


@pytest.mark.parametrize("fade", [0.002, 0.01, 0.02])
def test_splice_point_of_a_cut_has_no_step(fade):
    wave = smooth(4.0)
    spliced, faded = (CUT.apply(wave, RATE, AudioPool(), cuts=[[1.0, 1.76]], fade=f, place="any") for f in (0.0, fade))
    assert faded.time_map == spliced.time_map
    jump, max_step = step_at(spliced.waveform, 1.0), np.abs(np.diff(wave)).max()
    assert jump > 0.3
    assert step_at(faded.waveform, 1.0) <= np.pi / 2 / (fade * RATE) * jump * 1.2 + max_step
    changed = np.flatnonzero(faded.waveform != spliced.waveform)
    assert changed[0] >= (1.0 - fade / 2) * RATE
    assert changed[-1] < (1.0 + fade / 2) * RATE


def test_fade_uses_the_removed_samples():
    wave = np.zeros(2 * RATE, dtype=np.float32)
    wave[12000:20000] = 1
    edited = CUT.apply(wave, RATE, AudioPool(), cuts=[[0.75, 1.25]], fade=0.01, place="any").waveform
    np.testing.assert_allclose(np.flatnonzero(edited)[[0, -1]], [11920, 12079], atol=1)
    np.testing.assert_allclose(edited[11920:12080], edited[11920:12080][::-1], atol=1e-6)


def test_fade_is_no_longer_than_the_parts():
    wave = np.ones(RATE, dtype=np.float32)
    wave[8000:8010] = 0
    cuts = [[0.5, 8010 / RATE], [8014 / RATE, 0.6]]
    edited = CUT.apply(wave, RATE, AudioPool(), cuts=cuts, fade=0.02, place="any").waveform
    assert len(edited) == RATE - 10 - 1586
    assert np.ptp(edited[:7990]) == 0
    at_start = CUT.apply(wave, RATE, AudioPool(), cuts=[[0.0, 0.4]], fade=0.02, place="any").waveform
    np.testing.assert_array_equal(at_start, wave[6400:])


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_duration_after_cuts_is_exact(rate, noise):
    for duration in (1.15, 4.05, 9.3):
        wave = noise(duration, 3, rate=rate)
        for parameters in draws(CUT, len(wave) / rate, AudioPool(), n=20, rate=rate):
            edited = CUT.apply(wave, rate, AudioPool(), **parameters)
            after = CUT.duration_after(len(wave) / rate, **parameters)
            assert abs(after - len(edited.waveform) / rate) < 0.51 / rate
            assert len(edited.points) == len(parameters["cuts"])


@pytest.mark.parametrize("duration, max_cuts", [(1.1, 1), (1.3, 2), (2.0, 3), (4.05, 3), (20.0, 3)])
def test_cuts_retain_enough_of_the_clip(duration, max_cuts):
    numbers = set()
    for parameters in draws(CUT, duration, AudioPool(), n=200):
        starts, ends = np.array(parameters["cuts"]).T
        numbers.add(len(starts))
        assert starts[0] >= EDGE_SECONDS - 1e-9
        assert ends[-1] <= duration - EDGE_SECONDS + 1e-9
        assert (starts[1:] - ends[:-1] >= MIN_DISTANCE_SECONDS - 1e-9).all()
        assert ((ends - starts >= 0.1 - 1e-9) & (ends - starts <= 1.5 + 1e-9)).all()
        assert CUT.duration_after(duration, **parameters) >= max(duration / 2, 1.0) - 1e-9
    assert numbers == set(range(1, max_cuts + 1))


def test_short_clips_are_not_cut():
    assert not CUT.can_draw(1.05, CUT.info.ranges, AudioPool())
    assert not CUT.can_draw(4.0, CUT.info.ranges | {"length": Between(2.5, 3.0)}, AudioPool())
    with pytest.raises(ValueError, match="check with can_draw"):
        CUT.draw(np.random.default_rng(0), 1.05, RATE, CUT.info.ranges, AudioPool())


def test_number_of_cuts_is_limited_by_the_duration():
    for parameters in draws(CUT, 2.0, AudioPool(), n_cuts=OneOf((40,)), length=OneOf((0.01, 0.3))):
        starts, ends = np.array(parameters["cuts"]).T
        assert (starts[1:] - ends[:-1] >= MIN_DISTANCE_SECONDS - 1e-9).all()
        assert ends[-1] <= 2.0 - EDGE_SECONDS + 1e-9


def test_cuts_move_to_pauses(noise_bursts):
    wave = noise_bursts(6.0, 4, 0.4, 0.4)
    for parameters in draws(CUT, 6.0, AudioPool(), n=20, variant="held_out", length=OneOf((0.7, 0.8, 0.9))):
        moved = CUT.apply(wave, RATE, AudioPool(), **parameters)
        fixed = CUT.apply(wave, RATE, AudioPool(), **parameters | {"place": "any"})
        assert len(moved.waveform) == len(fixed.waveform)
        borders = moved.time_map.before[1:-1].reshape(-1, 2)
        assert np.abs(borders[:, 0] - np.array(parameters["cuts"])[:, 0]).max() <= 1.0 + 1e-3
        assert (np.diff(borders[:, 1] - borders[:, 0]) < 1).all()
        assert borders[0, 0] >= EDGE_SECONDS - 1e-3
        assert borders[-1, 1] <= 6.0 - EDGE_SECONDS + 1e-3
        assert (borders[1:, 0] - borders[:-1, 1] >= MIN_DISTANCE_SECONDS - 1e-3).all()
    single_cuts = draws(CUT, 6.0, AudioPool(), n=20, variant="held_out", length=OneOf((0.8,)), n_cuts=OneOf((1,)))
    for parameters in single_cuts:
        edited, time_map, _, (point,), _ = CUT.apply(wave, RATE, AudioPool(), **parameters)
        start, end = time_map.before[1:-1]  # The places that were cut.
        np.testing.assert_array_equal(edited[: round((point - 0.02) * RATE)], wave[: round((start - 0.02) * RATE)])
        np.testing.assert_array_equal(edited[round((point + 0.02) * RATE) :], wave[round((end + 0.02) * RATE) :])
        assert start == pytest.approx(point)
        assert rms(CUT.apply(wave, RATE, AudioPool(), **parameters).waveform[round(point * RATE) - 99 :][:198]) < 1e-3


def test_cuts_move_to_pauses_of_real_speech(data_folder):
    files = sorted((data_folder / "speech" / "audio" / "val").glob("*.flac"))[:40]
    level_differences = []
    for file in files:
        wave, rate = soundfile.read(file, dtype="float32")
        (parameters,) = draws(CUT, len(wave) / rate, AudioPool(), n=1, variant="held_out", n_cuts=OneOf((1,)))
        parameters["fade"] = 0.0
        levels = []
        for place in ("any", "pause"):
            edited = CUT.apply(wave, rate, AudioPool(), **parameters | {"place": place})
            at = round(edited.points[0] * rate)
            levels.append(max(rms(edited.waveform[at - 160 : at]), rms(edited.waveform[at : at + 160])) + 1e-5)
        level_differences.append(20 * np.log10(levels[0] / levels[1]))
    assert np.median(level_differences) > 10


def test_cuts_of_a_silent_clip_do_not_move():
    edited = CUT.apply(np.zeros(2 * RATE, np.float32), RATE, AudioPool(), cuts=[[0.5, 1.0]], fade=0.01, place="pause")
    assert edited.points == [0.5]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"cuts": []}, "must be pairs"),
        ({"cuts": [0.5, 1.0]}, "must be pairs"),
        ({"cuts": [[1.0, 0.5]]}, "in order, within"),
        ({"cuts": [[0.5, 1.5], [1.0, 2.0]]}, "in order, within"),
        ({"cuts": [[0.5, 4.5]]}, r"within the 4.000 s of the clip"),
        ({"cuts": [[0.5, float("nan")]]}, "in order, within"),
        ({"cuts": [[0.0, 4.0]]}, "leave nothing of the clip"),
        ({"fade": -0.1}, "fade=-0.1 must be at least 0"),
        ({"place": "word"}, "place='word' is not supported"),
    ],
)
def test_invalid_cuts_are_reported(clip, change, message):
    with pytest.raises(ValueError, match=message):
        CUT.apply(clip, RATE, AudioPool(), **{"cuts": [[0.5, 1.0]], "fade": 0.0, "place": "any"} | change)


# Paste ----------------------------------------------------------------------------------------------


def test_paste_inserts_the_expected_samples(clip):
    edited, time_map, intervals, points, _ = PASTE.apply(
        clip, RATE, AudioPool(), at=1.0, length=0.5, fade=0.0, origin="clip", source=2.5
    )
    np.testing.assert_array_equal(edited, np.r_[clip[:16000], clip[40000:48000], clip[16000:]])
    assert (intervals, points) == ([(1.0, 1.5)], [])
    assert time_map.intervals(0.5, 1.0) == [(0.5, 1.0)]
    assert time_map.intervals(1.0, 2.0) == [(1.5, 2.5)]
    assert time_map.intervals(0.5, 1.5) == [(0.5, 1.0), (1.5, 2.0)]


@pytest.mark.parametrize("fade", [0.002, 0.01])
@pytest.mark.parametrize("origin", ["clip", "speaker"])
def test_splice_points_of_a_paste_have_no_steps(origin, fade):
    wave = smooth(4.0)
    pool = AudioPool(speaker_voices=[smooth(3.0)])
    parameters = {"at": 1.0, "length": 0.6, "origin": origin, "source": 2.6, "offset": 0.33}
    spliced, faded = (PASTE.apply(wave, RATE, pool, **parameters, fade=f) for f in (0.0, fade))
    assert len(faded.waveform) == len(wave) + 9600
    for splice_point in faded.intervals[0]:
        jump, max_step = step_at(spliced.waveform, splice_point), np.abs(np.diff(wave)).max()
        assert jump > 0.2
        assert step_at(faded.waveform, splice_point) <= np.pi / 2 / (fade * RATE) * 2 * jump + max_step
    np.testing.assert_array_equal(faded.waveform[:16000], wave[:16000])
    np.testing.assert_array_equal(faded.waveform[16000 + 9600 :], wave[16000:])


@pytest.mark.parametrize("duration", [0.72, 1.5, 4.05, 20.0])
def test_pastes_have_a_distant_origin(duration, noise):
    sides, wave = set(), noise(duration, 5)
    for parameters in draws(PASTE, duration, AudioPool(), n=200):
        at, length, source = (parameters[name] for name in ("at", "length", "source"))
        assert 0.25 <= length <= 1.2
        assert EDGE_SECONDS <= at <= duration - EDGE_SECONDS
        assert -1e-9 <= source <= duration - length + 1e-9
        assert source + length <= at - MIN_DISTANCE_SECONDS + 1e-9 or source >= at + MIN_DISTANCE_SECONDS - 1e-9
        sides.add(source > at)
        edited = PASTE.apply(wave, RATE, AudioPool(), **parameters)
        after = PASTE.duration_after(duration, **parameters)
        assert abs(after - len(edited.waveform) / RATE) < 1.01 / RATE
    assert sides == {True, False}
    assert not PASTE.can_draw(0.69, PASTE.info.ranges, AudioPool())


def test_pasted_voice_has_the_level_of_the_clip(clip, pool):
    used_voices = set()
    for parameters in draws(PASTE, 4.0, pool, n=10, variant="held_out", fade=OneOf((0.0,))):
        edited = PASTE.apply(clip, RATE, pool, **parameters)
        start, end = (round(t * RATE) for t in edited.intervals[0])
        piece = edited.waveform[start:end]
        assert 20 * np.log10(rms(piece) / rms(clip)) == pytest.approx(0, abs=0.2)
        voice = pool.voices[parameters["voice"]]
        candidates = np.flatnonzero(np.isclose(voice[: -len(piece)] / voice[1 : 1 - len(piece)], piece[0] / piece[1]))
        ratios = [piece / voice[at : at + len(piece)] for at in candidates]
        assert min(np.ptp(ratio) for ratio in ratios) < 1e-3  # The pasted samples are a scaled segment of the voice.
        used_voices.add(parameters["voice"])
    assert used_voices == {0, 1}


def test_pastes_use_allowed_voices(clip, pool):
    ranges = PASTE.info.variant("held_out")
    assert not PASTE.can_draw(4.0, ranges, AudioPool())
    assert not PASTE.can_draw(
        4.0, ranges, AudioPool(speaker_voices=pool.speaker_voices, allowed_indices={"speaker_voices": []})
    )
    silent = np.zeros_like(clip)
    edited = PASTE.apply(silent, RATE, pool, at=1.0, length=0.5, fade=0.0, origin="speaker", voice=0, offset=0.0)
    assert rms(edited.waveform[16000:24000]) == pytest.approx(0.02, rel=0.05)  # The unchanged level.


@pytest.mark.parametrize(
    "change, message",
    [
        ({"at": 4.5}, "at=4.5 must be at least 0 and at most 4.0"),
        ({"at": float("nan")}, "at=nan"),
        ({"length": 0.0}, "length=0.0 must be above 0"),
        ({"source": 3.6}, "source=3.6 and length=0.5 must be a segment of a clip of 4.000 s"),
        ({"length": 5.0, "source": 0.0}, "must be a segment of a clip"),
        ({"fade": -1}, "fade=-1 must be at least 0"),
        ({"origin": "radio"}, "origin='radio' is not supported"),
        ({"origin": "speaker", "voice": 2}, "number 2 of speaker_voices, and there are 2"),
        ({"origin": "speaker", "length": 3.5}, "uses 3.500 s of a recording of 3.000 s"),
        ({"origin": "speaker", "offset": 1.5}, "offset=1.5 must be at least 0 and at most 1"),
    ],
)
def test_invalid_pastes_are_reported(clip, pool, change, message):
    with pytest.raises(ValueError, match=message):
        PASTE.apply(clip, RATE, pool, **{"at": 1.0, "length": 0.5, "fade": 0.0, "origin": "clip"} | change)


def test_short_recordings_are_not_pasted(clip, noise):
    voices = [noise(0.02, 20), noise(0.6, 21), noise(0.02, 20), noise(0.24, 22)]
    pool = AudioPool(speaker_voices=voices, allowed_indices={"speaker_voices": [0, 1, 3]})
    drawn = draws(PASTE, 4.0, pool, variant="held_out")
    assert {p["voice"] for p in drawn} == {1}
    assert all(0.25 <= p["length"] <= 0.6 for p in drawn)
    assert drawn == draws(PASTE, 4.0, pool, variant="held_out")
    assert len(PASTE.apply(clip, RATE, pool, **drawn[0]).waveform) == round((4.0 + drawn[0]["length"]) * RATE)
    with pytest.raises(
        ValueError, match=r"2 other clips of the speaker were tried, and none lasts 0\.25 s\. Leave out"
    ):
        draws(
            PASTE,
            4.0,
            AudioPool(speaker_voices=pool.speaker_voices, allowed_indices={"speaker_voices": [0, 3]}),
            variant="held_out",
        )


# Mix ------------------------------------------------------------------------------------------------


def mixed(wave, pool, **changes):
    edited = MIX.apply(wave, RATE, pool, **{"start": 1.0, "end": 2.5, "snr": 6.0, "voice": 0, "offset": 0.0} | changes)
    return edited, edited.waveform - wave


@pytest.mark.parametrize("snr", [-5.0, 0.0, 7.5, 15.0, 20.0])
@pytest.mark.parametrize("voice", [0, 1])
def test_mix_has_its_snr_over_the_interval(clip, pool, snr, voice):
    edited, added = mixed(clip, pool, snr=snr, voice=voice)
    inside = slice(16000, 40000)
    assert 20 * np.log10(rms(clip[inside]) / rms(added[inside])) == pytest.approx(snr, abs=0.1)
    np.testing.assert_array_equal(np.delete(added, np.r_[inside]), 0)
    assert edited.intervals == [(1.0, 2.5)]
    assert edited.time_map([0.5, 2.0, 4.0]).tolist() == [0.5, 2.0, 4.0]


def test_mix_has_its_snr_in_real_speech(data_folder):
    files = sorted((data_folder / "speech" / "audio" / "val").glob("*.flac"))[:20]
    waves = [soundfile.read(file, dtype="float32")[0] for file in files]
    pool = AudioPool(voices=waves)
    for seed, wave in enumerate(waves):
        parameters = draws(MIX, len(wave) / RATE, pool, n=seed + 1)[-1]
        edited = MIX.apply(wave, RATE, pool, **parameters)
        first, last = (round(t * RATE) for t in edited.intervals[0])
        added = edited.waveform[first:last].astype(float) - wave[first:last]
        snr = 20 * np.log10(max(rms(wave[first:last]), 0.1 * speech_level(wave, RATE)) / rms(added))
        assert snr == pytest.approx(parameters["snr"], abs=0.1)
        assert last - first <= 3.0 * RATE + 1


def test_mixed_voice_fades_in_and_out(pool):
    _, added = mixed(np.zeros(4 * RATE, np.float32), pool)
    assert np.abs(added[[16000, 39999]]).max() < 1e-4
    assert rms(added[16160:39840]) == pytest.approx(0.02, rel=0.05)  # In silence the voice retains its level.
    assert rms(added[16040:16120]) == pytest.approx(0.01, rel=0.4)


def test_snr_over_a_pause_refers_to_the_speech(clip, pool):
    wave = clip * np.where(np.arange(len(clip)) < 12000, 1, 1e-4).astype(np.float32)
    _, added = mixed(wave, pool, snr=0.0)
    assert 20 * np.log10(0.1 / rms(added[16000:40000])) == pytest.approx(20, abs=0.5)


def test_silent_and_short_voices_are_mixed(clip, noise):
    edited, added = mixed(clip, AudioPool(voices=[np.zeros(3 * RATE, np.float32)]))
    np.testing.assert_array_equal(edited.waveform, clip)
    edited, added = mixed(clip, AudioPool(voices=[noise(0.7, 7)]))
    assert edited.intervals == [(1.0, 1.7)]
    assert 20 * np.log10(rms(clip[16000:27200]) / rms(added[16000:27200])) == pytest.approx(6.0, abs=0.1)


def test_mix_is_no_longer_than_its_voice(clip, noise):
    pool = AudioPool(voices=[noise(0.02, 20), noise(0.8, 23), noise(9.0, 24)])
    drawn = draws(MIX, 4.0, pool, n=80)
    assert {p["voice"] for p in drawn} == {1, 2}
    for p in drawn:
        assert 0.5 <= p["end"] - p["start"] + 1e-9
        assert p["voice"] == 2 or p["end"] - p["start"] <= 0.8 + 1e-9
        (interval,) = MIX.apply(clip, RATE, pool, **p).intervals
        assert interval == pytest.approx((p["start"], p["end"]), abs=1.01 / RATE)
    with pytest.raises(ValueError, match=r"1 voices were tried, and none lasts 0\.5 s"):
        draws(MIX, 4.0, AudioPool(voices=[noise(0.02, 20)]))


def test_mixes_fit_into_the_clip(pool):
    for duration in (1.1, 1.4, 8.0):
        for parameters in draws(MIX, duration, pool):
            assert EDGE_SECONDS <= parameters["start"]
            assert parameters["end"] <= duration - EDGE_SECONDS + 1e-9
            assert 0.5 <= parameters["end"] - parameters["start"] + 1e-9
    assert not MIX.can_draw(1.05, MIX.info.ranges, pool)
    assert not MIX.can_draw(4.0, MIX.info.ranges, AudioPool())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"start": 2.5, "end": 1.0}, "the end after the start"),
        ({"start": -1.0}, "must be seconds of a clip of 4.000 s"),
        ({"start": 5.0, "end": 6.0}, "must be seconds of a clip of 4.000 s"),
        ({"snr": float("nan")}, "snr=nan"),
        ({"voice": -1}, "number -1 of voices"),
    ],
)
def test_invalid_mixes_are_reported(clip, pool, change, message):
    with pytest.raises(ValueError, match=message):
        mixed(clip, pool, **change)


# Common functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5, 0.999, 1.0])
def test_excerpt_is_not_a_pause(offset, noise):
    wave = noise(6.0, 8)
    wave[: 3 * RATE] = 0
    piece = excerpt(wave, RATE // 2, offset, RATE)
    assert len(piece) == RATE // 2
    assert rms(piece) >= 0.049
    if 0.6 < offset:
        assert np.shares_memory(piece, wave[int(offset * 5.5 * RATE) - 1 :])  # at the offset
    np.testing.assert_array_equal(excerpt(wave, len(wave), offset, RATE), wave)
    assert len(excerpt(np.zeros(RATE, np.float32), 100, offset, RATE)) == 100


def test_speech_level_ignores_pauses(noise, noise_bursts):
    wave = noise_bursts(8.0, 9, 0.4, 0.4)
    assert speech_level(wave, RATE) == pytest.approx(0.1, rel=0.02)
    assert speech_level(noise(1.0, 9), RATE) == pytest.approx(0.1, rel=0.02)
    assert speech_level(np.zeros(RATE, np.float32), RATE) == 0
    assert speech_level(noise(0.005, 9), RATE) == pytest.approx(rms(noise(0.005, 9)))


def test_ranges_are_limited_to_a_maximum():
    assert up_to(Between(1, 3), 2) == Between(1, 2)
    assert up_to(Either((Between(1, 2), Between(4, 6))), 5) == Either((Between(1, 2), Between(4, 5)))
    assert up_to(Either((Between(1, 2), Between(4, 6))), 3) == Either((Between(1, 2),))
    assert up_to(OneOf((1, 2, 3)), 2) == OneOf((1, 2))
    assert not fits(OneOf((1, 2)), 0.5)
    with pytest.raises(ValueError, match=r"fits into 0.500 s"):
        up_to(Between(1, 2), 0.5)


@pytest.mark.parametrize("label", ["cut", "paste"])
@pytest.mark.parametrize("variant", ["train", "held_out"])
def test_clicks_follow_the_time_map_to_the_sample(label, variant, pool):
    """Outside fades, clicks are in place to the sample."""
    edit = EDITS[label]
    wave = np.zeros(4 * RATE, dtype=np.float32)
    clicks = np.arange(400, len(wave), 400)
    wave[clicks] = 1.0
    for parameters in draws(edit, 4.0, pool, n=20, variant=variant):
        edited, time_map, intervals, points, _ = edit.apply(wave, RATE, pool, **parameters)
        splice_points = np.array([*np.ravel(intervals), *points])
        deleted = time_map.before[1:-1].reshape(-1, 2) if label == "cut" else np.empty((0, 2))
        retained = [t for t in clicks / RATE if not any(start <= t < end for start, end in deleted)]
        after = time_map(retained)
        after = after[np.abs(after[:, None] - splice_points).min(axis=1) > 0.011]
        assert len(after) > 50
        np.testing.assert_array_equal(edited[np.round(after * RATE).astype(int)], 1.0)
