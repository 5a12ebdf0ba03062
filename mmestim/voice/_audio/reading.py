"""One clip, from a file or an array to a mono float32 waveform, or an error that says what is wrong with it."""

from __future__ import annotations

import difflib
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import soundfile

from .resampling import resample

# A clip is silent if it stays within this of its mean: three steps of 16-bit samples.
_SILENCE_DB = -80.0
# Programs that write a WAV to a pipe put a size like this where they do not know it.
_UNKNOWN_SIZE = 0x7FFFF000
# The largest page of an Ogg file, in bytes.
_OGG_PAGE = 27 + 255 + 255 * 255
# An MP3 may promise this much more than there is: encoders count their padding in different ways.
_MP3_SLACK_SECONDS = 0.1
# More bytes than a frame of MP3 has.
_MP3_FRAME = 2304
# No audio has samples so large, even where full scale is that of 32 bits; their squares still are numbers.
_LARGEST = 1e12


class AudioError(ValueError):
    """A clip that cannot be used.

    Parameters
    ----------
    item : str
        Its path, or its number.
    reason : str
        What is wrong with it, and the way out.
    """

    def __init__(self, item: str, reason: str) -> None:
        super().__init__(item, reason)  # both, for pickle
        self.item = item
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.item}: {self.reason}"


def read_clip(item: Any, name: str, *, sample_rate: int, source_rate: int, max_duration: float) -> np.ndarray:
    """Waveform of a path or an array; `name` is what errors call an array, `source_rate` its rate in Hz."""
    if isinstance(item, str | os.PathLike):
        name = os.fspath(item)
        samples, rate = _read_file(name, max_duration)
    else:
        samples, rate = _channels_first(item, name), source_rate
    check_not_empty(name, samples.shape[-1])
    _check_duration(name, samples.shape[-1] / rate, max_duration)
    mono = mono_of(samples)
    check_finite(name, mono, rate)
    waveform = resample(mono, rate, sample_rate)[: n_resampled(len(mono), rate, sample_rate)]
    check_heard(name, float(waveform.min()), float(waveform.max()), 1 if samples.ndim == 1 else len(samples))
    return waveform


def mono_of(samples: np.ndarray) -> np.ndarray:
    """Float32 of shape (n_samples,), the mean of the channels of (n_channels, n_samples)."""
    with np.errstate(over="ignore", invalid="ignore"):  # what these warn of is an error of check_finite
        return np.array(samples if samples.ndim == 1 else samples.mean(axis=0), dtype=np.float32)


def n_resampled(n_samples: int, old_rate: int, new_rate: int) -> int:
    """Samples of a clip at its new rate."""
    return max(1, round(n_samples * new_rate / old_rate))


# What makes a clip of no use ------------------------------------------------------------------------


def check_not_empty(name: str, n_samples: int) -> None:
    """Raise if there are no samples."""
    if n_samples == 0:
        raise AudioError(name, "holds no samples. Leave it out, or export it again.")


def check_finite(name: str, mono: np.ndarray, rate: int, first: int = 0) -> None:
    """Raise if a sample is no finite number, or no audio has such; `first` is the number of the first one."""
    fits = np.abs(mono) < _LARGEST  # NaN does not
    if not fits.all():
        number = np.flatnonzero(~fits)[0]
        moment, what = (first + number) / rate, "NaN or infinite samples"
        if np.isfinite(mono[number]):
            what = f"samples of {abs(mono[number]):.0e}, which no audio has"
        raise AudioError(name, f"holds {what}, the first at {moment:.4f} s. Export it again.")


def check_heard(name: str, lowest: float, highest: float, n_channels: int) -> None:
    """Raise if all that there is between the lowest and the highest sample is silence."""
    if (highest - lowest) / 2 < 10 ** (_SILENCE_DB / 20):
        mixed = "" if n_channels == 1 else f", its {n_channels} channels averaged"
        raise AudioError(name, f"is silent: it stays within {_SILENCE_DB:g} dBFS of its mean{mixed}. Leave it out.")


