"""Reading of one clip from a file or an array into a mono float32 waveform, with an error that names any problem."""

from __future__ import annotations

import difflib
import itertools
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import soundfile

from .resampling import resample

# A clip that stays within this level of its mean, three steps of 16-bit samples, is silent.
_SILENCE_DB = -80.0
# A WAV file that is written to a pipe gets a size of about this or more, since its real size is not known in advance.
_UNKNOWN_SIZE = 0x7FFFF000
# Largest size of an Ogg page in bytes.
_MAX_OGG_PAGE = 27 + 255 + 255 * 255
# Missing part of an MP3 file that is tolerated, since encoders count their padding in different ways.
_MP3_SLACK_SECONDS = 0.1
# Upper bound on the size of an MP3 frame in bytes.
_MAX_MP3_FRAME = 2304
# Upper bound on samples: above any audio, even with 32-bit full scale, and small enough to be squared.
_MAX_SAMPLE = 1e12


class AudioError(ValueError):
    """Error about a clip that cannot be used.

    Parameters
    ----------
    item : str
        Path of the clip, or its number for a clip that is an array.
    reason : str
        Description of the problem and of the way out.
    """

    def __init__(self, item: str, reason: str) -> None:
        super().__init__(item, reason)  # both, so that the error can be pickled
        self.item = item
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.item}: {self.reason}"


def read_clip(item: Any, name: str, *, sample_rate: int, source_rate: int, max_duration: float) -> np.ndarray:
    """Read a clip from a path or an array.

    Parameters
    ----------
    item : path or array-like
        The clip.
    name : str
        Name of the clip in errors if it is an array.
    sample_rate : int
        Sample rate of the result in Hz.
    source_rate : int
        Sample rate of an array in Hz.
    max_duration : float
        Seconds above which a clip is an error.

    Returns
    -------
    float32 ndarray of shape (n_samples,)
        The waveform.

    Raises
    ------
    AudioError
        If the clip cannot be used.
    """
    if isinstance(item, str | os.PathLike):
        name = os.fspath(item)
        samples, rate = _read_file(name, max_duration)
    else:
        samples, rate = _channels_first(item, name), source_rate
    check_not_empty(name, samples.shape[-1])
    _check_duration(name, samples.shape[-1] / rate, max_duration)
    mono = to_mono(samples)
    check_finite(name, mono, rate)
    waveform = resample(mono, rate, sample_rate)[: n_resampled(len(mono), rate, sample_rate)]
    check_not_silent(name, float(waveform.min()), float(waveform.max()), 1 if samples.ndim == 1 else len(samples))
    return waveform


def to_mono(samples: np.ndarray) -> np.ndarray:
    """Average the channels of (n_channels, n_samples) or (n_samples,) into float32 of shape (n_samples,)."""
    with np.errstate(over="ignore", invalid="ignore"):  # check_finite reports the results of overflow
        return np.array(samples if samples.ndim == 1 else samples.mean(axis=0), dtype=np.float32)


def n_resampled(n_samples: int, old_rate: int, new_rate: int) -> int:
    """Return the number of samples of a clip at a new rate."""
    return max(1, round(n_samples * new_rate / old_rate))


# Checks that files and arrays share ------------------------------------------------------------------


def check_not_empty(name: str, n_samples: int) -> None:
    """Raise an AudioError if there are no samples."""
    if n_samples == 0:
        raise AudioError(name, "contains no samples. Leave it out, or export it again.")


def check_finite(name: str, mono: np.ndarray, rate: int, first: int = 0) -> None:
    """Raise an AudioError if a sample is not finite or is too large for audio.

    Parameters
    ----------
    name : str
        Name of the clip.
    mono : ndarray of shape (n_samples,)
        Samples.
    rate : int
        Sample rate in Hz.
    first : int, default=0
        Number of the first of these samples within the clip.
    """
    is_valid = np.abs(mono) < _MAX_SAMPLE  # False for NaN
    if not is_valid.all():
        position = np.flatnonzero(~is_valid)[0]
        seconds, problem = (first + position) / rate, "NaN or infinite samples"
        if np.isfinite(mono[position]):
            problem = f"samples of {abs(mono[position]):.0e}, too large for audio"
        raise AudioError(name, f"contains {problem}, the first at {seconds:.4f} s. Export it again.")


def check_not_silent(name: str, lowest: float, highest: float, n_channels: int) -> None:
    """Raise an AudioError if the range from the lowest to the highest sample is silence."""
    if (highest - lowest) / 2 < 10 ** (_SILENCE_DB / 20):
        mixed = "" if n_channels == 1 else f" after averaging its {n_channels} channels"
        raise AudioError(name, f"is silent: it stays within {_SILENCE_DB:g} dBFS of its mean{mixed}. Leave it out.")


# Arrays --------------------------------------------------------------------------------------------


