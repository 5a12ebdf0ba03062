"""Tests of filters, tone controls and autotune: their effect on spectrum and pitch."""

import tracemalloc

import numpy as np
import pytest
import soundfile
from scipy import signal

from mmestim.voice import EDITS, TAXONOMY
from mmestim.voice.edits import AudioPool
from mmestim.voice.edits._engines import autotune
from mmestim.voice.edits._engines.autotune import SCALES, track
from mmestim.voice.edits.spectral import FAMILIES, SLOPES

RATE = 16000
POOL = AudioPool()
FILTERS = pytest.mark.parametrize("label", ["low_pass", "high_pass"])


def apply(label, waveform, rate=RATE, **parameters):
    return EDITS[label].apply(waveform, rate, POOL, **parameters).waveform


def impulse(rate=RATE):
    x = np.zeros(2 * rate, dtype=np.float32)
    x[rate] = 1
    return x


def decibels(waveform, rate=RATE):
    return np.fft.rfftfreq(len(waveform), 1 / rate), 20 * np.log10(np.abs(np.fft.rfft(waveform)) + 1e-9)


# Filters -------------------------------------------------------------------------------------------


@FILTERS
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_gain_is_minus_3_db_at_the_cutoff_without_delay(label, family, rate):
    for slope, cutoff in zip(SLOPES, (1000.0, 2000.0, 1500.0, 1200.0), strict=True):
        filtered = apply(label, impulse(rate), rate, cutoff=cutoff, slope=slope, family=family)
        frequencies, level = decibels(filtered, rate)
        lost = frequencies[level < -3.0103]
        assert (lost[0] if label == "low_pass" else lost[-1]) == pytest.approx(cutoff, rel=0.02)
        passed = frequencies < cutoff / 2 if label == "low_pass" else frequencies > 1.9 * cutoff
        assert np.abs(level[passed]).max() < (2.1 if slope == 12 or family == "bessel" else 1.1)  # Ripple and knee.
        np.testing.assert_allclose(filtered[1:], filtered[:0:-1], atol=1e-5)  # Zero phase.


@FILTERS
@pytest.mark.parametrize("family", ["butterworth", "chebyshev", "fir"])
@pytest.mark.parametrize("slope", SLOPES)
def test_filters_have_their_slope(label, family, slope):
    rate = 48000
    filtered = apply(label, impulse(rate), rate, cutoff=1500.0, slope=slope, family=family)
    frequencies, level = decibels(filtered, rate)
    # Beyond the knee, and above the resolution of float32.
    far = np.array((1.4, 2.8) if family == "fir" else {12: (9, 15), 24: (4, 8), 36: (2.5, 5), 48: (2, 4)}[slope])
    near, off = 1500 * far if label == "low_pass" else 1500 / far
    fall = (np.interp(near, frequencies, level) - np.interp(off, frequencies, level)) / np.log2(far[1] / far[0])
    assert fall == pytest.approx(slope, abs=4 if family == "chebyshev" else 1.5)


@FILTERS
@pytest.mark.parametrize("family", FAMILIES)
def test_speech_beyond_the_cutoff_is_removed(label, family, data_folder):
    speech, rate = soundfile.read(sorted(data_folder.glob("speech/audio/train/*.flac"))[0], dtype="float32")
    cutoff = 1200.0
    far = (2.5 * cutoff, 6 * cutoff) if label == "low_pass" else (cutoff / 6, cutoff / 2.5)
    filtered = apply(label, speech, rate, cutoff=cutoff, slope=48, family=family)
    frequencies, before = signal.welch(speech, rate, nperseg=1024)
    after = signal.welch(filtered, rate, nperseg=1024)[1]
    band = (frequencies > far[0]) & (frequencies < far[1])
    assert 10 * np.log10(after[band].sum() / before[band].sum()) < (-25 if family == "bessel" else -40)
    best = np.argmax(signal.correlate(filtered, speech, "full")) - (len(speech) - 1)
    assert best == 0


