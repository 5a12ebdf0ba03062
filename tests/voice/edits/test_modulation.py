"""Tests of pitch, speed and distortion: size and accuracy of the change."""

import importlib.util
import sys
from functools import partial

import numpy as np
import pytest
import soundfile

from mmestim.voice import EDITS, TAXONOMY
from mmestim.voice.edits import AudioPool

RATE = 16000
PACKAGES = {"signalsmith": "python_stretch", "soxr": "soxr"}


def engines(*names):
    return pytest.mark.parametrize(
        "engine",
        [
            pytest.param(name, marks=pytest.mark.skipif(not importlib.util.find_spec(PACKAGES[name]), reason="extra"))
            if name in PACKAGES
            else name
            for name in names
        ],
    )


both_stretchers = engines("signalsmith", "phase_vocoder")
both_resamplers = engines("polyphase", "soxr")


def edit(label, waveform, sample_rate=RATE, **parameters):
    return EDITS[label].apply(waveform, sample_rate, AudioPool(), **parameters).waveform


def tone(pitch, seconds=1.6):
    """Return a tone of ten harmonics with seeded phases."""
    t = np.arange(round(seconds * RATE)) / RATE
    phases = np.random.default_rng(0).uniform(0, 6, 10)
    return sum(0.1 * np.cos(2 * np.pi * pitch * k * t + phases[k - 1]) for k in range(1, 11)).astype(np.float32)


