"""Pictures and sound of a report: a spectrogram, and the recording or excerpts around its edits as MP3."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from .._audio.reading import AudioError, MissingFileError
from .._audio.spectrogram import Spectrogram, encode_png
from .._audio.streaming import AudioStream
from .._constants import RATE
from .._files.paths import PlacedFile
from ..segments import EditSegment
from .scan import ScannedFile

_MAX_SECONDS = 120.0  # of sound from one recording
_CONTEXT_SECONDS = 3.0  # before and after an edit
_MAX_EDIT_SECONDS = 20.0  # of one edit
_MAX_PAGE_BYTES = 40e6
_BYTES_PER_PICTURE, _BYTES_PER_SECOND = 60e3, 6.7e3  # in base64
# Every browser plays 40 kbit/s at a constant rate and can compute its duration.
_MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.8, "bitrate_mode": "CONSTANT"}
_ENCODER_BLOCK = 16384  # libsndfile's encoders crash on long blocks

Span = tuple[float, float]


class Excerpt(NamedTuple):
    """Part of a recording that can be played."""

    start: float
    end: float
    uri: str


class Media(NamedTuple):
    """Picture and sound of one file."""

    picture: str  # a data URI; empty if there is no picture
    excerpts: Sequence[Excerpt]
    note: str  # the reason why something is missing; empty if nothing is


def plan_excerpts(files: Sequence[ScannedFile]) -> list[list[Span] | None]:
    """Choose the parts of each file to play, as long as the page has room.

    Parameters
    ----------
    files : sequence of ScannedFile
        All files of the report, in their order on the page.

    Returns
    -------
    list of (list of (float, float), or None)
        Starts and ends in seconds for each file; None if the page has no room for the file.
    """
    plans: list[list[Span] | None] = [None] * len(files)
    free_bytes = _MAX_PAGE_BYTES
    for i, file in enumerate(files):
        spans = select_spans(file.analysis.duration, file.analysis.segments)
        n_bytes = _BYTES_PER_PICTURE + _BYTES_PER_SECOND * sum(end - start for start, end in spans)
        if n_bytes <= free_bytes:
            plans[i], free_bytes = spans, free_bytes - n_bytes
    return plans


def select_spans(duration: float, segments: Sequence[EditSegment]) -> list[Span]:
    """Select the parts of a recording to play: all of a short one, or the surroundings of its most probable edits."""
    if duration <= _MAX_SECONDS:
        return [(0.0, duration)]
    selected: list[Span] = []
    for segment in sorted(segments, key=lambda segment: -segment.score):
        start = max(0.0, segment.start - _CONTEXT_SECONDS)
        end = min(duration, min(segment.end, segment.start + _MAX_EDIT_SECONDS) + _CONTEXT_SECONDS)
        candidate = _merge_overlaps([*selected, (start, end)])
        if sum(end - start for start, end in candidate) <= _MAX_SECONDS:
            selected = candidate
    return selected


def _merge_overlaps(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def build_media(file: ScannedFile, source: PlacedFile, spans: Sequence[Span] | None) -> Media | None:
    """Read a file again from its source, and build its picture and excerpts; None if there is no such file."""
    if spans is None:
        return Media(
            "", [], "The page has no room for the picture and sound of this file; files with edits come first."
        )
    n_samples = round(file.analysis.duration * RATE)
    picture, recorders = Spectrogram(n_samples), [_ExcerptRecorder(start, end) for start, end in spans]
    position = 0
    try:
        for block in AudioStream(source, RATE, file.channel):
            picture.add(block)
            for recorder in recorders:
                recorder.add(position, block)
            position += len(block)
    except MissingFileError:
        return None
    except AudioError as error:
        if file.analysis.cannot_tell:  # The page states why, such as that the file is silent.
            return Media("", [], "")
        return unreadable_media(error.reason)
    if position != n_samples:
        return Media("", [], "No picture and no sound: the length of the file has changed since the scan.")
    excerpts = [
        Excerpt(recorder.start, recorder.end, _data_uri("audio/mpeg", recorder.mp3())) for recorder in recorders
    ]
    note = "" if spans else "The recording is too long to be played on this page."
    return Media(_data_uri("image/png", encode_png(picture.decibels())), excerpts, note)


def unreadable_media(reason: str) -> Media:
    """Return what the page shows for a file that cannot be read again."""
    return Media("", [], f"No picture and no sound: the file can no longer be read. It {reason}")


class _ExcerptRecorder:
    """Collector of the samples of one excerpt from the blocks of a recording."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end
        self._first_sample, self._end_sample = round(start * RATE), round(end * RATE)
        self._parts: list[np.ndarray] = []

    def add(self, position: int, block: np.ndarray) -> None:
        """Take the samples of the excerpt from a block that begins at this position of the recording."""
        part = block[max(0, self._first_sample - position) : max(0, self._end_sample - position)]
        if len(part):
            self._parts.append(part.copy())

    def mp3(self) -> bytes:
        """Encode the excerpt, attenuated if it would clip."""
        waveform = np.concatenate(self._parts)
        waveform /= max(1.0, float(np.abs(waveform).max()))
        buffer = io.BytesIO()
        with soundfile.SoundFile(buffer, "w", RATE, 1, **_MP3) as encoder:
            for start in range(0, len(waveform), _ENCODER_BLOCK):
                encoder.write(waveform[start : start + _ENCODER_BLOCK])
        return buffer.getvalue()


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