@FILTERS
def test_filter_families_differ(label):
    x = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    filtered = [apply(label, x, cutoff=1500.0, slope=36, family=family) for family in FAMILIES]
    for first in range(len(filtered)):
        for second in range(first):
            assert np.std(filtered[first] - filtered[second]) > 0.01


@FILTERS
def test_drawn_cutoff_is_valid_at_low_sample_rates(label):
    ranges = TAXONOMY[label].variant("train")
    drawn = [EDITS[label].draw(np.random.default_rng(seed), 4.0, 4000, ranges, POOL) for seed in range(40)]
    assert max(p["cutoff"] for p in drawn) <= 1600
    assert {p["slope"] for p in drawn} == set(SLOPES)


@FILTERS
@pytest.mark.parametrize(
    "change, message",
    [
        ({"cutoff": 8000.0}, "cutoff=8000.0 must be above 0 and below half the sample rate, 8000 Hz. Lower it"),
        ({"cutoff": 0.0}, "cutoff=0.0 must be above 0"),
        ({"slope": 18}, "slope=18 must be one of 12, 24, 36, 48"),
        ({"family": "brick"}, "family='brick' is not supported. Use one of 'butterworth'"),
    ],
)
def test_invalid_filters_are_reported(label, change, message):
    parameters = {"cutoff": 1000.0, "slope": 12, "family": "butterworth"} | change
    with pytest.raises(ValueError, match=message):
        apply(label, impulse(), **parameters)


# Tone controls -------------------------------------------------------------------------------------


def test_bands_have_their_gains():
    bands = {
        "kinds": ["low_shelf", "peak", "notch", "high_shelf"],
        "frequencies": [100.0, 700.0, 900.0, 6000.0],
        "gains": [8.0, -9.0, 0.0, 6.0],
        "qs": [0.8, 2.0, 2.0, 0.8],
    }
    for k, (gain, at) in enumerate([(8, 5.0), (-9, 700.0), (-100, 900.0), (6, 7900.0)]):
        one = {name: values[k : k + 1] for name, values in bands.items()}
        frequencies, level = decibels(apply("equalizer", impulse(), **one))
        measured = np.interp(at, frequencies, level)
        assert measured < -60 if gain == -100 else measured == pytest.approx(gain, abs=0.2)
        if k in (0, 3):  # Half the gain in dB at the corner.
            corner = np.interp(one["frequencies"], frequencies, level)
            assert corner == pytest.approx(gain / 2, abs=0.1)
        if k in (1, 2):  # Widths: a peak at half its gain, a notch at -3 dB.
            edges = frequencies[level < (-4.5 if k == 1 else -3.01)][[0, -1]]
            assert np.ptp(edges) == pytest.approx(one["frequencies"][0] / 2, rel=0.03)


def test_drawn_equalizers_are_audible_with_separate_bands():
    edit, ranges = EDITS["equalizer"], TAXONOMY["equalizer"].ranges
    audible = np.geomspace(90, 7000, 200)
    n_bands, kinds = set(), set()
    for seed in range(80):
        p = edit.draw(np.random.default_rng(seed), 4.0, RATE, ranges, POOL)
        n_bands.add(len(p["gains"]))
        kinds |= set(p["kinds"])
        assert all(6 <= abs(gain) <= 12 for gain in p["gains"])
        assert (np.diff(np.log2(p["frequencies"])) > 0.4999).all()
        p = {name: p[name] for name in ("kinds", "frequencies", "gains", "qs")}
        assert np.ptp(np.interp(audible, *decibels(apply("equalizer", impulse(), **p)))) > 6
    assert n_bands == {3, 4, 5, 6, 7}
    assert kinds == {"peak", "low_shelf", "high_shelf"}


