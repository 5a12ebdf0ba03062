"""Acquisition: how a clip was recorded and stored, which is no edit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import butter, firwin, lfilter, resample_poly, sosfilt
from scipy.signal import resample as resample_fourier

from ..._utils.validation import check_choice, check_number
from .filtering import apply_filter
from .resampling import rate_ratio, resample

RATES = (16000, 22050, 24000, 32000, 44100, 48000)
BIT_DEPTHS = (16, 24, 32)
_FRAME_SECONDS = 0.01
# Full scale is left to this peak, so that a resampler cannot overshoot it by much.
_MAX_PEAK = 0.99
# The tilt turns about this frequency.
_TILT_HZ = 1000.0
# Frequencies of the gains of a response, an octave apart.
_RESPONSE_HZ = 125.0 * 2.0 ** np.arange(7)
# Length of its filter, and of the spectrum from which that is computed.
_N_RESPONSE_TAPS, _N_FFT = 256, 2048
# The low cut of microphones, recorders and telephones. The edit 'high_pass' starts above it.
_LOW_CUT_HZ, _LOW_CUT_ORDERS = (50.0, 160.0), (1, 2, 4)


def _short_sinc(waveform: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    """Resample by scipy's default filter, which lets some frequencies above the lower Nyquist frequency through."""
    return resample_poly(waveform, *rate_ratio(old_rate, new_rate))