def _channels_first(item: Any, name: str) -> np.ndarray:
    """Return samples of shape (n_samples,) or (n_channels, n_samples) with a full scale of 1."""
    if hasattr(item, "detach"):  # a tensor, on any device
        item = item.detach().cpu()
        item = (item.float() if item.is_floating_point() else item).numpy()
    try:
        samples = np.asarray(item)
        if samples.dtype == object:  # a row of np.array([a, b], dtype=object) with a and b of equal length
            samples = np.array(samples.tolist())
    except (TypeError, ValueError):  # lists of different lengths
        samples = np.empty(0, dtype=object)
    kind, n_bytes = samples.dtype.kind, samples.dtype.itemsize
    if kind not in "fiu":
        problem = f"is of type {type(item).__name__}, not a path or an array of real numbers"
        if item is None:
            problem = "is None"
        raise AudioError(name, f"{problem}. Pass a path, or a waveform of floats or integers.")
    if samples.ndim not in (1, 2):
        raise AudioError(name, f"has shape {samples.shape}. Pass it as (n_samples,) or (n_channels, n_samples).")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1] > 0:
        raise AudioError(name, f"has shape {samples.shape}, more channels than samples. Transpose it: channels first.")
    if kind == "f":
        return samples
    if n_bytes == 8 or (kind == "u" and n_bytes > 1):
        raise AudioError(
            name, f"has dtype {samples.dtype}, whose full scale is undefined for audio. Convert it to int16 or float32."
        )
    zero = 128.0 if kind == "u" else 0.0  # as in 8-bit WAV files
    return ((samples - zero) / 2 ** (8 * n_bytes - 1)).astype(np.float32)


# Files ---------------------------------------------------------------------------------------------


class SequentialFile(soundfile.SoundFile):
    """Audio file that is read from start to end without seeking.

    soundfile seeks after every read of a seekable file, which garbles the samples after it in an MP3.
    """

    def seekable(self) -> bool:
        """Return False."""
        return False


@contextmanager
def open_audio(path: str) -> Iterator[tuple[soundfile.SoundFile, BinaryIO | None]]:
    """Open an audio file; turn its errors, and those of reading it, into AudioError.

    Parameters
    ----------
    path : str
        The file.

    Yields
    ------
    audio : SoundFile
        The open file.
    guessed : binary file or None
        The bytes of the file if libsndfile had to guess its length; None if the header contains the length.
    """
    _check_file(path)
    try:
        with open(path, "rb") as file:
            is_counted, truncation = _inspect(file)
            if truncation:
                raise _truncation_error(path, truncation)
            file.seek(0)
            # libsndfile reads faster by itself, but only a Python file shows how far it was read.
            # The name is encoded, since it need not be valid Unicode.
            name = path if os.name == "nt" else os.fsencode(path)
            with SequentialFile(name if is_counted else file) as audio:
                if audio.frames == np.iinfo(np.int64).max:
                    raise AudioError(path, "has no length in its header, as if written to a pipe. Convert it to WAV.")
                yield audio, None if is_counted else file
    except OSError as error:
        raise AudioError(path, f"cannot be opened: {error.strerror}.") from error
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a suffix of files without a header
        detail = _libsndfile_detail(error)
        if "not exist" in detail:  # libsndfile reports this for any .mp3 file that contains no MP3
            detail = "no audio found"
        reason = f"is not audio in a supported format, or is damaged at its start: {detail}"
        raise AudioError(path, f"{reason}. Convert it to WAV, FLAC, OGG or MP3, or download it again.") from error


def read_frames(audio: soundfile.SoundFile, path: str, n_frames: int) -> np.ndarray:
    """Read the next samples, of shape (n_frames, n_channels); fewer at the end of the file."""
    try:
        # np.empty reserves no physical memory until it is written to.
        return audio.read(n_frames, out=np.empty((n_frames, audio.channels), dtype=np.float32))
    except soundfile.SoundFileError as error:
        raise _truncation_error(path, _libsndfile_detail(error)) from error


def check_end(audio: soundfile.SoundFile, path: str, guessed: BinaryIO | None, n_read: int) -> None:
    """Raise an AudioError unless a file has the length that its header, or libsndfile, gave.

    Parameters
    ----------
    audio : SoundFile
        The open file.
    path : str
        Its path.
    guessed : binary file or None
        Its bytes if libsndfile had to guess the length.
    n_read : int
        Number of samples read until the end of the file.
    """
    rate, n_expected = audio.samplerate, audio.frames
    if guessed is not None:
        if n_read == n_expected and guessed.tell() < os.fstat(guessed.fileno()).st_size - _MAX_MP3_FRAME:
            reason = "is an MP3 without its length in the header, and libsndfile underestimates the length"
            raise AudioError(path, f"{reason}. Convert it to WAV or FLAC.")
    elif n_read < n_expected - rate * (_MP3_SLACK_SECONDS if audio.format == "MP3" else 0):
        reason = f"only {n_read / rate:.3f} s of {n_expected / rate:.3f} s can be decoded"
        raise _truncation_error(path, reason)


