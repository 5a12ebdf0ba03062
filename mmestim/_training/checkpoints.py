"""The state of a training on disk, so that a fit that was killed goes on where it was."""

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
from typing import Any

import torch

from .._utils.atomic_write import write_atomically
from .state_encoding import _Packer, _tensors, _unpack

# Of the files; another makes other fingerprints.
FORMAT = 2

# Seconds after which a file that was never finished is one that its fit left when it was killed.
_STALE = 3600

# What is left of a training that is done.
_RESULTS = ("module", "objective", "history")

_DIGEST_SIZE = 16


def check_checkpoint(checkpoint: Any, random_state: Any) -> None:
    """Raise unless fits can be kept in the folder, which is made if it is missing, and told from others."""
    try:
        folder = Path(checkpoint)
    except TypeError:
        raise TypeError(f"checkpoint={checkpoint!r} must be the path of a folder, or None.") from None
    if checkpoint == "":
        raise ValueError("checkpoint='' names no folder. Use checkpoint='.' for the current one, or None for none.")
    if random_state is None:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} needs a fit that can be repeated, and random_state=None draws another "
            "seed each time. Use an int, such as random_state=0."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} is not a folder that can be written to ({error.strerror}). Name one that "
            "can be, or a new one."
        ) from error


class Checkpoints:
    """The files of one fit: one for each of its trainings, numbered in the order in which these start.

    A fit repeats its steps from the start, so the numbers repeat too. A training that is done gives
    its weights; the one under way goes on after its last whole epoch.

    Parameters
    ----------
    folder : path-like
        Where they are.
    fingerprint : str
        What no other fit has.
    device : torch.device
        Where it trains.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str, device: torch.device) -> None:
        self.folder, self.fingerprint, self.device = Path(folder), fingerprint, device
        self.n_started = 0
        for path in self.folder.glob(f".{fingerprint}-*.tmp"):
            with contextlib.suppress(OSError):  # Of the same fit in another process, which tidies too.
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()

    def start(self) -> Checkpoint:
        """The file of the next training, which may start another within itself."""
        self.n_started += 1
        return Checkpoint(self, self.n_started - 1)

    def path(self, number: int) -> Path:
        """Where the file of a training is."""
        return self.folder / f"{self.fingerprint}-{number}.ckpt"


class Checkpoint:
    """The file of one training: read at its start, restored once it has begun, and written after each epoch.

    `parts` are by name the objects that the next epoch depends on; "module" is the network.
    """

    def __init__(self, fit: Checkpoints, number: int) -> None:
        self.fit, self.path = fit, fit.path(number)
        self._saved = self._read()
        self.is_finished = self._saved is not None and self._saved["finished"]

    def restore(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Bring the parts to the state in the file; without one to what they are, which shows what can be kept."""
        packer = _Packer(parts["module"])
        packer.pack_each(parts)
        self._fillable, self._n_tidied = packer.fillable, self.fit.n_started
        saved, self._saved = self._saved, None
        if saved is None:
            return dict(parts)
        try:
            self.fit.n_started = saved["n_started"]
            tensors = _tensors(parts["module"])
            restored = {name: _unpack(tree, parts[name], tensors) for name, tree in saved["parts"].items()}
        except Exception as error:
            raise ValueError(
                f"checkpoint {str(self.path)!r} does not fit this training, whose code may have changed: "
                f"{_in_a_line(error)}. Delete it."
            ) from error
        return dict(parts) | restored

    def write(self, parts: Mapping[str, Any], finished: bool = False) -> None:
        """Keep the parts; of a training that is `finished` its results alone, without optimizers."""
        packer = _Packer(parts["module"], with_optimizers=not finished)
        packed = packer.pack_each({name: parts[name] for name in _RESULTS} if finished else parts)
        if late := packer.fillable - self._fillable:
            raise TypeError(
                f"checkpoint: {min(late)} was made after the first epoch began, when a fit that goes on could not make "
                "it again. Make it in `begin`."
            )
        buffer = io.BytesIO()
        torch.save({"finished": finished, "n_started": self.fit.n_started, "parts": packed}, buffer)
        try:
            self.fit.folder.mkdir(parents=True, exist_ok=True)  # It may have been deleted meanwhile.
            write_atomically(self.path, [_digest(buffer.getbuffer()), buffer.getbuffer()])
        except OSError as error:
            error.add_note(f"The state of training could not be written to checkpoint={str(self.fit.folder)!r}.")
            raise
        for number in range(self._n_tidied, self.fit.n_started):  # Trainings within the epochs that are over.
            self.fit.path(number).unlink(missing_ok=True)
        self._n_tidied = self.fit.n_started

    def _read(self) -> dict[str, Any] | None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, body = content[:_DIGEST_SIZE], memoryview(content)[_DIGEST_SIZE:]
        reason = "its checksum is wrong"
        if digest == _digest(body):
            try:
                return torch.load(io.BytesIO(body), map_location=self._place, weights_only=True)
            except Exception as error:  # The unpickler raises whatever it is led to.
                reason = _in_a_line(error)
        warnings.warn(
            f"checkpoint {str(self.path)!r} cannot be read ({reason}): the training that it was of starts anew, and "
            "will overwrite it.",
            stacklevel=2,
        )
        return None

    def _place(self, storage: Any, location: str) -> Any:
        """A storage on the device of this fit, or on the CPU if it was there."""
        device = location if location == "cpu" else str(self.fit.device)
        return torch.serialization.default_restore_location(storage, device)


def _digest(content: Any) -> bytes:
    """Checksum against damage; it guards against no one who can compute it, which `weights_only` does."""
    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
