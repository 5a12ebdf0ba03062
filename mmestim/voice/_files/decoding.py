"""Decoding of audio files and of the sound of videos to blocks of samples, around damage."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import av
import numpy as np

from .headers import is_whole_ogg, split_ogg
from .paths import NO_SAMPLES, AudioError, PlacedFile
from .tracks import LOSSLESS, Track

_BLOCK_SIZE = 2**17  # samples per channel
# Encoders of lossy codecs count their padding in different ways, by up to this many seconds. The lengths of lossless
# codecs are exact in containers that do not count milliseconds.
_PADDING = 0.1
_COUNTED_IN_SAMPLES = {"aiff", "flac", "tta", "wav", "wv"}
# Gaps with less sound than this between them become one.
_MIN_SOUND = 0.1
_MAX_NAMED_GAPS = 3

Span = tuple[float, float]


@dataclass(frozen=True)
class AudioFacts:
    """Facts about a file with sound.

    Attributes
    ----------
    sample_rate : int
        Sample rate of the file in Hz.
    n_channels : int
        Number of channels of the file.
    container : str
        FFmpeg's name of the container, such as ``"wav"``, ``"mp3"`` or ``"mov"``, by the content of the file.
    codec : str
        FFmpeg's name of the codec, such as ``"pcm_s16le"``, ``"mp3"`` or ``"aac"``.
    duration : float or None
        Seconds that were read. Before the file was read, seconds according to its header, or None if it counts none.
    gaps : tuple of (float, float)
        Starts and ends in seconds of damage that could not be decoded. The samples are zero there. If the end of the
        file is missing, the last gap begins at `duration`.
    notes : tuple of str
        Sentences for the reader of a report about how the file was read, among them one about the gaps.
    """

    sample_rate: int
    n_channels: int
    container: str
    codec: str
    duration: float | None
    gaps: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()


@contextmanager
def open_audio(path: str | os.PathLike[str]) -> Iterator[AudioDecoder]:
    """Open a file with sound; turn its errors, and those of reading it, into AudioError.

    Parameters
    ----------
    path : str or path
        The file.

    Yields
    ------
    AudioDecoder
        Decoder of the file, for one reading.
    """
    file = path if isinstance(path, PlacedFile) else PlacedFile(os.fspath(path))
    file.check()
    try:
        with file.open() as stream, closing(AudioDecoder(stream, file.name)) as decoder:
            yield decoder
    except av.FFmpegError as error:  # before OSError, which some of these are as well
        reason = "is not audio in a supported format, or is damaged at its start"
        raise AudioError(file.name, f"{reason}. {_way_out(file.name)}") from error
    except OSError as error:
        raise AudioError(file.name, f"cannot be opened: {error.strerror}.") from error


class AudioDecoder:
    """Decoder of an open file with sound, for one reading from start to end.

    Iteration yields float32 blocks of shape (n_samples, n_channels), which are zero where nothing can be decoded.

    Parameters
    ----------
    file : binary file
        The open file.
    path : str
        Its path.

    Attributes
    ----------
    rate : int
        Sample rate in Hz.
    n_channels : int
        Number of channels.
    n_read : int
        Number of samples read so far, zeros included.
    declared_duration : float or None
        Seconds according to the header; None if it counts none.
    damage : str
        Description of what cannot be decoded, complete after the reading; empty for an intact file.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._path = path
        self._gaps: list[Span] = []
        self._notes: list[str] = []
        self.n_read = 0
        self._is_finished = False
        self._resampler: Any = None
        self._frame_format: tuple[int, str] | None = None
        self.declared_duration: float | None = None
        self.damage = ""
        is_ogg = file.read(4) == b"OggS"
        # FFmpeg reads a chain of Ogg streams as one, and stops at a stream with another rate or number of channels.
        parts = split_ogg(file) if is_ogg else []
        self._parts = [_FilePart(file, *part) for part in parts or [(0, file.seek(0, io.SEEK_END))]]
        self._loses_end = is_ogg and not is_whole_ogg(file)
        self._frames: Any = self._decode_parts()
        self._first = next(self._frames)
        frame = self._first[0]
        if frame is None:
            is_damaged = self.declared_duration or self._first[1]
            raise AudioError(
                path, "is damaged: no sound can be decoded. Download or export it again." if is_damaged else NO_SAMPLES
            )
        self.rate, self.n_channels = frame.sample_rate, frame.layout.nb_channels
        self._format = (self.rate, frame.layout.name)

    def close(self) -> None:
        """Close the containers, but not the file."""
        self._frames.close()

    @property
    def facts(self) -> AudioFacts:
        """Facts about the file, complete after the reading."""
        duration = self.n_read / self.rate if self._is_finished else self.declared_duration
        return AudioFacts(
            self.rate,
            self.n_channels,
            self._container,
            self._codec,
            duration,
            tuple(self._gaps),
            tuple(self._notes),
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        pieces: list[np.ndarray] = []
        n_samples = 0
        for piece in self._pieces():
            pieces.append(piece)
            n_samples += len(piece)
            if n_samples >= _BLOCK_SIZE:
                yield np.concatenate(pieces)
                pieces, n_samples = [], 0
        if pieces:
            yield np.concatenate(pieces)

    def _pieces(self) -> Iterator[np.ndarray]:
        """Yield all samples, and zeros for those that are lost."""
        n_seconds = 0.0
        for frame, n_lost in chain([self._first], self._frames):
            n_seconds += n_lost
            n_zeros = round(n_seconds * self.rate)
            if self.n_read == 0 and n_seconds < _PADDING:
                n_zeros = 0  # a header that is no sound
            if frame is not None:
                n_seconds = 0.0
            if frame is not None and n_zeros:
                self._add_gap(self.n_read, self.n_read + n_zeros)
                while n_zeros:
                    zeros = np.zeros((min(n_zeros, _BLOCK_SIZE), self.n_channels), np.float32)
                    n_zeros -= len(zeros)
                    self.n_read += len(zeros)
                    yield zeros
            for samples in self._convert(frame):
                self.n_read += len(samples)
                yield samples
        self._finish(n_seconds)

    def _decode_parts(self) -> Iterator[tuple[Any, float]]:
        """Yield the frames of all parts with the seconds lost before each, and None as the last frame."""
        n_seconds, has_sound = 0.0, False
        for part in self._parts:
            with Track(part) as track:
                if not track.has_sound:
                    continue
                if not has_sound:
                    self._describe(track)
                has_sound = True
                for frame, n_lost in track.frames():
                    n_seconds += n_lost
                    if frame is not None:
                        yield frame, n_seconds
                        n_seconds = 0.0
                self._loses_end |= track.ends_early
        if not has_sound:
            raise AudioError(self._path, "contains no sound that can be decoded. Leave it out.")
        yield None, n_seconds

    def _describe(self, track: Track) -> None:
        self._container, self._codec = track.container, track.codec
        if len(self._parts) == 1:
            self.declared_duration = track.declared_duration()
        if track.n_tracks > 1:
            self._notes.append(
                f"The file has {track.n_tracks} audio tracks. Only number {track.number}, its default, was scanned."
            )

    def _convert(self, frame: Any) -> Iterator[np.ndarray]:
        """Yield the samples of a frame in the format of the first frame; after the last frame, what is left."""
        frame_format = None if frame is None else (frame.sample_rate, frame.layout.name)
        if frame_format != self._frame_format:
            if self._resampler is not None:
                yield from self._to_arrays(self._resampler.resample(None))
            self._resampler, self._frame_format = None, frame_format
            if frame_format not in (None, self._format):
                self._resampler = av.AudioResampler("fltp", frame.layout, self.rate)
                self._notes.append(
                    f"From {self.n_read / self.rate:.2f} s on, the file has another sample rate or number of channels; "
                    f"all of it was scanned at {self.rate} Hz with {self.n_channels} channel(s)."
                )
        if frame is None:
            return
        if self._resampler is None:
            yield from self._to_arrays([frame])
        else:
            frame.pts = None  # new times follow from the number of samples
            yield from self._to_arrays(self._resampler.resample(frame))

    def _to_arrays(self, frames: Iterable[Any]) -> Iterator[np.ndarray]:
        """Yield the samples of frames, float32 of shape (n_samples, n_channels)."""
        for frame in frames:
            samples = frame.to_ndarray()
            samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
            with np.errstate(over="ignore"):  # infinite samples are reported later
                samples = scale_samples(samples).astype(np.float32)
            if samples.shape[1] != self.n_channels:
                samples = np.repeat(samples.mean(axis=1, keepdims=True), self.n_channels, axis=1)
            yield samples

    def _add_gap(self, start: int, end: int) -> None:
        """Add a gap between two samples, or extend the last gap by it."""
        first = start / self.rate
        if self._gaps and first - self._gaps[-1][1] < _MIN_SOUND:
            first = self._gaps.pop()[0]
        self._gaps.append((first, end / self.rate))

    def _finish(self, n_lost: float) -> None:
        """Compare the length with that in the header, and describe all damage."""
        self._is_finished = True
        is_lossless = self._codec.startswith("pcm_") or self._codec in LOSSLESS
        is_exact = is_lossless and self._container in _COUNTED_IN_SAMPLES
        tolerance = 1.5 / self.rate if is_exact else _PADDING
        duration = self.n_read / self.rate
        end = self.declared_duration or duration + n_lost
        if end - duration > tolerance:
            self._add_gap(self.n_read, round(end * self.rate))
            self._loses_end = False
        if self._gaps:
            named = [f"from {start:.2f} to {end:.2f} s" for start, end in self._gaps[:_MAX_NAMED_GAPS]]
            n_more = len(self._gaps) - len(named)
            spans = ", ".join(named) + (f" and in {n_more} more parts" if n_more else "")
            self.damage = f"nothing can be decoded {spans}"
            self._notes.append(f"No sound could be decoded {spans}, because the file is damaged there.")
        if self._loses_end:
            self.damage = self.damage or f"the mark of its end is missing after {duration:.2f} s"
            self._notes.append(f"The mark of the end is missing: the recording may go on after {duration:.2f} s.")


class _FilePart(io.RawIOBase):
    """Part of a binary file, as FFmpeg needs it: a seek to a wrong position returns -1 instead of an error.

    Parameters
    ----------
    file : binary file
        The file.
    start, end : int
        Positions of the part in bytes.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size = file, start, end - start
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        n_left = self._size - self._position
        if n_left <= 0:
            return b""
        self._file.seek(self._start + self._position)
        content = self._file.read(n_left if size < 0 else min(size, n_left))
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            return -1
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self._position


def scale_samples(samples: np.ndarray) -> np.ndarray:
    """Return samples as floats with a full scale of 1; floats remain as they are."""
    if samples.dtype.kind == "f":
        return samples
    zero = 128.0 if samples.dtype.kind == "u" else 0.0  # as in 8-bit WAV files
    return ((samples - zero) / 2 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)


def _way_out(path: str) -> str:
    """Return advice for a file that cannot be read."""
    return f"Download it again, or convert it to WAV or FLAC: ffmpeg -i {shlex.quote(path)} -vn out.wav"
