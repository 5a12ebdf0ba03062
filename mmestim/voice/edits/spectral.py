"""Edits of the spectrum: filters, tone controls, and pitch correction to a scale."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import fft, optimize, signal

from ..._utils.validation import check_choice, check_number
from ..taxonomy import INTERVAL_SECONDS, Range
from ._engines.autotune import SCALES, tune
from .base import AudioPool, Effect

# Highest frequency that is drawn, relative to half the sample rate; above it there is little to change.
_MAX_RELATIVE_FREQUENCY = 0.8
SLOPES = (12, 24, 36, 48)

# Filters -------------------------------------------------------------------------------------------

# Analogue prototypes by order. They are applied twice: with 2 x 0.5 dB of ripple and 2 x 30 dB of rejection.
_PROTOTYPES = {
    "butterworth": signal.buttap,
    "chebyshev": lambda order: signal.cheb1ap(order, 0.5),
    "elliptic": lambda order: signal.ellipap(order, 0.5, 30),
    "bessel": lambda order: signal.besselap(order, norm="mag"),
}
FAMILIES = (*_PROTOTYPES, "fir")


@lru_cache
def _prototype(family: str, order: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the power gain of a low-pass filter, which is the gain of two passes, and its -3 dB frequency.

    The gain is a ratio of two polynomials of the squared frequency.
    """
    *roots, gain = _PROTOTYPES[family](order)
    numerator, denominator = (np.real(np.poly(np.append(-np.square(r), []))) for r in roots)
    numerator = np.atleast_1d(numerator) * gain**2
    corner = optimize.brentq(
        lambda w: np.polyval(numerator, w * w) / np.polyval(denominator, w * w) - 0.5**0.5, 1e-2, 1e2
    )
    return numerator, denominator, corner