def test_held_out_equalizer_is_a_notch():
    ranges = TAXONOMY["equalizer"].variant("held_out")
    for seed in range(20):
        p = EDITS["equalizer"].draw(np.random.default_rng(seed), 0.9, RATE, ranges, POOL)
        assert (p["kinds"], len(p["frequencies"])) == (["notch"], 1)
        frequencies, level = decibels(apply("equalizer", impulse(), **p))
        assert np.interp(p["frequencies"][0], frequencies, level) < -50


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frequencies": [9000.0]}, "frequencies=9000.0 must be above 0 and below half the sample rate, 8000 Hz"),
        ({"kinds": ["comb"]}, "kinds='comb' is not supported"),
        ({"qs": [0.0]}, "qs=0.0 must be above 0"),
        ({"gains": [6.0, 6.0]}, "must have one value for each band"),
    ],
)
def test_invalid_bands_are_reported(change, message):
    parameters = {"kinds": ["peak"], "frequencies": [700.0], "gains": [6.0], "qs": [1.0]} | change
    with pytest.raises(ValueError, match=message):
        apply("equalizer", impulse(), **parameters)


# Autotune ------------------------------------------------------------------------------------------

ON = {"scale": "chromatic", "strength": 1.0, "glide": 0.0}


def sung(f0, rate=RATE):
    """Return harmonics of a pitch."""
    phase = 2 * np.pi * np.cumsum(f0) / rate
    tones = sum(np.cos(k * phase + 0.3 * k * k) / k**1.2 for k in range(1, 30) if k * f0.max() < 0.45 * rate)
    return (0.1 * tones).astype(np.float32)


