"""Model files: safetensors whose metadata describes the tensors as JSON, with checksums.

This module is independent of the estimators. It packs and unpacks the files itself because the safetensors library

- writes the metadata in random order and cannot include a checksum of its own header;
- accepts repeated keys in the header, of which the last one counts, and parses it before any limit of ours applies;
- returns tensors that share one buffer or a memory map, so that the checked bytes might not be the returned ones,
  and that lack the alignment of fresh memory;
- holds the whole file in memory once more when it writes, or replaces the old file before the new one is complete.

The reader of that library opens these files, which a test checks.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import torch

from .._utils.atomic_write import write_atomically

# Version of the format that is written, and the latest that can be read.
FORMAT = 1

# A header of this size can hold the names of 250 000 columns. Brackets are counted because lists and objects
# dominate the memory and time of parsing.
_MAX_HEADER_BYTES, _MAX_BRACKETS = 2**22, 2**18
_MAX_TENSORS = 10_000
_MAX_AXES, _MAX_AXIS_LENGTH = 16, 2**48

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
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorSpec(NamedTuple):
    """Dtype and shape of a tensor, as the header declares them."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor) -> TensorSpec:
        """Return the spec of a tensor on any device."""
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
    """Open file of a model, whose header has been checked.

    Opening never takes more memory than the size of the file justifies: the length of the header, the number of
    tensors and their offsets are checked first. The tensors are read, and checked, by `read`. The header holds
    checksums of itself and of the data. They detect corruption; they are not signatures.

    Parameters
    ----------
    path : path-like
        Path of the file.

    Attributes
    ----------
    fields : dict
        JSON object that was written beside the tensors.
    specs : dict of str to TensorSpec
        Dtype and shape of each tensor.
    written_by : str
        Version of mmestim that wrote the file.
    format : int
        Version of the file format.
    n_bytes : int
        Size of the file in bytes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Check the type first, because opening a pipe would block.
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
        raw_header = self._read_raw_header()
        metadata, table = self._parse_header(raw_header)
        self.specs = {name: _parse_spec(name, entry) for name, entry in table.items()}
        fields_text, self._data_digest = str(metadata.get("fields")), str(metadata.get("data_digest"))
        # Each content has a single encoding: repeated keys, gaps between tensors and odd numbers show as a difference.
        if raw_header != _build_header(fields_text, self.specs, self.written_by, self._data_digest, self.format):
            raise ValueError(
                "its header is damaged or was edited: its checksum or the offsets of a tensor differ from what "
                "mmestim.save writes."
            )
        expected_bytes = 8 + len(raw_header) + sum(spec.n_bytes for spec in self.specs.values())
        if expected_bytes != self.n_bytes:
            defect = "truncated" if expected_bytes > self.n_bytes else "damaged"
            raise ValueError(f"it is {defect}: it has {self.n_bytes} bytes, but its header declares {expected_bytes}.")
        self.fields = _parse_fields(fields_text)

    def _read_raw_header(self) -> bytes:
        start = self._file.read(8)
        length = int.from_bytes(start, "little")
        # Check the first letter of the header too, because the length may be in range by chance.
        if len(start) < 8 or self._file.read(1) != b"{":
            raise ValueError(
                f"it is not an mmestim model: it does not begin like a safetensors file.{_format_hint(start)}"
            )
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {length} bytes; 2 to {_MAX_HEADER_BYTES} are allowed.")
        if 8 + length > self.n_bytes:
            raise ValueError(f"it is truncated: its header claims {length} bytes, the file has {self.n_bytes} in all.")
        return b"{" + self._file.read(length - 1)

    def _parse_header(self, raw_header: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the metadata and the table of tensors; set the versions."""
        if (n_brackets := _count_brackets(raw_header)) > _MAX_BRACKETS:
            raise ValueError(f"its header has {n_brackets} brackets; at most {_MAX_BRACKETS} are allowed.")
        try:
            table = json.loads(raw_header)
            metadata = table.pop("__metadata__")
            self.written_by, self.format = str(metadata["mmestim"]), int(metadata["format"])
            if self.format < 1:
                raise ValueError("formats are counted from 1")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError("it is not an mmestim model, or its header is damaged.") from error
        if self.format > FORMAT:
            raise ValueError(
                f"it was written by mmestim {self.written_by!r} in format {self.format}; this version reads formats up "
                f"to {FORMAT}: upgrade mmestim."
            )
        if len(table) > _MAX_TENSORS:
            raise ValueError(f"it claims {len(table)} tensors; at most {_MAX_TENSORS} are allowed.")
        return metadata, table

    def read(self) -> dict[str, torch.Tensor]:
        """Return the tensors on the CPU, after comparing exactly these bytes with their checksum."""
        digest, tensors = _new_digest(), {}
        for name, spec in self.specs.items():
            # Give each tensor its own memory, because matrix products may depend on alignment.
            buffer = torch.empty(spec.n_bytes, dtype=torch.uint8, device="cpu")
            view = buffer.numpy().data
            if self._file.readinto(view) != spec.n_bytes:  # type: ignore[attr-defined]
                raise ValueError("it was shortened while it was being read.")
            digest.update(view)
            if spec.dtype is torch.bool and (buffer > 1).any():
                raise ValueError(f"its tensor {name!r} has a boolean value that is neither 0 nor 1.")
            tensors[name] = buffer.view(spec.dtype).reshape(spec.shape)
        if digest.hexdigest() != self._data_digest:
            raise ValueError("its data is damaged: the checksum of the tensors does not match.")
        return tensors


