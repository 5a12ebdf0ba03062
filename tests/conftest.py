"""Fixtures for every test, and the one thread that makes their results the same everywhere."""

import os
from pathlib import Path

import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # joblib's workers inherit it
torch.set_num_threads(1)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def data_folder():
    """Folder of the small real data sets; the test skips where MMESTIM_DATA names none."""
    if not (folder := os.environ.get("MMESTIM_DATA")):
        pytest.skip("MMESTIM_DATA does not name a folder with the data sets")
    return Path(folder)
