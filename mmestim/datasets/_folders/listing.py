"""Listing of files and labels as a data set, and the errors about folders that are incomplete."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.utils import Bunch

from ..._utils.tables import make_frame
from ..._utils.validation import check_choice

OnMissing = Literal["raise", "skip"]
Row = dict[str, Any]
_MAX_NAMED = 3


def open_folder(folder: str | os.PathLike[str], needed: Sequence[str], layout: str) -> Path:
    """Return the path of a folder, after checking that it has the entries of its layout.

    Parameters
    ----------
    folder : str or path-like
        The folder.
    needed : sequence of str
        Names of files and folders in it.
    layout : str
        Description of the layout, for errors.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If an entry is missing.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r} is not a folder. Pass the one that contains {layout}.")
    if missing := [name for name in needed if not (path / name).exists()]:
        raise not_recognised(path, f"it has no {' and no '.join(missing)}", layout)
    return path


def not_recognised(path: Path, problem: str, layout: str) -> ValueError:
    """Return the error about a folder in another layout, with the names of its first entries."""
    names = sorted(entry.name for entry in path.iterdir())
    return ValueError(
        f"folder={str(path)!r} is not in the expected layout: {problem}. Expected {layout}; found "
        f"{shortened(names) or 'nothing'}."
    )


def files_below(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Return the sorted files below a folder that have one of the suffixes; hidden ones are ignored."""
    allowed = set(suffixes)
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in allowed and not name.startswith(".")
    )


def shortened(names: Sequence[Any]) -> str:
    """Return the first names of a list, and the number of the others."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(map(str, names[:_MAX_NAMED])) + more


def make_listing(
    function: str,
    rows: list[Row],
    descr: str,
    *,
    paths: Sequence[str],
    groups: str,
    on_missing: OnMissing,
    target: str | None = "label",
) -> Bunch:
    """Return rows as a data set, after looking for their files.

    Parameters
    ----------
    function : str
        Name of the public function that returns the data set.
    rows : list of dict
        Values by column. A column "split" becomes an array beside the table.
    descr : str
        Description of the data set, with its licence and citation.
    paths : sequence of str
        Columns that hold paths.
    groups : str
        Column of rows that belong together.
    on_missing : {'raise', 'skip'}
        Treatment of rows without one of their files.
    target : str or None, default='label'
        Column to predict.

    Returns
    -------
    Bunch
        The data set.

    Raises
    ------
    FileNotFoundError
        If files are missing and `on_missing` is `'raise'`, or no row is left.
    """
    check_choice("on_missing", on_missing, ("raise", "skip"))
    missing = {
        number: row[column]
        for number, row in enumerate(rows)
        for column in reversed(paths)
        if not os.path.exists(row[column])
    }
    if missing:
        problem = f"{len(missing)} of {len(rows)} rows lack a file: {shortened(list(missing.values()))}"
        if on_missing == "raise":
            raise FileNotFoundError(f"{problem}. Pass on_missing='skip' to leave them out.")
        if len(missing) == len(rows):
            raise FileNotFoundError(f"{problem}. No row is left.")
        warnings.warn(f"{function}: {problem}. They are left out.", stacklevel=3)
        rows = [row for number, row in enumerate(rows) if number not in missing]
    names = [name for name in rows[0] if name != "split"]
    columns = {name: [row[name] for row in rows] for name in names}
    bunch = Bunch(frame=make_frame(function, columns), groups=np.array(columns[groups]), DESCR=descr)
    if target is not None:
        bunch.target = np.array(columns[target])
        bunch.target_names = np.unique(bunch.target)
    bunch.split = np.array([row["split"] for row in rows]) if "split" in rows[0] else None
    return bunch
