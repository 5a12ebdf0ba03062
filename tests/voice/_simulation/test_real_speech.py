"""Tests of the simulator on real speech: valid audio, and no shortcuts that reveal edited clips."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmestim.voice import AudioCorpus, EditSimulator


@pytest.fixture(scope="module")
def clips(data_folder):
    frame = pd.read_csv(data_folder / "speech" / "clips.csv")
    return frame.assign(path=[str(data_folder / "speech" / "audio" / file) for file in frame["file"]])


def test_edited_speech_is_valid(clips, data_folder):
    sources = {"tts": data_folder / "tts_local" / "audio"}
    rooms, noises = data_folder / "rir", data_folder / "noise"
    audio = {"sources": sources, "noises": noises, "impulse_responses": rooms}
    simulator = EditSimulator(n_edits=3, order="random", acquisition=False, random_state=0, **audio)
    seen = set()
    for waveform, record in simulator.iterate(clips.iloc[::6]):
        seen |= set(record.labels)
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() <= 0.99
        assert waveform.std() > 1e-4
        # There is neither an offset nor a step of the offset.
        means = np.convolve(waveform, np.ones(1600) / 1600, "valid")
        assert np.abs(means).max() < 0.3 * np.abs(waveform).max()
        assert np.abs(waveform.mean()) < 0.02
    assert len(seen) >= 17


# `benchmarks/voice.py --shortcuts` examines all edits and more clips.
@pytest.mark.parametrize("label", ["cut", "mix"])
def test_no_other_property_reveals_an_edit(clips, label, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    shortcuts = importlib.import_module("_shortcuts")
    windows, speakers = shortcuts.labelled_windows(label, AudioCorpus(clips.iloc[::2]), n_seeds=1, n_jobs=1)
    aucs = [shortcuts.property_auc(name, windows, speakers) for name in shortcuts.PROPERTIES]
    assert len(windows) > 200
    assert max(abs(auc - 0.5) for auc in aucs) < 0.12
