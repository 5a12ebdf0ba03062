"""Plugin of pytest that checks Markdown pages: their links, and their blocks of Python, each as a reader pastes it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A block of code, and what it prints.
_BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Numbers may differ by this much from those of a page, since processors round differently.
_RELATIVE_TOLERANCE, _ABSOLUTE_TOLERANCE = 0.1, 0.05
# Packages that a block cannot do without, each in a comment of its own.
_NEEDS = re.compile(r"^# needs (\w+)$", re.MULTILINE)
_CODE = re.compile(r"^```\w.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|^:target: (\S+)|^```\{image\} (\S+)", re.MULTILINE)
# Pages that the build of the site writes. Sphinx checks the links to them.
_GENERATED = re.compile(r"docs/(api|benchmarks)/|docs/(architecture|changelog|contributing|voice/card)\.")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return Page.from_parent(parent, path=file_path) if file_path.suffix == ".md" else None


class Page(pytest.File):
    """Page of Markdown."""

    def collect(self) -> Iterator[pytest.Item]:
        text = self.path.read_text(encoding="utf-8")
        yield Links.from_parent(self, name="links")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Block.from_parent(self, name=f"line {line}", source="\n" * line + match[1], printed=match[2])


class Block(pytest.Function):
    """Block of code, run in an empty folder, and the text that it prints."""

    def __init__(self, *, source: str, printed: str | None, **kwargs: object) -> None:
        def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
            self._run(source, tmp_path, monkeypatch)
            if printed is not None:
                check_printed(capsys.readouterr().out, printed)

        super().__init__(callobj=run, **kwargs)

    def _run(self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for package in _NEEDS.findall(source):
            pytest.importorskip(package)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MPLBACKEND", "agg")
        exec(compile(source, self.path, "exec"), {"__name__": "__main__"})


def check_printed(text: str, expected: str) -> None:
    """Check that a text has the words of another, and numbers close to its numbers."""
    lines, expected_lines = ([line.rstrip() for line in part.strip().splitlines()] for part in (text, expected))
    assert [_NUMBER.sub("0", line) for line in lines] == [_NUMBER.sub("0", line) for line in expected_lines]
    for line, expected_line in zip(lines, expected_lines, strict=True):
        numbers, expected_numbers = (list(map(float, _NUMBER.findall(part))) for part in (line, expected_line))
        assert numbers == pytest.approx(expected_numbers, rel=_RELATIVE_TOLERANCE, abs=_ABSOLUTE_TOLERANCE), line


class Links(pytest.Item):
    """Links of a page: to files that git tracks and their headings, or to sites by https."""

    def runtest(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        targets = ["".join(groups) for groups in _LINK.findall(_CODE.sub("", text))]
        if broken := [target for target in targets if not self._is_valid(target)]:
            pytest.fail(f"{self.path.name} links to {', '.join(broken)}", pytrace=False)

    def _is_valid(self, target: str) -> bool:
        if ":" in target:  # No network: only the form is checked.
            return re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[\w./#~-]*)?", target) is not None
        name, _, anchor = target.partition("#")
        path = (self.path.parent / name).resolve() if name else self.path
        relative = path.relative_to(ROOT).as_posix()
        if _GENERATED.match(relative):
            return True
        relative = re.sub(r"docs/gallery/(.*)\.html$", r"examples/\1.py", relative)
        is_tracked = any(file == relative or file.startswith(f"{relative}/") for file in tracked_files())
        return is_tracked and (not anchor or anchor in anchors(path))


@cache
def tracked_files() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@cache
def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(_BLOCK, "", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
