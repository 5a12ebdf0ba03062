"""Sound of one open container, frame by frame, with the time that is lost between frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Self

import av
import numpy as np

from .headers import mp3_frame_count, tag_size, wav_completeness

# Containers of FFmpeg that are opened. Others are pictures and text, or lists of files and addresses to open instead.
_CONTAINERS = (
    "aac ac3 aiff amr ape asf au avi caf dsf dts eac3 flac flv iff ircam matroska mov mp3 mpeg mpegts nistsphere ogg "
    "rm tak tta voc w64 wav wv xwma"
).split()
# Options for WAV: longer packets, and one of them to find out whether the samples are a coded stream after all.
_FAST_WAV = {"max_size": "16384", "max_probe_packets": "1"}
# Tags may be in any encoding. PyAV 19 replaces what it cannot decode, without this option.
_ANY_TAGS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
# Containers without timestamps, in which lost time is estimated from lost bytes.
_WITHOUT_TIMESTAMPS = {"aac", "ac3", "amr", "dts", "eac3", "mp3"}
# Containers whose header counts the samples. FFmpeg estimates the duration of others from the size of the file.
_COUNTED = {"aiff", "asf", "avi", "flac", "mov", "tta", "wv"}
# Containers that pad their last frames, but count the samples without padding.
_PADDED = {"mov", "ogg"}
_MAX_PADDING = 0.25
# Codecs of exact lengths and with checksums, which FFmpeg compares on request.
LOSSLESS = {"alac", "flac", "tta", "wavpack"}
# In complete files, timestamps differ by up to 25 ms from the samples before them.
_MIN_JUMP = 0.05
# A longer jump is that of a new clock, as in joined files.
_MAX_JUMP = 3600.0


class Track:
    """Sound of an open container, for one reading from start to end.

    Parameters
    ----------
    file : binary file
        Content of the container.

    Attributes
    ----------
    container : str
        FFmpeg's first name of the container.
    codec : str
        Name of the codec.
    has_sound : bool
        Whether there is sound in a known codec. Without it, there are no further attributes.
    n_tracks : int
        Number of audio streams.
    number : int
        Number of the audio stream that is read, from 1: the one that the container marks as the default.
    ends_early : bool
        Whether reading stopped at damage before the end of the file.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        options = {"format_whitelist": ",".join(_CONTAINERS)}
        if self._in_file(lambda file: file.read(12))[8:] == b"WAVE":
            options |= _FAST_WAV
        self._container: Any = av.open(file, options=options, **_ANY_TAGS)
        self._stream = self._container.streams.best("audio")
        self.container = self._container.format.name.split(",")[0]
        self.n_tracks = len(self._container.streams.audio)
        self.ends_early = False
        self.has_sound = self._stream is not None and self._stream.codec_context is not None
        if self.has_sound:
            self.codec = self._stream.codec_context.codec.canonical_name
            decoder = self._stream.codec_context
            if self.codec in LOSSLESS:
                decoder.options = {"err_detect": "crccheck+explode"}
            # The first frame of Ogg Vorbis is no sound. FFmpeg's own cuts are wrong for streams of one page.
            self._has_preroll = self.container == "ogg" and self.codec == "vorbis"
            if self._has_preroll:
                decoder.flags2 |= av.codec.context.Flags2.skip_manual
            self.number = 1 + self._container.streams.audio.index(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def frames(self) -> Iterator[tuple[Any, float]]:
        """Decode the track, without padding after the end that the container counts.

        Yields
        ------
        frame : av.AudioFrame or None
            The next frame that can be decoded; None at the end.
        n_seconds : float
            Seconds that are lost before it.
        """
        stream: Any = self._stream
        frames = self._decode()
        if self._has_preroll and (first := next(frames))[0] is None:
            yield first
        elif self.container in _PADDED and stream.duration is not None:
            yield from _cut_padding(frames, float(stream.duration * stream.time_base))
        else:
            yield from frames

    def _decode(self) -> Iterator[tuple[Any, float]]:
        """Yield all frames, each with the seconds that are lost before it, and None at the end."""
        lost: Any = _LostTime()
        if self.container in _WITHOUT_TIMESTAMPS:
            lost = _LostBytes(self._container.size if self.container == "aac" else 0)
        for packet in self._packets():
            is_damaged = False
            try:
                frames = packet.decode()
                is_damaged = any(frame.is_corrupt for frame in frames)
            except av.FFmpegError:
                is_damaged = True
            if is_damaged or not frames:
                lost.skip(packet, is_damaged)
                continue
            for frame in frames:
                yield frame, lost.before(packet, frame)
        yield None, lost.at_end()

    def _packets(self) -> Iterator[Any]:
        n_errors = 0
        while n_errors < 3:
            try:
                for packet in self._container.demux(self._stream):
                    n_errors = 0
                    yield packet
                return
            except (av.FFmpegError, IndexError):  # the next packet may be readable; IndexError: it is of a new stream
                n_errors += 1
        self.ends_early = True

    def declared_duration(self) -> float | None:
        """Return the duration in seconds that the container counts; None if it counts none."""
        if self.container == "matroska" and len(self._container.streams) == 1 and self._container.duration:
            return self._container.duration / av.time_base
        stream: Any = self._stream
        if stream.duration is None:
            return None
        duration = float(stream.duration * stream.time_base)
        if self.container == "wav":
            return duration / self._in_file(wav_completeness)
        if self.container in _COUNTED:
            return duration
        if self.container == "mp3" and (n_frames := self._in_file(mp3_frame_count)):
            # FFmpeg estimates the duration of files that were joined from several.
            codec = stream.codec_context
            return duration if abs(n_frames * codec.frame_size / codec.sample_rate - duration) < 0.5 else None
        return None

    def _in_file(self, inspect: Callable[[BinaryIO], Any]) -> Any:
        """Call a function of the file, and move back to where FFmpeg is reading."""
        position = self._file.tell()
        try:
            return inspect(self._file)
        finally:
            self._file.seek(position)


def _cut_padding(frames: Iterator[tuple[Any, float]], end: float) -> Iterator[tuple[Any, float]]:
    """Cut frames at the end of the sound in seconds; where they go on for longer than padding, the end is wrong."""
    time, held_samples = 0.0, 0
    held: list[tuple[Any, float]] = []
    for frame, n_lost in frames:
        if frame is None:
            if held_samples:
                first, n_lost_before = held[0]
                cut = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(first.to_ndarray()[:, :held_samples]), first.format.name, first.layout.name
                )
                cut.sample_rate = first.sample_rate
                yield cut, n_lost_before
            yield None, n_lost
            return
        start = time + n_lost
        time = start + frame.samples / frame.sample_rate
        if not held and (time < end + 0.5 / frame.sample_rate or not frame.format.is_planar):
            yield frame, n_lost
            continue
        if not held:
            held_samples = max(0, round((end - start) * frame.sample_rate))
        held.append((frame, n_lost))
        if time > end + _MAX_PADDING:
            yield from held
            held, held_samples, end = [], 0, math.inf


