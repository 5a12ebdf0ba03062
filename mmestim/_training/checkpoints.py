"""State of a training on disk, from which a fit that was killed resumes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from .._distributed.exchange import from_first
from .._distributed.processes import rank
from .._utils.atomic_write import write_atomically
from .state_encoding import StateEncoder, decode, named_tensors

# Version of the files. It is part of the fingerprint, so files of other versions are not read.
FORMAT = 4

# Age in seconds at which a temporary file is considered left over from a fit that was killed.
_STALE_AGE = 3600

# Seconds between two writes of unfinished trainings. A write takes as long as a short epoch.
_WRITE_INTERVAL = 1.0

# Parts of a finished training that are stored.
_RESULTS = ("module", "objective", "history")

_DIGEST_SIZE = 16


def check_checkpoint(checkpoint: Any, random_state: Any) -> None:
    """Create the folder `checkpoint`, and raise unless repeatable fits can be stored in it."""
    try:
        folder = Path(checkpoint)
    except TypeError:
        raise TypeError(f"checkpoint={checkpoint!r} must be the path of a folder, or None.") from None
    if checkpoint == "":
        raise ValueError("checkpoint='' names no folder. Use checkpoint='.' for the current one, or None for none.")
    if random_state is None:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} requires a fit that can be repeated, but random_state=None draws a new "
            "seed each time. Use an int, such as random_state=0."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} is not a writable folder ({error.strerror}). Name a writable folder, or a "
            "new one."
        ) from error


class Checkpoints:
    """Files of one fit: one for each of its trainings, numbered in the order in which they start.

    A fit repeats its steps from the start, so the numbers repeat too. A finished training is replaced
    by its results; an unfinished one resumes after its last complete epoch.

    Parameters
    ----------
    folder : path-like
        Folder of the files.
    fingerprint : str
        Digest that identifies the fit.
    device : torch.device
        Device of the training.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str, device: torch.device) -> None:
        self.folder, self.fingerprint, self.device = Path(folder), fingerprint, device
        self.n_started = 0
        for path in self.folder.glob(f".{fingerprint}-*.tmp"):
            with contextlib.suppress(OSError):  # Another process with the same fit may have deleted it.
                if time.time() - path.stat().st_mtime > _STALE_AGE:
                    path.unlink()

    def start(self) -> Checkpoint:
        """Return the file of the next training. Trainings may be nested."""
        self.n_started += 1
        return Checkpoint(self, self.n_started - 1)

    def path(self, number: int) -> Path:
        """Return the path of the file of a training."""
        return self.folder / f"{self.fingerprint}-{number}.ckpt"


class Checkpoint:
    """File of one training: read before it starts, restored once its objects exist, updated after each epoch.

    The parts are all objects that the next epoch depends on, by name; "module" is the network. Epochs are
    written at most once a second. As a context manager, a checkpoint writes the last one if an exception,
    such as Ctrl-C, ends the training.

    Parameters
    ----------
    fit : Checkpoints
        Files of the fit.
    number : int
        Number of the training.

    Attributes
    ----------
    is_finished : bool
        Whether the file holds the results of a finished training.
    """

    def __init__(self, fit: Checkpoints, number: int) -> None:
        self.fit, self.path = fit, fit.path(number)
        self._content = self._read()
        # Each training has its own time, so that trainings within an epoch do not keep it from being written.
        self._last_write = time.monotonic()
        self._pending: dict[str, Any] | None = None  # the last epoch, if it is not written
        self.is_finished = self._content is not None and self._content["finished"]

    def restore(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts in the state of the file, or unchanged if there is none.

        The parts are encoded in both cases, so a part that cannot be stored raises before training.

        Parameters
        ----------
        parts : dict of str to object
            Objects that the next epoch depends on.

        Returns
        -------
        dict of str to object
            The parts, some of them restored in place.
        """
        encoder = StateEncoder(parts["module"])
        encoder.encode_each(parts)
        self._in_place, self._n_deleted = encoder.in_place, self.fit.n_started
        content, self._content = self._content, None
        if content is None:
            return dict(parts)
        try:
            self.fit.n_started = content["n_started"]
            tensors = named_tensors(parts["module"])
            restored = {name: decode(part, parts[name], tensors) for name, part in content["parts"].items()}
        except Exception as error:
            raise ValueError(
                f"checkpoint {str(self.path)!r} does not fit this training, whose code may have changed: "
                f"{_first_line(error)}. Delete it."
            ) from error
        return dict(parts) | restored

    def write(self, parts: Mapping[str, Any], finished: bool = False) -> None:
        """Store the parts after an epoch or, if training has `finished`, its results alone, without optimizers.

        Epochs that end within a second after the last write are kept in memory only.

        Parameters
        ----------
        parts : dict of str to object
            Objects that the next epoch depends on.
        finished : bool, default=False
            Whether training is complete.
        """
        is_due = finished or time.monotonic() - self._last_write >= _WRITE_INTERVAL
        encoder = StateEncoder(parts["module"], with_optimizers=not finished, copies=not is_due)
        encoded = encoder.encode_each({name: parts[name] for name in _RESULTS} if finished else parts)
        if late := encoder.in_place - self._in_place:
            raise TypeError(
                f"checkpoint: {min(late)} was created after the first epoch began, so a resumed fit could not restore "
                "it. Create it in `begin`."
            )
        self._pending = {"finished": finished, "n_started": self.fit.n_started, "parts": encoded}
        if is_due:
            self._write_pending()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *args: object) -> None:
        if error is not None:
            self._write_pending()

    def _write_pending(self) -> None:
        content, self._pending = self._pending, None
        if content is None or rank() > 0:
            return
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            self.fit.folder.mkdir(parents=True, exist_ok=True)  # It may have been deleted during training.
            write_atomically(self.path, [_digest(buffer.getvalue()), buffer.getvalue()])
        except OSError as error:
            error.add_note(f"The state of training could not be written to checkpoint={str(self.fit.folder)!r}.")
            raise
        self._last_write = time.monotonic()
        for number in range(self._n_deleted, content["n_started"]):  # Trainings inside the epochs that are stored now.
            self.fit.path(number).unlink(missing_ok=True)
        self._n_deleted = content["n_started"]

    def _read_bytes(self) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return self.path.read_bytes()
        return None

    def _read(self) -> dict[str, Any] | None:
        file_content = from_first(self._read_bytes())  # Other machines need not see the folder.
        if file_content is None:
            return None
        digest, body = file_content[:_DIGEST_SIZE], memoryview(file_content)[_DIGEST_SIZE:]
        reason = "its checksum is wrong"
        if digest == _digest(body):
            try:
                return torch.load(io.BytesIO(body), map_location=self._restore_location, weights_only=True)
            except Exception as error:  # The unpickler may raise any type.
                reason = _first_line(error)
        warnings.warn(
            f"checkpoint {str(self.path)!r} cannot be read ({reason}): its training starts anew and will overwrite it.",
            stacklevel=2,
        )
        return None

    def _restore_location(self, storage: Any, location: str) -> Any:
        """Return a storage on the device of this fit, or on the CPU if it was stored from there."""
        device = location if location == "cpu" else str(self.fit.device)
        return torch.serialization.default_restore_location(storage, device)


def _digest(content: Any) -> bytes:
    """Return a checksum. It detects corruption only; `weights_only` protects against crafted files."""
    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
