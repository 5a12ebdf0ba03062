"""Plugin of pytest that runs the Python blocks of Markdown pages, each by itself, as a reader pastes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return Page.from_parent(parent, path=file_path) if file_path.suffix == ".md" else None


class Page(pytest.File):
    """Page of Markdown."""

    def collect(self) -> Iterator[pytest.Item]:
        text = self.path.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Block.from_parent(self, name=f"line {line}", source="\n" * line + match[1])


class Block(pytest.Function):
    """Block of code, run in an empty folder."""

    def __init__(self, *, source: str, **kwargs: object) -> None:
        super().__init__(callobj=lambda tmp_path, monkeypatch: self._run(source, tmp_path, monkeypatch), **kwargs)

    def _run(self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MPLBACKEND", "agg")
        exec(compile(source, self.path, "exec"), {"__name__": "__main__"})
