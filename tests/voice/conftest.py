"""Fixtures of the tests of voice."""

import struct
import zlib

import numpy as np
import pytest


def read_pixels(image):
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(image):
        (length,) = struct.unpack(">I", image[place : place + 4])
        kind, data = image[place + 4 : place + 8], image[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", image[place + 8 + length : place + 12 + length])[0]
        chunks[kind], place = data, place + 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    return np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)[:, 1:]


@pytest.fixture(scope="session")
def pixels():
    """Return a function that checks a PNG image and returns its pixels."""
    return read_pixels