# Arrays --------------------------------------------------------------------------------------------


def _channels_first(item, name):
    """Samples of shape (n_samples,) or (n_channels, n_samples), full scale 1."""
    if hasattr(item, "detach"):  # a tensor, on any device
        item = item.detach().cpu()
        item = (item.float() if item.is_floating_point() else item).numpy()
    try:
        samples = np.asarray(item)
        if samples.dtype == object:  # a row of np.array([a, b], dtype=object), a and b of one length
            samples = np.array(samples.tolist())
    except (TypeError, ValueError):  # lists of different lengths
        samples = np.empty(0, dtype=object)
    kind, n_bytes = samples.dtype.kind, samples.dtype.itemsize
    if kind not in "fiu":
        what = (
            "is None" if item is None else f"is of type {type(item).__name__}, not a path or an array of real numbers"
        )
        raise AudioError(name, f"{what}. Give a path, or a waveform of floats or integers.")
    if samples.ndim not in (1, 2):
        raise AudioError(name, f"has shape {samples.shape}. Give it as (n_samples,) or (n_channels, n_samples).")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1] > 0:
        raise AudioError(name, f"has shape {samples.shape}, more channels than samples. Transpose it: channels first.")
    if kind == "f":
        return samples
    if n_bytes == 8 or (kind == "u" and n_bytes > 1):
        raise AudioError(
            name, f"is of {samples.dtype}, whose full scale is no audio's. Convert it to int16 or float32."
        )
    zero = 128.0 if kind == "u" else 0.0  # as in WAV files of 8 bits
    return ((samples - zero) / 2 ** (8 * n_bytes - 1)).astype(np.float32)


# Files ---------------------------------------------------------------------------------------------


class SequentialFile(soundfile.SoundFile):
    """A file read from its start to its end: soundfile seeks after every read, which garbles what follows in an MP3."""

    def seekable(self):
        return False


@contextmanager
def opened(path: str) -> Iterator[tuple[soundfile.SoundFile, BinaryIO | None]]:
    """A file of audio, and its bytes where its length is a guess; what is wrong with it is an `AudioError`."""
    _check_file(path)
    try:
        with open(path, "rb") as file:
            is_counted, cut = _look(file)
            if cut:
                raise _truncated(path, cut)
            file.seek(0)
            # libsndfile reads faster by itself, but only our file tells how far it got.
            # As bytes where names are bytes: not all of them are Unicode.
            name = path if os.name == "nt" else os.fsencode(path)
            with SequentialFile(name if is_counted else file) as audio:
                if audio.frames == np.iinfo(np.int64).max:
                    raise AudioError(path, "does not say how long it is, as if written to a pipe. Convert it to WAV.")
                yield audio, None if is_counted else file
    except OSError as error:
        raise AudioError(path, f"cannot be opened: {error.strerror}.") from error
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a suffix of files without header
        detail = _detail(error)
        if "not exist" in detail:  # libsndfile says so of any file called .mp3 that is none
            detail = "no audio found"
        reason = f"is not audio that can be read here, or damaged at its start: {detail}"
        raise AudioError(path, f"{reason}. Convert it to WAV, FLAC, OGG or MP3, or fetch it again.") from error


def read_frames(audio: soundfile.SoundFile, path: str, n_frames: int) -> np.ndarray:
    """The next samples, of shape (n_samples, n_channels); fewer, or none, where the file ends."""
    try:
        # Memory that is not written to is not taken.
        return audio.read(n_frames, out=np.empty((n_frames, audio.channels), dtype=np.float32))
    except soundfile.SoundFileError as error:
        raise _truncated(path, _detail(error)) from error


