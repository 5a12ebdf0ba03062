"""The smallest run of benchmarks/media.py."""

import importlib
import re
import sys
from pathlib import Path

import pytest


@pytest.fixture
def media(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    yield importlib.import_module("media")
    sys.modules.pop("media")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of the process from /proc")
def test_a_call_reads_the_frames_of_a_plain_loop_and_writes_the_report(media, tmp_path):
    media.main([*"--videos 2 --rows 20 --epochs 1 --gib 0.01 --rounds 1 --out".split(), str(tmp_path)])
    report = (tmp_path / "media.md").read_text()
    ratios = dict(re.findall(r"^\| ([^|]+) \| [\d.]+ \| ([\d.]+) \|$", report, re.MULTILINE))
    assert set(ratios) == {
        "plain loop of PyAV",
        "MediaTransformer, new cache",
        "MediaTransformer, known files",
        "arrays in memory",
        "cache",
    }
    assert ratios["plain loop of PyAV"] == "1.00"
    assert re.search(r"One epoch from a cache of 0.01 GiB \(285 rows\): \d+ MiB", report)
