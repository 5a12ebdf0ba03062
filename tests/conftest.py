"""Fixtures of all tests, and the limit to one thread that makes results reproducible."""

import os
from pathlib import Path

import pytest
import torch

from mmestim import balancers

os.environ["OMP_NUM_THREADS"] = "1"  # joblib's workers inherit it.
torch.set_num_threads(1)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def data_folder():
    """Folder of the small real data sets; without MMESTIM_DATA the test is skipped."""
    if not (folder := os.environ.get("MMESTIM_DATA")):
        pytest.skip("MMESTIM_DATA does not name a folder with the data sets")
    return Path(folder)


BALANCING_METHODS = [
    value
    for value in vars(balancers).values()
    if isinstance(value, type) and issubclass(value, balancers.Balancer) and value is not balancers.Balancer
]
# Parameters of methods that by default start after more epochs than tests train, or need more of them.
EARLY_PARAMETERS = {
    "GradientBlending": {"n_epochs": 1, "super_epoch": 2},
    "OPM": {"starts": 0},
    "ReconBoost": {"stage_epochs": 1, "rectify_epochs": 1},
    "Relearning": {"interval": 1},
    "Valuation": {"warmup": 0},
}


@pytest.fixture(params=BALANCING_METHODS, ids=lambda method: method.__name__)
def balancing_method(request):
    """Class of each balancing method in turn."""
    return request.param


@pytest.fixture
def balancer(balancing_method):
    """Instance of each balancing method in turn, with parameters that take effect in the first epochs."""
    return balancing_method(**EARLY_PARAMETERS.get(balancing_method.__name__, {}))
