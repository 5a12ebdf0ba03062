"""Fixtures of the tests of audio."""

import os
import struct

import numpy as np
import pytest
import soundfile

from mmestim.voice._files.decoding import AudioDecoder

RATE = 16000


def make_sine(seconds=1.0, rate=RATE, frequency=440.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def make_noise(seconds=1.0, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.fixture(scope="session")
def sine():
    """Return a function that makes a sine of phase 0, by default of 1 s at 440 Hz."""
    return make_sine


@pytest.fixture(scope="session")
def noise():
    """Return a function of a duration in seconds and a seed that makes white noise."""
    return make_noise


@pytest.fixture(scope="session")
def decibels():
    """Return a function that computes the level of a waveform in dB."""

    def level(waveform):
        return 20 * np.log10(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))) + 1e-12)

    return level


@pytest.fixture
def folder(tmp_path):
    """Return a folder of three clips in two formats, with a hidden clip and a text file."""
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "b.wav", make_noise(0.2, 1), RATE)
    soundfile.write(tmp_path / "a.FLAC", make_noise(0.3, 2), RATE)
    soundfile.write(tmp_path / "deep" / "c.wav", make_noise(0.4, 3), RATE)
    soundfile.write(tmp_path / "._hidden.wav", make_noise(0.4, 3), RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


@pytest.fixture
def opened_files(monkeypatch):
    """Return the list of names to which each file that is decoded is added."""
    names = []

    class RecordingDecoder(AudioDecoder):
        def __init__(self, file, path):
            names.append(os.path.basename(path))
            super().__init__(file, path)

    monkeypatch.setattr("mmestim.voice._files.decoding.AudioDecoder", RecordingDecoder)
    return names


def truncate(path, fraction):
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])


def write_bad_file(folder, kind):
    """Write a file that cannot be read, and return its path and the expected message."""
    path = folder / f"{kind}.wav"
    if kind == "missing":
        return folder / "b.waf", r"does not exist. Did you mean '.*b\.wav'\?"
    if kind == "nowhere":
        return folder / "nowhere" / "b.wav", "neither does the folder"
    if kind == "folder":
        return folder / "deep", "is a folder"
    if kind == "url":
        return "https://example.org/a.wav", "is a URL, and files must be local. Download"
    if kind == "null":
        return "a\0.wav", "cannot be opened: .*embedded null"
    if kind == "pipe":
        os.mkfifo(path)
        return path, "not a regular file"
    if kind == "zero":
        path.touch()
        return path, "empty file, of 0 bytes"
    if kind == "empty":
        soundfile.write(path, np.zeros(0), RATE)
        return path, "contains no samples"
    if kind == "text":
        path.write_text("This is no sound.\n" * 99)
        return path, "not audio in a supported format.*convert it to WAV or FLAC: ffmpeg -i"
    if kind == "bytes":
        path.write_bytes(np.random.default_rng(0).bytes(9999))
        return path, "not audio"
    if kind == "raw":
        path.with_suffix(".raw").write_bytes(b"01" * 999)
        return path.with_suffix(".raw"), "not audio"
    if kind == "silent":
        soundfile.write(path, 5e-5 * make_sine(), RATE, subtype="FLOAT")
        return path, "is silent: it stays within -80 dBFS of its mean. Leave it out"
    if kind == "constant":
        soundfile.write(path, np.full(RATE, 0.3), RATE)
        return path, "is silent"
    if kind == "opposite":
        soundfile.write(path, np.stack([make_sine(), -make_sine()], axis=1), RATE, subtype="FLOAT")
        return path, "is silent.* after averaging its 2 channels"
    if kind in ("nan", "inf"):
        clip = make_sine()
        clip[800] = float(kind)
        soundfile.write(path, clip, RATE, subtype="FLOAT")
        return path, r"NaN or infinite samples, the first at 0\.0500 s"
    if kind == "long":
        soundfile.write(path, make_sine(), RATE)
        header = bytearray(path.read_bytes()[:44])
        size = 10 * 3600 * 2 * RATE
        header[4:8], header[40:44] = struct.pack("<I", size + 36), struct.pack("<I", size)
        path.write_bytes(header)
        os.truncate(path, size + 44)  # sparse, so that it takes no space
        return path, r"lasts 36000\.0 s, above max_duration=3600\. Cut it"
    suffix, fraction = kind.split()
    path = folder / f"truncated.{suffix}"
    parameters = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(path, make_noise(4), RATE, **parameters)
    truncate(path, float(fraction))
    return path, "is truncated or damaged"


@pytest.fixture(scope="session")
def make_bad_file():
    """Return a function that writes a file that cannot be read, and returns its path and the expected message."""
    return write_bad_file
