"""Impulse responses of rooms, from the direct sound on, and the decay of these."""

from __future__ import annotations

import numpy as np

from ..._audio.reading import AudioError

_SOUND = 343.0  # m/s
_DECAY = 3 * np.log(10)  # of amplitude, over a reverberation time
#: What comes within these seconds is the direct sound.
DIRECT_SECONDS = 0.0025
# Images of a source are counted for this long, or this part of the reverberation time; then they are as dense as noise.
_EARLY_SECONDS, _EARLY_PART = 0.05, 0.25


def image_source(
    rt60: float, size: list[float], source: list[float], receiver: list[float], seed: int, sample_rate: int
) -> np.ndarray:
    """Response of a box by images of the source, and then noise of the level that more of them would have.

    J. B. Allen, D. A. Berkeley. Image method for efficiently simulating small-room acoustics. JASA 1979.
    E. A. Lehmann, A. M. Johansson. Diffuse reverberation model for efficient image-source simulation of
    room impulse responses. IEEE TASLP 2010.

    Parameters
    ----------
    rt60 : float
        Seconds in which the sound decays by 60 dB.
    size : list of float
        Length, width and height, in metres.
    source, receiver : list of float
        Where they are in the box, in metres.
    seed : int
        Of the noise.
    sample_rate : int
        In Hz.

    Returns
    -------
    ndarray of shape (n_samples,)
        Its first sample, the direct sound, is 1.
    """
    direct = float(np.linalg.norm(np.subtract(source, receiver)))
    inside = all(0 < x < axis for place in (source, receiver) for x, axis in zip(place, size, strict=True))
    if not (inside and direct):
        raise ValueError(
            f"source={source!r} and receiver={receiver!r} must be two places inside a room of size={size!r} metres."
        )
    volume, surface = np.prod(size), 2 * sum(np.prod(size) / np.array(size))
    # Eyring's formula. Walls reflect with the sign turned, or else all that comes late adds up to a rumble.
    reflection = -np.exp(-4 * _DECAY * volume / (_SOUND * surface * rt60))
    n_early = round(min(_EARLY_SECONDS, _EARLY_PART * rt60) * sample_rate)
    reach = direct + _SOUND * n_early / sample_rate
    squares, orders = zip(*(_images(*axis, reach) for axis in zip(size, source, receiver, strict=True)), strict=True)
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    order = orders[0][:, None, None] + orders[1][:, None] + orders[2]
    near = distance < reach
    distance, order = distance[near], order[near]
    at = np.floor((distance - direct) / _SOUND * sample_rate + 0.5).astype(np.intp)
    early = np.bincount(at, direct / distance * reflection**order, n_early + 1)[:n_early]
    # As many images come with each sample as there are rooms in a shell one sample thick, each less by 1 / distance.
    late = _noise(rt60, seed, sample_rate)[n_early:]
    late *= np.sqrt(4 * np.pi * _SOUND / sample_rate / volume) * direct * np.exp(-_DECAY * direct / _SOUND / rt60)
    return _calibrated(np.concatenate([early, late]), rt60, sample_rate)


def decaying_noise(rt60: float, seed: int, sample_rate: int) -> np.ndarray:
    """One, and from 2.5 ms on noise that decays by 60 dB in `rt60` seconds."""
    response = _noise(rt60, seed, sample_rate)
    response[: round(DIRECT_SECONDS * sample_rate)] = 0
    response[0] = 1
    return _calibrated(response, rt60, sample_rate)


def aligned(response: np.ndarray, name: str, sample_rate: int) -> np.ndarray:
    """A measured response from its strongest sample on, which becomes 1; `name` is what errors call it."""
    if not np.any(response):
        raise AudioError(name, "is silent. Leave it out.")
    peak = int(np.argmax(np.abs(response)))
    if not np.any(response[peak + round(DIRECT_SECONDS * sample_rate) :]):
        raise AudioError(
            name,
            f"has nothing after the {1000 * DIRECT_SECONDS:g} ms of its direct sound, so there is no "
            "reverberation to scale. Leave it out, or give all of it.",
        )
    return response[peak:] / np.float64(response[peak])


def with_direct_ratio(response: np.ndarray, ratio: float, sample_rate: int) -> np.ndarray:
    """The response with what follows the direct sound scaled to `ratio` dB of direct over reverberant energy."""
    direct, tail = np.split(response, [round(DIRECT_SECONDS * sample_rate)])
    scale = np.sqrt(np.sum(direct**2) / np.sum(tail**2)) * 10 ** (-ratio / 20)
    return np.concatenate([direct, tail * scale])


def reverberation_time(response: np.ndarray, sample_rate: int) -> float:
    """Seconds for 60 dB, from how the energy still to come falls from -5 to -35 dB (Schroeder's T30)."""
    left = np.cumsum(response[::-1] ** 2)[::-1]
    level = 10 * np.log10(np.maximum(left / left[0], 1e-12))
    first, last = np.searchsorted(-level, (5, 35))
    return -60 / np.polyfit(np.arange(first, last) / sample_rate, level[first:last], 1)[0]


def _images(size, source, receiver, reach):
    """Squared distances along one axis, and how many walls were met."""
    n = np.arange(-int(reach / (2 * size)) - 1, int(reach / (2 * size)) + 2)[:, None]
    side = np.array([0, 1])
    distance = (1 - 2 * side) * source + 2 * n * size - receiver
    return distance.ravel() ** 2, (np.abs(n - side) + np.abs(n)).ravel()


def _noise(rt60, seed, sample_rate):
    n = max(8, round(rt60 * sample_rate))
    return np.random.default_rng(seed).standard_normal(n) * np.exp(-_DECAY / sample_rate / rt60 * np.arange(n))


def _calibrated(response, rt60, sample_rate):
    """What follows the direct sound decays as promised, whatever the dice and the shape of the room did."""
    n_direct = round(DIRECT_SECONDS * sample_rate)
    tail = response[n_direct:]
    excess = 1 / reverberation_time(tail, sample_rate) - 1 / rt60
    tail *= np.exp(_DECAY * excess / sample_rate * np.arange(len(tail)))
    return response