def _gain(family: str, slope: int, ratio: np.ndarray) -> np.ndarray:
    """Return the gain of a low-pass filter at frequencies given as a ratio to the cut-off."""
    if family == "fir":  # Flat up to the cut-off, then a straight line in dB per octave.
        power = slope / (20 * np.log10(2))
        return np.minimum(1, 0.5**0.5 * ratio**-power)
    numerator, denominator, corner = _prototype(family, slope // 12)
    squares = (corner * ratio) ** 2
    return np.polyval(numerator, squares) / np.polyval(denominator, squares)


class _Filter(Effect):
    """Filter without delay: -3 dB at `cutoff` Hz, then `slope` dB per octave up to half the sample rate."""

    low: bool

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        parameters = super().draw(rng, duration, sample_rate, ranges, pool)
        return parameters | {"cutoff": min(parameters["cutoff"], _MAX_RELATIVE_FREQUENCY * sample_rate / 2)}

    def process(
        self, waveform: np.ndarray, sample_rate: int, pool: AudioPool, *, cutoff: float, slope: int, family: str
    ) -> np.ndarray:
        check_frequency("cutoff", cutoff, sample_rate)
        check_choice("family", family, FAMILIES)
        if slope not in SLOPES:
            raise ValueError(f"slope={slope!r} must be one of {', '.join(map(str, SLOPES))} dB per octave.")

        def gain(frequencies: np.ndarray) -> np.ndarray:
            ratio = np.maximum(frequencies, 1e-3) / cutoff
            return _gain(family, slope, ratio if self.low else 1 / ratio)

        n, n_ring = len(waveform), round(16 * sample_rate / cutoff)  # The filter has decayed by then.
        n_pad = min(n_ring, n - 1)
        padded = np.pad(waveform, n_pad, "reflect", reflect_type="odd")
        if family == "fir":
            grid = np.linspace(0, sample_rate / 2, 1 + (1 << n_ring.bit_length()))
            taps = signal.firwin2(2 * n_ring + 1, grid, gain(grid), fs=sample_rate, window=("kaiser", 8.0))
            filtered = signal.oaconvolve(padded, taps.astype(np.float32), "same")
        else:
            # A recursive filter would not do: the bilinear transform distorts slopes far below half the rate.
            size = fft.next_fast_len(len(padded) + n_pad, real=True)
            spectrum = fft.rfft(padded, size)
            spectrum *= gain(fft.rfftfreq(size, 1 / sample_rate)).astype(np.float32)
            filtered = fft.irfft(spectrum, size)
        return np.ascontiguousarray(filtered[n_pad : n_pad + n])


class LowPass(_Filter):
    """A low-pass filter."""

    name = "low_pass"
    low = True


class HighPass(_Filter):
    """A high-pass filter."""

    name = "high_pass"
    low = False


# Tone controls -------------------------------------------------------------------------------------

BANDS = ("low_shelf", "peak", "high_shelf", "notch")
# Minimum distance of bands in octaves, so that no band cancels another.
_MIN_BAND_DISTANCE = 0.5
_DECAY_SECONDS = 0.02


def _biquads(
    kinds: list[str], frequencies: list[float], gains: list[float], qs: list[float], sample_rate: int
) -> np.ndarray:
    """Return second-order sections by R. Bristow-Johnson, with half the gain because they are applied twice."""
    if not len(kinds) == len(frequencies) == len(gains) == len(qs) > 0:
        raise ValueError(
            "kinds, frequencies, gains and qs must have one value for each band, and there must be a band."
        )
    sections = []
    for kind, frequency, gain, q in zip(kinds, frequencies, gains, qs, strict=True):
        check_choice("kinds", kind, BANDS)
        check_frequency("frequencies", frequency, sample_rate)
        check_number("qs", q, closed=False)
        w, a = 2 * np.pi * frequency / sample_rate, 10 ** (gain / 80)
        cos, alpha = np.cos(w), np.sin(w) / (2 * q)
        if kind == "peak":
            section = [1 + alpha * a, -2 * cos, 1 - alpha * a, 1 + alpha / a, -2 * cos, 1 - alpha / a]
        elif kind == "notch":
            alpha /= np.sqrt(1 + np.sqrt(2))  # Two passes then have the width of one.
            section = [1, -2 * cos, 1, 1 + alpha, -2 * cos, 1 - alpha]
        else:
            c, root = cos if kind == "low_shelf" else -cos, 2 * np.sqrt(a) * alpha
            up, down, sign = a + 1, a - 1, 1 if kind == "low_shelf" else -1
            section = [
                a * (up - down * c + root),
                sign * 2 * a * (down - up * c),
                a * (up - down * c - root),
                up + down * c + root,
                sign * -2 * (down + up * c),
                up + down * c - root,
            ]
        sections.append(np.divide(section, section[3]))
    return np.array(sections)


class Equalizer(Effect):
    """Equalizer of peaks and shelves in series, or of one notch, without delay."""

    name = "equalizer"

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        n_bands = int(ranges["n_bands"].draw(rng))
        frequencies, gains, qs = (
            [float(ranges[name].draw(rng)) for _ in range(n_bands)] for name in ("frequency", "gain", "q")
        )
        frequencies.sort()
        highest = _MAX_RELATIVE_FREQUENCY * sample_rate / 2
        for band in reversed(range(n_bands)):
            frequencies[band] = min(frequencies[band], highest)
            highest = frequencies[band] / 2**_MIN_BAND_DISTANCE
        shelves = rng.random(2) < 0.5
        kinds = ["peak"] * n_bands
        if n_bands == 1:
            kinds, gains = ["notch"], [0.0]
        else:
            kinds[0], kinds[-1] = np.where(shelves, ["low_shelf", "high_shelf"], "peak").tolist()
        bands = {"kinds": kinds, "frequencies": frequencies, "gains": gains, "qs": qs}
        return bands | super().draw(rng, duration, sample_rate, {}, pool)

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        kinds: list[str],
        frequencies: list[float],
        gains: list[float],
        qs: list[float],
    ) -> np.ndarray:
        sections = _biquads(kinds, frequencies, gains, qs, sample_rate)
        n_pad = min(len(waveform) - 1, round(_DECAY_SECONDS * sample_rate))
        return signal.sosfiltfilt(sections, waveform, padlen=n_pad).astype(np.float32)


# Pitch ---------------------------------------------------------------------------------------------


class Autotune(Effect):
    """Pitch correction to the nearest notes of a scale, by pitch-synchronous overlap-add."""

    name = "autotune"

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return duration >= INTERVAL_SECONDS.low

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        parameters = super().draw(rng, duration, sample_rate, ranges, pool)
        root = int(rng.integers(12))
        return parameters if parameters["scale"] == "chromatic" else parameters | {"root": root}

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        scale: str,
        strength: float,
        glide: float,
        root: int = 0,
    ) -> np.ndarray:
        check_choice("scale", scale, SCALES)
        check_number("strength", strength, high=1)
        check_number("glide", glide)
        return tune(waveform, sample_rate, SCALES[scale], root, strength, glide)


def check_frequency(name: str, frequency: float, sample_rate: int) -> None:
    """Raise a ValueError unless a frequency is between 0 and half the sample rate."""
    if not 0 < frequency < sample_rate / 2:
        raise ValueError(
            f"{name}={frequency!r} must be above 0 and below half the sample rate, {sample_rate / 2:g} Hz. Lower it, "
            "or edit at a higher sample rate."
        )
