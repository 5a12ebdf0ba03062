"""Tests of rooms, echoes and noise: reverberation times, ratios and spectra."""

import json

import numpy as np
import pytest
import soundfile
from scipy import signal

from mmestim.voice import EDITS, TAXONOMY, AudioError
from mmestim.voice.edits import AudioPool
from mmestim.voice.taxonomy import OneOf

RATE = 16000
NO_AUDIO = AudioPool()
# A response with samples before its peak, which is negative.
_rng = np.random.default_rng(5)
MEASURED = np.r_[0.1, -0.2, -0.8, 0.3 * _rng.normal(size=6000) * np.exp(-np.arange(6000) / 900)].astype(np.float32)


def apply(label, waveform, pool=NO_AUDIO, rate=RATE, **parameters):
    return EDITS[label].apply(waveform, rate, pool, **parameters).waveform


def draw(label, seed, variant="train", pool=NO_AUDIO, rate=RATE, duration=4.0, **ranges):
    ranges = TAXONOMY[label].variant(variant) | ranges
    parameters = EDITS[label].draw(np.random.default_rng(seed), duration, rate, ranges, pool)
    return {name: value for name, value in parameters.items() if name not in ("start", "end")}


def impulse(n_samples, rate=RATE):
    x = np.zeros(n_samples, dtype=np.float32)
    x[0] = 1
    return x


def noise(n_samples, seed=0, level=0.05):
    return (level * np.random.default_rng(seed).normal(size=n_samples)).astype(np.float32)


# Reverberation -------------------------------------------------------------------------------------


def decay(response, rate, low, high):
    """Return the reverberation time from -low to -high dB of Schroeder's curve."""
    left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    level = 10 * np.log10(np.maximum(left / left[0], 1e-12))
    inside = np.flatnonzero((level <= -low) & (level >= -high))
    return -60 / np.polyfit(inside / rate, level[inside], 1)[0]


