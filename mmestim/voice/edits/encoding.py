"""Edits by lossy codecs: MP3, Opus, Vorbis and AAC, and the codecs of telephones."""

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
# Sample rates of each generation of MPEG audio, and its mono bitrates in LAME, in kbps.
_MP3_BITRATES = {
    (8000, 11025, 12000): (8, 16, 24, 32, 40, 48, 56, 64),
    (16000, 22050, 24000): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32000, 44100, 48000): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_OPUS_COMPLEXITY = 10  # the highest
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Units of FFmpeg's `global_quality` for a Vorbis quality of 1.
_LAMBDA = 118


class _Encoding(Effect):
    """Base class of the edits by a codec."""

    # Parameters that apply only with one value of another parameter: {"level": ("codec", "vorbis")}.
    only_with: ClassVar[Mapping[str, tuple[str, str]]] = {}
    # Returns the codec for the rate of a clip and the parameters, and the rate at which it codes.
    _codec: Callable[..., tuple[Codec, int]]

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        drawn = super().draw(rng, duration, sample_rate, ranges, pool)
        unused = [name for name, (other, value) in self.only_with.items() if drawn.get(other) != value]
        return {name: value for name, value in drawn.items() if name not in unused}

    def process(self, waveform: np.ndarray, sample_rate: int, pool: AudioPool, **parameters: Any) -> np.ndarray:
        return round_trip(waveform, sample_rate, *self._codec(sample_rate, **parameters))


class _FileEncoding(_Encoding):
    """Base class of the edits by a codec of files.

    A clip is resampled to the `stream_rate` in Hz, by default its own, and coded at the next rate that the codec has.
    """

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        stream_rate: int | None = None,
        **parameters: Any,
    ) -> np.ndarray:
        if stream_rate is None:
            stream_rate = sample_rate
        else:
            check_number("stream_rate", stream_rate, low=8000, high=48000, integer=True)
        return round_trip(waveform, sample_rate, *self._codec(stream_rate, **parameters))


class MP3(_FileEncoding):
    """Round trip through an MP3 file, encoded by LAME.

    `bitrate` is in kbps. With ``mode="constant"`` LAME keeps to it; with ``"average"`` a few seconds of speech
    come within 5 kbps of it. Both engines encode by LAME; ``"av"`` decodes by FFmpeg's own decoder, ``"soundfile"``
    by mpg123. Clips are coded at the next rate that has the bitrate: below 32 kbps at no more than 24 kHz.

    LAME removes all frequencies above a limit that depends on the bitrate. At a sample rate of 16 kHz the limit is
    3.0 kHz at 8 kbps, 5.5 kHz at 16, 5.8 kHz at 24, and 7.2 kHz from 32 kbps on.
    """

    name = "mp3"

    def _codec(
        self, sample_rate: int, *, bitrate: int, mode: str = "average", engine: str = "soundfile"
    ) -> tuple[Codec, int]:
        check_choice("mode", mode, ("average", "constant"))
        check_choice("engine", engine, _ENGINES)
        bitrates = {rate: kbps for rates, kbps in _MP3_BITRATES.items() for rate in rates if bitrate in kbps}
        if not bitrates:
            all_bitrates = sorted({kbps for group in _MP3_BITRATES.values() for kbps in group})
            raise ValueError(
                f"bitrate={bitrate!r} kbps does not exist in MP3. Use one of {', '.join(map(str, all_bitrates))}."
            )
        stream_rate = _next_rate(sample_rate, bitrates)
        if engine == "av":
            abr = str(int(mode == "average"))
            return partial(by_av, encoder="libmp3lame", decoder="mp3float", bitrate=bitrate, abr=abr), stream_rate
        # Level 0 of libsndfile is the highest bitrate and 1 the lowest; bitrates between are rounded down.
        low, high = bitrates[stream_rate][0], bitrates[stream_rate][-1]
        level = max(0.0, (high - bitrate - 0.5) / (high - low))
        return partial(
            by_soundfile, container="MP3", subtype="MPEG_LAYER_III", level=level, mode=mode.upper()
        ), stream_rate


