"""Lossy coding: MP3, Opus, Vorbis and AAC, and what telephones use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..._utils.validation import check_choice, check_number
from ..taxonomy import Range
from ._engines.codecs import Codec, by_av, by_soundfile, round_trip
from .base import AudioPool, Effect

_ENGINES = ("soundfile", "av")
# Rates of each generation of MPEG audio, and the kbps that LAME has for one channel there.
_MP3_BITRATES = {
    (8000, 11025, 12000): (8, 16, 24, 32, 40, 48, 56, 64),
    (16000, 22050, 24000): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32000, 44100, 48000): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Of Vorbis in FFmpeg, for a quality of 1.
_LAMBDA = 118


class _Encoding(Effect):
    """An edit by a codec."""

    # A parameter that only one value of another goes with: {"level": ("codec", "vorbis")}.
    only_with: ClassVar[Mapping[str, tuple[str, str]]] = {}
    # From the rate of a clip and the parameters to what codes it, and at which rate.
    _codec: Callable[..., tuple[Codec, int]]

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        drawn = super().draw(rng, duration, sample_rate, ranges, pool)
        needless = [name for name, (other, value) in self.only_with.items() if drawn.get(other) != value]
        return {name: value for name, value in drawn.items() if name not in needless}

    def process(self, waveform: np.ndarray, sample_rate: int, pool: AudioPool, **parameters: Any) -> np.ndarray:
        return round_trip(waveform, sample_rate, *self._codec(sample_rate, **parameters))


class MP3(_Encoding):
    """An MP3 file and back, by LAME.

    `bitrate` in kbps is what LAME is told: with ``mode="constant"`` it keeps to it, with ``"average"`` seconds
    of speech come within 5 kbps. Either engine is LAME; ``"av"`` decodes by FFmpeg's own decoder, ``"soundfile"``
    by mpg123. Clips are coded at the next rate that has the bitrate: below 32 kbps at no more than 24 kHz.

    LAME leaves out what is above a frequency that depends on the bitrate. At 16 kHz that is 3.0 kHz for 8 kbps,
    5.5 for 16, 5.8 for 24 and 7.2 from 32 on.
    """

    name = "mp3"

    def _codec(
        self, sample_rate: int, *, bitrate: int, mode: str = "average", engine: str = "soundfile"
    ) -> tuple[Codec, int]:
        check_choice("mode", mode, ("average", "constant"))
        check_choice("engine", engine, _ENGINES)
        bitrates = {rate: kbps for rates, kbps in _MP3_BITRATES.items() for rate in rates if bitrate in kbps}
        if not bitrates:
            known = sorted({kbps for group in _MP3_BITRATES.values() for kbps in group})
            raise ValueError(f"bitrate={bitrate!r} kbps is none that MP3 has. Use one of {', '.join(map(str, known))}.")
        stream_rate = _next_rate(sample_rate, bitrates)
        if engine == "av":
            abr = str(int(mode == "average"))
            return partial(by_av, encoder="libmp3lame", decoder="mp3float", bitrate=bitrate, abr=abr), stream_rate
        # libsndfile's level 0 is the highest and 1 the lowest bitrate; it rounds down what is between.
        low, high = bitrates[stream_rate][0], bitrates[stream_rate][-1]
        level = max(0.0, (high - bitrate - 0.5) / (high - low))
        return partial(
            by_soundfile, container="MP3", subtype="MPEG_LAYER_III", level=level, mode=mode.upper()
        ), stream_rate


class Opus(_Encoding):
    """An Opus stream and back, by libopus.

    `bitrate` is the mean that libopus aims at, in kbps; seconds of speech come within 20 %. Below 9 no more than the
    lower 4 kHz are coded, as libopus would itself decide. ``engine="av"`` is a later libopus (1.6 for 1.4) set for
    calls, decoded by FFmpeg's own decoder, and takes half the time.
    """

    name = "opus"

    def _codec(self, sample_rate: int, *, bitrate: float, engine: str = "soundfile") -> tuple[Codec, int]:
        check_choice("engine", engine, _ENGINES)
        check_number("bitrate", bitrate, low=6, high=256)
        stream_rate = 8000 if bitrate < 9 else _next_rate(sample_rate, _OPUS_RATES)
        if engine == "av":
            return partial(
                by_av, encoder="libopus", decoder="opus", sample_format="flt", bitrate=bitrate, application="voip"
            ), stream_rate
        level = 1 - (bitrate - 6) / 250  # libsndfile's way to write 6 to 256 kbps
        return partial(by_soundfile, container="OGG", subtype="OPUS", level=level), stream_rate


class VorbisAAC(_Encoding):
    """A Vorbis or AAC file and back.

    The `level` of Vorbis goes from 0, the best, to 1: at 16 kHz .5 is 45 and .99 is 26 kbps. ``engine="av"`` is an
    encoder that shares no code with libvorbis, the one of FFmpeg: .5 is 49, .95 is 9 kbps, and above it falls apart;
    it leaves out what is above 6.2 kHz. AAC is FFmpeg's encoder at a `bitrate` in kbps; 16 leave out what is above
    3.8 kHz, 20 above 5.6.
    """

    name = "vorbis_aac"
    only_with: ClassVar = {"level": ("codec", "vorbis"), "bitrate": ("codec", "aac")}

    def _codec(
        self,
        sample_rate: int,
        *,
        codec: str,
        engine: str = "soundfile",
        level: float = math.nan,
        bitrate: float = math.nan,
    ) -> tuple[Codec, int]:
        check_choice("codec", codec, ("vorbis", "aac"))
        check_choice("engine", engine, _ENGINES if codec == "vorbis" else ("av",))
        if codec == "aac":
            check_number("bitrate", bitrate, low=8, high=256)
            return partial(by_av, encoder="aac", decoder="aac", bitrate=bitrate), _next_rate(sample_rate, _AAC_RATES)
        check_number("level", level, high=1)
        if engine == "soundfile":
            return partial(by_soundfile, container="OGG", subtype="VORBIS", level=level), sample_rate
        quality = str(round(10 * (1 - level) * _LAMBDA))
        # It takes two channels only; the second, being the same, costs next to nothing.
        return partial(
            by_av,
            encoder="vorbis",
            decoder="vorbis",
            layout="stereo",
            strict="experimental",
            flags="+qscale",
            global_quality=quality,
        ), sample_rate


_AMR = partial(by_av, encoder="libopencore_amrnb", decoder="amrnb", sample_format="s16")
_G726 = partial(by_av, encoder="g726", decoder="g726", sample_format="s16")
_TELEPHONE: dict[str, dict[str, Codec]] = {
    "soundfile": {
        name: partial(by_soundfile, container="WAV", subtype=subtype)
        for name, subtype in {"alaw": "ALAW", "mulaw": "ULAW", "gsm": "GSM610", "g721": "G721_32"}.items()
    },
    "av": {f"amr_nb_{kbps}": partial(_AMR, bitrate=kbps) for kbps in (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)}
    | {f"g726_{kbps}": partial(_G726, bitrate=kbps, code_size=str(kbps // 8)) for kbps in (16, 24, 32, 40)},
}


class Telephone(_Encoding):
    """A call: 8000 samples a second, nothing above 4 kHz, and the codec of a telephone network.

    With ``engine="soundfile"`` the `codec` is ``alaw`` or ``mulaw`` (64 kbps), ``gsm`` (GSM 6.10, 13 kbps) or ``g721``
    (32 kbps); with ``"av"`` one of ``g726_16`` to ``g726_40`` and ``amr_nb_4.75`` to ``amr_nb_12.2``, named by kbps.
    """

    name = "telephone"

    def _codec(self, sample_rate: int, *, codec: str, engine: str = "soundfile") -> tuple[Codec, int]:
        check_choice("engine", engine, _ENGINES)
        check_choice("codec", codec, _TELEPHONE[engine])
        return _TELEPHONE[engine][codec], 8000


def _next_rate(sample_rate: int, rates: Iterable[int]) -> int:
    """Of some rates the lowest that holds all of a clip, else the highest."""
    return min((rate for rate in rates if rate >= sample_rate), default=max(rates))
