"""The smallest run of benchmarks/mixture.py: its table and the agreement of the parameters."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture
def mixture(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    yield importlib.import_module("mixture")
    sys.modules.pop("mixture")


def test_a_call_prints_and_writes_the_table(mixture, tmp_path, capsys):
    mixture.main(["--rows", "5000", "--rounds", "1", "--out", str(tmp_path / "new")])
    table = (tmp_path / "new" / "mixture.md").read_text()
    assert capsys.readouterr().out == table
    rows = [[field.strip() for field in line.split("|")[1:-1]] for line in table.splitlines() if "mmestim |" in line]
    assert [row[0] for row in rows] == list(mixture.MIXTURES)
    low_tolerance_rows = [line.split("|") for line in table.splitlines() if "tol=1e-08" in line]
    assert len(low_tolerance_rows) == len(rows)
    assert all(float(line[7]) < 1e-2 for line in low_tolerance_rows)  # difference from mmestim
