"""What a report shows and plays of each file: a spectrogram, and the recording or the parts with edits as MP3."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from .._audio.reading import AudioError
from .._audio.spectrogram import Spectrogram, png
from .._audio.streaming import AudioStream
from ..localization import EditSegment
from .scan import ScannedFile

RATE = 16000
_WHOLE = 120.0  # seconds of a recording, at most, that is played as a whole
_AROUND = 3.0  # seconds to hear before and after an edit
_LONGEST = 20.0  # seconds of an edit
_PAGE_BYTES = 40e6
_PICTURE_BYTES, _SECOND_BYTES = 60e3, 6.7e3  # in base64
# 40 kbit/s of constant rate: every browser plays it, and knows how long it is.
_MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.8, "bitrate_mode": "CONSTANT"}
_BLOCK = 16384  # libsndfile's encoders crash on long ones

Span = tuple[float, float]


class Excerpt(NamedTuple):
    """A part of a recording that can be played."""

    start: float
    end: float
    uri: str


class Media(NamedTuple):
    """What is shown and played of a file."""

    picture: str  # URI; empty where there is none
    excerpts: Sequence[Excerpt]
    note: str  # what is left out, and why


def planned(files: Sequence[ScannedFile]) -> list[list[Span] | None]:
    """The parts of each file to play, None where the page has no room for it; files with edits come first."""
    plans: list[list[Span] | None] = [None] * len(files)
    left = _PAGE_BYTES
    for i in sorted(range(len(files)), key=lambda i: not files[i].is_edited):
        spans = spans_to_play(files[i].duration, files[i].segments)
        cost = _PICTURE_BYTES + _SECOND_BYTES * sum(end - start for start, end in spans)
        if cost <= left:
            plans[i], left = spans, left - cost
    return plans


def spans_to_play(duration: float, segments: Sequence[EditSegment]) -> list[Span]:
    """All of a short recording; of a long one what is around its edits, the surest first, up to two minutes."""
    if duration <= _WHOLE:
        return [(0.0, duration)]
    chosen: list[Span] = []
    for segment in sorted(segments, key=lambda segment: -segment.score):
        start = max(0.0, segment.start - _AROUND)
        end = min(duration, min(segment.end, segment.start + _LONGEST) + _AROUND)
        merged = _merged([*chosen, (start, end)])
        if sum(b - a for a, b in merged) <= _WHOLE:
            chosen = merged
    return chosen


def _merged(spans):
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def media_of(file: ScannedFile, spans: Sequence[Span] | None) -> Media:
    """What a report shows and plays of one file, read anew."""
    if spans is None:
        return Media("", [], "The page has no room for its picture and its sound: files with edits come first.")
    n_samples = round(file.duration * RATE)
    picture, pieces = Spectrogram(n_samples), [_Piece(start, end) for start, end in spans]
    first = 0
    try:
        for block in AudioStream(file.path, RATE):
            picture.add(block)
            for piece in pieces:
                piece.add(first, block)
            first += len(block)
    except AudioError as error:
        return Media("", [], f"No picture and no sound: since it was scanned, the file {error.reason}")
    if first != n_samples:
        return Media("", [], "No picture and no sound: since it was scanned, the file got another length.")
    excerpts = [Excerpt(piece.start, piece.end, _uri("audio/mpeg", piece.mp3())) for piece in pieces]
    return Media(_uri("image/png", png(picture.decibels())), excerpts, "" if spans else "Too long to be played here.")


class _Piece:
    """Collects a part of what passes."""

    def __init__(self, start, end):
        self.start, self.end = start, end
        self._first, self._last = round(start * RATE), round(end * RATE)
        self._parts = []

    def add(self, first, block):
        part = block[max(0, self._first - first) : max(0, self._last - first)]
        if len(part):
            self._parts.append(part.copy())

    def mp3(self):
        waveform = np.concatenate(self._parts)
        waveform /= max(1.0, float(np.abs(waveform).max()))
        buffer = io.BytesIO()
        with soundfile.SoundFile(buffer, "w", RATE, 1, **_MP3) as encoder:
            for start in range(0, len(waveform), _BLOCK):
                encoder.write(waveform[start : start + _BLOCK])
        return buffer.getvalue()


def _uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
