"""The voice edits as data: 6 categories, 21 labels, their ranges, and where these are from."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from .._utils.validation import check_number

CATEGORIES = ("source", "temporal", "modulation", "encoding", "spectral", "spatial")

# Ranges --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Between:  # numpydoc ignore=PR02
    """Numbers from `low` to `high`, drawn uniformly or by their logarithm.

    Parameters
    ----------
    low, high : float
        Ends of the range, both in it.
    log : bool, default=False
        Whether the logarithm is drawn uniformly; `low` is above 0 then.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            check_number(name, getattr(self, name), low=-float("inf"))
        if not -math.inf < self.low <= self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(
                f"{self!r}: low must be at most high, both finite{', and above 0 for a logarithm' * self.log}."
            )

    def draw(self, rng: np.random.Generator) -> float:
        """One of them."""
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def __contains__(self, value: Any) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class OneOf:  # numpydoc ignore=PR02
    """Any of some values.

    Parameters
    ----------
    values : tuple
        What JSON can hold, each as likely as the others.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, tuple):
            raise TypeError(f"{self!r}: values must be a tuple, of one for a single value: OneOf((value,)).")

    def draw(self, rng: np.random.Generator) -> Any:
        """One of them."""
        value = self.values[rng.integers(len(self.values))]
        return value.item() if isinstance(value, np.generic) else value  # for JSON

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))

    def __contains__(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Either:  # numpydoc ignore=PR02
    """Numbers of any of some ranges.

    Parameters
    ----------
    parts : tuple of Between
        The ranges, each as likely as the others.
    """

    parts: tuple[Between, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or not self.parts or {type(part) for part in self.parts} != {Between}:
            raise TypeError(f"{self!r}: parts must be a tuple of Between.")

    def draw(self, rng: np.random.Generator) -> float:
        """One of them."""
        return self.parts[rng.integers(len(self.parts))].draw(rng)

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))

    def __contains__(self, value: Any) -> bool:
        return any(value in part for part in self.parts)


@dataclass(frozen=True)
class FirstInstalled:  # numpydoc ignore=PR02
    """Of some engines the first whose package is installed.

    Parameters
    ----------
    engines : dict of str to (str or None)
        Names of engines, and of the module that each needs; None needs none.
    """

    engines: Mapping[str, str | None]

    def draw(self, rng: np.random.Generator) -> str:
        """Its name."""
        return self.first()

    def first(self) -> str:
        """Its name."""
        return next(name for name, package in self.engines.items() if not package or importlib.util.find_spec(package))

    def __str__(self) -> str:
        return " or else ".join(self.engines)

    def __contains__(self, value: Any) -> bool:
        return value in self.engines


Range = Between | OneOf | Either | FirstInstalled


def _signed(low: float, high: float) -> Either:
    return Either((Between(-high, -low), Between(low, high)))


# The table -----------------------------------------------------------------------------------------

# Length of the part that an edit of a whole clip is confined to where its scope is an interval.
INTERVAL_SECONDS = Between(0.5, 3.0)


@dataclass(frozen=True)
class EditInfo:  # numpydoc ignore=PR02
    """One label of the taxonomy.

    Parameters
    ----------
    name : str
        The label.
    category : str
        One of `CATEGORIES`.
    scopes : tuple of str
        Where it acts: on the whole ``clip``, in an ``interval`` of it, at a ``point``.
    imitates : str
        What people do.
    source : str
        Where the name and the ranges are from.
    ranges : dict of str to range
        Parameters to train on.
    held_out : dict of str to range
        Instead of these of the `ranges`: values kept for tests.
    implementation : dict of str to range
        Instead of these of the `ranges`: another implementation, kept for tests.
    """

    name: str
    category: str
    scopes: tuple[str, ...]
    imitates: str
    source: str = "our choice"
    ranges: Mapping[str, Range] = field(default_factory=dict)
    held_out: Mapping[str, Range] = field(default_factory=dict)
    implementation: Mapping[str, Range] = field(default_factory=dict)

    def variant(self, name: str) -> dict[str, Range]:
        """The ranges to draw from: ``train``, ``held_out`` or ``implementation``."""
        changes = {"train": {}, "held_out": self.held_out, "implementation": self.implementation}[name]
        return {**self.ranges, **changes}


_PAPER = "name and category: arXiv:2402.06304; ranges: our choice"
_NAME = "name: arXiv:2402.06304; place among its categories and ranges: our choice"
_EVERYWHERE = ("clip", "interval")
_STRETCHERS = FirstInstalled({"signalsmith": "python_stretch", "phase_vocoder": None})

_ROWS = [
    EditInfo("unaltered", "source", ("clip",), "human speech as it was recorded", _PAPER),
    EditInfo(
        "tts",
        "source",
        _EVERYWHERE,
        "speech from text, as a whole recording or a sentence put into one",
        _PAPER,
        {"length": Between(0.3, 3.0), "fade": Between(0.0, 0.01)},
        held_out={"fade": OneOf((0.02,))},
    ),
    EditInfo(
        "vc",
        "source",
        _EVERYWHERE,
        "a voice turned into another's, as a whole recording or a passage",
        _PAPER,
        {"length": Between(0.3, 3.0), "fade": Between(0.0, 0.01)},
        held_out={"fade": OneOf((0.02,))},
    ),
    EditInfo(
        "cut",
        "temporal",
        ("point",),
        "words taken out",
        _PAPER,
        {"n_cuts": OneOf((1, 2, 3)), "length": Between(0.1, 1.5), "fade": Between(0.0, 0.01), "place": OneOf(("any",))},
        held_out={"fade": OneOf((0.02,)), "place": OneOf(("pause",))},
    ),
    EditInfo(
        "paste",
        "temporal",
        ("interval",),
        "a passage put in from elsewhere in the recording",
        _PAPER,
        {"length": Between(0.25, 1.2), "fade": Between(0.0, 0.01), "origin": OneOf(("clip",))},
        # Of any other clip of the speaker: corpora do not say which are of another session.
        held_out={"origin": OneOf(("speaker",))},
    ),
    EditInfo(
        "mix",
        "temporal",
        ("interval",),
        "another voice laid over",
        _PAPER,
        {"length": Between(0.5, 3.0), "snr": Between(-5.0, 15.0)},
        # Another language would be a harder test, and needs voices that say theirs.
        held_out={"snr": Between(15.0, 20.0)},
    ),
    EditInfo(
        "pitch_shift",
        "modulation",
        _EVERYWHERE,
        "a voice made higher or lower at the same speed",
        _PAPER,
        {"semitones": _signed(0.75, 4.0), "engine": _STRETCHERS},
        held_out={"semitones": _signed(0.5, 0.5)},
        implementation={"engine": OneOf(("phase_vocoder",))},
    ),
    EditInfo(
        "time_stretch",
        "modulation",
        _EVERYWHERE,
        "speech made slower or faster at the same pitch",
        _PAPER,
        {"rate": Either((Between(0.70, 0.92), Between(1.08, 1.5))), "engine": _STRETCHERS},
        held_out={"rate": OneOf((0.95, 1.05))},
        implementation={"engine": OneOf(("phase_vocoder",))},
    ),
    EditInfo(
        "speed_change",
        "modulation",
        _EVERYWHERE,
        "playback at another speed, pitch and all",
        _NAME,
        {"rate": Either((Between(0.75, 0.94), Between(1.06, 1.33))), "engine": OneOf(("polyphase",))},
        held_out={"rate": OneOf((0.97, 1.03))},
        implementation={"engine": OneOf(("soxr",))},
    ),
    EditInfo(
        "distortion",
        "modulation",
        _EVERYWHERE,
        "overdriven microphones and amplifiers",
        _NAME,
        {
            "kind": OneOf(("tanh", "clip")),
            "amount": Between(0.1, 0.7),
            "percentile": Between(2.0, 30.0),
            "bits": OneOf((6, 7, 8, 9, 10)),
        },
        held_out={"kind": OneOf(("bit_crush",))},
    ),
    EditInfo(
        "mp3",
        "encoding",
        ("clip",),
        "MP3 files",
        _NAME,
        {
            "bitrate": OneOf((8, 16, 24, 32, 40, 48, 56, 64)),
            "mode": OneOf(("average",)),
            "engine": OneOf(("soundfile",)),
        },
        held_out={"bitrate": OneOf((96,))},
        implementation={"mode": OneOf(("constant",)), "engine": OneOf(("av",))},
    ),
    EditInfo(
        "opus",
        "encoding",
        ("clip",),
        "messengers and calls over the internet",
        _NAME,
        {"bitrate": Between(6.0, 32.0, log=True), "engine": OneOf(("soundfile",))},
        held_out={"bitrate": OneOf((48.0,))},
        implementation={"engine": OneOf(("av",))},
    ),
    EditInfo(
        "vorbis_aac",
        "encoding",
        ("clip",),
        "files of streaming services and phones",
        _NAME,
        {"codec": OneOf(("vorbis",)), "level": Between(0.5, 0.99), "engine": OneOf(("soundfile",))},
        # Above .95 FFmpeg's own Vorbis falls apart.
        implementation={
            "codec": OneOf(("vorbis", "aac")),
            "level": Between(0.5, 0.95),
            "bitrate": OneOf((16, 24, 32, 40, 48)),
            "engine": OneOf(("av",)),
        },
    ),
    EditInfo(
        "telephone",
        "encoding",
        ("clip",),
        "calls over fixed and mobile networks",
        _NAME,
        {"codec": OneOf(("alaw", "mulaw", "gsm", "g721")), "engine": OneOf(("soundfile",))},
        implementation={
            "codec": OneOf(("amr_nb_4.75", "amr_nb_7.4", "amr_nb_12.2", "g726_16", "g726_24")),
            "engine": OneOf(("av",)),
        },
    ),
    EditInfo(
        "low_pass",
        "spectral",
        _EVERYWHERE,
        "dull recordings, muffled voices",
        _PAPER,
        {
            "cutoff": Between(1000.0, 3800.0, log=True),
            "slope": OneOf((12, 24, 36, 48)),
            "family": OneOf(("butterworth",)),
        },
        # With 12 dB all but the last would be one pole, as the first family is.
        implementation={"family": OneOf(("chebyshev", "elliptic", "bessel", "fir")), "slope": OneOf((24, 36, 48))},
    ),
    EditInfo(
        "high_pass",
        "spectral",
        _EVERYWHERE,
        "thin recordings, rumble taken out",
        _PAPER,
        {
            "cutoff": Between(250.0, 2400.0, log=True),
            "slope": OneOf((12, 24, 36, 48)),
            "family": OneOf(("butterworth",)),
        },
        implementation={"family": OneOf(("fir",))},
    ),
    EditInfo(
        "equalizer",
        "spectral",
        _EVERYWHERE,
        "tone controls",
        _PAPER,
        {
            "n_bands": OneOf((3, 4, 5, 6, 7)),
            "frequency": Between(100.0, 6000.0, log=True),
            "gain": _signed(6.0, 12.0),
            "q": Between(0.7, 2.0, log=True),
        },
        held_out={"n_bands": OneOf((1,)), "frequency": Between(300.0, 3000.0, log=True)},  # a notch
    ),
    EditInfo(
        "autotune",
        "spectral",
        _EVERYWHERE,
        "pitch drawn to the notes of a scale",
        _PAPER,
        {"scale": OneOf(("chromatic", "major", "minor")), "strength": Between(0.7, 1.0), "glide": Between(0.0, 0.04)},
        held_out={"scale": OneOf(("pentatonic",))},
    ),
    EditInfo(
        "reverb",
        "spatial",
        ("clip",),
        "rooms and halls",
        _NAME,
        {
            "kind": OneOf(("image_source", "decaying_noise", "measured")),
            "rt60": Between(0.25, 1.2, log=True),
            "direct_ratio": Between(-3.0, 9.0),
        },
        # Held out where training was given no measured responses, and so had none.
        implementation={"kind": OneOf(("measured",))},
    ),
    EditInfo(
        "echo",
        "spatial",
        _EVERYWHERE,
        "delays, natural or added",
        _NAME,
        {
            "delay": Either((Between(0.06, 0.09), Between(0.11, 0.35))),
            "gain": Between(0.2, 0.8),
            "n_taps": OneOf((1, 2, 3)),
        },
        held_out={"delay": OneOf((0.1,)), "n_taps": OneOf((1,))},
    ),
    EditInfo(
        "background_noise",
        "spatial",
        _EVERYWHERE,
        "noise of places and machines, added or there",
        _NAME,
        {"kind": OneOf(("white", "pink", "hum", "babble", "file")), "snr": Between(0.0, 20.0)},
        held_out={"snr": OneOf((25.0,))},
        implementation={"kind": OneOf(("brown", "impulsive"))},
    ),
]

#: Every label, by name, in the order of the taxonomy.
TAXONOMY: Mapping[str, EditInfo] = MappingProxyType({row.name: row for row in _ROWS})
LABELS = tuple(TAXONOMY)
