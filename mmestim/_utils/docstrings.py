"""Docstrings with sections that several classes share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from textwrap import indent
from typing import TypeVar

_Class = TypeVar("_Class", bound=type)

_PLACEHOLDER = re.compile(r"^( *)\$\{(\w+)\}$", re.MULTILINE)


def fill_docstring(sections: Mapping[str, str]) -> Callable[[_Class], _Class]:
    r"""Fill lines such as ``${name}`` in the docstring of a class with shared text.

    Parameters
    ----------
    sections : mapping of str to str
        Texts without indentation, by the names of their placeholders.

    Returns
    -------
    callable
        Decorator that replaces each placeholder by its text, indented like the placeholder.

    Examples
    --------
    >>> @fill_docstring({"seed": "random_state : int\n    Seed of the shuffling."})
    ... class Shuffler:
    ...     '''Shuffler of rows.
    ...
    ...     ${seed}
    ...     '''
    >>> print(Shuffler.__doc__)
    Shuffler of rows.
    <BLANKLINE>
        random_state : int
            Seed of the shuffling.
    <BLANKLINE>
    """

    def fill(cls: _Class) -> _Class:
        if cls.__doc__ is not None:  # Python removes docstrings under -OO.
            cls.__doc__ = _PLACEHOLDER.sub(lambda match: indent(sections[match[2]], match[1]), cls.__doc__)
        return cls

    return fill
