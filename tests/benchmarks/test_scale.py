"""The smallest run of benchmarks/scale.py."""

import importlib
import re
import sys
from pathlib import Path

import pytest


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    yield importlib.import_module("scale")
    sys.modules.pop("scale")


def test_a_call_compares_processes_and_writes_the_report(scale, tmp_path):
    pytest.importorskip("psutil", reason="counts the bytes of processes")
    arguments = "--quick --rounds 1 --backends loky --sections simulation constants --out"
    scale.main([*arguments.split(), str(tmp_path)])
    report = (tmp_path / "scale.md").read_text()
    rows = re.findall(r"^\| (one process|loky) \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| yes \|$", report, re.MULTILINE)
    assert [name for name, _ in rows] == ["one process", "loky"]
    assert float(rows[1][1]) > 0.5  # eight clips of four seconds
    assert "| loky: one more task that does nothing |" in report