def cents(waveform, f0, rate=RATE):
    """Return the pitch over `f0` in cents, from the phase of the first harmonic, per 60 ms, without the ends."""
    band = signal.butter(2, [0.8 * f0, 1.25 * f0], "bandpass", fs=rate, output="sos")
    phase = np.unwrap(np.angle(signal.hilbert(signal.sosfiltfilt(band, waveform.astype(np.float64)))))
    step = round(0.06 * rate)
    frequency = (phase[step:] - phase[:-step]) * rate / step / (2 * np.pi)
    return 1200 * np.log2(frequency[rate // 5 : -rate // 5] / f0)


def note(semitones):
    """Return the frequency in Hz of a note counted from A."""
    return 440 * 2 ** (semitones / 12)


def vibrato(f0, depth, rate=RATE, seconds=2):
    t = np.arange(seconds * rate) / rate
    return f0 * 2 ** (depth * np.sin(2 * np.pi * 5.5 * t) / 1200)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("semitones", [-28, -21, -14, -7, 0])
def test_out_of_tune_notes_move_to_the_scale(semitones, rate):
    f0 = note(semitones)
    voice = sung(vibrato(f0 * 2 ** (25 / 1200), 18, rate), rate)
    tuned = apply("autotune", voice, rate, **ON)
    assert np.abs(cents(voice, f0, rate)).max() > 38
    assert np.abs(cents(tuned, f0, rate)).max() < 10
    assert np.abs(cents(tuned, f0, rate)).mean() < 4


def test_strength_is_a_fraction_of_the_correction():
    f0 = note(-20)
    voice = sung(np.full(2 * RATE, f0 * 2 ** (40 / 1200)))
    for strength in (0.7, 0.85):
        tuned = apply("autotune", voice, **ON | {"strength": strength})
        assert cents(tuned, f0).mean() == pytest.approx(40 * (1 - strength), abs=2)


def test_glide_smooths_the_change_of_notes():
    rising = note(np.linspace(-16.4, -13.6, 2 * RATE))
    steepest = []
    for glide in (0.0, 0.04):
        [(_, f0)] = track(apply("autotune", sung(rising), **ON | {"glide": glide}), RATE)
        steepest.append(np.abs(np.diff(np.log2(f0))).max())
    assert steepest[1] < 0.8 * steepest[0]


@pytest.mark.parametrize("scale, to", [("chromatic", -8), ("major", -9), ("minor", -9), ("pentatonic", -9)])
def test_notes_move_to_the_scale_of_the_root(scale, to):
    """A flat C sharp is a note of the chromatic scale, and moves to C in all other scales of C."""
    voice = sung(np.full(2 * RATE, note(-8 - 0.1)) / 2)
    tuned = apply("autotune", voice, **ON | {"scale": scale, "root": 0})
    # A tenth of a semitone below C sharp, C is 0.9 semitones away; D, which minor also has, 1.1.
    assert np.median(cents(tuned, note(to) / 2)) == pytest.approx(0, abs=4)
    on = apply("autotune", voice, **ON | {"scale": scale, "root": 1})  # C sharp is the root.
    assert np.median(cents(on, note(-8) / 2)) == pytest.approx(0, abs=4)


def test_notes_of_the_scale_are_unchanged():
    voice = sung(np.full(2 * RATE, note(-14)))
    tuned = apply("autotune", voice, **ON)
    assert np.abs(cents(tuned, note(-14))).max() < 2
    assert np.std(tuned - voice) < 0.05 * np.std(voice)


def test_unvoiced_samples_are_unchanged():
    rng = np.random.default_rng(0)
    noise = (0.05 * rng.normal(size=RATE)).astype(np.float32)
    voice = np.concatenate([noise, sung(np.full(RATE, note(-13.6))), noise, np.zeros(RATE, dtype=np.float32)])
    tuned = apply("autotune", voice, **ON)
    changed = np.flatnonzero(tuned != voice) / RATE
    assert 0.97 < changed.min() < 1.1
    assert 1.9 < changed.max() < 2.03
    for clip in (noise, np.zeros(RATE, dtype=np.float32), voice[RATE : RATE + 400]):
        np.testing.assert_array_equal(apply("autotune", clip, **ON), clip)


def test_steady_speech_is_in_tune(data_folder):
    paths = sorted(data_folder.glob("speech/audio/train/*.flac"))[:4]
    deviations = {"before": [], "after": []}
    for path in paths:
        speech, rate = soundfile.read(path, dtype="float32", frames=4 * RATE)
        tuned = apply("autotune", speech, rate, **ON)
        voiced = np.mean(tuned != speech)
        assert 0.15 < voiced < 0.9
        assert np.std(tuned - speech) > 0.3 * np.std(speech)
        assert np.std(tuned) == pytest.approx(np.std(speech), rel=0.15)
        for name, waveform in (("before", speech), ("after", tuned)):
            for _, f0 in track(waveform, rate):
                semitones = 12 * np.log2(f0 / 440)
                steady = np.abs(np.gradient(semitones)) < 0.05
                deviations[name] += (100 * np.abs(semitones - np.round(semitones)))[steady].tolist()
    assert np.median(deviations["before"]) > 18
    assert np.median(deviations["after"]) < 8


def spoken(seconds):
    """Return a voice in syllables."""
    t = np.arange(seconds * RATE) / RATE
    return sung(note(-20 + 2 * np.sin(t))) * np.clip(np.sin(2 * np.pi * 2 * t) + 0.5, 0, 1).astype(np.float32)


def test_blocks_do_not_change_the_result(monkeypatch):
    voice = spoken(7)
    from_one_block = apply("autotune", voice, **ON)
    monkeypatch.setattr(autotune, "_N_BLOCK_FRAMES", 64)
    monkeypatch.setattr(autotune, "_N_BLOCK_SAMPLES", 1000)
    np.testing.assert_array_equal(apply("autotune", voice, **ON), from_one_block)


def test_long_clip_needs_little_memory():
    voice = spoken(60)
    tracemalloc.start()
    apply("autotune", voice, **ON)
    assert tracemalloc.get_traced_memory()[1] < 10 * voice.nbytes
    tracemalloc.stop()


def test_root_is_drawn_if_the_scale_has_one():
    edit = EDITS["autotune"]
    for variant in ("train", "held_out"):
        for seed in range(20):
            p = edit.draw(np.random.default_rng(seed), 4.0, RATE, TAXONOMY["autotune"].variant(variant), POOL)
            assert p["scale"] in SCALES
            assert ("root" in p) == (p["scale"] != "chromatic")
    assert not edit.can_draw(0.1, TAXONOMY["autotune"].ranges, POOL)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scale": "blues"}, "scale='blues' is not supported"),
        ({"strength": 1.5}, "strength=1.5 must be at least 0 and at"),
        ({"glide": -1}, "glide=-1 must be at least 0"),
    ],
)
def test_invalid_tuning_is_reported(change, message):
    with pytest.raises(ValueError, match=message):
        apply("autotune", impulse(), **ON | change)