@pytest.mark.parametrize("kind", ["image_source", "decaying_noise"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_reverberation_time_and_direct_ratio(kind, rate):
    for seed in range(12):
        p = draw("reverb", seed, rate=rate, kind=OneOf((kind,)))
        response = apply("reverb", impulse(2 * rate, rate), rate=rate, **p)
        assert response[0] == pytest.approx(1, abs=1e-5)
        assert np.abs(response[1:]).max() < 1
        response = response[: round(p["rt60"] * rate)]  # Later samples are rounding errors.
        assert decay(response, rate, 5, 25) == pytest.approx(p["rt60"], rel=0.15)
        assert decay(response, rate, 5, 35) == pytest.approx(p["rt60"], rel=0.08)
        n_direct = round(0.0025 * rate)
        direct, tail = (np.sum(part.astype(np.float64) ** 2) for part in np.split(response, [n_direct]))
        assert 10 * np.log10(direct / tail) == pytest.approx(p["direct_ratio"], abs=0.05)


def test_measured_responses_start_at_their_peak():
    pool = AudioPool(impulse_responses=[MEASURED, np.r_[np.zeros(4, np.float32), MEASURED]])
    p = draw("reverb", 0, "implementation", pool)
    assert p["kind"] == "measured"
    assert set(p) == {"kind", "direct_ratio", "response"}
    p["direct_ratio"] = 4.0
    first, second = (apply("reverb", impulse(RATE), pool, **p | {"response": k}) for k in (0, 1))
    np.testing.assert_array_equal(first, second)
    expected = MEASURED[2:] / MEASURED[2]
    np.testing.assert_allclose(first[:40], expected[:40], atol=1e-5)
    assert 10 * np.log10(np.sum(first[:40] ** 2) / np.sum(first[40:] ** 2)) == pytest.approx(4, abs=0.01)


def test_reverb_retains_length_and_alignment(data_folder):
    responses = [soundfile.read(path, dtype="float32")[0] for path in sorted(data_folder.glob("rir/*.flac"))]
    pool, clip = AudioPool(impulse_responses=responses), noise(4 * RATE)
    for seed in range(12):
        edited = apply("reverb", clip, pool, **draw("reverb", seed, "train" if seed % 2 else "implementation", pool))
        assert len(edited) == len(clip)
        assert np.argmax(signal.correlate(edited, clip)) == len(clip) - 1


def test_room_reflects_at_its_walls():
    """The floor's reflection travels 4.243 m if source and receiver are 3 m apart and 1.5 m high."""
    room = {"size": [9.0, 7.0, 4.0], "source": [2.0, 3.5, 1.5], "receiver": [5.0, 3.5, 1.5]}
    p = {"kind": "image_source", "rt60": 0.6, "direct_ratio": 0.0, "seed": 3}
    response = apply("reverb", impulse(RATE), **p, **room)
    arrivals = 40 + np.argsort(np.abs(response[40:400]))[-5:]
    assert round((np.hypot(3, 3) - 3) / 343 * RATE) in arrivals
    other = apply("reverb", impulse(RATE), **p | {"seed": 4}, **room)
    # Only late reflections are random, and the decay is calibrated over all of them.
    early = slice(40, round(0.045 * RATE))
    assert np.corrcoef(response[early], other[early])[0, 1] > 0.99
    assert abs(np.corrcoef(response[1000:], other[1000:])[0, 1]) < 0.1


def test_only_available_kinds_are_drawn():
    ranges = TAXONOMY["reverb"].variant("implementation")
    assert not EDITS["reverb"].can_draw(4.0, ranges, NO_AUDIO)
    assert EDITS["reverb"].can_draw(4.0, ranges, AudioPool(impulse_responses=[MEASURED]))
    kinds = OneOf(("measured", "decaying_noise"))
    assert {draw("reverb", seed, kind=kinds)["kind"] for seed in range(9)} == {"decaying_noise"}
    assert {draw("background_noise", seed)["kind"] for seed in range(40)} == {"white", "pink", "hum"}
    large_pool = AudioPool(voices=4 * [noise(RATE)], noises=[noise(RATE)])
    drawn = {draw("background_noise", seed, pool=large_pool)["kind"] for seed in range(60)}
    assert drawn == set(TAXONOMY["background_noise"].ranges["kind"].values)
    babble = TAXONOMY["background_noise"].ranges | {"kind": OneOf(("babble",))}
    for small_pool in (
        AudioPool(voices=3 * [noise(9)]),
        AudioPool(voices=9 * [noise(9)], allowed_indices={"voices": [1, 5, 8]}),
    ):
        assert not EDITS["background_noise"].can_draw(4.0, babble, small_pool)
        assert "babble" not in {draw("background_noise", seed, pool=small_pool)["kind"] for seed in range(60)}
    assert EDITS["background_noise"].can_draw(4.0, babble, large_pool)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "plate"}, "kind='plate' is not supported"),
        ({"rt60": 0.0}, "rt60=0.0 must be at least 0.05"),
        ({"kind": "image_source"}, "needs size, source and receiver"),
        (
            {"kind": "image_source", "size": [3, 3, 3], "source": [1, 1, 1], "receiver": [4, 1, 1]},
            r"receiver=\[4, 1, 1\] must be two positions inside a room of size=\[3, 3, 3\]",
        ),
        ({"kind": "measured"}, "uses number 0 of impulse_responses, and there are 0"),
    ],
)
def test_invalid_rooms_are_reported(change, message):
    with pytest.raises(ValueError, match=message):
        apply("reverb", impulse(RATE), **{"kind": "decaying_noise", "rt60": 0.5, "direct_ratio": 0.0} | change)


@pytest.mark.parametrize(
    "response, message",
    [
        (np.zeros(50), "is silent"),
        (np.zeros(0), "is silent"),
        (np.eye(1, 30)[0], "has nothing after the 2.5 ms"),
        (np.eye(1, 4000)[0], "has nothing after the 2.5 ms"),
    ],
)
def test_invalid_responses_are_reported(response, message):
    pool = AudioPool(impulse_responses=[MEASURED, response.astype(np.float32)])
    with pytest.raises(AudioError, match=f"number 1 of impulse_responses: {message}"):
        apply("reverb", impulse(RATE), pool, kind="measured", direct_ratio=0.0, response=1)


