"""The simulator on real speech: what comes out is sound, and nothing but the edits tells which clips are edited."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmestim.voice import AudioCorpus, EditSimulator

RATE = 16000
SECONDS = 3.0


@pytest.fixture(scope="module")
def clips(data_folder):
    frame = pd.read_csv(data_folder / "speech" / "clips.csv")
    return frame.assign(path=[str(data_folder / "speech" / "audio" / file) for file in frame["file"]])


def test_what_comes_out_is_sound(clips, data_folder):
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
        # Neither an offset, nor a step to one anywhere.
        means = np.convolve(waveform, np.ones(1600) / 1600, "valid")
        assert np.abs(means).max() < 0.3 * np.abs(waveform).max()
        assert np.abs(waveform.mean()) < 0.02
    assert len(seen) >= 17


@pytest.mark.parametrize("label", ["cut", "paste"])
def test_edits_show_in_nothing_but_themselves(clips, label):
    X, y, speakers = [], [], []
    rng = np.random.default_rng(0)
    corpus = AudioCorpus(clips)
    for seed in range(2):
        for waveform, record in EditSimulator([label], n_edits=(0, 1), random_state=seed).iterate(corpus):
            if (crop := cropped(waveform, record, rng)) is not None:
                X.append(shortcuts(crop))
                y.append(label in record.labels)
                speakers.append(clips["speaker"].iloc[record.clip])
    X, y = np.array(X), np.array(y)
    assert min(y.sum(), (~y).sum()) > 150
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    shares = cross_val_predict(model, X, y, groups=speakers, cv=GroupKFold(5), method="predict_proba")[:, 1]
    assert roc_auc_score(y, shares) < 0.55


def cropped(waveform, record, rng):
    """A part of common length, with the edit well inside; none where there is no such part."""
    spans = [span for spans in record.intervals.values() for span in spans]
    spans += [(point, point) for points in record.points.values() for point in points]
    low, high, n = 0, len(waveform) - round(SECONDS * RATE), round(SECONDS * RATE)
    for start, end in spans:
        low, high = max(low, int((end + 0.1) * RATE) - n), min(high, int((start - 0.1) * RATE))
    if high < low:
        return None
    first = rng.integers(low, high + 1)
    return waveform[first : first + n]


def shortcuts(waveform):
    """Duration, level, peak, and what the first and last 50 ms are like."""
    features = [len(waveform), np.log(waveform.std()), np.log(np.abs(waveform).max())]
    for end in (waveform[:800], waveform[-800:]):
        bands = (np.abs(np.fft.rfft(end * np.hanning(800)))[:400] ** 2).reshape(8, 50).mean(axis=1)
        features += [np.log(end.std() + 1e-9), np.abs(np.diff(np.sign(end))).mean(), *np.log(bands + 1e-12)]
    return features
