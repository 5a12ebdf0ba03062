"""Check for shortcuts: features other than the edit that separate edited from unedited clips."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from _simulation_tables import evenly_spaced, head, row
from mmestim.voice import LABELS, TAXONOMY, AudioCorpus, EditRecord, EditSimulator
from mmestim.voice.taxonomy import SYNTHETIC_LABELS

RATE, SECONDS = 16_000, 3.0
N_CROP = round(SECONDS * RATE)
# Measured properties that an edit changes by definition.
INHERENT_CUES = {
    "tts": "different histogram of samples",
    "paste": "repeated samples",
    "distortion": "crest factor",
    "high_pass": "crest factor",
}


def measure_shortcuts(options: argparse.Namespace, command: str) -> None:
    """Measure how well features other than the edit separate edited from unedited clips."""
    table = options.speech.parent / "clips.csv"
    if not table.is_file():
        sys.exit(
            f"{table} does not exist: --shortcuts needs the speakers of the clips, in its columns file and speaker."
        )
    frame = pd.read_csv(table)
    corpus = AudioCorpus(frame.assign(path=[str(options.speech / name) for name in frame["file"]]))
    corpus = evenly_spaced(corpus, options.clips or len(corpus))
    model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, learning_rate=0.05, random_state=0)
    lines = [
        f"# Shortcuts\n\n`python benchmarks/voice.py {command}`\n",
        f"{len(corpus)} clips of {len(set(corpus.speakers))} speakers, unedited or with one edit, cropped to 3 s that",
        "have the edit away from the ends. AUC: ROC-AUC of boosted trees whose features are duration, level, peak, and",
        "the first and last 50 ms; then also the roughness of the histogram of samples. Cross-validated in five folds",
        "by speaker; 0.5 is chance.\n",
        *head("edit", "clips", "AUC", "AUC with histogram", "inherent cue"),
    ]
    rounds = options.rounds or (1 if options.quick else 5)
    synthetic = options.speech.parent.parent / "tts_local" / "audio"
    for label in [label for label in LABELS[1:] if {"interval", "point"} & set(TAXONOMY[label].scopes)]:
        settings = {}
        if label in SYNTHETIC_LABELS:
            if label == "vc" or not synthetic.is_dir():
                continue
            settings = {"sources": {label: synthetic}}
        auc, with_histogram, n_clips = shortcut_auc(label, corpus, model, rounds, **settings)
        lines.append(row(label, n_clips, f"{auc:.3f}", f"{with_histogram:.3f}", INHERENT_CUES.get(label, "")))
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "voice-shortcuts.md").write_text("\n".join(lines) + "\n")


def shortcut_auc(
    label: str, corpus: AudioCorpus, model: ClassifierMixin, n_seeds: int, **settings: Any
) -> tuple[float, float, int]:
    """Return the ROC-AUC from the shortcuts alone, the ROC-AUC with the histogram, and the number of clips.

    Each is cross-validated in five folds by speaker.
    """
    X, y, speakers = [], [], []
    rng = np.random.default_rng(0)
    assert corpus.speakers is not None
    for seed in range(n_seeds):
        simulator = EditSimulator([label], n_edits=(0, 1), random_state=seed, **settings)
        for waveform, record in simulator.iterate(corpus):
            if (crop := cropped(waveform, record, rng)) is not None:
                X.append(shortcuts(crop))
                y.append(label in record.labels)
                speakers.append(corpus.speakers[record.clip])
    table, edited = np.array(X), np.array(y)
    aucs = []
    for features in (table[:, 1:], table):
        proba = cross_val_predict(model, features, edited, groups=speakers, cv=GroupKFold(5), method="predict_proba")
        aucs.append(float(roc_auc_score(edited, proba[:, 1])))
    return aucs[0], aucs[1], len(edited)


def cropped(waveform: np.ndarray, record: EditRecord, rng: np.random.Generator) -> np.ndarray | None:
    """Return a crop of 3 s with the edit away from its ends, or None if there is no such crop."""
    spans = [span for spans in record.intervals.values() for span in spans]
    spans += [(point, point) for points in record.points.values() for point in points]
    low, high = 0, len(waveform) - N_CROP
    for start, end in spans:
        low, high = max(low, int((end + 0.1) * RATE) - N_CROP), min(high, int((start - 0.1) * RATE))
    if high < low or record.inaudible:
        return None
    first = rng.integers(low, high + 1)
    return waveform[first : first + N_CROP]


def shortcuts(waveform: np.ndarray) -> list[float]:
    """Return histogram roughness, duration, level, peak, and features of the first and last 50 ms."""
    codes = np.bincount((np.round(waveform * 32768).astype(int) + 60).clip(0, 120))[1:-1]
    roughness = np.abs(np.diff(np.sqrt(codes), 2)).mean()  # independent of the shape of a smooth histogram
    features = [roughness, len(waveform), np.log(waveform.std()), np.log(np.abs(waveform).max())]
    for end in (waveform[:800], waveform[-800:]):
        bands = (np.abs(np.fft.rfft(end * np.hanning(800)))[:400] ** 2).reshape(8, 50).mean(axis=1)
        features += [np.log(end.std() + 1e-9), np.abs(np.diff(np.sign(end))).mean(), *np.log(bands + 1e-12)]
    return features