# Echoes --------------------------------------------------------------------------------------------


def test_echoes_have_their_delay_and_gain():
    edited = apply("echo", impulse(RATE), delay=0.2, gain=0.5, n_taps=3)
    assert np.flatnonzero(edited).tolist() == [0, 3200, 6400, 9600]
    assert edited[edited != 0].tolist() == [1, 0.5, 0.25, 0.125]
    cut_off = apply("echo", impulse(4000), delay=0.2, gain=0.5, n_taps=3)
    assert np.flatnonzero(cut_off).tolist() == [0, 3200]
    assert not EDITS["echo"].can_draw(0.3, TAXONOMY["echo"].ranges, NO_AUDIO)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"delay": 0.0}, "delay=0.0 must be above 0"),
        ({"gain": 1.2}, "gain=1.2 must be at least 0 and at most 1"),
        ({"n_taps": 0}, "n_taps=0 must be at least 1"),
    ],
)
def test_invalid_echoes_are_reported(change, message):
    with pytest.raises(ValueError, match=message):
        apply("echo", impulse(RATE), **{"delay": 0.1, "gain": 0.5, "n_taps": 1} | change)


# Noise ---------------------------------------------------------------------------------------------

ALL_KINDS = tuple(EDITS["background_noise"].kinds)
POOL = AudioPool(
    voices=[noise(2 * RATE, 1), noise(RATE // 2, 2), noise(5 * RATE, 3), noise(3 * RATE, 7), noise(RATE, 8)],
    noises=[noise(RATE // 3, 4), noise(9 * RATE, 5), np.r_[np.zeros(8 * RATE, np.float32), noise(99, 6)]],
)


def ratio(clean, noisy):
    """Return the signal-to-noise ratio in dB."""
    clean = clean.astype(np.float64)
    return 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("rate", [8000, 44100])
def test_signal_to_noise_ratio(kind, rate):
    clean = noise(2 * rate, 9) * np.linspace(0, 1, 2 * rate, dtype=np.float32)
    for seed in range(6):
        p = draw("background_noise", seed, pool=POOL, rate=rate, kind=OneOf((kind,)))
        assert ratio(clean, apply("background_noise", clean, POOL, rate, **p)) == pytest.approx(p["snr"], abs=0.02)
        # Over an interval, including its fades.
        start, end = rate // 2, rate + rate // 2
        part = apply("background_noise", clean, POOL, rate, **p, start=0.5, end=1.5)
        if kind not in ("impulsive", "file"):  # All noise of these kinds may fall into a fade.
            assert ratio(clean[start:end], part[start:end]) == pytest.approx(p["snr"], abs=0.1)


@pytest.mark.parametrize("kind, per_octave", [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_coloured_noise_has_its_slope(kind, per_octave):
    silence = np.zeros(30 * RATE, dtype=np.float32)
    added = apply("background_noise", silence, kind=kind, snr=0.0, seed=3)
    frequencies, power = signal.welch(added, RATE, nperseg=4096)
    octaves = 2 ** np.arange(7, 12.5, 0.5)  # Means over half an octave each.
    level = [10 * np.log10(power[(frequencies >= f) & (frequencies < 2**0.5 * f)].mean()) for f in octaves]
    assert np.polyfit(np.log2(octaves), level, 1)[0] == pytest.approx(per_octave, abs=0.3)
    assert power[frequencies < 40].sum() < (0.02 if kind == "white" else 0.05) * power.sum()


@pytest.mark.parametrize("mains", [50, 60])
@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_hum_consists_of_mains_harmonics(mains, rate):
    added = apply("background_noise", np.zeros(2 * rate, np.float32), rate=rate, kind="hum", snr=0, seed=1, mains=mains)
    power = np.abs(np.fft.rfft(added)) ** 2
    lines = 2 * mains * np.arange(1, 1000 // mains)
    assert power[lines].sum() > 0.95 * power.sum()
    assert power[2 * mains] > 0.01 * power.sum()


def test_bursts_are_short_with_quiet_between_them():
    added = apply("background_noise", np.zeros(4 * RATE, np.float32), kind="impulsive", snr=0.0, seed=2)
    frames = np.sqrt(np.mean(added.reshape(-1, 80) ** 2, axis=1))
    assert np.median(frames) < 0.05 * frames.max()
    assert 8 <= np.sum(np.diff((frames > 0.05 * frames.max()).astype(int)) == 1) <= 60


def test_silence_gets_noise_at_the_usual_level():
    added = apply("background_noise", np.zeros(RATE, np.float32), kind="white", snr=10.0, seed=2)
    assert 20 * np.log10(np.std(added)) == pytest.approx(-36, abs=0.1)


def test_files_are_read_from_the_offset_and_looped():
    clean = noise(2 * RATE, 9)
    recording = POOL.noises[1]
    added = apply("background_noise", clean, POOL, kind="file", snr=0.0, noise=1, offset=0.5) - clean
    start = int(0.5 * (len(recording) - len(clean) + 1))
    assert np.corrcoef(added, recording[start : start + len(clean)])[0, 1] > 0.999
    t = np.arange(RATE // 2 + 37) / RATE
    tone = AudioPool(noises=[(0.1 * np.sin(2 * np.pi * 200 * t)).astype(np.float32)])
    looped = apply("background_noise", clean, tone, kind="file", snr=0.0, noise=0, offset=0.9) - clean
    assert np.abs(np.diff(looped)).max() < 1.5 * np.median(np.sort(np.abs(np.diff(looped)))[-200:])
    assert np.sqrt(np.mean(looped.reshape(-1, 800) ** 2, axis=1)).min() > 0


def test_silent_parts_of_a_file_are_not_used():
    clean = noise(2 * RATE, 9)
    edited = apply("background_noise", clean, POOL, kind="file", snr=5.0, noise=2, offset=0.0)
    assert ratio(clean, edited) == pytest.approx(5, abs=0.01)


def test_babble_uses_several_allowed_voices():
    numbers_of_voices = set()
    for allowed_voices, min_voices, max_voices in (([0, 1, 3, 4], 4, 4), (np.arange(2, 12), 4, 7), (None, 4, 7)):
        allowed_indices = {} if allowed_voices is None else {"voices": allowed_voices}
        pool = AudioPool(voices=12 * [noise(RATE)], allowed_indices=allowed_indices)
        for seed in range(40):
            p = draw("background_noise", seed, pool=pool, kind=OneOf(("babble",)))
            assert set(p) == {"kind", "snr", "voices", "offsets"}
            assert json.loads(json.dumps(p)) == p
            assert len(set(p["voices"])) == len(p["voices"]) == len(p["offsets"])
            assert min_voices <= len(p["voices"]) <= max_voices
            assert allowed_voices is None or set(p["voices"]) <= set(allowed_voices)
            numbers_of_voices.add(len(p["voices"]))
    assert numbers_of_voices == {4, 5, 6, 7}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "rain"}, "kind='rain' is not supported"),
        ({"snr": float("nan")}, "snr=nan must be"),
        ({"kind": "hum", "mains": 0}, "mains=0 must be at least 1"),
        ({"kind": "file", "noise": 3}, "uses number 3 of noises, and there are 3"),
        ({"kind": "babble"}, "kind='babble' needs voices"),
    ],
)
def test_invalid_noises_are_reported(change, message):
    with pytest.raises(ValueError, match=message):
        apply("background_noise", noise(RATE), POOL, **{"kind": "white", "snr": 5.0} | change)


def test_silent_noise_is_reported():
    with pytest.raises(ValueError, match=r"is silent\. Leave it out"):
        apply(
            "background_noise", noise(RATE), AudioPool(noises=[np.zeros(9, np.float32)]), kind="file", snr=5.0, noise=0
        )