class Opus(_FileEncoding):
    """Round trip through an Opus stream, encoded by libopus.

    `bitrate` is the mean that libopus aims at, in kbps; a few seconds of speech come within 20 % of it. Below 9 kbps
    only the lower 4 kHz are coded, as libopus itself would decide.

    ``engine="av"`` is libopus 1.6, tuned for calls and decoded by FFmpeg's own decoder. Its `complexity` goes from 0,
    the fastest, to 10, the default; WebRTC sets 5 on phones and 9 elsewhere. ``engine="soundfile"`` is an earlier
    libopus (1.4), which takes three times as long.
    """

    name = "opus"
    only_with: ClassVar = {"complexity": ("engine", "av")}

    def _codec(
        self, sample_rate: int, *, bitrate: float, engine: str = "av", complexity: int | None = None
    ) -> tuple[Codec, int]:
        check_choice("engine", engine, _ENGINES)
        check_number("bitrate", bitrate, low=6, high=256)
        stream_rate = 8000 if bitrate < 9 else _next_rate(sample_rate, _OPUS_RATES)
        if engine == "av":
            complexity = _OPUS_COMPLEXITY if complexity is None else complexity
            check_number("complexity", complexity, high=_OPUS_COMPLEXITY, integer=True)
            return partial(
                by_av,
                encoder="libopus",
                decoder="opus",
                sample_format="flt",
                bitrate=bitrate,
                application="voip",
                compression_level=str(complexity),
            ), stream_rate
        check_choice("complexity", complexity, (None,), ' with engine="soundfile"')
        level = 1 - (bitrate - 6) / 250  # In libsndfile levels 1 to 0 stand for 6 to 256 kbps.
        return partial(by_soundfile, container="OGG", subtype="OPUS", level=level), stream_rate


class VorbisAAC(_FileEncoding):
    """Round trip through a Vorbis or AAC file.

    The `level` of Vorbis goes from 0, the best quality, to 1. At a sample rate of 16 kHz, level 0.5 is 45 kbps and
    level 0.99 is 26 kbps. ``engine="av"`` is FFmpeg's own encoder, which shares no code with libvorbis: level 0.5 is
    49 kbps, level 0.95 is 9 kbps, and higher levels break down. It removes frequencies above 6.2 kHz.

    AAC is FFmpeg's encoder at a `bitrate` in kbps, and needs no `engine`. At a sample rate of 16 kHz it removes
    frequencies above 3.8 kHz at 16 kbps, and above 5.6 kHz at 20 kbps.
    """

    name = "vorbis_aac"
    only_with: ClassVar = {
        "level": ("codec", "vorbis"),
        "engine": ("codec", "vorbis"),
        "bitrate": ("codec", "aac"),
    }

    def _codec(
        self,
        sample_rate: int,
        *,
        codec: str,
        engine: str | None = None,
        level: float = math.nan,
        bitrate: float = math.nan,
    ) -> tuple[Codec, int]:
        check_choice("codec", codec, ("vorbis", "aac"))
        if codec == "aac":
            check_choice("engine", engine, (None, "av"))
            check_number("bitrate", bitrate, low=8, high=256)
            return partial(by_av, encoder="aac", decoder="aac", bitrate=bitrate), _next_rate(sample_rate, _AAC_RATES)
        check_choice("engine", engine, (None, *_ENGINES))
        check_number("level", level, high=1)
        if engine != "av":
            return partial(by_soundfile, container="OGG", subtype="VORBIS", level=level), sample_rate
        quality = str(round(10 * (1 - level) * _LAMBDA))
        # The encoder requires two channels; an identical second channel costs almost nothing.
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
_TELEPHONE: dict[str, Codec] = {
    **{
        name: partial(by_soundfile, container="WAV", subtype=subtype)
        for name, subtype in {"alaw": "ALAW", "mulaw": "ULAW", "gsm": "GSM610", "g721": "G721_32"}.items()
    },
    **{f"amr_nb_{kbps}": partial(_AMR, bitrate=kbps) for kbps in (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)},
    **{f"g726_{kbps}": partial(_G726, bitrate=kbps, code_size=str(kbps // 8)) for kbps in (16, 24, 32, 40)},
}


class Telephone(_Encoding):
    """Round trip through a telephone network: 8000 samples a second, so nothing above 4 kHz, and its codec.

    The `codec` is ``alaw`` or ``mulaw`` (64 kbps), ``gsm`` (GSM 6.10, 13 kbps), ``g721`` (32 kbps), or one of
    ``g726_16`` to ``g726_40`` and ``amr_nb_4.75`` to ``amr_nb_12.2``, named by kbps.
    """

    name = "telephone"

    def _codec(self, sample_rate: int, *, codec: str) -> tuple[Codec, int]:
        check_choice("codec", codec, _TELEPHONE)
        return _TELEPHONE[codec], 8000


def _next_rate(sample_rate: int, rates: Iterable[int]) -> int:
    """Return the lowest of some rates that is not below the rate of a clip, else the highest."""
    return min((rate for rate in rates if rate >= sample_rate), default=max(rates))
