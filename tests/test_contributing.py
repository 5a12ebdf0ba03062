"""Code templates of CONTRIBUTING, run as parts of the files that they name."""

import doctest
import re
from pathlib import Path
from types import ModuleType

import numpy as np

from mmestim import balancers
from mmestim.voice import taxonomy
from mmestim.voice.edits import AudioPool, modulation

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(file):
    """Return the block of code that belongs to a file."""
    return re.search(f"^```python {file}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[1]


def test_the_balancer_passes_its_doctest_and_its_test(monkeypatch):
    module = ModuleType("mmestim.balancers.slow_leader")
    module.__package__ = "mmestim.balancers"
    exec(block("mmestim/balancers/slow_leader.py"), vars(module))
    monkeypatch.setattr(balancers, "SlowLeader", module.SlowLeader, raising=False)
    assert doctest.testmod(module) == (0, 6)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    X = rng.normal(size=(60, 12)) + y[:, None]
    X[::3, :4] = np.nan
    exec(block("tests/balancers/test_slow_leader.py"), names := {})
    names["test_factor_1_is_plain_training"]((X, y))


def test_the_edit_takes_the_parameters_of_its_row():
    exec(block("mmestim/voice/edits/modulation.py"), names := vars(modulation).copy())
    info = eval(block("mmestim/voice/taxonomy.py"), vars(taxonomy).copy())
    rng = np.random.default_rng(0)
    waveform = rng.normal(scale=0.1, size=16_000).astype(np.float32)
    for ranges in (info.ranges, {**info.ranges, **info.held_out}):
        parameters = {name: values.draw(rng) for name, values in ranges.items()}
        edited = names["Tremolo"]().process(waveform, 16_000, AudioPool(), **parameters)
        assert edited.shape == waveform.shape
        assert not np.allclose(edited, waveform)
