"""Front ends: references in numpy and scipy, tones and clicks with known features, padding, errors."""

import numpy as np
import pytest
import scipy.fft
import torch

from mmestim.voice.networks.front_ends import LFCC, ComplexCQT, ComplexSTFT, LogSpectrogram, PhaseDifferences

RATE = 16000
FRONT_ENDS = pytest.mark.parametrize("make", [LogSpectrogram, PhaseDifferences, LFCC, ComplexSTFT, ComplexCQT])


def tone(frequency, n_samples=RATE, phase=0.0):
    """Return a tone with a root mean square of 1, which front ends do not rescale."""
    t = torch.arange(n_samples, dtype=torch.float64) / RATE
    return (2**0.5 * torch.cos(2 * torch.pi * frequency * t + phase)).float()[None]


def frame_spectra(waveform, n_fft, hop_length, window):
    """Return spectra (n_bins, n_frames) of zero-padded frames by numpy; phases refer to the start of the frame."""
    x = waveform[0].double().numpy()
    x = np.pad(x / np.sqrt(np.mean(x**2)), n_fft // 2)
    starts = range(0, len(x) - n_fft + 1, hop_length)
    return np.array([np.fft.rfft(window * x[start : start + n_fft]) for start in starts]).T


def hann(n_samples):
    return np.sin(np.pi * np.arange(n_samples) / n_samples) ** 2


# References -------------------------------------------------------------------------------------------


def test_log_spectrogram_matches_numpy(noise):
    x = noise(6000)
    power = np.abs(frame_spectra(x, 512, 160, hann(512)))[1:] ** 2
    expected = (np.log(power + 1e-6) + 1) / 4
    np.testing.assert_allclose(LogSpectrogram()(x)[0, 0].numpy(), expected, atol=1e-4)


def test_phase_differences_match_numpy(noise):
    x = noise(6000)
    spectra = frame_spectra(x, 256, 80, hann(256))[1:]
    features = PhaseDifferences()(x)[0].numpy()
    np.testing.assert_allclose(features[0], (np.log(np.abs(spectra) ** 2 + 1e-6) + 1) / 4, atol=1e-3)
    phase = np.angle(spectra)
    in_time = np.cos(phase[:, 2:] - 2 * phase[:, 1:-1] + phase[:, :-2])
    in_frequency = np.cos(phase[2:] - 2 * phase[1:-1] + phase[:-2])
    np.testing.assert_allclose(features[1, :, 2:], in_time, atol=5e-3)
    np.testing.assert_allclose(features[2, 1:-1], in_frequency, atol=5e-3)
    assert not features[1, :, :2].any()
    assert not features[2, [0, -1]].any()


def test_a_tone_is_steady_in_time_and_a_click_in_frequency():
    frames = slice(4, -4)
    steady = PhaseDifferences()(tone(1234.5))[0, :, :, frames]
    nearest_bin = round(1234.5 / RATE * 256) - 1
    assert steady[1, nearest_bin - 1 : nearest_bin + 2].min() > 0.999
    jump = torch.cat([tone(1234.5)[:, :8000], tone(1234.5, phase=2.5)[:, 8000:]], 1)
    assert PhaseDifferences()(jump)[0, 1, nearest_bin, frames].min() < 0.5
    click = torch.zeros(1, RATE)
    click[0, 8017] = 1
    assert PhaseDifferences()(click)[0, 2, 1:-1, 100].min() > 0.999


def test_lfcc_matches_scipy(noise):
    x = noise(8000)
    window = np.pad(hann(320), (1024 - 320) // 2)
    power = np.abs(frame_spectra(x, 1024, 160, window)) ** 2
    edges = np.linspace(0, 8000, 22)
    frequencies = np.linspace(0, 8000, 513)
    filters = [np.interp(frequencies, edges[i : i + 3], [0, 1, 0]) for i in range(20)]
    cepstra = scipy.fft.dct(np.log(filters @ power + 1e-6), axis=0, norm="ortho")

    def derive(c):
        p = np.pad(c, [(0, 0), (2, 2)], "edge")
        return (p[:, 3:-1] - p[:, 1:-3] + 2 * (p[:, 4:] - p[:, :-4])) / 10

    expected = np.concatenate([cepstra, derive(cepstra), derive(derive(cepstra))])
    np.testing.assert_allclose(LFCC()(x)[0, 0].numpy(), expected, atol=2e-3)


def test_complex_stft_refers_phases_to_the_middle_of_the_frame(noise):
    x = noise(6000)
    spectra = frame_spectra(x, 512, 160, hann(512))[1:] * np.exp(1j * np.pi * np.arange(1, 257))[:, None]
    real, imag = ComplexSTFT()(x)[0].numpy()
    np.testing.assert_allclose(real + 1j * imag, spectra, atol=1e-3)
    click = torch.zeros(1, RATE)
    click[0, 8000] = 1  # the middle of frame 50
    real, imag = ComplexSTFT()(click)[0, :, :, 50]
    assert real.min() > 1
    assert imag.abs().max() < 1e-4 * real.min()


@pytest.mark.parametrize("k", [0, 11, 12, 40, 71, 83])
def test_cqt_of_a_tone_has_its_amplitude_and_phase(k):
    frequency, phase = 62.5 * 2 ** (k / 12), 0.7
    real, imag = ComplexCQT()(tone(frequency, 2 * RATE, phase))[0].double().numpy()
    spectrum = real + 1j * imag
    frames = np.arange(20, 180)  # whole windows
    assert (np.abs(spectrum[:, frames]).argmax(0) == k).all()
    expected = 2**0.5 * np.exp(1j * (2 * np.pi * frequency * frames * 160 / RATE + phase))
    np.testing.assert_allclose(spectrum[k, frames], expected, atol=0.01)


def test_cqt_is_the_inner_product_with_windowed_waves(noise):
    x = noise(RATE)
    real, imag = ComplexCQT(hop_length=400)(x)[0].double().numpy()
    samples = x[0].double().numpy()
    samples /= np.sqrt(np.mean(samples**2))
    for k, frame in [(0, 20), (30, 1), (83, 40)]:
        frequency = 62.5 * 2 ** (k / 12)
        n_periods = 1 / (2 ** (1 / 12) - 1)
        t = (np.arange(RATE) - frame * 400) / RATE
        window = np.cos(np.pi * t * frequency / n_periods) ** 2 * (np.abs(t) < n_periods / frequency / 2)
        inside = np.cos(np.pi * (u := np.arange(-RATE, RATE) / RATE) * frequency / n_periods) ** 2
        total = (inside * (np.abs(u) < n_periods / frequency / 2)).sum()
        expected = 2 / total * (samples * window * np.exp(-2j * np.pi * frequency * t)).sum()
        assert real[k, frame] + 1j * imag[k, frame] == pytest.approx(expected, abs=1e-4)


# Properties ----------------------------------------------------------------------------------------


@FRONT_ENDS
@pytest.mark.parametrize("n_samples", [5600, 19200, 64800])
def test_shape_of_features(make, n_samples, noise):
    front_end = make()
    n_frames = 1 + n_samples // front_end.hop_length
    assert front_end(noise(n_samples, 2)).shape == (2, front_end.n_channels, front_end.n_bins, n_frames)
    assert front_end.frames(n_samples) == n_frames


@FRONT_ENDS
def test_padding_does_not_change_features(make, noise):
    front_end = make()
    x, lengths = noise(9000, 3), torch.tensor([9000, 7777, 5600])
    together = front_end(x, lengths)
    for clip, length, features in zip(x, lengths, together, strict=True):
        alone = front_end(clip[None, :length])[0]
        n_frames = alone.shape[-1]
        torch.testing.assert_close(features[..., :n_frames], alone, atol=2e-4, rtol=1e-4)
        assert not features[..., n_frames:].any()


@FRONT_ENDS
def test_gain_and_autocast_have_no_effect(make, noise):
    front_end, x = make(), noise(8000, 2)
    expected = front_end(x)
    torch.testing.assert_close(front_end(x * torch.tensor([[0.25], [4.0]])), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = front_end(x)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected)


@FRONT_ENDS
def test_features_of_silence_are_finite(make):
    assert make()(torch.zeros(1, 8000)).isfinite().all()


@pytest.mark.parametrize("rate", [8000, 44100])
def test_lfcc_at_other_rates_covers_the_band_in_frames_of_10_ms(rate, noise):
    assert LFCC(rate)(noise(rate)).shape == (1, 1, 60, 101)
    t = torch.arange(rate) / rate
    high, higher = (LFCC(rate)(torch.cos(2 * torch.pi * fraction * rate * t)[None]) for fraction in (0.40, 0.45))
    assert (high - higher)[0, 0, :20, 50].abs().max() > 1


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LogSpectrogram(n_fft=511), "n_fft=511 must be even"),
        (lambda: LogSpectrogram(hop_length=0), "hop_length=0 must be at least 1"),
        (lambda: LFCC(96000), "sample_rate=96000 must be at least 1000 and at most 51200"),
        (lambda: ComplexCQT(8000), "above half of sample_rate=8000. Lower f_min or n_bins"),
        (lambda: ComplexCQT(f_min=0), "f_min=0 must be above 0"),
    ],
)
def test_invalid_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "waveform, lengths, message",
    [
        (torch.zeros(8000), None, r"waveform has shape \(8000,\)"),
        (torch.zeros(2, 5599), None, "at least 5600 samples. Pad shorter clips with zeros and pass lengths"),
        (torch.zeros(2, 8000, dtype=torch.int16), None, "must be a floating-point tensor"),
        (torch.zeros(2, 8000), torch.tensor([8000]), "one entry for each of 2 clips"),
    ],
)
def test_invalid_input(waveform, lengths, message):
    with pytest.raises(ValueError, match=message):
        LogSpectrogram()(waveform, lengths)
