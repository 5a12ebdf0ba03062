"""Ranges that the parameters of an edit are drawn from."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._utils.validation import check_number


@dataclass(frozen=True)
class Between:  # numpydoc ignore=PR02
    """Numbers between two ends, drawn uniformly or log-uniformly.

    >>> from mmestim.voice import Between, EditSimulator
    >>> simulator = EditSimulator({"low_pass": {"cutoff": Between(300.0, 800.0)}})

    Parameters
    ----------
    low, high : float
        Ends of the range, both included.
    log : bool, default=False
        Whether the logarithm is drawn uniformly. `low` must then be above 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            check_number(name, getattr(self, name), low=-float("inf"))
        if not -math.inf < self.low <= self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(
                f"{self!r}: low must be at most high, both finite{', and above 0 for a logarithm' * self.log}."
            )

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one number."""
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def __contains__(self, value: Any) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class OneOf:  # numpydoc ignore=PR02
    """Listed values, all equally likely.

    >>> from mmestim.voice import EditSimulator, OneOf
    >>> simulator = EditSimulator({"telephone": {"codec": OneOf(("gsm",))}})

    Parameters
    ----------
    values : tuple
        Values that JSON can hold.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, tuple):
            raise TypeError(f"{self!r}: values must be a tuple, of one for a single value: OneOf((value,)).")

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw one value."""
        value = self.values[rng.integers(len(self.values))]
        return value.item() if isinstance(value, np.generic) else value  # JSON has no NumPy scalars.

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))

    def __contains__(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Either:  # numpydoc ignore=PR02
    """Numbers of one of several ranges.

    >>> from mmestim.voice import Between, Either
    >>> print(Either((Between(0.5, 0.9), Between(1.1, 2.0))))
    0.5 to 0.9 or 1.1 to 2

    Parameters
    ----------
    parts : tuple of Between
        The ranges, all equally likely.
    """

    parts: tuple[Between, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or not self.parts or {type(part) for part in self.parts} != {Between}:
            raise TypeError(f"{self!r}: parts must be a tuple of Between.")

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one of the ranges, then a number of it."""
        return self.parts[rng.integers(len(self.parts))].draw(rng)

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))

    def __contains__(self, value: Any) -> bool:
        return any(value in part for part in self.parts)


@dataclass(frozen=True)
class FirstInstalled:  # numpydoc ignore=PR02
    """The first of several engines whose package is installed.

    >>> from mmestim.voice import FirstInstalled
    >>> FirstInstalled({"engine_of_tomorrow": "a_package_of_tomorrow", "phase_vocoder": None}).first()
    'phase_vocoder'

    Parameters
    ----------
    engines : dict of str to (str or None)
        Name of each engine and the module that it needs, or None if it needs none.
    """

    engines: Mapping[str, str | None]

    def draw(self, rng: np.random.Generator) -> str:
        """Return the name of the engine; nothing is drawn."""
        return self.first()

    def first(self) -> str:
        """Return the name of the engine."""
        return next(name for name, package in self.engines.items() if not package or importlib.util.find_spec(package))

    def __str__(self) -> str:
        return " or else ".join(self.engines)

    def __contains__(self, value: Any) -> bool:
        return value in self.engines


Range = Between | OneOf | Either | FirstInstalled


def one_of(*values: Any) -> OneOf:
    """Return a range of the listed values."""
    return OneOf(values)


def either_sign(low: float, high: float) -> Either:
    """Return a range of numbers of either sign whose magnitude is between `low` and `high`."""
    return Either((Between(-high, -low), Between(low, high)))