def check_end(audio: soundfile.SoundFile, path: str, guessed: BinaryIO | None, n_read: int) -> None:
    """Raise unless a file ends where it said; `guessed` are its bytes where that was a guess."""
    rate, promised = audio.samplerate, audio.frames
    if guessed is not None:
        if n_read == promised and guessed.tell() < os.fstat(guessed.fileno()).st_size - _MP3_FRAME:
            reason = "is an MP3 that does not say how long it is, and libsndfile takes it for shorter than it is"
            raise AudioError(path, f"{reason}. Convert it to WAV or FLAC.")
    elif n_read < promised - rate * (_MP3_SLACK_SECONDS if audio.format == "MP3" else 0):
        raise _truncated(path, f"of {promised / rate:.3f} s that it promises {n_read / rate:.3f} s can be decoded")


def _read_file(path, max_duration):
    """Samples as above, and their rate."""
    with opened(path) as (audio, guessed):
        rate = audio.samplerate
        if guessed is None:
            _check_duration(path, audio.frames / rate, max_duration)
        room = int(max_duration * rate) + 1
        samples = read_frames(audio, path, min(audio.frames, room))
        if len(samples) < room:
            check_end(audio, path, guessed, len(samples))
    return samples[:, 0] if samples.shape[1] == 1 else samples.T, rate


def _truncated(path, how):
    return AudioError(path, f"is truncated or damaged: {how}. Fetch or export it again.")


def _detail(error):
    return str(error).split(": ")[-1].rstrip(".")


def _check_file(path):
    if "://" in path:
        raise AudioError(path, "is a URL, and files must be local. Download it first.")
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(path, f"does not exist{suggestion(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise AudioError(path, f"cannot be opened: {getattr(error, 'strerror', error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder. Give a folder by itself, or the files in it.")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
        raise AudioError(path, "is not a regular file. Copy what it gives into one.")
    if status.st_size == 0:
        raise AudioError(path, "is an empty file, of 0 bytes. Fetch or export it again.")


def suggestion(path: str) -> str:
    """What follows on saying that a file or folder does not exist."""
    folder, name = os.path.split(path)
    start = "" if os.path.isabs(path) else f"; it starts at {os.getcwd()!r}"
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in itertools.islice(entries, 2000)]
    except OSError:
        return f", and neither does the folder {folder!r}. Correct the path{start}."
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.7):
        return f". Did you mean {os.path.join(folder, close[0])!r}?"
    return f". Correct the path{start}."


def _check_duration(name, seconds, max_duration):
    if seconds > max_duration:
        reason = (
            f"lasts {seconds:.1f} s, above max_duration={max_duration:g}. Cut it into pieces, or allow for more: "
            "AudioCorpus(X, max_duration=...)."
        )
        raise AudioError(name, reason)


# What libsndfile does not tell of a file that is cut short: it goes by what is left.


def _look(file):
    """Whether a file's header counts its samples, and how the file is cut short, as far as bytes tell."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return True, _cut_wav(file, size)
    if start[:4] == b"OggS":
        return True, _cut_ogg(file, size)
    if start[:3] == b"ID3":  # its size has 7 bits in a byte
        file.seek(10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(start[6:10]))))
        start = file.read(12)
    if len(start) > 1 and start[0] == 0xFF and start[1] >= 0xE0:  # MPEG audio
        first = start + file.read(180)
        return any(tag in first for tag in (b"Xing", b"Info", b"VBRI")), ""
    return True, ""


def _cut_wav(file, size):
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            left = size - file.tell()
            return f"of {length} bytes that it promises {left} are there" if left < length < _UNKNOWN_SIZE else ""
        file.seek(length + length % 2, os.SEEK_CUR)
    return ""


def _cut_ogg(file, size):
    file.seek(max(0, size - 2 * _OGG_PAGE))
    end = file.read()
    page = end.rfind(b"OggS")
    head = end[page : page + 27]
    if page >= 0 and len(head) == 27 and head[5] & 4:  # the last of its stream
        sizes = end[page + 27 : page + 27 + head[26]]
        if len(sizes) == head[26] and page + 27 + len(sizes) + sum(sizes) <= len(end):
            return ""
    return "its last page is missing"
