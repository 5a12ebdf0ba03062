"""Recordings from standard input."""

import io
import os

import pytest
import soundfile

from mmestim.voice import AudioError
from mmestim.voice._audio.streaming import AudioStream
from mmestim.voice._files.standard_input import STANDARD_INPUT, spool


def test_a_stream_can_be_read_several_times_as_a_file():
    buffer = io.BytesIO()
    soundfile.write(buffer, [0.1, -0.1] * 4000, 16000, format="FLAC")
    with spool(io.BytesIO(buffer.getvalue())) as path:
        stream = AudioStream(path, 16000)
        assert [sum(len(block) for block in stream) for _ in range(2)] == [8000, 8000]
    assert not os.path.exists(os.path.dirname(path))


def test_an_empty_stream_is_reported():
    with pytest.raises(AudioError, match="standard input: is empty"), spool(io.BytesIO()):
        pass
    assert STANDARD_INPUT == "standard input"
