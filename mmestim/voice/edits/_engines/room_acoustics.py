"""Impulse responses of rooms, from the direct sound on, and their decay."""

from __future__ import annotations

import numpy as np

from ..._audio.reading import AudioError

_SPEED_OF_SOUND = 343.0  # m/s
# Decay of the amplitude over one reverberation time, as an exponent of e.
_DECAY = 3 * np.log(10)
#: Seconds that count as the direct sound.
DIRECT_SECONDS = 0.0025
# Image sources are computed up to this time or this fraction of the reverberation time; later they are dense as noise.
_EARLY_SECONDS, _EARLY_FRACTION = 0.05, 0.25


def image_source(
    rt60: float, size: list[float], source: list[float], receiver: list[float], seed: int, sample_rate: int
) -> np.ndarray:
    """Return the impulse response of a box: image sources, then noise at the level of the later images.

    J. B. Allen, D. A. Berkeley. Image method for efficiently simulating small-room acoustics. JASA 1979.
    E. A. Lehmann, A. M. Johansson. Diffuse reverberation model for efficient image-source simulation of
    room impulse responses. IEEE TASLP 2010.

    Parameters
    ----------
    rt60 : float
        Seconds in which the sound decays by 60 dB.
    size : list of float
        Length, width and height of the room in metres.
    source, receiver : list of float
        Positions of source and receiver in the room, in metres.
    seed : int
        Seed of the noise.
    sample_rate : int
        Sample rate in Hz.

    Returns
    -------
    ndarray of shape (n_samples,)
        Impulse response whose first sample, the direct sound, is 1.
    """
    direct = float(np.linalg.norm(np.subtract(source, receiver)))
    inside = all(0 < x < axis for position in (source, receiver) for x, axis in zip(position, size, strict=True))
    if not (inside and direct):
        raise ValueError(
            f"source={source!r} and receiver={receiver!r} must be two positions inside a room of size={size!r} metres."
        )
    volume, surface = np.prod(size), 2 * sum(np.prod(size) / np.array(size))
    # Eyring's formula. Walls invert the sign, because otherwise late reflections add up to a rumble.
    reflection = -np.exp(-4 * _DECAY * volume / (_SPEED_OF_SOUND * surface * rt60))
    n_early = round(min(_EARLY_SECONDS, _EARLY_FRACTION * rt60) * sample_rate)
    reach = direct + _SPEED_OF_SOUND * n_early / sample_rate
    squares, orders = zip(*(_images(*axis, reach) for axis in zip(size, source, receiver, strict=True)), strict=True)
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    order = orders[0][:, None, None] + orders[1][:, None] + orders[2]
    near = distance < reach
    distance, order = distance[near], order[near]
    at = np.floor((distance - direct) / _SPEED_OF_SOUND * sample_rate + 0.5).astype(np.intp)
    early = np.bincount(at, direct / distance * reflection**order, n_early + 1)[:n_early]
    # Each sample has as many images as there are rooms in a shell one sample thick, attenuated by 1 / distance.
    late = _noise(rt60, seed, sample_rate)[n_early:]
    late *= (
        np.sqrt(4 * np.pi * _SPEED_OF_SOUND / sample_rate / volume)
        * direct
        * np.exp(-_DECAY * direct / _SPEED_OF_SOUND / rt60)
    )
    return _calibrated(np.concatenate([early, late]), rt60, sample_rate)


def decaying_noise(rt60: float, seed: int, sample_rate: int) -> np.ndarray:
    """Return an impulse of 1 and, from 2.5 ms on, noise that decays by 60 dB in `rt60` seconds."""
    response = _noise(rt60, seed, sample_rate)
    response[: round(DIRECT_SECONDS * sample_rate)] = 0
    response[0] = 1
    return _calibrated(response, rt60, sample_rate)


def aligned(response: np.ndarray, name: str, sample_rate: int) -> np.ndarray:
    """Return a measured response from its strongest sample on, scaled to 1; `name` names it in errors."""
    if not np.any(response):
        raise AudioError(name, "is silent. Leave it out.")
    peak = int(np.argmax(np.abs(response)))
    if not np.any(response[peak + round(DIRECT_SECONDS * sample_rate) :]):
        raise AudioError(
            name,
            f"has nothing after the {1000 * DIRECT_SECONDS:g} ms of its direct sound, so there is no "
            "reverberation to scale. Leave it out, or provide the whole response.",
        )
    return response[peak:] / np.float64(response[peak])


def with_direct_ratio(response: np.ndarray, ratio: float, sample_rate: int) -> np.ndarray:
    """Scale the tail of a response such that direct over reverberant energy is `ratio` dB."""
    direct, tail = np.split(response, [round(DIRECT_SECONDS * sample_rate)])
    scale = np.sqrt(np.sum(direct**2) / np.sum(tail**2)) * 10 ** (-ratio / 20)
    return np.concatenate([direct, tail * scale])


def reverberation_time(response: np.ndarray, sample_rate: int) -> float:
    """Return the reverberation time in seconds, from the decay between -5 and -35 dB (Schroeder's T30)."""
    remaining = np.cumsum(response[::-1] ** 2)[::-1]
    level = 10 * np.log10(np.maximum(remaining / remaining[0], 1e-12))
    first, last = np.searchsorted(-level, (5, 35))
    return -60 / np.polyfit(np.arange(first, last) / sample_rate, level[first:last], 1)[0]


def _images(size: float, source: float, receiver: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return squared distances of image sources along one axis, and their numbers of reflections."""
    n = np.arange(-int(reach / (2 * size)) - 1, int(reach / (2 * size)) + 2)[:, None]
    side = np.array([0, 1])
    distance = (1 - 2 * side) * source + 2 * n * size - receiver
    return distance.ravel() ** 2, (np.abs(n - side) + np.abs(n)).ravel()


def _noise(rt60: float, seed: int, sample_rate: int) -> np.ndarray:
    """Return noise that decays by 60 dB in `rt60` seconds."""
    n = max(8, round(rt60 * sample_rate))
    return np.random.default_rng(seed).standard_normal(n) * np.exp(-_DECAY / sample_rate / rt60 * np.arange(n))


def _calibrated(response: np.ndarray, rt60: float, sample_rate: int) -> np.ndarray:
    """Rescale the tail of a response so that its decay matches the requested RT60."""
    n_direct = round(DIRECT_SECONDS * sample_rate)
    tail = response[n_direct:]
    excess = 1 / reverberation_time(tail, sample_rate) - 1 / rt60
    tail *= np.exp(_DECAY * excess / sample_rate * np.arange(len(tail)))
    return response
