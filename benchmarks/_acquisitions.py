"""Acquisitions of the field benchmark: how unedited and edited clips reach a detector as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import soundfile
import soxr
from scipy.signal import resample_poly

RATE = 16_000
RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


class Acquisition(NamedTuple):
    """Acquisition of a 16 kHz clip as a file."""

    group: str
    write: Callable[[np.ndarray, Path], Path]  # from float32 samples and a path without suffix to the path
    codec: str | None = None  # label of its codec, if there is one

    @property
    def keeps_edits(self) -> bool:
        """Whether the file has all edits of a clip, and no more."""
        return self.codec is None and self.group != "length"


# Resamplers that training does not contain ----------------------------------------------------------


def by_soxr(waveform: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(waveform, RATE, rate, quality="HQ")


def by_scipy(waveform: np.ndarray, rate: int) -> np.ndarray:
    ratio = Fraction(rate, RATE)
    return resample_poly(waveform, ratio.numerator, ratio.denominator, window=("kaiser", 8.0)).astype(np.float32)


def by_ffmpeg(waveform: np.ndarray, rate: int) -> np.ndarray:
    resampler = av.AudioResampler("fltp", "mono", rate)
    frame = av.AudioFrame.from_ndarray(waveform[np.newaxis].astype(np.float32), "fltp", "mono")
    frame.sample_rate = RATE
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in frames])


RESAMPLERS = {"soxr": by_soxr, "scipy": by_scipy, "ffmpeg": by_ffmpeg}

# Files ----------------------------------------------------------------------------------------------


def as_sound(
    waveform: np.ndarray, path: Path, *, rate: int = RATE, by: str = "soxr", suffix: str = "wav", depth: str = "PCM_16"
) -> Path:
    """Write a file of samples at a rate."""
    target = path.with_suffix(f".{suffix}")
    resampled = waveform if rate == RATE else RESAMPLERS[by](waveform, rate)
    soundfile.write(target, np.clip(resampled, -1, 1), rate, subtype=depth)
    return target


def as_packets(waveform: np.ndarray, path: Path, *, suffix: str, codec: str, bitrate: int, rate: int) -> Path:
    """Write a compressed file by FFmpeg at a bit rate in kbit/s."""
    target = path.with_suffix(f".{suffix}")
    resampled = by_soxr(waveform, rate) if rate != RATE else waveform
    with av.open(str(target), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bitrate * 1000
        frame = av.AudioFrame.from_ndarray(resampled[np.newaxis].astype(np.float32), "fltp", "mono")
        frame.sample_rate = rate
        converter = av.AudioResampler(stream.format, stream.layout, rate, frame_size=stream.frame_size or 1024)
        for part in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return target


def changed(change: Callable[[np.ndarray], np.ndarray], waveform: np.ndarray, path: Path) -> Path:
    """Write a file of changed samples."""
    return as_sound(change(waveform).astype(np.float32), path)


def shortened(seconds: float, waveform: np.ndarray, path: Path) -> Path:
    """Write a file of the middle seconds of a clip."""
    n_samples = min(round(seconds * RATE), len(waveform))
    first = (len(waveform) - n_samples) // 2
    return as_sound(waveform[first : first + n_samples], path)


def stereo(waveform: np.ndarray, path: Path) -> Path:
    """Write a file of two equal channels at 44.1 kHz."""
    target = path.with_suffix(".wav")
    soundfile.write(target, np.repeat(by_soxr(waveform, 44_100)[:, None], 2, axis=1), 44_100, subtype="PCM_16")
    return target


def compressed(waveform: np.ndarray) -> np.ndarray:
    """Reduce the levels of 20 ms above -26 dBFS by a ratio of 3."""
    size = RATE // 50
    level = np.sqrt(np.convolve(waveform**2, np.ones(size) / size, "same") + 1e-10)
    return waveform * np.minimum(1, (0.05 / level) ** (2 / 3))


def gated(waveform: np.ndarray) -> np.ndarray:
    """Attenuate by 20 dB where the level of 40 ms is 25 dB below the average."""
    size = RATE // 25
    level = np.sqrt(np.convolve(waveform**2, np.ones(size) / size, "same") + 1e-10)
    is_closed = (level < waveform.std() * 10 ** (-25 / 20)).astype(float)
    return waveform * (1 - 0.9 * np.convolve(is_closed, np.ones(size) / size, "same"))


def lossy(label: str, name: str, bitrates: Sequence[int], **settings: Any) -> dict[str, Acquisition]:
    """Return acquisitions by a codec of FFmpeg at several bit rates."""
    return {
        f"{name} {bitrate}k": Acquisition("lossy", partial(as_packets, bitrate=bitrate, **settings), label)
        for bitrate in bitrates
    }


def by_telephone(subtype: str, waveform: np.ndarray, path: Path) -> Path:
    """Write a file at 8 kHz with a codec of fixed networks."""
    return as_sound(waveform, path, rate=8000, depth=subtype)


REFERENCE = "16 kHz"
ACQUISITIONS = {
    **{f"{rate / 1000:g} kHz": Acquisition("rate", partial(as_sound, rate=rate)) for rate in RATES},
    **{f"48 kHz by {name}": Acquisition("resampler", partial(as_sound, rate=48_000, by=name)) for name in RESAMPLERS},
    **{f"{seconds:g} s": Acquisition("length", partial(shortened, seconds)) for seconds in (0.5, 1, 2, 4)},
    "24 bit": Acquisition("format", partial(as_sound, depth="PCM_24")),
    "float": Acquisition("format", partial(as_sound, depth="FLOAT")),
    "FLAC": Acquisition("format", partial(as_sound, suffix="flac")),
    "AIFF": Acquisition("format", partial(as_sound, suffix="aiff")),
    "-20 dB": Acquisition("level", partial(changed, lambda waveform: waveform * 0.1)),
    "normalised": Acquisition("level", partial(changed, lambda waveform: waveform * (0.98 / np.abs(waveform).max()))),
    "inverted": Acquisition("level", partial(changed, np.negative)),
    "offset": Acquisition("level", partial(changed, lambda waveform: waveform * 0.9 + 0.02)),
    "stereo": Acquisition("channels", stereo),
    "compressor": Acquisition("processor", partial(changed, compressed)),
    "gate": Acquisition("processor", partial(changed, gated)),
    **lossy("mp3", "MP3", (64, 96, 128, 192), suffix="mp3", codec="libmp3lame", rate=44_100),
    **lossy("vorbis_aac", "AAC", (64, 96, 128, 192), suffix="m4a", codec="aac", rate=44_100),
    **lossy("opus", "Opus", (24, 32, 64, 96), suffix="opus", codec="libopus", rate=48_000),
    "Vorbis": Acquisition("lossy", partial(as_sound, rate=44_100, suffix="ogg", depth="VORBIS"), "vorbis_aac"),
    **lossy("telephone", "AMR", (5, 12), suffix="amr", codec="libopencore_amrnb", rate=8000),
    **{
        f"telephone, {name}": Acquisition("lossy", partial(by_telephone, subtype), "telephone")
        for name, subtype in (("A-law", "ALAW"), ("GSM", "GSM610"))
    },
}