def _read_file(path: str, max_duration: float) -> tuple[np.ndarray, int]:
    """Read samples of shape (n_samples,) or (n_channels, n_samples), and their rate."""
    with open_audio(path) as (audio, guessed):
        rate = audio.samplerate
        if guessed is None:
            _check_duration(path, audio.frames / rate, max_duration)
        limit = int(max_duration * rate) + 1
        samples = read_frames(audio, path, min(audio.frames, limit))
        if len(samples) < limit:
            check_end(audio, path, guessed, len(samples))
    return samples[:, 0] if samples.shape[1] == 1 else samples.T, rate


def _truncation_error(path: str, reason: str) -> AudioError:
    """Return an error about a file that is cut short."""
    return AudioError(path, f"is truncated or damaged: {reason}. Download or export it again.")


def _libsndfile_detail(error: Exception) -> str:
    """Return the last part of a message of libsndfile."""
    return str(error).split(": ")[-1].rstrip(".")


def _check_file(path: str) -> None:
    """Raise an AudioError unless the path is a regular file with content."""
    if "://" in path:
        raise AudioError(path, "is a URL, and files must be local. Download it first.")
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(path, f"does not exist{path_suggestion(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise AudioError(path, f"cannot be opened: {getattr(error, 'strerror', error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder. Pass a folder by itself, or a list of the files in it.")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
        raise AudioError(path, "is not a regular file. Copy its content to a file.")
    if status.st_size == 0:
        raise AudioError(path, "is an empty file, of 0 bytes. Download or export it again.")


def path_suggestion(path: str) -> str:
    """Return the end of a sentence that begins with a path and 'does not exist': a similar name, or advice."""
    if os.path.islink(path):
        return f": it is a link to {os.readlink(path)!r}. Correct the link."
    folder, name = os.path.split(path.rstrip(os.sep))
    start = "" if os.path.isabs(path) else f"; it is relative to {os.getcwd()!r}"
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in itertools.islice(entries, 2000)]
    except OSError:
        return f", and neither does the folder {folder!r}. Correct the path{start}."
    similar = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    suggestion = os.path.join(folder, similar[0]) if similar else path
    if suggestion == path:
        return f". Correct the path{start}."
    looks_equal = unicodedata.normalize("NFC", suggestion) == unicodedata.normalize("NFC", path)
    return f". Did you mean {ascii(suggestion) if looks_equal else repr(suggestion)}?"


def _check_duration(name: str, seconds: float, max_duration: float) -> None:
    """Raise an AudioError if a clip is too long."""
    if seconds > max_duration:
        reason = (
            f"lasts {seconds:.1f} s, above max_duration={max_duration:g}. Cut it into pieces, or raise the limit: "
            "AudioCorpus(X, max_duration=...)."
        )
        raise AudioError(name, reason)


# Truncation that libsndfile does not report, because it goes by the bytes that are left ----------------


def _inspect(file: BinaryIO) -> tuple[bool, str]:
    """Return whether the header of a file counts its samples, and a description of any truncation."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return True, _wav_truncation(file, size)
    if start[:4] == b"OggS":
        return True, _ogg_truncation(file, size)
    if start[:3] == b"ID3":  # the size of the tag has 7 bits per byte
        file.seek(10 + sum((byte & 127) << 7 * digit for digit, byte in enumerate(reversed(start[6:10]))))
        start = file.read(12)
    if len(start) > 1 and start[0] == 0xFF and start[1] >= 0xE0:  # MPEG audio
        first_frame = start + file.read(180)
        return any(tag in first_frame for tag in (b"Xing", b"Info", b"VBRI")), ""
    return True, ""


def _wav_truncation(file: BinaryIO, size: int) -> str:
    """Return how many bytes of its data chunk a WAV file lacks; nothing if it is complete."""
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            n_left = size - file.tell()
            is_truncated = n_left < length < _UNKNOWN_SIZE
            return f"it has {n_left} of the {length} bytes given in its header" if is_truncated else ""
        file.seek(length + length % 2, os.SEEK_CUR)
    return ""


def _ogg_truncation(file: BinaryIO, size: int) -> str:
    """Return that the last page of an Ogg file is missing; nothing if it is complete."""
    file.seek(max(0, size - 2 * _MAX_OGG_PAGE))
    end = file.read()
    page = end.rfind(b"OggS")
    head = end[page : page + 27]
    if page >= 0 and len(head) == 27 and head[5] & 4:  # flag of the last page of a stream
        sizes = end[page + 27 : page + 27 + head[26]]
        if len(sizes) == head[26] and page + 27 + len(sizes) + sum(sizes) <= len(end):
            return ""
    return "its last page is missing"