def write_model_file(
    path: str | os.PathLike[str], fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], written_by: str
) -> None:
    """Write a model file completely, or leave an existing file unchanged.

    Parameters
    ----------
    path : path-like
        Path of the file. An existing file is replaced; its permissions are kept.
    fields : mapping
        JSON object that describes the model.
    tensors : mapping of str to Tensor
        Tensors of the model, on any device.
    written_by : str
        Version of mmestim.

    Raises
    ------
    ValueError
        If a tensor is not dense or has an unsupported dtype, or the header exceeds a limit.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPE_NAMES or tensor.layout is not torch.strided:
            raise ValueError(
                f"tensor {name!r} has {tensor.dtype}, {tensor.layout}. Only dense tensors can be saved, of the dtypes "
                f"{list(_DTYPES)}."
            )
    # Put the widest dtype first, as safetensors does, so that every tensor is aligned.
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    arrays, digest = {}, _new_digest()
    for name in ordered:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        arrays[name] = flat.view(torch.uint8).numpy().data
        digest.update(arrays[name])
    specs = {name: TensorSpec.from_tensor(tensors[name]) for name in ordered}
    header = _build_header(_dumps(fields), specs, written_by, digest.hexdigest(), FORMAT)
    sizes = {"bytes": len(header), "brackets": _count_brackets(header), "tensors": len(specs)}
    limits = {"bytes": _MAX_HEADER_BYTES, "brackets": _MAX_BRACKETS, "tensors": _MAX_TENSORS}
    if any(sizes[unit] > limits[unit] for unit in sizes):
        raise ValueError(
            f"the header would have {sizes}; at most {limits} are allowed. Shorten the parameters, or fit on an array, "
            "which has no column names to save."
        )
    write_atomically(path, [len(header).to_bytes(8, "little"), header, *arrays.values()])


def _build_header(
    fields: str, specs: Mapping[str, TensorSpec], written_by: str, data_digest: str, version: int
) -> bytes:
    """Return the header of contiguous tensors, including its own checksum."""
    table, stop = {}, 0
    for name, spec in specs.items():
        start, stop = stop, stop + spec.n_bytes
        table[name] = {"dtype": _DTYPE_NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": [start, stop]}
    metadata = {"mmestim": written_by, "format": str(version), "data_digest": data_digest, "fields": fields}
    digest = _new_digest()
    digest.update(_dumps({"__metadata__": metadata, **table}).encode())
    metadata["header_digest"] = digest.hexdigest()
    text = _dumps({"__metadata__": metadata, **table}).encode()
    return text + b" " * (-len(text) % 8)


def _parse_spec(name: str, entry: Any) -> TensorSpec:
    try:
        dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"its tensor {name!r} has no dtype and shape, or a dtype other than {list(_DTYPES)}."
        ) from error
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_AXES
        or any(type(length) is not int or not 0 <= length < _MAX_AXIS_LENGTH for length in shape)
    ):
        raise ValueError(
            f"its tensor {name!r} has the shape {str(shape)[:80]}; expected at most {_MAX_AXES} integers from 0."
        )
    return TensorSpec(dtype, tuple(shape))


def _parse_fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
        is_canonical = _dumps(fields) == text
    except (RecursionError, ValueError) as error:
        raise ValueError(f"the fields of its header are not valid JSON: {error}") from error
    if not is_canonical or not isinstance(fields, dict):
        raise ValueError(
            "the fields of its header are not encoded as mmestim.save encodes them; a key may occur twice."
        )
    return fields


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _count_brackets(header: bytes) -> int:
    return header.count(b"[") + header.count(b"{")


def _new_digest() -> Any:
    return hashlib.blake2b(digest_size=32)


def _format_hint(start: bytes) -> str:
    if start[:1] == b"\x80":
        return " It looks like a pickle: if you trust its author, open it with joblib.load or pickle.load."
    return " It looks like a zip archive, which torch.save writes." if start[:2] == b"PK" else ""
