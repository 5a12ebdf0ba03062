"""Modules that return an output object, made encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from .._utils.validation import check_choice
from .trial import tensors_of


class Wrapped(nn.Module):
    """Module whose output object, dict or tuple is replaced by one tensor of it.

    >>> import torch
    >>> from torch import nn
    >>> from mmestim.encoders import Wrapped
    >>> encoder = Wrapped(nn.GRU(8, 16, batch_first=True), output=0, pooling="mean")
    >>> encoder(torch.zeros(4, 30, 8)).shape
    torch.Size([4, 16])

    Networks of many libraries return several tensors at once, of which an encoder must return one.
    Classifiers copy the module with its weights, like any other instance.

    Parameters
    ----------
    module : nn.Module
        The module. Its weights are trained, except those with ``requires_grad=False``.
    output : str or int
        Tensor to return: the name of an attribute or a key, or a position in a tuple or list.
    input_name : str, default=None
        Name of the argument of `module` that receives the batch. None passes it by position.
    mask_name : str, default=None
        Name of the argument of `module` that receives the mask of the values that are not 0, as int64. For
        token ids that are padded by 0.
    pooling : {'mean', 'flatten'}, default=None
        Reduction of the tensor to a matrix: the mean over its second axis, such as that of tokens or frames,
        or all axes but the first in one. With `mask_name`, the mean leaves out the masked places. None leaves
        the tensor as it is.
    input_dtype : torch.dtype, default=None
        Type to which blocks are cast, such as ``torch.int64`` for token ids. None is that of the attribute
        `input_dtype` of `module`, or else float32.

    Raises
    ------
    TypeError
        If `module` or `output` has another type.
    ValueError
        If `pooling` has another value or, in a forward pass, if the module returns nothing named `output`.
    """

    def __init__(
        self,
        module: nn.Module,
        output: str | int,
        *,
        input_name: str | None = None,
        mask_name: str | None = None,
        pooling: Literal["mean", "flatten"] | None = None,
        input_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module={module!r} must be a torch.nn.Module. Create an instance of it first.")
        if isinstance(output, bool) or not isinstance(output, str | int):
            raise TypeError(f"output={output!r} must be the name of a tensor in the output, or its position.")
        check_choice("pooling", pooling, [None, "mean", "flatten"])
        self.module = module
        self.output, self.input_name, self.mask_name, self.pooling = output, input_name, mask_name, pooling
        self.input_dtype = getattr(module, "input_dtype", None) if input_dtype is None else input_dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = None if self.mask_name is None else (x != 0).long()
        arguments = {} if self.mask_name is None else {self.mask_name: mask}
        if self.input_name is None:
            result = self.module(x, **arguments)
        else:
            result = self.module(**{self.input_name: x}, **arguments)
        features = self._select(result)
        if self.pooling == "flatten":
            return features.flatten(1)
        if self.pooling is None:
            return features
        if mask is None:
            return features.mean(1)
        weight = mask.reshape(*mask.shape, *(1,) * (features.ndim - mask.ndim)).to(features.dtype)
        return (features * weight).sum(1) / weight.sum(1).clamp(min=1)

    def _select(self, result: Any) -> torch.Tensor:
        """Return the tensor named `output` of what the module returned."""
        try:
            if isinstance(self.output, int) or isinstance(result, Mapping):
                features = result[self.output]
            else:
                features = getattr(result, self.output)
        except (AttributeError, IndexError, KeyError, TypeError):
            features = None
        if isinstance(result, torch.Tensor) or not isinstance(features, torch.Tensor):
            kind = type(self.module).__name__
            if isinstance(result, torch.Tensor):
                raise ValueError(f"{kind} returns one tensor: pass it as an encoder itself, without Wrapped.")
            names = [access.removeprefix(".") for access, _ in tensors_of(result)]
            raise ValueError(
                f"output={self.output!r} is no tensor in the {type(result).__name__} that {kind} returns. It has "
                f"{', '.join(names) or 'none'}."
            )
        return features
