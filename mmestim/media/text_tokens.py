"""Reader of texts as numbers of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from sklearn.utils import murmurhash3_32

from .._utils.validation import check_flag, check_number
from ._base import MediaError, Reader, Sample, Shape

_PADDING, _UNKNOWN, _FIRST = 0, 1, 2


class TextTokens(Reader):
    r"""Read texts as numbers of their tokens.

    >>> from mmestim.media import TextTokens
    >>> TextTokens(n_tokens=5, vocabulary=["a", "film"]).fit_transform(["A good film"])
    array([[2, 1, 3, 0, 0]], dtype=int32)

    The number 0 stands for padding, so that ``tokens != 0`` is the mask of the tokens. With a `vocabulary`, 1 stands
    for tokens that it lacks, and its tokens are numbered from 2 on. Without one, a hash of the token gives its number:
    nothing has to be learned, and a few tokens share a number.

    Parameters
    ----------
    column : str, default=None
        Column of texts in a DataFrame. `None` reads X itself, such as a list of texts.
    n_tokens : int, default=64
        Length of each row. Longer texts are cut at their end, with a warning.
    vocabulary : sequence of str or dict of str to int, default=None
        Tokens, or their numbers from 2 on. `None` hashes.
    vocabulary_size : int, default=32768
        Upper bound of the numbers of hashed tokens, which lie from 2 to ``vocabulary_size - 1``.
    lowercase : bool, default=True
        Whether to convert texts to lower case.
    token_pattern : str, default=r"\w+|[^\w\s]"
        Regular expression of a token: by default words, and punctuation marks.

    Attributes
    ----------
    sample_shape : tuple of int
        Number of tokens.

    See Also
    --------
    FrozenFeatures : Features of texts by a network that is not trained.
    MediaTransformer : Several readers with a cache.
    """

    @property
    def reads_files(self) -> bool:
        """Return False, because the values are texts."""
        return False

    def __init__(
        self,
        column: str | None = None,
        *,
        n_tokens: int = 64,
        vocabulary: Sequence[str] | Mapping[str, int] | None = None,
        vocabulary_size: int = 32_768,
        lowercase: bool = True,
        token_pattern: str = r"\w+|[^\w\s]",
    ) -> None:
        self.column = column
        self.n_tokens = n_tokens
        self.vocabulary = vocabulary
        self.vocabulary_size = vocabulary_size
        self.lowercase = lowercase
        self.token_pattern = token_pattern

    @property
    def sample_shape(self) -> Shape:
        """Number of tokens."""
        return (self.n_tokens,)

    @property
    def sample_dtype(self) -> np.dtype[Any]:
        """Type of the numbers, int32."""
        return np.dtype(np.int32)

    def read(self, value: Any) -> Sample:
        """Read one text.

        Parameters
        ----------
        value : str
            The text.

        Returns
        -------
        Sample
            Array of int32 of shape (n_tokens,), and a note if the text is longer.

        Raises
        ------
        MediaError
            If the value is no text.
        """
        if not isinstance(value, str):
            raise MediaError(repr(value)[:80], f"is of type {type(value).__name__}, expected a text.")
        tokens = re.findall(self.token_pattern, value.lower() if self.lowercase else value)
        numbers = np.full(self.n_tokens, _PADDING, np.int32)
        read = [self._number(token) for token in tokens[: self.n_tokens]]
        numbers[: len(read)] = read
        is_cut = len(tokens) > self.n_tokens
        return Sample(numbers, f"have more than n_tokens={self.n_tokens} tokens: their ends were cut." * is_cut)

    def _number(self, token: str) -> int:
        if self.vocabulary is None:
            return _FIRST + murmurhash3_32(token, seed=0, positive=True) % (self.vocabulary_size - _FIRST)
        return self._numbers().get(token, _UNKNOWN)

    def _numbers(self) -> Mapping[str, int]:
        """Return the numbers of the tokens in the vocabulary."""
        if isinstance(self.vocabulary, Mapping):
            return self.vocabulary
        if getattr(self, "_numbered", (None, {}))[0] is not self.vocabulary:
            tokens = [] if self.vocabulary is None else self.vocabulary
            numbers = {token: number for number, token in enumerate(tokens, start=_FIRST)}
            self._numbered = (self.vocabulary, numbers)
        return self._numbered[1]

    def _check_parameters(self) -> None:
        check_number("n_tokens", self.n_tokens, low=1, integer=True)
        check_number("vocabulary_size", self.vocabulary_size, low=_FIRST + 1, high=2**24, integer=True)
        check_flag("lowercase", self.lowercase)
        try:
            n_groups = re.compile(self.token_pattern).groups
        except re.error as error:
            raise ValueError(f"token_pattern={self.token_pattern!r} is no regular expression: {error}.") from error
        if n_groups:
            raise ValueError(f"token_pattern={self.token_pattern!r} has groups; write (?:...) instead of (...).")
        if self.vocabulary is not None:
            self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        """Raise unless the vocabulary has an order or numbers, and its tokens can occur."""
        if isinstance(self.vocabulary, str | Set) or not isinstance(self.vocabulary, Iterable):
            raise TypeError(
                f"vocabulary of type {type(self.vocabulary).__name__} gives no numbers. Pass a list of tokens, or a "
                "dict of tokens and numbers."
            )
        tokens = list(self.vocabulary)
        if odd := [token for token in tokens if not isinstance(token, str)]:
            raise TypeError(f"vocabulary has {odd[0]!r}, which is no text.")
        if len(set(tokens)) < len(tokens):
            raise ValueError(f"vocabulary has a token twice, {max(tokens, key=tokens.count)!r}.")
        if self.lowercase and (upper := [token for token in tokens if token != token.lower()]):
            raise ValueError(f"vocabulary has {upper[0]!r}, which lowercase=True never finds. Pass lowercase=False.")
        if isinstance(self.vocabulary, Mapping):
            numbers = self.vocabulary
            if odd := [token for token, number in numbers.items() if not isinstance(number, int | np.integer)]:
                raise TypeError(f"vocabulary gives {odd[0]!r} the number {numbers[odd[0]]!r}, which is no integer.")
            if low := [token for token, number in numbers.items() if number < _FIRST]:
                raise ValueError(f"vocabulary gives {low[0]!r} a number below {_FIRST}, which are reserved.")
