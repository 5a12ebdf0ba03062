"""Round trips through real encoders and decoders, in memory and aligned with the input."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import av
import numpy as np
import soundfile

from ..._audio.resampling import resample

# libvorbis puts the samples of one call on the stack, and crashes if they do not fit.
_BLOCK = 16384
# Delay of encoder plus decoder in samples. LAME: 576 + 529; AMR: 5 ms of look-ahead.
_DELAYS = {"libmp3lame": 1105, "libopus": 312, "aac": 1024, "vorbis": 1024, "libopencore_amrnb": 40, "g726": 0}
# The delays of Opus and AMR vary by this much between their modes.
_SLACK_SECONDS = 0.00025


class Coded(NamedTuple):
    """Output of a codec."""

    waveform: np.ndarray  # Aligned to within a few samples.
    n_bytes: int  # Size of the encoded stream.


Codec = Callable[[np.ndarray, int], Coded]


def round_trip(waveform: np.ndarray, sample_rate: int, codec: Codec, stream_rate: int) -> np.ndarray:
    """Encode and decode a waveform; the result has the same length and is aligned with the input.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        Waveform, float32; it is not modified.
    sample_rate : int
        Sample rate of the waveform in Hz.
    codec : callable
        Function of a waveform without peaks above 1 and a rate that returns `Coded`.
    stream_rate : int
        Sample rate that the codec works at, in Hz.

    Returns
    -------
    ndarray of shape (n_samples,)
        Decoded waveform, float32.
    """
    stream = resample(waveform, sample_rate, stream_rate)
    scale = max(1.0, float(np.abs(stream).max(initial=0.0)))
    decoded = resample(codec(stream / scale, stream_rate).waveform * scale, stream_rate, sample_rate)
    return _aligned(decoded, waveform, round(_SLACK_SECONDS * sample_rate))


def _aligned(decoded: np.ndarray, waveform: np.ndarray, slack: int) -> np.ndarray:
    """Shift a decoded waveform by up to `slack` samples to where it is most similar to the original."""
    size = len(waveform)
    padded = np.zeros(size + 2 * slack, np.float32)
    padded[slack : slack + len(decoded)] = decoded[: size + slack]
    # Slopes are compared, because the high-pass filters of speech codecs shift the phase of the lowest tones.
    slope, slopes = np.diff(waveform), np.diff(padded)

    def similarity(shift: int) -> float:
        # A dot product would not do: its last bits may depend on the number of threads.
        return np.sum(slope * slopes[shift : shift + size - 1], dtype=np.float64)

    best, step = slack, 1 if similarity(slack + 1) > similarity(slack - 1) else -1
    while 0 <= best + step <= 2 * slack and similarity(best + step) > similarity(best):
        best += step
    return padded[best : best + size].copy()


def by_soundfile(
    waveform: np.ndarray,
    sample_rate: int,
    *,
    container: str,
    subtype: str,
    level: float | None = None,
    mode: str | None = None,
) -> Coded:
    """Encode and decode by one of libsndfile's codecs, named as in soundfile."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", sample_rate, 1, subtype, format=container, compression_level=level, bitrate_mode=mode
    ) as file:
        for start in range(0, len(waveform), _BLOCK):
            file.write(waveform[start : start + _BLOCK])
    n_bytes = len(buffer.getvalue())
    buffer.seek(0)
    decoded, _ = soundfile.read(buffer, dtype="float32")
    # MP3 files of a low constant bitrate have no room for the header by which a decoder removes the delay.
    delay = _DELAYS["libmp3lame"] if container == "MP3" and len(decoded) > len(waveform) else 0
    return Coded(decoded[delay:], n_bytes)


def by_av(
    waveform: np.ndarray,
    sample_rate: int,
    *,
    encoder: str,
    decoder: str,
    sample_format: str = "fltp",
    layout: str = "mono",
    bitrate: float | None = None,
    **options: str,
) -> Coded:
    """Encode and decode by FFmpeg, with the encoder's options named as on its command line."""
    try:
        context: Any = av.CodecContext.create(encoder, "w")
    except ValueError:
        raise ImportError(
            f"the PyAV installed has no encoder {encoder!r}; pip install --force-reinstall av installs one that has it."
        ) from None
    context.sample_rate, context.layout, context.format = sample_rate, layout, sample_format
    if bitrate is not None:
        context.bit_rate = round(1000 * bitrate)
    context.options = options
    frame = av.AudioFrame.from_ndarray(
        np.stack([waveform] * (2 if layout == "stereo" else 1)), format="fltp", layout=layout
    )
    frame.sample_rate, frame.pts = sample_rate, 0
    packets = context.encode(frame) + context.encode(None)
    n_bytes = sum(packet.size for packet in packets)
    frames = _decoded_frames(packets, context, decoder)
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    if decoded.dtype == np.int16:
        decoded = decoded / np.float32(32768)
    return Coded(resample(decoded[_DELAYS[encoder] :], frames[0].sample_rate, sample_rate), n_bytes)


def _decoded_frames(packets: list[Any], encoder: Any, name: str) -> list[Any]:
    """Decode the packets of an encoder by the decoder of this name."""
    if name == "g726":  # Only a file can pass the bits per sample to the decoder.
        stream, bits = io.BytesIO(b"".join(map(bytes, packets))), encoder.bit_rate // encoder.sample_rate
        with av.open(stream, "r", format="g726", options={"code_size": str(bits)}) as file:
            return list(file.decode(audio=0))
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.sample_rate, decoder.layout = encoder.sample_rate, encoder.layout
    # Versions of FFmpeg remove different numbers of leading samples unless this flag is set.
    decoder.flags2 |= av.codec.context.Flags2.skip_manual
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    return [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
