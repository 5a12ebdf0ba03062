"""Round trips through real encoders and decoders, in memory and in time with what went in."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import soundfile

from ..._audio.resampling import resample

# libvorbis puts what one call writes on the stack, and crashes where that is more than fits.
_BLOCK = 16384
# Samples that encoder and decoder put in front. LAME: 576 and 529; AMR: 5 ms of looking ahead.
_DELAYS = {"libmp3lame": 1105, "libopus": 312, "aac": 1024, "vorbis": 1024, "libopencore_amrnb": 40, "g726": 0}
# By their modes Opus and AMR are up to this much off.
_SLACK_SECONDS = 0.00025


class Coded(NamedTuple):
    """What came out of a codec."""

    waveform: np.ndarray  # from where the first sample should be, to within some samples
    n_bytes: int  # between the encoder and the decoder


Codec = Callable[[np.ndarray, int], Coded]


def round_trip(waveform: np.ndarray, sample_rate: int, codec: Codec, stream_rate: int) -> np.ndarray:
    """A waveform after coding and decoding: as long as before, every moment where it was.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        Float32; left as it is.
    sample_rate : int
        Its samples per second.
    codec : callable
        Takes a waveform without peaks above 1 and a rate, and returns `Coded`.
    stream_rate : int
        Samples per second that the codec is given.

    Returns
    -------
    ndarray of shape (n_samples,)
        Float32.
    """
    stream = resample(waveform, sample_rate, stream_rate)
    scale = max(1.0, float(np.abs(stream).max(initial=0.0)))
    heard = resample(codec(stream / scale, stream_rate).waveform * scale, stream_rate, sample_rate)
    return _aligned(heard, waveform, round(_SLACK_SECONDS * sample_rate))


def _aligned(heard, waveform, slack):
    """`heard` from where it is most like `waveform`, as long as that; of silence from its start."""
    size = len(waveform)
    padded = np.zeros(size + 2 * slack, np.float32)
    padded[slack : slack + len(heard)] = heard[: size + slack]
    # Slopes, as the high-pass filters of speech codecs turn the phase of the lowest tones.
    slope, slopes = np.diff(waveform), np.diff(padded)

    def likeness(shift):
        # Not a dot product: its last bits may depend on the number of threads.
        return np.sum(slope * slopes[shift : shift + size - 1], dtype=np.float64)

    best, step = slack, 1 if likeness(slack + 1) > likeness(slack - 1) else -1
    while 0 <= best + step <= 2 * slack and likeness(best + step) > likeness(best):
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
    """Through one of libsndfile's codecs, by the names soundfile has for them."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", sample_rate, 1, subtype, format=container, compression_level=level, bitrate_mode=mode
    ) as file:
        for start in range(0, len(waveform), _BLOCK):
            file.write(waveform[start : start + _BLOCK])
    n_bytes = len(buffer.getvalue())
    buffer.seek(0)
    decoded, _ = soundfile.read(buffer, dtype="float32")
    # The header by which a decoder cuts an MP3 to its length has no room in one of low constant bitrate.
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
    """Through an encoder and a decoder of FFmpeg, with the encoder's options as its command line has them."""
    av = _import_av()
    try:
        context = av.CodecContext.create(encoder, "w")
    except ValueError:
        raise ImportError(
            f'the PyAV installed has no encoder {encoder!r}; that of pip install "mmestim[av]" has it.'
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
    frames = _decoded_frames(av, packets, context, decoder)
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    if decoded.dtype == np.int16:
        decoded = decoded / np.float32(32768)
    return Coded(resample(decoded[_DELAYS[encoder] :], frames[0].sample_rate, sample_rate), n_bytes)


def _decoded_frames(av, packets, encoder, name):
    if name == "g726":  # the decoder can be told the bits per sample by a file only
        stream, bits = io.BytesIO(b"".join(map(bytes, packets))), encoder.bit_rate // encoder.sample_rate
        with av.open(stream, format="g726", options={"code_size": str(bits)}) as file:
            return list(file.decode(audio=0))
    decoder = av.CodecContext.create(name, "r")
    decoder.sample_rate, decoder.layout = encoder.sample_rate, encoder.layout
    # Versions differ in what they cut off unless told not to.
    decoder.flags2 |= av.codec.context.Flags2.skip_manual
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    return [frame for packet in [*packets, None] for frame in decoder.decode(packet)]


def _import_av():
    try:
        import av
    except ImportError:
        raise ImportError("engine='av' needs PyAV: pip install \"mmestim[av]\".") from None
    return av
