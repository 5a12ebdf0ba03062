"""The voice edits as data: 6 categories, 21 labels, their properties, and the ranges of their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from .ranges import Between, Either, FirstInstalled, OneOf, Range, either_sign, one_of

CATEGORIES = ("source", "temporal", "modulation", "encoding", "spectral", "spatial")

#: Label of recordings that went through no edit.
UNALTERED = "unaltered"

#: Kinds of edits: whether they change what was said and by whom, or show how it was recorded or sent.
KINDS: tuple[Literal["changed content"], Literal["processing"]] = ("changed content", "processing")
CHANGED_CONTENT, PROCESSING = KINDS

# Length of the interval that an edit is confined to where it does not cover the whole clip.
INTERVAL_SECONDS = Between(0.5, 3.0)


@dataclass(frozen=True)
class EditInfo:  # numpydoc ignore=PR02
    """One label of the taxonomy.

    >>> from mmestim.voice import TAXONOMY
    >>> TAXONOMY["cut"].kind, TAXONOMY["cut"].scopes
    ('changed content', ('point',))

    The defaults describe the ordinary edit: it processes a whole clip or an interval of it.

    Parameters
    ----------
    name : str
        The label.
    category : str
        One of `CATEGORIES`.
    imitates : str
        The real-world practice that the edit imitates.
    ranges : dict of str to range
        Parameters to train on.
    held_out : dict of str to range
        Ranges that replace some of `ranges`: values reserved for tests.
    implementation : dict of str to range
        Ranges that replace some of `ranges`: another implementation, reserved for tests.
    scopes : tuple of str, default=('clip', 'interval')
        Where the edit acts: on the whole ``clip``, in an ``interval`` of it, at a ``point``.
    source : str, default='our choice'
        Origin of the name and of the ranges.
    is_spliced : bool, default=False
        Whether the borders of the edit are audible splice points.
    revealed_by : {'content', 'splice points'}, default='content'
        The evidence that shows the edit. Pasted speech, for example, sounds like its surroundings, so only its two
        splice points reveal it.
    is_synthetic : bool, default=False
        Whether the edit brings in synthetic speech.
    removes_high_frequencies : bool, default=False
        Whether a low-pass filtered copy of a clip may also carry the label.
    frame_weight : float, default=1.0
        Weight of the label's map in the loss of networks of frames.
    kind : {'changed content', 'processing', ''}, default='processing'
        Whether the edit changes what was said or by whom, or is a trace of how a recording was made or sent; empty for
        'unaltered'.
    plain_name : str, default=''
        Name for readers, such as ``background noise``; by default, the label with spaces.
    """

    name: str
    category: str
    imitates: str
    ranges: Mapping[str, Range] = field(default_factory=dict)
    held_out: Mapping[str, Range] = field(default_factory=dict)
    implementation: Mapping[str, Range] = field(default_factory=dict)
    scopes: tuple[str, ...] = ("clip", "interval")
    source: str = "our choice"
    is_spliced: bool = False
    revealed_by: Literal["content", "splice points"] = "content"
    is_synthetic: bool = False
    removes_high_frequencies: bool = False
    frame_weight: float = 1.0
    kind: Literal["changed content", "processing", ""] = PROCESSING
    plain_name: str = ""

    def __post_init__(self) -> None:
        if not self.plain_name:
            object.__setattr__(self, "plain_name", self.name.replace("_", " "))

    @property
    def acts_on(self) -> Literal["points", "intervals"]:
        """Kind of place that the edit leaves in a recording: ``'points'`` or ``'intervals'``."""
        return "points" if self.scopes == ("point",) else "intervals"

    @property
    def always_covers_clip(self) -> bool:
        """Whether the edit affects every moment of a clip."""
        return self.scopes == ("clip",)

    def variant(self, name: str) -> dict[str, Range]:
        """Return the ranges of a variant: ``train``, ``held_out`` or ``implementation``."""
        changes = {"train": {}, "held_out": self.held_out, "implementation": self.implementation}[name]
        return {**self.ranges, **changes}


# The table -----------------------------------------------------------------------------------------


def _row(
    category: str, name: str, imitates: str, ranges: Mapping[str, Range] | None = None, **properties: Any
) -> EditInfo:
    """Return a row with its category first, so that the table has one constructor per category."""
    return EditInfo(name, category, imitates, ranges or {}, **properties)


_source, _temporal, _modulation, _encoding, _spectral, _spatial = (partial(_row, category) for category in CATEGORIES)

_CLIP, _INTERVAL, _POINT = ("clip",), ("interval",), ("point",)
_PAPER = "name and category: arXiv:2402.06304; ranges: our choice"
_NAME = "name: arXiv:2402.06304; place among its categories and ranges: our choice"
_OURS = "categories: arXiv:2402.06304; name, place among them and ranges: our choice"
_STRETCHERS = FirstInstalled({"signalsmith": "python_stretch", "phase_vocoder": None})
_SLOPES = one_of(12, 24, 36, 48)
# Rates at which files are coded; None is the rate of the clip.
_STREAM_RATES = one_of(None, 24000, 44100, 48000)

_ROWS = [
    _source(UNALTERED, "human speech as it was recorded", scopes=_CLIP, source=_PAPER, kind=""),
    _source(
        "tts",
        "speech from text, as a whole recording or a sentence put into one",
        {"length": Between(0.3, 3.0), "fade": Between(0.0, 0.01)},
        held_out={"fade": one_of(0.02)},
        source=_PAPER,
        is_synthetic=True,
        kind=CHANGED_CONTENT,
        plain_name="synthetic speech",
    ),
    _source(
        "vc",
        "a voice turned into another's, as a whole recording or a segment",
        {"length": Between(0.3, 3.0), "fade": Between(0.0, 0.01)},
        held_out={"fade": one_of(0.02)},
        source=_PAPER,
        is_synthetic=True,
        kind=CHANGED_CONTENT,
        plain_name="voice conversion",
    ),
    _temporal(
        "cut",
        "words taken out",
        {"n_cuts": one_of(1, 2, 3), "length": Between(0.1, 1.5), "fade": Between(0.0, 0.01), "place": one_of("any")},
        held_out={"fade": one_of(0.02), "place": one_of("pause")},
        scopes=_POINT,
        source=_PAPER,
        is_spliced=True,
        revealed_by="splice points",
        kind=CHANGED_CONTENT,
    ),
    _temporal(
        "paste",
        "a segment pasted in from elsewhere in the recording",
        {"length": Between(0.25, 1.2), "fade": Between(0.0, 0.01), "origin": one_of("clip")},
        # Any other clip of the speaker, because corpora do not record which clips belong to another session.
        held_out={"origin": one_of("speaker")},
        scopes=_INTERVAL,
        source=_PAPER,
        is_spliced=True,
        revealed_by="splice points",
        kind=CHANGED_CONTENT,
    ),
    _temporal(
        "mix",
        "another voice laid over",
        {"length": Between(0.5, 3.0), "snr": Between(-5.0, 15.0)},
        # Another language would be a harder test, but needs voices with a known language.
        held_out={"snr": Between(15.0, 20.0)},
        scopes=_INTERVAL,
        source=_PAPER,
        is_spliced=True,
        # The clip statistics hardly react to an overlaid voice, so the frame map has to detect it.
        frame_weight=3.0,
        kind=CHANGED_CONTENT,
        plain_name="added voice",
    ),
    _modulation(
        "pitch_shift",
        "a voice made higher or lower at the same speed",
        {"semitones": either_sign(0.75, 4.0), "engine": _STRETCHERS},
        held_out={"semitones": either_sign(0.5, 0.5)},
        implementation={"engine": one_of("phase_vocoder")},
        source=_PAPER,
        kind=CHANGED_CONTENT,
    ),
    _modulation(
        "time_stretch",
        "speech made slower or faster at the same pitch",
        {"rate": Either((Between(0.70, 0.92), Between(1.08, 1.5))), "engine": _STRETCHERS},
        held_out={"rate": one_of(0.95, 1.05)},
        implementation={"engine": one_of("phase_vocoder")},
        source=_PAPER,
        kind=CHANGED_CONTENT,
    ),
    _modulation(
        "speed_change",
        "playback at another speed, pitch and all",
        {"rate": Either((Between(0.75, 0.94), Between(1.06, 1.33))), "engine": one_of("polyphase")},
        held_out={"rate": one_of(0.97, 1.03)},
        implementation={"engine": one_of("soxr")},
        source=_NAME,
        kind=CHANGED_CONTENT,
    ),
    _modulation(
        "distortion",
        "overdriven microphones and amplifiers",
        {
            "kind": one_of("tanh", "clip"),
            "amount": Between(0.1, 0.7),
            "percentile": Between(2.0, 30.0),
            "bits": one_of(6, 7, 8, 9, 10),
        },
        held_out={"kind": one_of("bit_crush")},
        source=_OURS,
    ),
    _encoding(
        "mp3",
        "MP3 files",
        {
            # Low bit rates are easy to recognise, and rare in files of today.
            "bitrate": one_of(8, 16, 24, 32, 48, 64, 64, 96, 96),
            "mode": one_of("average", "constant"),
            "engine": one_of("soundfile"),
            "stream_rate": _STREAM_RATES,
        },
        held_out={"bitrate": one_of(80)},
        implementation={"mode": one_of("constant"), "engine": one_of("av")},
        scopes=_CLIP,
        source=_OURS,
        plain_name="MP3",
    ),
    _encoding(
        "opus",
        "messengers and calls over the internet",
        {
            "bitrate": Between(6.0, 36.0, log=True),
            "engine": one_of("av"),
            "complexity": one_of(5, 5, 10),  # phones save processor time
            "stream_rate": one_of(None, 48000),
        },
        held_out={"bitrate": one_of(48.0)},
        implementation={"engine": one_of("soundfile")},
        scopes=_CLIP,
        source=_OURS,
        plain_name="Opus",
    ),
    _encoding(
        "vorbis_aac",
        "files of streaming services and phones",
        {
            "codec": one_of("vorbis", "aac"),
            "level": Between(0.5, 0.99),
            "bitrate": one_of(16, 24, 32, 48, 64, 96),
            "engine": one_of("soundfile"),
            "stream_rate": _STREAM_RATES,
        },
        # FFmpeg's own Vorbis encoder breaks down at levels above 0.95. There is no second encoder of AAC.
        implementation={"codec": one_of("vorbis"), "level": Between(0.5, 0.95), "engine": one_of("av")},
        scopes=_CLIP,
        source=_OURS,
        plain_name="Vorbis or AAC",
    ),
    _encoding(
        "telephone",
        "calls over fixed and mobile networks",
        {"codec": one_of("alaw", "mulaw", "gsm", "g721", "amr_nb_4.75", "amr_nb_5.9", "amr_nb_7.4", "amr_nb_12.2")},
        implementation={"codec": one_of("amr_nb_5.15", "amr_nb_6.7", "amr_nb_10.2", "g726_16", "g726_24")},
        scopes=_CLIP,
        source=_OURS,
        removes_high_frequencies=True,
    ),
    _spectral(
        "low_pass",
        "dull recordings, muffled voices",
        {"cutoff": Between(1000.0, 3800.0, log=True), "slope": _SLOPES, "family": one_of("butterworth")},
        # At 12 dB per octave every family but 'fir' would be a single pole, like the Butterworth filter of training.
        implementation={"family": one_of("chebyshev", "elliptic", "bessel", "fir"), "slope": one_of(24, 36, 48)},
        source=_PAPER,
        removes_high_frequencies=True,
        plain_name="low-pass filter",
    ),
    _spectral(
        "high_pass",
        "thin recordings, rumble taken out",
        {"cutoff": Between(250.0, 2400.0, log=True), "slope": _SLOPES, "family": one_of("butterworth")},
        implementation={"family": one_of("fir")},
        source=_PAPER,
        plain_name="high-pass filter",
    ),
    _spectral(
        "equalizer",
        "tone controls",
        {
            "n_bands": one_of(3, 4, 5, 6, 7),
            "frequency": Between(100.0, 6000.0, log=True),
            "gain": either_sign(6.0, 12.0),
            "q": Between(0.7, 2.0, log=True),
        },
        held_out={"n_bands": one_of(1), "frequency": Between(300.0, 3000.0, log=True)},  # A notch.
        source=_PAPER,
    ),
    _spectral(
        "autotune",
        "pitch drawn to the notes of a scale",
        {"scale": one_of("chromatic", "major", "minor"), "strength": Between(0.7, 1.0), "glide": Between(0.0, 0.04)},
        held_out={"scale": one_of("pentatonic")},
        source=_PAPER,
        kind=CHANGED_CONTENT,
    ),
    _spatial(
        "reverb",
        "rooms and halls",
        {
            "kind": one_of("image_source", "decaying_noise", "measured"),
            "rt60": Between(0.25, 1.2, log=True),
            "direct_ratio": Between(-3.0, 9.0),
        },
        # Reserved for tests only if training was given no measured responses.
        implementation={"kind": one_of("measured")},
        scopes=_CLIP,
        source=_NAME,
    ),
    _spatial(
        "echo",
        "delays, natural or added",
        {
            "delay": Either((Between(0.06, 0.09), Between(0.11, 0.35))),
            "gain": Between(0.2, 0.8),
            "n_taps": one_of(1, 2, 3),
        },
        held_out={"delay": one_of(0.1), "n_taps": one_of(1)},
        source=_OURS,
    ),
    _spatial(
        "background_noise",
        "noise of places and machines, natural or added",
        {"kind": one_of("white", "pink", "hum", "babble", "file"), "snr": Between(0.0, 20.0)},
        held_out={"snr": one_of(25.0)},
        implementation={"kind": one_of("brown", "impulsive")},
        source=_NAME,
    ),
]

#: Every label, by name, in the order of the taxonomy.
TAXONOMY: Mapping[str, EditInfo] = MappingProxyType({row.name: row for row in _ROWS})
LABELS = tuple(TAXONOMY)
#: Labels that name an edit.
EDIT_LABELS = tuple(label for label in LABELS if label != UNALTERED)
#: Labels whose borders are audible splice points.
SPLICED_LABELS = tuple(label for label, info in TAXONOMY.items() if info.is_spliced)
#: Labels of synthetic speech.
SYNTHETIC_LABELS = tuple(label for label, info in TAXONOMY.items() if info.is_synthetic)


def frame_weights(labels: Sequence[str]) -> list[float]:
    """Return the weight of each label's map in the loss of networks of frames; 1 for labels of other taxonomies."""
    return [TAXONOMY[label].frame_weight if label in TAXONOMY else 1.0 for label in labels]


__all__ = [
    "CATEGORIES",
    "CHANGED_CONTENT",
    "EDIT_LABELS",
    "INTERVAL_SECONDS",
    "KINDS",
    "LABELS",
    "PROCESSING",
    "SPLICED_LABELS",
    "SYNTHETIC_LABELS",
    "TAXONOMY",
    "UNALTERED",
    "Between",
    "EditInfo",
    "Either",
    "FirstInstalled",
    "OneOf",
    "Range",
    "frame_weights",
]
