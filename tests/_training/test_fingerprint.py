"""Fingerprints of code and of the global values that it names."""

import pytest
from torch import nn

from mmestim._training.fingerprint import Fingerprint


def digest_of(value):
    digest = Fingerprint()
    digest.add(value)
    return digest.hexdigest()


SOURCE = """
WIDTH = 64
def layer(n):
    return Linear(n, WIDTH)
class Net(Module):
    "Words."
    depth = 2
    def __init__(self, n):
        super().__init__()
        self.layers = [layer(n) for _ in range(self.depth)]
make = lambda input_shape: Net(*input_shape)
"""


VALUES = """
from functools import lru_cache, partial
from numpy import array
from sklearn.preprocessing import StandardScaler
CONFIG = {"dropout": 1}
LAYERS = [1, 2]
TABLE = array([1.0, 2.0])
act = partial(round, ndigits=1)
SCALER = StandardScaler().fit([[1.0], [3.0]])
BASE = Linear(1, 1)
BASE.weight.data.fill_(1.5)
BASE.bias.data.fill_(0.5)
class Settings:
    pass
SETTINGS = Settings()
SETTINGS.rate = 3
@lru_cache
def depth():
    return 7
def make():
    return CONFIG, LAYERS, TABLE, act, SCALER, BASE, SETTINGS, depth
"""


@pytest.mark.parametrize(
    "old, new",
    [
        ('"dropout": 1', '"dropout": 2'),
        ("[1, 2]", "[1, 3]"),
        ("[1.0, 2.0]", "[1.0, 9]"),
        ("ndigits=1", "ndigits=2"),
        ("[3.0]", "[4.0]"),
        ("1.5", "1.6"),
        ("rate = 3", "rate = 4"),
        ("return 7", "return 8"),
    ],
    ids=["dict", "list", "array", "partial", "fitted", "module", "instance", "cached"],
)
def test_global_values_in_code_change_the_fingerprint(old, new):
    def digest(source):
        space = {"Linear": nn.Linear, "__name__": "__main__"}
        exec(source, space)
        return digest_of(space["make"])

    assert digest(VALUES) == digest(VALUES)
    assert digest(VALUES) != digest(VALUES.replace(old, new))


@pytest.mark.parametrize(
    "old, new", [("64", "65"), ("WIDTH)", "WIDTH, False)"), ("depth = 2", "depth = 3"), ("self.depth", "9")]
)
def test_code_of_encoders_changes_the_fingerprint(old, new):
    def digest(source):
        space = {"Linear": nn.Linear, "Module": nn.Module, "__name__": "__main__"}
        exec(source, space)
        return digest_of(space["make"])

    assert digest(SOURCE) == digest(SOURCE)
    assert digest(SOURCE) != digest(SOURCE.replace(old, new))
