"""Facts in the headers of files that FFmpeg does not report."""

from __future__ import annotations

import io
import mmap
import re
from typing import BinaryIO

# A WAV file that is written to a pipe gets a size of 0, or of about this or more, since its size is not known yet.
_UNKNOWN_SIZE = 0x7FFFF000
# The tag, its flags, of which the lowest says that the frames are counted, and their number.
_MP3_COUNT = re.compile(rb"(?:Xing|Info)\0\0\0(.)(.{4})", re.DOTALL)
_FIRST_OGG_PAGE = re.compile(rb"OggS\0[\2\3\6\7]")


def wav_completeness(file: BinaryIO) -> float:
    """Return the share of a WAV file's data that is present, 1.0 if the header does not count the data."""
    size = file.seek(0, io.SEEK_END)
    file.seek(12)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            n_left = size - file.tell()
            return n_left / length if n_left < length < _UNKNOWN_SIZE else 1.0
        file.seek(length + length % 2, io.SEEK_CUR)
    return 1.0


def mp3_frame_count(file: BinaryIO) -> int | None:
    """Return the frames that an MP3 file counts in its first frame, or the first part of joined files; None without."""
    file.seek(0)
    file.seek(tag_size(file.read(10)))
    count = _MP3_COUNT.search(file.read(4096))
    return int.from_bytes(count[2]) if count and count[1][0] & 1 else None


def tag_size(start: bytes) -> int:
    """Return the size of the ID3 or APE tag that begins with these bytes; 0 if they begin none."""
    if start[:3] == b"ID3" and len(start) >= 10:
        return 10 + sum((byte & 127) << 7 * digit for digit, byte in enumerate(reversed(start[6:10])))
    if start[:8] == b"APETAGEX" and len(start) >= 16:
        return 32 + int.from_bytes(start[12:16], "little")
    return 128 if start[:3] == b"TAG" else 0


def split_ogg(file: BinaryIO) -> list[tuple[int, int]]:
    """Return the start and end in bytes of each link of a chain of Ogg streams."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        starts: list[int] = []
        last = None
        for page in _FIRST_OGG_PAGE.finditer(content):
            # The streams of one link begin in consecutive pages.
            if last is None or content.find(b"OggS", last + 4) != page.start():
                starts.append(page.start())
            last = page.start()
        return list(zip(starts, [*starts[1:], len(content)], strict=False))


def is_whole_ogg(file: BinaryIO) -> bool:
    """Return whether an Ogg file ends with the whole of a page that is marked as the last of its stream."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        page = content.rfind(b"OggS")
        n_segments = content[page + 26] if page + 26 < len(content) else 0
        sizes = content[page + 27 : page + 27 + n_segments]
        is_last = page + 5 < len(content) and bool(content[page + 5] & 4)
        return is_last and len(sizes) == n_segments and page + 27 + n_segments + sum(sizes) <= len(content)
