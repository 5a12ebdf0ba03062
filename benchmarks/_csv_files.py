"""Compressed CSV files of results, which are complete at any time."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmestim._utils.atomic_write import write_atomically

SUFFIX = ".csv.gz"


def read_rows(path: Path, fields: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a file, or none if there is no file; exit if it has other columns."""
    if not path.exists():
        return []
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(fields):
            sys.exit(f"{path} does not have the columns that this script writes. Move it away or choose another --out.")
        return list(reader)


def append_rows(path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a file; the same rows give the same bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*read_rows(path, fields), *rows])
    write_atomically(path, [gzip.compress(text.getvalue().encode(), mtime=0)])
