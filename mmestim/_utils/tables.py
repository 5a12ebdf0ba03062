"""Tables of files, which need pandas, an extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def make_frame(function: str, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Return a DataFrame whose columns hold Python objects.

    Parameters
    ----------
    function : str
        Name of the public function that returns the table, for the error.
    columns : dict of str to sequence
        Values by column.

    Returns
    -------
    DataFrame
        The table.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f'{function} returns a DataFrame and needs pandas. Install it: pip install "mmestim[pandas]"'
        ) from error
    return pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in columns.items()})
