"""Reader of features by a network that is not trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from .._training.devices import resolve_device
from .._utils.validation import check_number
from ._base import MediaError, Reader, Sample, Shape


class FrozenFeatures(Reader):
    """Compute features by a function or network that is not trained, once for each value.

    >>> from mmestim.media import FrozenFeatures
    >>> lengths = FrozenFeatures("caption", lambda texts: [[len(text)] for text in texts], n_features=1)
    >>> lengths.sample_shape
    (1,)

    The function may be a sentence encoder, such as the method `encode` of one of sentence-transformers, or a network of
    images that was trained elsewhere. Under a `MediaTransformer` with a cache it runs once for each value.

    Parameters
    ----------
    column : str, default=None
        Column of a DataFrame. `None` takes the column of `reader` or, without one, reads X itself.
    function : callable or nn.Module
        Function of a list of values, or of a tensor of the arrays of `reader`, that returns features of shape
        (n_values, ...). A module runs in eval mode, without gradients.
    n_features : int or tuple of int
        Number of features of a value, or their shape.
    reader : Reader, default=None
        Reader of the files, such as ``ImagePixels("photo")``. Its arrays are converted to float32. `None` passes the
        values themselves.
    batch_size : int, default=32
        Number of values of a call.
    device : str or torch.device, default='auto'
        Device of a module. `'auto'` is CUDA where there is one, else MPS or the CPU.

    Attributes
    ----------
    sample_shape : tuple of int
        Shape of the features of a value.

    See Also
    --------
    MediaTransformer : Several readers with a cache.

    Notes
    -----
    The cache recognises a function by its code and by the values that it names, and a network by its class and weights.
    """

    def __init__(
        self,
        column: str | None = None,
        function: Callable[[Any], Any] | nn.Module | None = None,
        *,
        n_features: int | tuple[int, ...] = 1,
        reader: Reader | None = None,
        batch_size: int = 32,
        device: str | torch.device = "auto",
    ) -> None:
        self.column = column
        self.function = function
        self.n_features = n_features
        self.reader = reader
        self.batch_size = batch_size
        self.device = device

    @property
    def reads_files(self) -> bool:
        """Return whether the values are paths of files."""
        return self.reader is not None and self.reader.reads_files

    @property
    def _column(self) -> str | None:
        return self.reader.column if self.column is None and self.reader is not None else self.column

    @property
    def sample_shape(self) -> Shape:
        """Shape of the features of a value."""
        return self.n_features if isinstance(self.n_features, tuple) else (self.n_features,)

    @property
    def sample_dtype(self) -> np.dtype[Any]:
        """Type of the features, float32."""
        return np.dtype(np.float32)

    def read(self, value: Any) -> Sample:
        """Compute the features of one value.

        Parameters
        ----------
        value : object
            Value of the column.

        Returns
        -------
        Sample
            Array of float32 of shape `sample_shape`, and the note of `reader`.

        Raises
        ------
        MediaError
            If `reader` cannot read the value.
        """
        [sample] = self.read_many([value])
        if isinstance(sample, MediaError):
            raise sample
        return sample

    def read_many(self, values: Sequence[Any]) -> Iterator[Sample | MediaError]:
        """Compute the features of several values in batches; yield them, or the error, for each."""
        remaining, compute = iter(values), self._compute()
        while batch := list(islice(remaining, self.batch_size)):
            samples = [Sample(value) for value in batch] if self.reader is None else list(self.reader.read_many(batch))
            features = iter(self._features(compute, [sample.array for sample in samples if isinstance(sample, Sample)]))
            for sample in samples:
                yield sample._replace(array=next(features)) if isinstance(sample, Sample) else sample

    def _compute(self) -> Callable[[Any], Any]:
        """Return the function, or a function that calls a copy of the module on its device."""
        if not isinstance(self.function, nn.Module):
            assert self.function is not None  # `fit` refuses it.
            return self.function
        device = resolve_device(self.device)
        module = copy.deepcopy(self.function).to(device).eval()

        @torch.no_grad()
        def compute(inputs: torch.Tensor) -> Any:
            return module(inputs.to(device))

        return compute

    def _features(self, compute: Callable[[Any], Any], values: Sequence[Any]) -> np.ndarray:
        """Return the features of some values, checked."""
        if not values:
            return np.empty((0, *self.sample_shape), np.float32)
        inputs: Any = list(values)
        if self.reader is not None:
            inputs = torch.from_numpy(np.stack(values).astype(np.float32))
        features = compute(inputs)
        features = features.detach().cpu().float().numpy() if isinstance(features, torch.Tensor) else features
        try:
            array = np.asarray(features, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"function={self.function!r} returned {type(features).__name__}, expected an array or tensor of shape "
                f"(n_values, *{self.sample_shape})."
            ) from error
        if array.shape != (len(values), *self.sample_shape):
            raise ValueError(
                f"function={self.function!r} returned shape {array.shape} for {len(values)} values, but n_features="
                f"{self.n_features!r} stands for {(len(values), *self.sample_shape)}."
            )
        return array

    def _check_parameters(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function={self.function!r} must be a function or a torch.nn.Module.")
        if self.reader is not None:
            if not isinstance(self.reader, Reader):
                raise TypeError(f"reader={self.reader!r} must be a reader, such as ImagePixels().")
            self.reader._check_parameters()
            if None not in (self.column, self.reader.column) and self.column != self.reader.column:
                raise ValueError(
                    f"column={self.column!r}, but the reader has column={self.reader.column!r}. Pass only one of them."
                )
        elif isinstance(self.function, nn.Module):
            raise ValueError(f"function={type(self.function).__name__} is a network and needs a reader= of its input.")
        check_number("batch_size", self.batch_size, low=1, integer=True)
        for n in self.sample_shape:
            check_number("n_features", n, low=1, integer=True)
        resolve_device(self.device)
