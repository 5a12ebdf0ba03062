"""Fixtures of the tests of voice."""

import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest


def read_pixels(image):
    """Check the chunks of a greyscale PNG image and return its pixels."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, offset = {}, 8
    while offset < len(image):
        (length,) = struct.unpack(">I", image[offset : offset + 4])
        kind, data = image[offset + 4 : offset + 8], image[offset + 8 : offset + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", image[offset + 8 + length : offset + 12 + length])[0]
        chunks[kind], offset = data, offset + 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    return np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)[:, 1:]


@pytest.fixture(scope="session")
def png_pixels():
    """Return a function that checks a PNG image and returns its pixels."""
    return read_pixels


def write_sound(path, waveforms, rate=16000, *, codec, container=None, bitrate=None, with_pictures=False):
    """Write audio tracks of shape (n_samples,) or (n_channels, n_samples) by FFmpeg, beside black pictures or alone."""
    with av.open(path, "w", format=container) as file:
        pictures = None
        if with_pictures:
            pictures = file.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
        tracks = [np.atleast_2d(np.asarray(waveform, np.float32)) for waveform in waveforms]
        layouts = ["mono" if len(track) == 1 else "stereo" for track in tracks]
        streams = [file.add_stream(codec, rate=rate, layout=layout) for layout in layouts] if codec else []
        if pictures:
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                file.mux(pictures.encode(frame))
            file.mux(pictures.encode(None))
        for stream, track, layout in zip(streams, tracks, layouts, strict=True):
            if bitrate:
                stream.bit_rate = bitrate
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(track), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))


@pytest.fixture(scope="session", name="write_sound")
def write_sound_fixture():
    """Return a function that writes files by FFmpeg: containers and codecs that soundfile cannot write."""
    return write_sound