def _soft_sinc(waveform: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    """Resample by a windowed sinc of six zero crossings, the default of torchaudio, which attenuates early."""
    up, down = rate_ratio(old_rate, new_rate)
    factor = max(up, down)
    return resample_poly(waveform, up, down, window=firwin(12 * factor + 1, 0.99 / factor, window="hann"))


def _fourier(waveform: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    """Resample the spectrum of the whole clip, which ends abruptly at the lower Nyquist frequency."""
    up, down = rate_ratio(old_rate, new_rate)
    return resample_fourier(waveform, -(-len(waveform) * up // down))


def _linear(waveform: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    """Resample by straight lines between samples, as simple recorders and browsers do."""
    up, down = rate_ratio(old_rate, new_rate)
    times = np.arange(-(-len(waveform) * up // down)) * (down / up)
    return np.interp(times, np.arange(len(waveform)), waveform)


RESAMPLERS = {
    "polyphase": resample,
    "short_sinc": _short_sinc,
    "soft_sinc": _soft_sinc,
    "fourier": _fourier,
    "linear": _linear,
}


@dataclass(frozen=True)
class Acquisition:  # numpydoc ignore=PR02
    """Recording and storage of a clip.

    A clip is first recorded (low cut, tilt, response, compression and gate, at the recorded rate), then edited, if at
    all, and then stored (at the stored rate, in a bit depth). Both rates are converted back by the filter that reads
    files.

    Parameters
    ----------
    low_cut : float or None, default=None
        Frequency in Hz below which a microphone attenuates, by a Butterworth filter; None is no low cut.
    low_cut_order : int, default=2
        Order of that filter, from 1 to 8: 6 dB per octave each.
    tilt : float, default=0.0
        Change of the level from the low to the high frequencies in dB, as between two microphones.
    response : tuple of 7 floats or (), default=()
        Approximate gains of a microphone in dB at the octaves from 125 Hz to 8 kHz, with a smooth curve between them;
        () is flat.
    compression : float, default=1.0
        Ratio by which levels above the average level are reduced; 1 is no compression.
    gate : float, default=0.0
        Attenuation of pauses in dB; 0 is no gate.
    recorded_rate, stored_rate : int or None, default=None
        Sample rates in Hz; None is that of the clip.
    recorded_by, stored_by : {'polyphase', 'short_sinc', 'soft_sinc', 'fourier', 'linear'}, default='polyphase'
        Resamplers from the rate of the clip to the other one.
    gain : float, default=0.0
        Change of the level before samples are stored, in dB.
    bit_depth : {16, 24, 32}, default=16
        Bits of a stored sample; 32 is floating-point.
    has_dither : bool, default=False
        Whether triangular noise of one step is added before samples are rounded.
    is_inverted : bool, default=False
        Whether the polarity is inverted.
    offset : float, default=0.0
        Constant offset of the stored samples, at full scale 1.
    """

    low_cut: float | None = None
    low_cut_order: int = 2
    tilt: float = 0.0
    response: tuple[float, ...] = ()
    compression: float = 1.0
    gate: float = 0.0
    recorded_rate: int | None = None
    recorded_by: str = "polyphase"
    stored_rate: int | None = None
    stored_by: str = "polyphase"
    gain: float = 0.0
    bit_depth: int = 16
    has_dither: bool = False
    is_inverted: bool = False
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.low_cut is not None:
            check_number("low_cut", self.low_cut, low=1, high=1000)
        check_number("low_cut_order", self.low_cut_order, low=1, high=8, integer=True)
        check_number("tilt", self.tilt, low=-24, high=24)
        if not isinstance(self.response, tuple | list) or len(self.response) not in (0, len(_RESPONSE_HZ)):
            raise ValueError(f"response={self.response!r} must be a tuple of {len(_RESPONSE_HZ)} gains in dB, or ().")
        object.__setattr__(self, "response", tuple(self.response))  # JSON has no tuples.
        for gain in self.response:
            check_number("response", gain, low=-24, high=24)
        check_number("compression", self.compression, low=1, high=100)
        check_number("gate", self.gate, high=100)
        check_number("gain", self.gain, low=-60, high=60)
        check_number("offset", self.offset, low=-0.5, high=0.5)
        check_choice("bit_depth", self.bit_depth, BIT_DEPTHS)
        for name in ("recorded_rate", "stored_rate"):
            if (rate := getattr(self, name)) is not None:
                check_number(name, rate, low=8000, high=192000, integer=True)
        for name in ("recorded_by", "stored_by"):
            check_choice(name, getattr(self, name), RESAMPLERS)

    def record(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Apply what happens before any edit.

        Parameters
        ----------
        waveform : float32 ndarray of shape (n_samples,)
            The clip.
        sample_rate : int
            Its rate in Hz.

        Returns
        -------
        float32 ndarray of shape (n_samples,)
            The recorded clip.
        """
        recorded = _tilt(self._cut_low(waveform, sample_rate), sample_rate, self.tilt)
        if self.response:
            recorded = apply_filter(recorded, _response_taps(self.response, sample_rate))
        recorded = _change_dynamics(recorded, sample_rate, self.compression, self.gate)
        return _there_and_back(recorded, sample_rate, self.recorded_rate, self.recorded_by)

    def store(self, waveform: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        """Apply what happens after all edits.

        Parameters
        ----------
        waveform : float32 ndarray of shape (n_samples,)
            The clip, with a peak below full scale.
        sample_rate : int
            Its rate in Hz.
        rng : numpy.random.Generator
            Source of the dither.

        Returns
        -------
        float32 ndarray of shape (n_samples,)
            The clip as it is read from its file.
        """
        factor = (-1.0 if self.is_inverted else 1.0) * 10 ** (self.gain / 20)
        rate = self.stored_rate or sample_rate
        stored = factor * RESAMPLERS[self.stored_by](waveform, sample_rate, rate) + self.offset
        stored *= min(1.0, _MAX_PEAK / max(float(np.abs(stored).max()), 1e-9))
        if self.bit_depth < 32:
            n_steps = 2 ** (self.bit_depth - 1)
            # The difference of two uniform draws is triangular.
            halves = rng.random((2, len(stored)), np.float32) if self.has_dither else np.zeros((2, 1), np.float32)
            stored = np.round(stored * n_steps + (halves[0] - halves[1])) / n_steps
        return resample(stored.astype(np.float32), rate, sample_rate)[: len(waveform)]

    def _cut_low(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        if self.low_cut is None:
            return waveform
        sections = butter(self.low_cut_order, self.low_cut, "highpass", fs=sample_rate, output="sos")
        return sosfilt(sections, waveform).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters."""
        return asdict(self)


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """Draw how a clip was recorded and stored; the probabilities and ranges are ours.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Acquisition
        The parameters.
    """
    resamplers = list(RESAMPLERS)
    low_cut = float(np.exp(rng.uniform(*np.log(_LOW_CUT_HZ)))) if rng.random() < 0.5 else None
    return Acquisition(
        low_cut=low_cut,
        low_cut_order=int(rng.choice(_LOW_CUT_ORDERS)),
        tilt=float(rng.uniform(-4, 4)),
        response=tuple(rng.uniform(-3, 3, len(_RESPONSE_HZ)).tolist()) if rng.random() < 0.7 else (),
        compression=float(rng.uniform(1.2, 4)) if rng.random() < 0.3 else 1.0,
        gate=float(rng.uniform(6, 30)) if rng.random() < 0.15 else 0.0,
        recorded_rate=int(rng.choice(RATES)) if rng.random() < 0.5 else None,
        recorded_by=resamplers[rng.integers(len(resamplers))],
        stored_rate=int(rng.choice(RATES)) if rng.random() < 0.7 else None,
        stored_by=resamplers[rng.integers(len(resamplers))],
        gain=float(rng.uniform(-24, 0)) if rng.random() < 0.4 else 0.0,
        bit_depth=int(rng.choice(BIT_DEPTHS, p=(0.6, 0.2, 0.2))),
        has_dither=bool(rng.random() < 0.5),
        is_inverted=bool(rng.random() < 0.5),
        offset=float(rng.uniform(-0.02, 0.02)) if rng.random() < 0.2 else 0.0,
    )


def _there_and_back(waveform: np.ndarray, rate: int, other_rate: int | None, resampler: str) -> np.ndarray:
    """Convert a waveform to another rate by a resampler, and back by the filter that reads files."""
    if other_rate in (None, rate):
        return waveform
    there = RESAMPLERS[resampler](waveform, rate, other_rate).astype(np.float32)
    return resample(there, other_rate, rate)[: len(waveform)]


def _tilt(waveform: np.ndarray, rate: int, gain: float) -> np.ndarray:
    """Change the level by `gain` dB from low to high frequencies, through a first-order shelf."""
    if gain == 0:
        return waveform
    # Bilinear transform of (1 + s g) / (1 + s / g), with g the square root of the ratio of both levels.
    ratio, warped = 10 ** (gain / 40), np.tan(np.pi * _TILT_HZ / rate)
    numerator = np.array([ratio + warped, warped - ratio])
    denominator = np.array([1 / ratio + warped, warped - 1 / ratio])
    shelf = lfilter(numerator / denominator[0] / ratio, denominator / denominator[0], waveform)
    return shelf.astype(np.float32)


def _response_taps(gains: tuple[float, ...], rate: int) -> np.ndarray:
    """Return the minimum-phase filter of a response, by its cepstrum."""
    frequencies = np.fft.rfftfreq(_N_FFT, 1 / rate).clip(_RESPONSE_HZ[0], _RESPONSE_HZ[-1])
    curve = PchipInterpolator(np.log2(_RESPONSE_HZ), gains)(np.log2(frequencies)) * np.log(10) / 20
    cepstrum = np.fft.irfft(curve)
    cepstrum[1 : _N_FFT // 2] *= 2
    cepstrum[_N_FFT // 2 + 1 :] = 0
    return np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:_N_RESPONSE_TAPS].astype(np.float32)


def _change_dynamics(waveform: np.ndarray, rate: int, ratio: float, depth: float) -> np.ndarray:
    """Reduce levels above the average by a ratio, and attenuate pauses by `depth` dB."""
    if ratio == 1 and depth == 0:
        return waveform
    size = round(_FRAME_SECONDS * rate)
    n_frames = -(-len(waveform) // size)
    power = np.pad(waveform.astype(np.float64) ** 2, (0, n_frames * size - len(waveform))).reshape(n_frames, size)
    level = 10 * np.log10(uniform_filter1d(power.mean(axis=1), 3) + 1e-12)
    average = 10 * np.log10(float((waveform.astype(np.float64) ** 2).mean()) + 1e-12)
    gain = -(1 - 1 / ratio) * np.maximum(level - average, 0)
    if depth > 0:
        # The gate opens 20 dB below the average, and holds for a tenth of a second.
        is_open = maximum_filter1d(level > average - 20, 21)
        gain -= depth * ~is_open
    gain = uniform_filter1d(gain, 5)
    centres = (np.arange(n_frames) + 0.5) * size
    return (waveform * 10 ** (np.interp(np.arange(len(waveform)), centres, gain) / 20)).astype(np.float32)