class _LostTime:
    """Lost time according to timestamps."""

    def __init__(self) -> None:
        self._next: float | None = None  # expected timestamp of the next frame
        self._damage_end: float | None = None

    def skip(self, packet: Any, is_damaged: bool) -> None:
        """Take a packet without frames."""
        if is_damaged and packet.pts is not None:
            start = float(packet.pts * packet.time_base)
            self._next = start if self._next is None else self._next
            self._damage_end = start + float((packet.duration or 0) * packet.time_base)

    def before(self, packet: Any, frame: Any) -> float:
        """Return the seconds that are lost before a frame."""
        start = self._next if frame.pts is None else float(frame.pts * frame.time_base)
        if start is None:
            return 0.0
        jump = 0.0 if self._next is None else start - self._next
        smallest = _MIN_JUMP if self._damage_end is None else 0.5 / frame.sample_rate
        self._next, self._damage_end = start + frame.samples / frame.sample_rate, None
        return jump if smallest < jump < _MAX_JUMP else 0.0

    def at_end(self) -> float:
        """Return the seconds that are lost after the last frame."""
        if self._next is None or self._damage_end is None:
            return 0.0
        return max(0.0, self._damage_end - self._next)


class _LostBytes:
    """Lost time, estimated from the bytes between packets and the bitrate so far.

    Parameters
    ----------
    n_bytes : int, default=0
        Size of a file of whose packets FFmpeg counts the bytes without those that it drops.
    """

    def __init__(self, n_bytes: int = 0) -> None:
        self._size = n_bytes
        self._end: int | None = None  # of the last intact packet or tag, as a position in the file
        self._damage_end = 0
        self._n_bytes, self._n_seconds = 0, 0.0  # of intact packets

    def skip(self, packet: Any, is_damaged: bool) -> None:
        """Take a packet without frames."""
        if packet.pos is None:
            return
        self._end = packet.pos if self._end is None else self._end
        # Parts of joined files may begin and end with tags. The frame after a tag is the header of the next part.
        content = bytes(packet)
        while 0 <= self._end - packet.pos and (size := tag_size(content[self._end - packet.pos :])):
            self._end += size
        packet_end = packet.pos + packet.size
        if not is_damaged or self._end > packet.pos:
            self._end = max(self._end, packet_end)
        elif content.strip(b"\0"):
            self._damage_end = packet_end

    def before(self, packet: Any, frame: Any) -> float:
        """Return the seconds that are lost before a frame."""
        if packet.pos is None or packet.size == 0:
            return 0.0
        n_lost = 0 if self._end is None else packet.pos - self._end
        frame_seconds = float(packet.duration * packet.time_base)
        self._end = packet.pos + packet.size
        self._n_bytes += packet.size
        self._n_seconds += frame_seconds
        return round(self._estimate(n_lost) / frame_seconds) * frame_seconds

    def at_end(self) -> float:
        """Return the seconds that are lost after the last frame."""
        return 0.0 if self._end is None else self._estimate(max(self._damage_end, self._size) - self._end)

    def _estimate(self, n_lost: int) -> float:
        return max(0, n_lost) * self._n_seconds / self._n_bytes if self._n_bytes else 0.0
