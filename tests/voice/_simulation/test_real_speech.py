"""Tests of the simulator on real speech: valid audio, and no shortcuts that reveal edited clips."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmestim.voice import AudioCorpus, EditSimulator


@pytest.fixture(scope="module")
def clips(data_folder):
    frame = pd.read_csv(data_folder / "speech" / "clips.csv")
    return frame.assign(path=[str(data_folder / "speech" / "audio" / file) for file in frame["file"]])


def test_edited_speech_is_valid(clips, data_folder):
    sources = {"tts": data_folder / "tts_local" / "audio"}
    rooms, noises = data_folder / "rir", data_folder / "noise"
    simulator = EditSimulator(
        n_edits=3, sources=sources, noises=noises, impulse_responses=rooms, order="random", random_state=0
    )
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


# `benchmarks/voice.py --shortcuts` examines all edits.
@pytest.mark.parametrize("label", ["cut", "paste", "mix", "low_pass"])
def test_level_and_duration_do_not_reveal_edits(clips, label, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    shortcut_auc = importlib.import_module("_shortcuts").shortcut_auc
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    auc, with_histogram, n_clips = shortcut_auc(label, AudioCorpus(clips), model, n_seeds=2)
    assert n_clips > 400
    assert auc < 0.55
    # A pasted segment shows in the histogram by nature: its samples occur twice.
    assert with_histogram < (0.7 if label == "paste" else 0.56)
