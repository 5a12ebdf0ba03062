"""Trials of a user's encoder on a few rows, whose errors name the way out."""

from __future__ import annotations

import copy
import dataclasses
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn

from .augmentation import behind_augmentations
from .standardize import Shape, fit_statistics, input_statistics

# Types of input that are tried when an encoder fails, to name the one that it takes.
_DTYPES = (torch.int64, torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Largest integer up to which float32, in which blocks are held, represents every integer.
_EXACT_INTEGERS = 2**24


def input_dtype(encoder: nn.Module, name: str) -> torch.dtype | None:
    """Return the attribute `input_dtype` of the encoder of modality `name`, None if it has none."""
    dtype = getattr(behind_augmentations(encoder), "input_dtype", None)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(
            f"input_dtype={dtype!r} of the encoder for modality {name!r} must be a torch.dtype, such as torch.int64."
        )
    return dtype


def input_range(encoder: nn.Module, name: str) -> tuple[float, float] | None:
    """Return the attribute `input_range` of the encoder of modality `name`, None if it has none."""
    limits = getattr(behind_augmentations(encoder), "input_range", None)
    if limits is None:
        return None
    if not isinstance(limits, tuple) or len(limits) != 2 or not all(isinstance(limit, int | float) for limit in limits):
        raise TypeError(
            f"input_range={limits!r} of the encoder for modality {name!r} must be a tuple of the lowest and the "
            "highest value, such as (0, 999)."
        )
    return limits


def count_features(encoder: nn.Module, name: str, shape: Shape) -> int:
    """Return the number of features for a batch of two zeros, which also gives lazy layers their sizes."""
    dtype, x = input_dtype(encoder, name), torch.zeros(2, *shape)
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            features = encoder(x if dtype is None else x.to(dtype))
    except Exception as error:
        raise ValueError(
            f"encoder for modality {name!r} fails on a batch of shape {tuple(x.shape)}: {_reason(error)}. "
            f"{_remedy(encoder, x, dtype)}"
        ) from error
    encoder.train(was_training)
    check_features(features, name, tuple(x.shape))
    return features.shape[1]


def try_encoder(
    encoder: nn.Module,
    name: str,
    batches: Iterable[torch.Tensor],
    *,
    offset: np.ndarray | float,
    batch_size: int,
    n_train_rows: int,
) -> bool:
    """Try one step of an encoder as in training, on the rows with the lowest and the highest value.

    Warns if its weights are frozen, but it draws random numbers.

    Parameters
    ----------
    encoder : nn.Module
        Untrained encoder, on the CPU. Its statistics may change.
    name : str
        The modality.
    batches : iterable of Tensor of shape (n_rows, *sample_shape)
        All rows that have the modality, on the CPU.
    offset : ndarray of shape sample_shape, or 0
        Values that were subtracted from the rows.
    batch_size : int
        Rows of a training batch.
    n_train_rows : int
        Number of training rows that have the modality.

    Returns
    -------
    bool
        Whether the encoder is frozen. It is tried in eval mode then, in training mode otherwise.

    Raises
    ------
    ValueError
        If the encoder does not take the values of the rows, by its type or range of input, or fails on them.
    """
    dtype, extremes = input_dtype(encoder, name), torch.empty(0)
    for batch in batches:
        check_values(batch + torch.as_tensor(offset), name, encoder)
        extremes = _extreme_rows(torch.cat([extremes, batch]) if len(extremes) else batch)
    frozen = _has_frozen_weights(encoder)
    try:
        fit_statistics(encoder, [extremes])
    except ValueError as error:
        raise ValueError(f"encoder for modality {name!r} cannot be used: {_reason(error)}.") from error
    if frozen and _draws_numbers(encoder, extremes if dtype is None else extremes.to(dtype)):
        frozen = False
        warnings.warn(
            f"encoder for modality {name!r} has no parameter that requires a gradient, but it draws random numbers: it "
            "stays in training mode, and its features are computed in every epoch. If that is no augmentation, pass it "
            "in eval mode, as encoder.eval(), to compute them once.",
            stacklevel=2,
        )
    encoder.train(not frozen)
    when = "" if frozen else " in training mode"
    for x in extremes.split(min(batch_size, n_train_rows, len(extremes))):
        try:
            with torch.no_grad():
                features = encoder(x if dtype is None else x.to(dtype))
        except Exception as error:
            if len(x) == 1 and _runs(encoder, x.repeat(2, *[1] * (x.ndim - 1)), dtype):
                raise ValueError(
                    f"encoder for modality {name!r} cannot train on one row at a time, but batch_size={batch_size} and "
                    f"{n_train_rows} training row(s) have the modality: {_reason(error)}. Raise both to 2 or more, or "
                    "use an encoder with nn.GroupNorm or nn.LayerNorm instead of BatchNorm."
                ) from error
            raise ValueError(
                f"encoder for modality {name!r} fails{when} on rows with values from {x.min():g} to "
                f"{x.max():g}: {_reason(error)}. Change the encoder, or the values of the modality to what it accepts."
            ) from error
        check_features(features, name, tuple(x.shape), when)
    return frozen


def _has_frozen_weights(encoder: nn.Module) -> bool:
    """Return whether an encoder has parameters, of which none requires a gradient, and no statistics to be fitted."""
    if (statistics := input_statistics(encoder)) is not None and not statistics.is_fitted:
        return False
    parameters = list(encoder.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


@torch.no_grad()
def _draws_numbers(encoder: nn.Module, x: torch.Tensor) -> bool:
    """Return whether an encoder draws random numbers in its mode, apart from layers of torch such as dropout."""
    probe = copy.deepcopy(encoder)  # Statistics may change.
    for layer in probe.modules():
        if type(layer).__module__.startswith("torch.nn"):
            layer.training = False
    before = _random_states()
    try:
        probe(x)
    except Exception:
        return False
    return _random_states() != before


def _random_states() -> tuple[Any, ...]:
    """Return the states of the global generators of torch, NumPy and Python."""
    _, keys, position, *_ = check_random_state(None).get_state(legacy=True)
    return torch.get_rng_state().numpy().tobytes(), np.asarray(keys).tobytes(), position, random.getstate()


def check_values(x: torch.Tensor, name: str, encoder: nn.Module) -> None:
    """Raise ValueError unless an encoder takes all values of a batch.

    Parameters
    ----------
    x : Tensor
        Batch of the modality.
    name : str
        The modality.
    encoder : nn.Module
        Its encoder. `input_dtype` must represent the values; floating-point types may round. `input_range` holds the
        lowest and the highest value.
    """
    dtype, limits = input_dtype(encoder, name), input_range(encoder, name)
    if not (held := is_held(x, dtype)).all():
        raise ValueError(
            f"modality {name!r} has the value {float(x[~held][0])}, but its encoder has input_dtype={dtype}: values "
            "must be integers of this type, and below 2**24 because blocks are held as float32. Round or renumber them."
        )
    if limits is not None and not (held := is_held(x, None, limits)).all():
        raise ValueError(
            f"modality {name!r} has the value {float(x[~held][0]):g}, but its encoder takes values from {limits[0]:g} "
            f"to {limits[1]:g}. Renumber them, or pass an encoder for more of them, such as "
            "functools.partial(TextEncoder, vocabulary_size=...) for tokens."
        )


def is_held(x: torch.Tensor, dtype: torch.dtype | None, limits: tuple[float, float] | None = None) -> torch.Tensor:
    """Return the mask of the values that an encoder takes, by its attributes `input_dtype` and `input_range`, or None.

    Parameters
    ----------
    x : Tensor
        Values.
    dtype : torch.dtype or None
        Type of the encoder's input.
    limits : tuple of float or None, default=None
        Lowest and highest value.

    Returns
    -------
    bool Tensor
        Mask of the shape of `x`.
    """
    held = torch.ones_like(x, dtype=torch.bool)
    if not _may_round(dtype):
        held = (x.to(dtype).to(x.dtype) == x) & (x.abs() < _EXACT_INTEGERS)
    return held if limits is None else held & (x >= limits[0]) & (x <= limits[1])


def check_features(features: Any, name: str, shape: Shape, when: str = "") -> None:
    """Raise ValueError unless an encoder has returned a matrix of real numbers with a row for each sample.

    Parameters
    ----------
    features : object
        Output of the encoder.
    name : str
        The modality.
    shape : tuple of int
        Shape of the batch.
    when : str, default=""
        Circumstance for the error message.
    """
    expected = f"a tensor of shape ({shape[0]}, n_features)"
    subject = f"encoder for modality {name!r} returns"
    if not isinstance(features, torch.Tensor):
        parts = dict(tensors_of(features))
        content = " and ".join(f"{access} of shape {tuple(part.shape)}" for access, part in parts.items())
        access, reduction = _as_matrix(parts, shape[0])
        remedy = "Wrap it in an nn.Module whose forward returns one tensor."
        if access:
            remedy = (
                f"Pass Wrapped(module, {_arguments(access, reduction)}) of mmestim.encoders, or an nn.Module whose "
                f"forward returns one tensor, such as `self.encoder(x){access}{reduction}`."
            )
        raise ValueError(
            f"{subject} {type(features).__name__}{when}{f' with {content}' if content else ''}, expected {expected}. "
            f"{remedy}"
        )
    if features.ndim != 2 or len(features) != shape[0] or not features.shape[1]:
        raise ValueError(
            f"{subject} {tuple(features.shape)}{when} for a batch of shape {shape}, expected "
            f"({shape[0]}, n_features): {_matrix_remedy(features, shape[0])}."
        )
    if not features.is_floating_point():
        raise ValueError(
            f"{subject} features of type {features.dtype}{when}, expected real floating-point numbers: end its forward "
            f"with {'.abs()' if features.is_complex() else '.float()'}."
        )


def _may_round(dtype: torch.dtype | None) -> bool:
    return dtype is None or dtype.is_floating_point or dtype.is_complex


def _reason(error: Exception) -> str:
    """Return the message of an error without its last full stop."""
    return (str(error) or type(error).__name__).rstrip(". \n")


def _remedy(encoder: nn.Module, x: torch.Tensor, dtype: torch.dtype | None) -> str:
    """Return the way out for an encoder that fails on `x`, by trying other types of input."""
    accepted = next((other for other in _DTYPES if other is not dtype and _runs(encoder, x, other)), None)
    if accepted is None:
        return "Set shapes to what it expects, or choose another encoder."
    cast = {torch.int64: "x.long()", torch.float64: "x.double()"}.get(accepted, f"x.to({accepted})")
    received = "Encoders receive float32" if dtype is None else f"It received its input_dtype, {dtype}"
    return (
        f"{received}, but it takes {accepted}: call {cast} in its forward, or set `input_dtype = {accepted}` as an "
        "attribute of it."
    )


def _runs(encoder: nn.Module, x: torch.Tensor, dtype: torch.dtype | None) -> bool:
    try:
        with torch.no_grad():
            encoder(x if dtype is None else x.to(dtype))
    except Exception:
        return False
    return True


def _extreme_rows(x: torch.Tensor) -> torch.Tensor:
    """Return two rows, with the lowest and with the highest value, or the only row."""
    flat = x.flatten(1)
    rows = torch.stack([flat.amin(1).argmin(), flat.amax(1).argmax()])
    if len(x) > 1 and rows[0] == rows[1]:
        rows[1] = (rows[0] + 1) % len(x)
    return x[rows[: len(x)]]


def tensors_of(output: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of an output object, with the expression that reads each from it."""
    if isinstance(output, Mapping):
        items = [
            (f".{key}" if getattr(output, str(key), None) is value else f"[{key!r}]", value)
            for key, value in output.items()
        ]
    elif isinstance(output, tuple | list):
        fields = getattr(output, "_fields", None)
        items = [(f".{fields[i]}" if fields else f"[{i}]", value) for i, value in enumerate(output)]
    elif dataclasses.is_dataclass(output):
        items = [(f".{field.name}", getattr(output, field.name)) for field in dataclasses.fields(output)]
    else:
        items = []
    return ((access, value) for access, value in items if isinstance(value, torch.Tensor))


def _as_matrix(parts: Mapping[str, torch.Tensor], n_rows: int) -> tuple[str, str]:
    """Return expressions that read and reduce a tensor of an output object to a matrix, empty if none fits."""
    for n_axes, reduction in ((2, ""), (3, ".mean(1)"), (4, ".flatten(1)")):
        for access, part in parts.items():
            if min(part.ndim, 4) == n_axes and len(part) == n_rows:
                return access, reduction
    return "", ""


def _arguments(access: str, reduction: str) -> str:
    """Return the arguments of `Wrapped` that have the effect of two expressions."""
    output = access.strip("[]") if access.startswith("[") else repr(access.removeprefix("."))
    pooling = {"": "", ".mean(1)": ", pooling='mean'", ".flatten(1)": ", pooling='flatten'"}[reduction]
    return f"output={output}{pooling}"


def _matrix_remedy(features: torch.Tensor, n_rows: int) -> str:
    if features.ndim == 0 or len(features) != n_rows:
        return "its first axis must be that of the samples"
    if features.ndim == 1:
        return "end its forward with .unsqueeze(1)"
    return "end it with nn.Flatten() or pooling" if features.ndim > 2 else "it must have at least one feature"
