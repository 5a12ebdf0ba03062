"""Reader of frames of videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from .._utils.validation import check_choice, check_number
from ._base import MediaError, Reader, Sample, Shape, check_path, check_size
from .image_pixels import Color


class VideoFrames(Reader):
    """Read a number of frames of each video at one size.

    >>> from mmestim.media import VideoFrames
    >>> VideoFrames("clip", n_frames=3, size=(112, 112)).sample_shape
    (3, 3, 112, 112)

    The video is divided into parts of equal duration, and the frame in the middle of each part is taken. A video with
    fewer frames repeats some of them. The rotation that a phone noted is applied. Damaged files are errors.

    Parameters
    ----------
    column : str, default=None
        Column of paths in a DataFrame. `None` reads X itself, such as a list of paths.
    n_frames : int, default=3
        Number of frames.
    size : (int, int), default=(112, 112)
        Height and width in pixels. Whole frames are resized to it, whatever their aspect ratio.
    color : {'rgb', 'gray'}, default='rgb'
        Channels of the result.

    Attributes
    ----------
    sample_shape : tuple of int
        (n_frames, 3, height, width), or (n_frames, 1, height, width) for gray.

    See Also
    --------
    LogMelSpectrogram : The sound of the same files.
    MediaTransformer : Several readers with a cache.
    """

    def __init__(
        self,
        column: str | None = None,
        *,
        n_frames: int = 3,
        size: tuple[int, int] = (112, 112),
        color: Color = "rgb",
    ) -> None:
        self.column = column
        self.n_frames = n_frames
        self.size = size
        self.color = color

    @property
    def sample_shape(self) -> Shape:
        """Shape of the frames of a video, channels first."""
        return (self.n_frames, 3 if self.color == "rgb" else 1, *self.size)

    @property
    def sample_dtype(self) -> np.dtype[Any]:
        """Type of the pixels, uint8."""
        return np.dtype(np.uint8)

    def read(self, value: Any) -> Sample:
        """Read the frames of one video.

        Parameters
        ----------
        value : path
            The file.

        Returns
        -------
        Sample
            Array of uint8 of shape `sample_shape`.

        Raises
        ------
        MediaError
            If the file is damaged, or contains no video.
        """
        path = check_path(value)
        with ExitStack() as stack:
            container, stream = stack.enter_context(_open_video(path))
            times = _packet_times(path, container, stream)
            try:
                container.seek(0)
            except av.FFmpegError:  # A stream without a container cannot be rewound.
                container, stream = stack.enter_context(_open_video(path))
            frames = list(self._frames(path, container, stream, times))
        return Sample(np.stack(frames))

    def _frames(self, path: str, container: Any, stream: Any, times: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames that are shown at the middle of each part of the video."""
        stream.thread_type = "NONE"  # Files are read in parallel, not frames.
        span = times[-1] - times[0] + (np.diff(times).mean() if len(times) > 1 else 0)
        targets = times[0] + span * (np.arange(self.n_frames) + 0.5) / self.n_frames
        wanted = np.searchsorted(times, targets, side="right") - 1
        n_decoded, n_yielded = 0, 0
        for frame in container.decode(stream):
            while n_yielded < self.n_frames and wanted[n_yielded] == n_decoded:
                if frame.is_corrupt:
                    raise MediaError(path, f"is damaged at {frame.time or 0:.2f} s. Download or export it again.")
                yield self._pixels(frame)
                n_yielded += 1
            n_decoded += 1
            if n_yielded == self.n_frames:
                return
        raise MediaError(
            path, f"is truncated or damaged: {n_decoded} of {len(times)} frames can be decoded. Download it again."
        )

    def _pixels(self, frame: Any) -> np.ndarray:
        """Return a frame upright, at the size, with channels first."""
        height, width = self.size
        n_turns = round(frame.rotation / 90) % 4
        if n_turns % 2:
            height, width = width, height
        resized = frame.reformat(width, height, "rgb24" if self.color == "rgb" else "gray", interpolation="AREA")
        pixels = np.rot90(resized.to_ndarray(), n_turns)
        return np.moveaxis(pixels, -1, 0) if self.color == "rgb" else pixels[None]

    def _check_parameters(self) -> None:
        check_number("n_frames", self.n_frames, low=1, integer=True)
        check_size("size", self.size)
        check_choice("color", self.color, ("rgb", "gray"))


@contextmanager
def _open_video(path: str) -> Iterator[tuple[Any, Any]]:
    """Open a file; yield its container and its video, and turn the errors of PyAV into MediaError."""
    try:
        with av.open(path) as container:
            # The picture on the cover of a song is a video stream as well.
            videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
            if not videos:
                raise MediaError(path, "contains no video. Leave it out, or make its cell empty.")
            if container.format.name.endswith(("_pipe", "image2")):
                raise MediaError(path, "is an image. Read it by ImagePixels.")
            yield container, videos[0]
    except av.FFmpegError as error:
        raise MediaError(path, f"is not video in a supported format, or is damaged: {error.strerror}.") from error


def _packet_times(path: str, container: Any, stream: Any) -> np.ndarray:
    """Return the times of all frames in the order in which they are shown, without decoding them."""
    # Packets before the start of a trimmed clip are decoded, but not shown.
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    if not packets:
        raise MediaError(path, "contains no frames. Leave it out, or export it again.")
    times = [packet.pts for packet in packets]
    if None in times:  # Raw streams have no times; their frames are taken as equally long.
        return np.arange(len(packets), dtype=float)
    return np.sort(np.array(times, dtype=float))
