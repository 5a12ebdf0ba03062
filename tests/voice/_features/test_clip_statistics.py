"""Statistics of clips: signals with known statistics, and the contract of a transformer."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import signal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmestim.voice import AudioCorpus
from mmestim.voice._features.clip_spectra import largest
from mmestim.voice._features.clip_statistics import ClipStatistics
from mmestim.voice.edits import EDITS, AudioPool

RATE = 16000
SECONDS = 2.0


def noise(seconds=SECONDS, seed=0, rate=RATE):
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate))


def tone(hertz, seconds=SECONDS, rate=RATE):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def voice(seconds=SECONDS, pitch=120.0, seed=0, rate=RATE):
    """Return syllables of a synthetic voice: pulses through three formants, amplitude-modulated, with faint noise."""
    n = round(seconds * rate)
    rng = np.random.default_rng(seed)
    hertz = pitch * 2 ** (np.interp(np.arange(n), np.linspace(0, n, 9), rng.uniform(-3, 3, 9)) / 12)
    cycles = np.cumsum(hertz) / rate
    x = np.diff(np.floor(cycles), prepend=0) + 0.01 * rng.normal(size=n)
    for formant in (500, 1500, 2600):
        x = x + signal.lfilter(*signal.iirpeak(formant, 8, fs=rate), x)
    envelope = 0.03 + np.square(np.sin(np.pi * 3 * np.arange(n) / rate))
    x = x * envelope
    return 0.1 * x / x.std() + 1e-3 * rng.normal(size=n)


def statistics(*clips, rate=RATE):
    """Return a dict of statistics by name for each clip."""
    transformer = ClipStatistics(rate)
    names = transformer.get_feature_names_out()
    return [dict(zip(names, row, strict=True)) for row in transformer.transform(list(clips)).astype(float)]


def edited(label, waveform, **parameters):
    return EDITS[label].apply(waveform.astype(np.float32), RATE, AudioPool(), **parameters).waveform


# Signals with known statistics ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay, name", [(0.004, "3_5ms"), (0.12, "104_170ms"), (0.5, "455_746ms")])
def test_an_echo_is_a_peak_of_the_cepstrum_at_its_delay(delay, name):
    clean, samples = voice(), round(delay * RATE)
    echo = clean.copy()
    echo[samples:] += 0.5 * clean[:-samples]
    before, after = statistics(clean, echo)
    gain = {key: after[key] - before[key] for key in before if key.startswith("cepstrum_peak")}
    assert max(gain, key=gain.get) == f"cepstrum_peak_{name}"
    if delay > 0.02:
        assert after["cepstrum_highest_ms"] == pytest.approx(1000 * delay, abs=0.1)


def test_edges_are_where_the_spectrum_starts_and_ends():
    for cutoff in (2000.0, 4000.0, 6000.0):
        taps = signal.firwin(801, cutoff, fs=RATE)
        (low_passed,) = statistics(np.convolve(noise(), taps, "same"))
        assert low_passed["mean_highest_khz_40db"] == pytest.approx(cutoff / 1000, abs=0.1)
        assert low_passed["mean_steepest_1_fall_khz"] == pytest.approx(cutoff / 1000, abs=0.1)
        assert low_passed["mean_steepest_1_fall_db"] < -20
        taps = signal.firwin(801, cutoff, fs=RATE, pass_zero=False)
        (high_passed,) = statistics(np.convolve(noise(), taps, "same"))
        assert high_passed["mean_lowest_khz_40db"] == pytest.approx(cutoff / 1000, abs=0.1)
        assert high_passed["mean_steepest_1_rise_db"] > 20


def test_levels_and_tone_of_noise_tones_and_filters():
    (flat,) = statistics(noise())
    means = np.array([flat[f"level_mean_band{band:02d}"] for band in range(64)])
    assert (
        np.abs(means).max() < 2
    )  # white noise with an RMS of 1 has 0 dB in each band, minus the bias of the logarithm
    (at_border,) = statistics(tone(1000))  # the border between two bands of 125 Hz
    means = np.array([at_border[f"level_mean_band{band:02d}"] for band in range(64)])
    assert set(np.argsort(means)[-2:]) == {7, 8}
    (low,) = statistics(edited("low_pass", noise(), cutoff=1000.0, slope=24, family="fir"))
    assert low["tone_mean_slope_band20"] - flat["tone_mean_slope_band20"] == pytest.approx(-24 * 1.11, abs=3)
    assert low["level_mean_step_band30"] == pytest.approx(low["level_mean_band30"] - low["level_mean_band29"], abs=1e-4)
    (bent,) = statistics(edited("equalizer", noise(), kinds=["peak"], frequencies=[1000.0], gains=[12.0], qs=[2.0]))
    gain = {key: bent[key] - flat[key] for key in flat if key.startswith("tone_mean_band")}
    assert max(gain, key=gain.get) == "tone_mean_band13"  # 80 Hz times 100 ** (13 / 24) to 100 ** (14 / 24)


def test_noise_is_flat_and_a_tone_is_not():
    from_noise, from_tone, from_click = statistics(noise(), tone(440), click())
    assert from_noise["flatness_q50"] > -4
    assert from_tone["flatness_q50"] < -30
    assert from_tone["periodicity_q50"] > 0.9 > 0.3 > from_noise["periodicity_q50"]
    assert from_tone["phase_time_weighted_band03"] > 0.8
    assert from_click["phase_frequency_weighted_band10"] > 0.95
    for direction in ("time", "frequency"):
        assert abs(from_noise[f"phase_{direction}_band10"]) < 0.6


def click():
    x = np.zeros(round(SECONDS * RATE))
    x[:: round(0.04 * RATE)] = 1
    return x


def test_pitch_and_distance_from_notes():
    on, between = statistics(glide([0, 2, 4]), glide([0.5, 2.5, 4.5]))
    assert on["pitch_q50"] == pytest.approx(-22, abs=0.1)  # semitones below A4
    assert on["notes_on"] > 0.9
    assert between["notes_on"] < -0.9
    assert between["notes_any_tuning"] > 0.9
    assert on["voiced_share"] > 0.9


def glide(notes):
    """Return harmonics of successive notes, given in semitones from A2."""
    semitones = np.repeat(notes, round(SECONDS * RATE / len(notes))) - 24
    cycles = np.cumsum(440 * 2 ** (semitones / 12)) / RATE
    return 0.05 * sum(np.sin(2 * np.pi * n * cycles) for n in range(1, 12))


def test_clipping_is_flat_and_quantisation_has_few_values():
    clean = voice()
    clipped, quantised, saturated = (
        edited("distortion", clean, kind=kind, **parameters)
        for kind, parameters in {
            "clip": {"percentile": 10.0},
            "bit_crush": {"bits": 6},
            "tanh": {"amount": 0.6},
        }.items()
    )
    plain, clipped, quantised, saturated = statistics(clean, clipped, quantised, saturated)
    assert clipped["flat_loud_still"] > plain["flat_loud_still"] + 2
    assert clipped["flat_longest"] > plain["flat_longest"] + 0.5
    assert clipped["share_of_peak_0.98_1"] > plain["share_of_peak_0.98_1"] + 1
    assert quantised["values_distinct"] < -2.5 < plain["values_distinct"]
    assert quantised["values_bits"] < 6.1 < plain["values_bits"]
    assert saturated["crest_q50"] < plain["crest_q50"] - 0.3


@pytest.mark.parametrize("gain", [1.0, 0.7])
def test_repeated_segment_is_detected_at_its_lag(gain):
    clean = voice(seconds=3.0)
    pasted = clean.copy()
    pasted[35000:42000] = gain * clean[8003:15003]
    before, after = statistics(clean, pasted)
    assert after["repeat_seconds"] == pytest.approx((35000 - 8003) / RATE, abs=1e-4)
    assert after["repeat_passage_lag0"] > 2.5  # correlated above 0.99
    assert before["repeat_passage_lag0"] < 1


def test_clicks_and_spectral_holes_are_outliers():
    clean = noise()
    clicked = clean.copy()
    clicked[20000] += 2.0
    before, after = statistics(clean, clicked)
    for band in ("low", "middle", "high"):
        assert after[f"click_{band}_top1"] > before[f"click_{band}_top1"] + 3
    assert after["residual_top1"] > before["residual_top1"] + 3
    clean = voice()
    (before,) = statistics(clean)
    spectrum = np.fft.rfft(clean)
    spectrum[round(len(clean) * 3000 / RATE) : round(len(clean) * 4000 / RATE)] = 0
    (with_hole,) = statistics(np.fft.irfft(spectrum))
    assert with_hole["empty_band14"] > 0.9 > 0.1 > before["empty_band14"]


def test_modulation_frequency_and_reverberant_slopes():
    n = np.arange(round(4 * RATE))
    fast, slow = (noise(4) * (1.2 + np.cos(2 * np.pi * hertz * n / RATE)) for hertz in (10, 3))
    fast, slow = statistics(fast, slow)
    assert fast["modulation_8_16hz_band03"] > -0.3 > -0.9 > slow["modulation_8_16hz_band03"]
    assert slow["modulation_2_4hz_band03"] > -0.3 > -0.9 > fast["modulation_2_4hz_band03"]
    bursts = noise(4) * (n % 8000 < 4000)
    tail = 10 ** (-np.arange(8000) / 4000)  # 20 dB in 0.25 s: 3.2 dB in 40 ms
    dry, wet = statistics(bursts, np.convolve(bursts, tail * noise(0.5, 1))[: len(n)])
    assert dry["slope_all_q01"] < -20
    assert wet["slope_all_q25"] == pytest.approx(-3.2, abs=1)


def test_extremes_reveal_an_edit_of_a_part():
    clean = noise()
    partly_filtered = clean.copy()
    partly_filtered[12000:22000] = edited("low_pass", clean, cutoff=2000.0, slope=48, family="fir")[12000:22000]
    before, after = statistics(clean, partly_filtered)
    assert after["stretch_level_least_band12"] < before["stretch_level_least_band12"] - 20
    assert after["stretch_level_most_band12"] > before["stretch_level_most_band12"] + 5
    assert abs(after["stretch_level_least_band01"]) < 3


def test_time_reversal_mirrors_slopes_only():
    forward, backward = statistics(voice(), voice()[::-1])
    for name in ("level_mean_band20", "amplitude_q50", "values_distinct", "crest_q50", "tone_mean_band10"):
        assert backward[name] == pytest.approx(forward[name], abs=0.3)
    assert backward["cepstrum_peak_104_170ms"] == pytest.approx(forward["cepstrum_peak_104_170ms"], abs=1e-3)
    assert backward["slope_all_q99"] == pytest.approx(-forward["slope_all_q01"], abs=2)


def test_linear_model_detects_mp3_compression(data_folder):
    files = sorted((data_folder / "speech" / "audio" / "train").glob("*_0.flac"))[:60]
    clips = [clip[: 2 * RATE] for clip in AudioCorpus(files)]
    y = np.arange(len(clips)) % 2
    coded = [edited("mp3", clip, bitrate=24) if edit else clip for clip, edit in zip(clips, y, strict=True)]
    X = ClipStatistics().transform(coded)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    assert model.fit(X[:40], y[:40]).score(X[40:], y[40:]) > 0.9


# Contract of a transformer ---------------------------------------------------------------------------------


def test_names_match_columns():
    for rate in (8000, 16000, 44100):
        transformer = ClipStatistics(rate)
        names = transformer.get_feature_names_out()
        rows = [transformer.transform([noise(seconds, rate=rate)]) for seconds in (0.35, 1.2, 4.05)]
        assert {row.shape for row in rows} == {(1, len(names))}
        assert len(set(names)) == len(names) == len(ClipStatistics().get_feature_names_out())
    frame = ClipStatistics().set_output(transform="pandas").transform([noise()])
    assert list(frame.columns) == list(names)


@pytest.mark.parametrize("gain", [1e-3, 0.25, 3e4])
def test_level_and_offset_have_no_effect(gain):
    clip = np.round(32768 * voice()) / 32768
    transformer = ClipStatistics()
    expected, scaled, shifted = transformer.transform([clip, gain * clip, clip + 0.25])
    np.testing.assert_allclose(scaled, expected, rtol=1e-2, atol=2e-2)
    on_original_samples = ("share", "amplitude", "flat", "values")
    is_normalised = np.array([not name.startswith(on_original_samples) for name in transformer.get_feature_names_out()])
    np.testing.assert_allclose(shifted[is_normalised], expected[is_normalised], rtol=1e-2, atol=2e-2)


def hostile_clips():
    """Return clips that are hard for numerical code, by name."""
    n = 6400
    impulse, square, pause = np.zeros(n), np.sign(tone(100, n / RATE)), voice(n / RATE)
    impulse[3000] = 1.0
    pause[2000:5000] = 0
    return {
        "silence": np.zeros(n),
        "offset": np.full(n, 0.3),
        "impulse": impulse,
        "first": np.eye(1, n)[0],
        "clipping": square,
        "integers": (square * 32768 - (square > 0)).astype(np.int16),
        "digital pause": pause,
        "one step": (np.arange(n) > n / 2).astype(float),
        "tone": tone(1000, n / RATE),
        "faint": 1e-300 * noise(n / RATE),
        "huge": 1e300 * noise(n / RATE),
        "alternating": (-1.0) ** np.arange(n),
    }


@pytest.mark.parametrize("name", hostile_clips())
@pytest.mark.parametrize("rate", [8000, 16000])
def test_statistics_of_hostile_clips_are_finite(name, rate):
    assert np.isfinite(ClipStatistics(rate).transform([hostile_clips()[name]])).all()


def test_lists_arrays_corpora_and_threads_agree():
    clips = np.stack([voice(1.0, seed=seed) for seed in range(6)]).astype(np.float32)
    transformer = ClipStatistics()
    expected = transformer.transform(clips)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(transformer.transform(list(clips)), expected)
    np.testing.assert_array_equal(transformer.fit_transform(AudioCorpus(clips)), expected)
    np.testing.assert_array_equal(np.concatenate([transformer.transform(clips[[row]]) for row in range(6)]), expected)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(transformer.transform, np.split(np.tile(clips, (2, 1)), 6)))
    np.testing.assert_array_equal(np.concatenate(parts), np.tile(expected, (2, 1)))


def test_clone_pickle_and_pipeline():
    transformer = ClipStatistics(sample_rate=8000)
    assert clone(transformer).get_params() == {"sample_rate": 8000}
    unpickled = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(unpickled.transform([noise()]), transformer.transform([noise()]))
    model = make_pipeline(ClipStatistics(), StandardScaler())
    assert model.fit_transform([noise(0.5, seed) for seed in range(3)]).std() > 0.5


@pytest.mark.parametrize(
    "X, message",
    [
        (noise(), "Wrap it in a list"),
        ([], "no clip"),
        ([noise(), noise(0.3)], "clip 1 has 4800 samples, but 5600 or more are needed at 16000 Hz"),
        ([noise().reshape(2, -1)], "shape"),
        ([np.full(8000, np.nan)], "NaN"),
        ([noise() * 1j], "dtype"),
        (AudioCorpus([noise()], sample_rate=8000), "8000 Hz"),
    ],
)
def test_invalid_input(X, message):
    with pytest.raises(ValueError, match=message):
        ClipStatistics().transform(X)


def test_invalid_parameters():
    with pytest.raises(TypeError, match="is a path"):
        ClipStatistics().transform("clips")
    with pytest.raises(ValueError, match="sample_rate=4000"):
        ClipStatistics(4000).fit()


@pytest.mark.parametrize("size", [20, 64, 1100, 5000])
def test_largest_values_are_those_of_a_sort(size):
    values = np.random.default_rng(size).integers(0, 400, size)
    for count in (1, 3, 16):
        assert (largest(values, count) == np.sort(values)[::-1][:count]).all()


def test_amplitudes_do_not_depend_on_whether_samples_are_counted_or_sorted():
    samples = np.round(voice() * 32768 / 2) / 32768
    before, after = ClipStatistics().transform([samples, samples * 0.7]).astype(float)
    columns = [name.startswith(("share_of_peak", "amplitude_")) for name in ClipStatistics().get_feature_names_out()]
    assert np.abs(before - after)[columns].max() < 1e-5
