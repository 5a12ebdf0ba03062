"""The file of a model: safetensors whose header says in JSON what the tensors are for. It knows no estimators."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import torch

from .._utils.atomic_write import write_whole

# What this version writes, and the latest that it reads.
FORMAT = 1

# A header of this many bytes names a quarter of a million columns. Lists and objects, which are marked by brackets,
# take most memory and time when it is parsed.
_MAX_HEADER, _MAX_BRACKETS = 2**22, 2**18
_MAX_TENSORS = 10_000
_MAX_AXES, _LONGEST = 16, 2**48

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorSpec(NamedTuple):
    """What the header says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor) -> TensorSpec:
        """The spec of a tensor, on whatever device."""
        return cls(tensor.dtype, tuple(tensor.shape))

    @property
    def n_values(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Size in bytes."""
        return self.n_values * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {self.shape}"


class ModelFile:
    """A model's file, opened: its header is checked at once, its tensors when they are read.

    Nothing in the file is believed that could cost more than the file's own size: the header's length, the
    number of tensors and each one's place are checked first. The header holds a checksum of itself and one of
    the data, against damage; anyone can compute them, so they are no signature.

    Parameters
    ----------
    path : path-like
        The file.

    Attributes
    ----------
    fields : dict
        What was written beside the tensors.
    specs : dict of str to TensorSpec
        Dtype and shape of each tensor.
    written_by, format, n_bytes
        Version of mmestim, version of the format, size of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A pipe would block when it is opened, before its type is known.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError("it is not a regular file.")
        self._file: IO[bytes] = open(path, "rb")
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ModelFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _read_header(self) -> None:
        self.n_bytes = os.fstat(self._file.fileno()).st_size
        start = self._file.read(8)
        length = int.from_bytes(start, "little")
        # By the header's first letter too, because the length may be in range by chance.
        if len(start) < 8 or self._file.read(1) != b"{":
            raise ValueError(f"it is no mmestim model: it does not begin like safetensors.{_hint(start)}")
        if not 2 <= length <= _MAX_HEADER:
            raise ValueError(f"its header claims {length} bytes; 2 to {_MAX_HEADER} are allowed.")
        if 8 + length > self.n_bytes:
            raise ValueError(f"it is truncated: its header claims {length} bytes, the file has {self.n_bytes} in all.")
        raw = b"{" + self._file.read(length - 1)
        if (n_brackets := _n_brackets(raw)) > _MAX_BRACKETS:
            raise ValueError(f"its header has {n_brackets} brackets; the most allowed are {_MAX_BRACKETS}.")
        try:
            header = json.loads(raw)
            metadata = header.pop("__metadata__")
            self.written_by, self.format = str(metadata["mmestim"]), int(metadata["format"])
            if self.format < 1:
                raise ValueError("formats are counted from 1")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError("it is no mmestim model, or its header is damaged.") from error
        if self.format > FORMAT:
            raise ValueError(
                f"it was written by mmestim {self.written_by!r} in format {self.format}; this version reads formats up "
                f"to {FORMAT}: upgrade mmestim."
            )
        if len(header) > _MAX_TENSORS:
            raise ValueError(f"it claims {len(header)} tensors; the most allowed are {_MAX_TENSORS}.")
        self.specs = {name: _spec(name, entry) for name, entry in header.items()}
        text, self._data_digest = str(metadata.get("fields")), str(metadata.get("data_digest"))
        # One text for one content: repeated keys, gaps between tensors and odd numbers all show as a difference.
        if raw != _header(text, self.specs, self.written_by, self._data_digest, self.format):
            raise ValueError(
                "its header is damaged or was edited: its checksum, or the place of a tensor, is not what "
                "mmestim.save writes."
            )
        promised = 8 + length + sum(spec.n_bytes for spec in self.specs.values())
        if promised != self.n_bytes:
            what = "truncated" if promised > self.n_bytes else "damaged"
            raise ValueError(f"it is {what}: it has {self.n_bytes} bytes, its header promises {promised}.")
        self.fields = _parse_fields(text)

    def read(self) -> dict[str, torch.Tensor]:
        """The tensors, on the CPU; the bytes that are checked are those that are returned."""
        digest, tensors = _new_digest(), {}
        for name, spec in self.specs.items():
            # Each in memory of its own: products of matrices may depend on how they are aligned.
            buffer = torch.empty(spec.n_bytes, dtype=torch.uint8, device="cpu")
            view = buffer.numpy().data
            if self._file.readinto(view) != spec.n_bytes:  # type: ignore[attr-defined]
                raise ValueError("it became shorter while it was read.")
            digest.update(view)
            if spec.dtype is torch.bool and (buffer > 1).any():
                raise ValueError(f"its tensor {name!r} has a boolean that is neither 0 nor 1.")
            tensors[name] = buffer.view(spec.dtype).reshape(spec.shape)
        if digest.hexdigest() != self._data_digest:
            raise ValueError("its data is damaged: the checksum of the tensors does not match.")
        return tensors


def write(
    path: str | os.PathLike[str], fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], written_by: str
) -> None:
    """Write the whole file or, should anything go wrong, leave what was there.

    Parameters
    ----------
    path : path-like
        Where to; what is there is replaced and keeps its permissions.
    fields : mapping
        What JSON can hold.
    tensors : mapping of str to Tensor
        What the file is for, on any device.
    written_by : str
        Version of mmestim.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES or tensor.layout is not torch.strided:
            raise ValueError(
                f"tensor {name!r} has {tensor.dtype}, {tensor.layout}: dense {list(_DTYPES)} can be saved."
            )
    # The widest first, as safetensors has them, so that every tensor is aligned.
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    arrays, digest = {}, _new_digest()
    for name in ordered:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        arrays[name] = flat.view(torch.uint8).numpy().data
        digest.update(arrays[name])
    specs = {name: TensorSpec.from_tensor(tensors[name]) for name in ordered}
    header = _header(_dumps(fields), specs, written_by, digest.hexdigest(), FORMAT)
    sizes = {"bytes": len(header), "brackets": _n_brackets(header), "tensors": len(specs)}
    most = {"bytes": _MAX_HEADER, "brackets": _MAX_BRACKETS, "tensors": _MAX_TENSORS}
    if any(sizes[what] > most[what] for what in sizes):
        raise ValueError(
            f"the header would have {sizes}; the most allowed are {most}. Shorten the parameters, or fit on an array, "
            "which has no column names to keep."
        )
    write_whole(path, [len(header).to_bytes(8, "little"), header, *arrays.values()])


def _header(fields: str, specs: Mapping[str, TensorSpec], written_by: str, data_digest: str, version: int) -> bytes:
    """The header of tensors that follow each other without gaps, its own checksum included."""
    table, stop = {}, 0
    for name, spec in specs.items():
        start, stop = stop, stop + spec.n_bytes
        table[name] = {"dtype": _NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": [start, stop]}
    metadata = {"mmestim": written_by, "format": str(version), "data_digest": data_digest, "fields": fields}
    digest = _new_digest()
    digest.update(_dumps({"__metadata__": metadata, **table}).encode())
    metadata["header_digest"] = digest.hexdigest()
    text = _dumps({"__metadata__": metadata, **table}).encode()
    return text + b" " * (-len(text) % 8)


def _spec(name: str, entry: Any) -> TensorSpec:
    what = f"its tensor {name!r}"
    try:
        dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{what} has no dtype and shape, or a dtype other than {list(_DTYPES)}.") from error
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_AXES
        or any(type(n) is not int or not 0 <= n < _LONGEST for n in shape)
    ):
        raise ValueError(f"{what} has the shape {str(shape)[:80]}: expected at most {_MAX_AXES} integers from 0.")
    return TensorSpec(dtype, tuple(shape))


def _parse_fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
        same = _dumps(fields) == text
    except (RecursionError, ValueError) as error:
        raise ValueError(f"its header has fields that are no JSON: {error}") from error
    if not same or not isinstance(fields, dict):
        raise ValueError("its header has fields that are not as mmestim.save writes them, such as a key twice.")
    return fields


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _n_brackets(header: bytes) -> int:
    return header.count(b"[") + header.count(b"{")


def _new_digest() -> Any:
    return hashlib.blake2b(digest_size=32)


def _hint(start: bytes) -> str:
    if start[:1] == b"\x80":
        return " It looks like a pickle: if you trust who made it, open it with joblib.load or pickle.load."
    return " It looks like a zip archive, which torch.save writes." if start[:2] == b"PK" else ""
