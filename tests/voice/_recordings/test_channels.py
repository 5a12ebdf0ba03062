"""Choice of channels: what is mixed and what is scanned alone."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile

from mmestim.voice import AudioError
from mmestim.voice._audio.streaming import AudioStream
from mmestim.voice._recordings.channels import open_recordings

RATE = 16000


def noise(like, level, seed=0):
    return level * np.random.default_rng(seed).standard_normal(len(like)).astype(np.float32)


def delayed(waveform, seconds):
    return np.pad(waveform, (round(seconds * RATE), 0))[: len(waveform)]


def echoing(waveform, seed):
    rng = np.random.default_rng(seed)
    response = 0.02 * rng.standard_normal(6400) * np.exp(-np.arange(6400) / 1200)
    response[seed * 7] = 0.5
    return np.convolve(waveform, response)[: len(waveform)]


def turns(first, second):
    """Let two speakers take turns of 2 s."""
    is_first = np.arange(len(first)) // (2 * RATE) % 2 == 0
    return first * is_first, second * ~is_first


SAME = {
    "copies": lambda a, b: (a, a),
    "gain": lambda a, b: (a, 0.3 * a + noise(a, 1e-3)),
    "delay": lambda a, b: (a, delayed(a, 0.001)),
    "spaced microphones": lambda a, b: (a, 0.7 * delayed(a, 0.02) + noise(a, 5e-4)),
    "room": lambda a, b: (echoing(a, 1), echoing(a, 2)),
    "ambience": lambda a, b: (a + noise(a, 0.02, 1), a + noise(a, 0.02, 2)),
    "two voices in both": lambda a, b: (a + 0.5 * b, 0.5 * a + b),
    "noise alone": lambda a, b: (noise(a, 0.1, 1), noise(a, 0.1, 2)),
    "silent channel": lambda a, b: (a, 0 * a),
    "faint channel": lambda a, b: (a + noise(a, 1e-4), noise(a, 2e-4)),
}
CANCELLING = {
    "inverted": lambda a, b: (a, -a),
    "inverted and softer": lambda a, b: (a, -0.6 * a),
    "inverted with noise": lambda a, b: (a + noise(a, 5e-3, 1), -a + noise(a, 5e-3, 2)),
    "inverted for a part": lambda a, b: (a, np.where(np.arange(len(a)) < len(a) // 2, a, -a)),
}
DIFFERENT = {
    "at once": lambda a, b: (a + noise(a, 1e-3, 1), b + noise(a, 1e-3, 2)),
    "in turns": turns,
    "in turns with crosstalk": lambda a, b: np.array([[1, 0.1], [0.1, 1]]) @ turns(a, b) + noise(a, 5e-4),
    "in turns at unequal levels": lambda a, b: np.array([[1, 0], [0, 0.2]]) @ turns(a, b),
}


def write(path, channels):
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize("case", SAME)
def test_channels_with_the_same_speech_are_mixed(tmp_path, voices, case):
    for first, second in pairwise(voices):
        (stream,) = open_recordings(write(tmp_path / "x.wav", SAME[case](first, second)), RATE)
        assert stream.channel is None
        is_half_silent = case in ("silent channel", "faint channel")
        assert stream.notes == (("Of the 2 channels, number 2 is silent.",) if is_half_silent else ())


@pytest.mark.parametrize("case", [*CANCELLING, *DIFFERENT])
def test_channels_that_must_not_be_mixed_are_scanned_alone(tmp_path, voices, case):
    for first, second in pairwise(voices):
        channels = {**CANCELLING, **DIFFERENT}[case](first, second)
        streams = open_recordings(write(tmp_path / "x.wav", channels), RATE)
        assert [stream.channel for stream in streams] == [1, 2]
        for stream, channel in zip(streams, channels, strict=True):
            np.testing.assert_allclose(np.concatenate(list(stream)), channel, atol=1e-6)
            reason = "cancel each other" if case in CANCELLING else "carry different speech"
            assert stream.notes == (f"The channels {reason}, so each was scanned alone.",)


def test_each_channel_is_scanned_on_request_unless_it_is_silent(tmp_path, voices):
    channels = [voices[0], 0 * voices[0], voices[0], voices[0]]
    path = write(tmp_path / "x.wav", channels)
    streams = open_recordings(path, RATE, channels="each")
    assert [stream.channel for stream in streams] == [1, 3, 4]
    assert {stream.notes for stream in streams} == {("Of the 4 channels, number 2 is silent.",)}
    assert {stream.facts.n_channels for stream in streams} == {4}
    mono = open_recordings(write(tmp_path / "y.wav", channels[:1]), RATE, channels="each")
    assert [(stream.channel, stream.notes) for stream in mono] == [(None, ())]


def test_files_of_silence_and_of_less_than_a_second_are_opened(tmp_path, voices):
    (stream,) = open_recordings(write(tmp_path / "x.wav", np.zeros((2, 8000))), RATE, channels="each")
    with pytest.raises(AudioError, match="is silent"):
        list(stream)
    start = 2 * RATE
    short = voices[0][start : start + 6000]
    assert len(open_recordings(write(tmp_path / "y.wav", [short, -short]), RATE)) == 2


def test_a_stream_of_a_channel_is_read_again(tmp_path, voices):
    stream = AudioStream(write(tmp_path / "x.wav", voices[:2]), 8000, channel=2, notes=("A note.",))
    first, second = (np.concatenate(list(stream)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (len(first), stream.notes, stream.gaps, stream.duration) == (8 * 8000, ("A note.",), (), 8.0)


def test_unknown_channels_are_reported(tmp_path):
    with pytest.raises(ValueError, match=r"channels='left' is not supported\. Use one of 'mix', 'each'"):
        open_recordings(tmp_path / "x.wav", RATE, channels="left")
