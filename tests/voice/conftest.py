"""Fixtures of the tests of voice."""

import struct
import zlib

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