def partials(waveform, pitch, search_width=0.05):
    """Return the error of each of ten harmonics in cents, and the level of all over the noise between them in dB."""
    inner = waveform[RATE // 8 : -RATE // 8]
    spectrum = np.abs(np.fft.rfft(inner * np.blackman(len(inner)), 4 * len(inner)))
    width = RATE / (4 * len(inner))
    cents, between = [], np.ones(len(spectrum), dtype=bool)
    for k in range(1, 11):
        low, high = (round(k * pitch * (1 + side * search_width / k) / width) for side in (-1, 1))
        top = low + np.argmax(spectrum[low:high])
        a, b, c = np.log(spectrum[top - 1 : top + 2])
        cents.append(1200 * np.log2((top + (a - c) / (2 * (a - 2 * b + c))) * width / (k * pitch)))
        between[round((k * pitch - 6) / width) : round((k * pitch + 6) / width)] = False
    power = spectrum**2
    return np.array(cents), 10 * np.log10(power[~between].sum() / power[between].sum())


def clicks(sample_rate=RATE, seconds=3.0, seed=0):
    """Return clicks and their positions in samples."""
    at = np.arange(0.15, seconds - 0.1, 0.2) + np.random.default_rng(seed).uniform(-0.05, 0.05, int(seconds * 5) - 1)
    at = np.round(at * sample_rate).astype(int)
    waveform = np.zeros(round(seconds * sample_rate), np.float32)
    waveform[at] = 0.9
    return waveform, at / sample_rate


def centres(waveform, expected, sample_rate=RATE):
    """Return the centres of energy within 30 ms of expected moments."""
    moments = []
    for moment in expected:
        low, high = (max(0, round((moment + off) * sample_rate)) for off in (-0.03, 0.03))
        energy = waveform[low:high].astype(float) ** 2
        moments.append((low + np.arange(len(energy)) @ energy / energy.sum()) / sample_rate)
    return np.array(moments)


# Pitch ---------------------------------------------------------------------------------------------


@both_stretchers
@pytest.mark.parametrize("semitones", [-4.0, -1.3, -0.5, 0.75, 2.2, 4.0])
def test_harmonics_shift_by_the_semitones(engine, semitones):
    for pitch in (85, 200):
        shifted = edit("pitch_shift", tone(pitch), semitones=semitones, engine=engine)
        cents, over = partials(shifted, pitch * 2 ** (semitones / 12))
        assert np.abs(cents).max() < 1
        assert over > 30


@both_stretchers
@pytest.mark.parametrize("semitones", [-4.0, -0.5, 0.5, 4.0])
def test_pitch_shift_has_no_delay(engine, semitones):
    for sample_rate in (8000, 16000):
        waveform, at = clicks(sample_rate)
        shifted = edit("pitch_shift", waveform, sample_rate, semitones=semitones, engine=engine)
        assert len(shifted) == len(waveform)
        assert np.abs(centres(shifted, at, sample_rate) - at).max() < 1e-3


# Speed ---------------------------------------------------------------------------------------------

RATES = [0.7, 0.81, 0.95, 1.05, 1.33, 1.5]


@both_stretchers
@pytest.mark.parametrize("rate", RATES)
def test_stretched_tone_retains_its_pitch(engine, rate):
    for pitch in (85, 200):
        cents, over = partials(edit("time_stretch", tone(pitch), rate=rate, engine=engine), pitch)
        assert np.abs(cents).max() < 1
        assert over > 35


@both_stretchers
@pytest.mark.parametrize("rate", RATES)
def test_clicks_are_in_place_after_a_stretch(engine, rate):
    for seed, sample_rate in enumerate((8000, 16000, 44100)):
        waveform, at = clicks(sample_rate, seed=seed)
        stretched = edit("time_stretch", waveform, sample_rate, rate=rate, engine=engine)
        assert len(stretched) == round(len(waveform) / rate)
        measured = centres(stretched, at / rate, sample_rate)
        assert np.abs(measured - at / rate).max() < 1e-3
        assert np.polyfit(measured, at, 1)[0] == pytest.approx(rate, rel=2e-3)


@pytest.mark.parametrize("rate", [0.7, 1.5])
def test_phase_vocoder_retains_sharp_clicks(rate):
    waveform, at = clicks()
    energy = edit("time_stretch", waveform, rate=rate, engine="phase_vocoder").astype(float) ** 2
    near = sum(energy[round(t * RATE) - 24 : round(t * RATE) + 24].sum() for t in at / rate)
    assert near > 0.9 * energy.sum()


def test_phase_vocoder_at_rate_1_changes_nothing():
    waveform = np.random.default_rng(0).normal(scale=0.1, size=RATE).astype(np.float32)
    np.testing.assert_allclose(edit("time_stretch", waveform, rate=1.0, engine="phase_vocoder"), waveform, atol=1e-6)


@both_stretchers
@pytest.mark.parametrize("rate", [0.7, 1.5])
def test_stretch_retains_the_ends(engine, rate):
    waveform = np.zeros(RATE, np.float32)
    waveform[[20, -20]] = 1
    energy = edit("time_stretch", waveform, rate=rate, engine=engine).astype(float) ** 2
    ends = energy[:400].sum(), energy[-400:].sum()
    assert ends == pytest.approx([1 / rate, 1 / rate], rel=0.15)


@both_stretchers
def test_stretch_retains_the_level_of_speech(engine, data_folder):
    for path in sorted((data_folder / "speech" / "audio").rglob("*.flac"))[:2]:
        waveform = soundfile.read(path, dtype="float32")[0]
        for rate in (0.8, 1.3):
            stretched = edit("time_stretch", waveform, rate=rate, engine=engine)
            assert 20 * np.log10(stretched.std() / waveform.std()) == pytest.approx(0, abs=1)


@both_resamplers
@pytest.mark.parametrize("rate", [0.75, 0.8437, 0.97, 1.0612, 1.33])
def test_speed_change_moves_pitch_and_clicks(engine, rate):
    waveform, at = clicks()
    changed = edit("speed_change", waveform, rate=rate, engine=engine)
    assert len(changed) == round(len(waveform) / rate)
    assert np.abs(centres(changed, at / rate) - at / rate).max() < 0.3e-3
    cents, over = partials(edit("speed_change", tone(200), rate=rate, engine=engine), 200 * rate)
    assert np.abs(cents).max() < 1  # .06 %
    assert over > 60


@both_resamplers
def test_speed_change_does_not_alias(engine):
    t = np.arange(2 * RATE) / RATE
    for frequency, gone in ((5200, False), (6100, True), (7500, True)):
        sine = np.sin(2 * np.pi * frequency * t).astype(np.float32)
        inner = edit("speed_change", sine, rate=1.33, engine=engine)[1000:-1000]
        level = 20 * np.log10(inner.std() / sine.std())
        assert level < -65 if gone else level == pytest.approx(0, abs=0.1)


@both_resamplers
def test_long_clips_do_not_drift(engine):
    waveform = np.zeros(120 * RATE, np.float32)
    waveform[at := 119 * RATE] = 1
    changed = edit("speed_change", waveform, rate=1.1237, engine=engine)
    assert np.argmax(changed) / RATE == pytest.approx(at / RATE / 1.1237, abs=0.3e-3)


@pytest.mark.parametrize("label", ["pitch_shift", "time_stretch", "speed_change"])
def test_shortest_clips_have_the_expected_length(label):
    changes = {"semitones": 4.0} if label == "pitch_shift" else {"rate": 0.7}
    names = ("polyphase", "soxr") if label == "speed_change" else ("signalsmith", "phase_vocoder")
    for engine in [name for name in names if importlib.util.find_spec(PACKAGES.get(name, "numpy"))]:
        for n_samples in (0, 1, 2, 400):
            edited = edit(label, np.full(n_samples, 0.1, np.float32), **changes, engine=engine)
            assert len(edited) == round(n_samples / changes.get("rate", 1))
            assert np.isfinite(edited).all()


# Distortion ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halting():
    """Return noise of a few levels, between pauses that are nearly silent."""
    rng = np.random.default_rng(0)
    levels = np.repeat([0.1, 1e-5, 0.2, 0.0, 0.05], RATE // 2)
    return (levels * rng.normal(size=len(levels))).astype(np.float32)


@pytest.mark.parametrize("percentile", [2.0, 10.0, 30.0])
def test_clipping_cuts_off_a_percentile_of_the_samples(halting, percentile):
    edited = edit("distortion", halting, kind="clip", percentile=percentile)
    changed = edited != halting
    sounding = np.abs(halting) > 0.1 * np.sqrt(np.mean(halting**2))
    assert changed.sum() / sounding.sum() == pytest.approx(percentile / 100, abs=1e-3)
    assert len(np.unique(np.abs(edited[changed]))) == 1
    assert (np.abs(edited[changed]) < np.abs(halting[changed])).all()


def test_tanh_distorts_more_with_a_larger_amount(halting):
    crests = []
    for amount in (0.1, 0.4, 0.7):
        edited = edit("distortion", halting, kind="tanh", amount=amount)
        assert edited.std() == pytest.approx(halting.std(), rel=1e-5)
        order = np.argsort(halting)
        assert (np.diff(edited[order]) >= 0).all()
        crests.append(np.abs(edited).max() / edited.std())
    assert crests[0] < 0.75 * np.abs(halting).max() / halting.std()
    assert crests == sorted(crests, reverse=True)


@pytest.mark.parametrize("bits", [6, 8, 10])
def test_bit_crush_leaves_the_number_of_levels(halting, bits):
    edited = edit("distortion", halting, kind="bit_crush", bits=bits)
    assert 2 ** (bits - 2) < len(np.unique(edited)) <= 2**bits
    step = np.abs(halting).max() / 2 ** (bits - 2)
    noise = (edited - halting)[np.abs(halting) > step]
    assert noise.std() == pytest.approx(step / np.sqrt(12), rel=0.05)


@pytest.mark.parametrize("kind", ["tanh", "clip", "bit_crush"])
def test_distortion_does_not_depend_on_the_level(halting, kind):
    soft, loud = (edit("distortion", gain * halting, kind=kind) for gain in (np.float32(2**-7), np.float32(2.0)))
    np.testing.assert_allclose(loud, 256 * soft, rtol=1e-5)


def test_drawn_distortions_have_only_their_parameters():
    ranges = TAXONOMY["distortion"].ranges
    draw = partial(EDITS["distortion"].draw, duration=1.0, sample_rate=RATE, pool=AudioPool())
    drawn = [draw(np.random.default_rng(seed), ranges=ranges) for seed in range(20)]
    assert {tuple(parameters) for parameters in drawn} == {("kind", "amount"), ("kind", "percentile")}
    held_out = draw(np.random.default_rng(0), ranges=TAXONOMY["distortion"].variant("held_out"))
    assert list(held_out) == ["kind", "bits"]


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label, parameters, message",
    [
        ("pitch_shift", {"semitones": 30}, "semitones=30 must be at least -24"),
        ("pitch_shift", {"engine": "sox"}, "engine='sox' is not supported. Use one of 'signalsmith', 'phase_vocoder'"),
        ("time_stretch", {"rate": 0}, "rate=0 must be at least 0.25 and at most 4"),
        ("time_stretch", {"rate": float("nan")}, "rate=nan must"),
        ("speed_change", {"rate": -1.0}, "rate=-1.0 must"),
        ("speed_change", {"engine": "phase_vocoder"}, "Use one of 'polyphase', 'soxr'"),
        ("distortion", {"kind": "fuzz"}, "kind='fuzz' is not supported"),
        ("distortion", {"kind": "tanh", "amount": 1.5}, "amount=1.5"),
        ("distortion", {"kind": "clip", "percentile": -2}, "percentile=-2"),
        ("distortion", {"kind": "bit_crush", "bits": 1}, "bits=1 must be at least 2"),
    ],
)
def test_invalid_parameters_are_reported(label, parameters, message):
    with pytest.raises(ValueError, match=message):
        edit(label, tone(100, 0.1), **parameters)


@pytest.mark.parametrize(
    "label, engine, package", [("time_stretch", "signalsmith", "python_stretch"), ("speed_change", "soxr", "soxr")]
)
def test_missing_package_is_reported_with_its_extra(monkeypatch, label, engine, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{package}: pip install "mmestim\[engines\]"'):
        edit(label, tone(100, 0.1), engine=engine)
