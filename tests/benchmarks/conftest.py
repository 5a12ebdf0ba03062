"""Fixtures of the tests of benchmarks."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def balance():
    """Return the module balance.py."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)  # lets the scripts import each other
    yield importlib.import_module("balance")
    sys.path.remove(folder)
