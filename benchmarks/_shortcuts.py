"""Check for shortcuts: properties of training windows, other than an edit itself, that reveal its label."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from _simulation_tables import evenly_spaced, head, row
from mmestim.voice import TAXONOMY, AudioCorpus, EditSimulator
from mmestim.voice._training_data.window_set import LabelledWindow, edited_windows
from mmestim.voice.taxonomy import EDIT_LABELS, SYNTHETIC_LABELS

RATE, SECONDS = 16_000, 4.05
N_EDGE, N_EDGE_FRAMES = 800, 10
MIN_WINDOWS = 50


class Property(NamedTuple):
    """Property of a window, and the categories or labels of edits that change it by their nature."""

    measure: Callable[[np.ndarray], list[float]]
    changed_by: frozenset[str] = frozenset()


def high_band(waveform: np.ndarray) -> list[float]:
    """Return the fraction of the energy that is above 7 kHz, as a logarithm."""
    energy = np.abs(np.fft.rfft(waveform)) ** 2
    return [float(np.log((energy[round(7000 / RATE * len(waveform)) :].sum() + 1e-12) / (energy.sum() + 1e-12)))]


def ends(waveform: np.ndarray) -> list[float]:
    """Return the level, the sign changes and the levels of eight bands of the first and last 50 ms."""
    features: list[float] = []
    for end in (waveform[:N_EDGE], waveform[-N_EDGE:]):
        bands = (np.abs(np.fft.rfft(end * np.hanning(N_EDGE)))[: N_EDGE // 2] ** 2).reshape(8, -1).mean(axis=1)
        features += [np.log(end.std() + 1e-9), np.abs(np.diff(np.sign(end))).mean(), *np.log(bands + 1e-12)]
    return features


PROPERTIES = {
    "length": Property(lambda waveform: [len(waveform)]),
    "level": Property(lambda waveform: [float(np.log(waveform.std() + 1e-9))]),
    "crest": Property(
        lambda waveform: [float(np.log((np.abs(waveform).max() + 1e-9) / (waveform.std() + 1e-9)))],
        frozenset({"distortion", "spectral", "spatial", "tts", "telephone"}),
    ),
    "above 7 kHz": Property(high_band, frozenset({"encoding", "spectral", "modulation", "spatial", "tts"})),
    # To a tenth of a 16-bit step. Smaller ones are errors of rounding.
    "offset": Property(lambda waveform: [round(float(waveform.mean()) * 327680) / 10]),
    "ends": Property(ends, frozenset({"encoding"})),
}


def measure_shortcuts(options: argparse.Namespace, command: str) -> None:
    """Measure how well each property alone separates windows with each label from unedited ones."""
    table = options.speech.parent / "clips.csv"
    if not table.is_file():
        sys.exit(
            f"{table} does not exist: --shortcuts needs the speakers of the clips, in its columns file and speaker."
        )
    frame = pd.read_csv(table, dtype={"speaker": str})
    corpus = AudioCorpus(frame.assign(path=[str(options.speech / name) for name in frame["file"]]))
    corpus = evenly_spaced(corpus, options.clips or len(corpus))
    lines = [
        f"# Shortcuts\n\n`python benchmarks/voice.py {command}`\n",
        f"{len(corpus)} clips of {len(set(corpus.speakers))} speakers, unedited or with one edit, as windows of up to",
        f"{SECONDS:g} s that the models are trained on. ROC-AUC of boosted trees on one property of a window, against",
        "unedited windows, cross-validated in five folds by speaker; 0.5 is chance. Ends: level, sign changes and",
        "spectrum of the first and last 50 ms, in windows whose edit is at least 0.1 s from both. *: the edit itself",
        "changes this property.\n",
        *head("edit", "windows", *PROPERTIES),
    ]
    rounds, synthetic = options.rounds or (1 if options.quick else 3), options.speech.parent.parent / "tts_local"
    for label in EDIT_LABELS:
        settings = {}
        if label in SYNTHETIC_LABELS:
            if label == "vc" or not synthetic.is_dir():
                continue
            settings = {"sources": {label: synthetic / "audio"}}
        windows, speakers = labelled_windows(label, corpus, rounds, max(options.jobs), **settings)
        aucs = {name: property_auc(name, windows, speakers) for name in PROPERTIES}
        lines.append(row(label, len(windows), *(format_auc(label, *auc) for auc in aucs.items())))
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "voice-shortcuts.md").write_text("\n".join(lines) + "\n")


def labelled_windows(
    label: str, corpus: AudioCorpus, n_seeds: int, n_jobs: int, **settings: Any
) -> tuple[list[LabelledWindow], np.ndarray]:
    """Return windows that have a label or no edit, and their speakers."""
    assert corpus.speakers is not None
    windows: list[LabelledWindow] = []
    for seed in range(n_seeds):
        simulator = EditSimulator([label], n_edits=(0, 1), random_state=seed, **settings)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\d+ of \d+ clips got fewer", UserWarning)
            edited_clips = simulator.iterate(corpus, n_jobs)
            rng = np.random.default_rng(seed)
            windows += edited_windows(edited_clips, [label], round(SECONDS * RATE), RATE, rng, 0.0)
    windows = [window for window in windows if window.targets[0] in (0, 1)]
    return windows, corpus.speakers[[window.clip for window in windows]]


def property_auc(name: str, windows: list[LabelledWindow], speakers: np.ndarray) -> float:
    """Return the cross-validated ROC-AUC of a label by one property; NaN if too few windows can be compared."""
    rows = np.arange(len(windows))
    if name == "ends":
        rows = np.array([row for row in rows if is_away_from_ends(windows[row])])
    X = np.array([PROPERTIES[name].measure(windows[row].waveform) for row in rows])
    y = np.array([windows[row].targets[0] for row in rows])
    if y.sum() < MIN_WINDOWS:
        return np.nan
    model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, learning_rate=0.05, random_state=0)
    proba = cross_val_predict(model, X, y, groups=speakers[rows], cv=GroupKFold(5), method="predict_proba")
    return float(roc_auc_score(y, proba[:, 1]))


def format_auc(label: str, name: str, auc: float) -> str:
    """Format a ROC-AUC, marked if the edit changes the property by its nature."""
    is_inherent = PROPERTIES[name].changed_by & {label, TAXONOMY[label].category}
    return "-" if np.isnan(auc) else f"{auc:.3f}{'*' if is_inherent else ''}"


def is_away_from_ends(window: LabelledWindow) -> bool:
    """Return whether the edit of a window, if any, is away from both of its ends."""
    n_frames = -(-len(window.waveform) // (RATE // 100))
    content = window.frames[:, :n_frames]
    return not (content[:, :N_EDGE_FRAMES].any() or content[:, -N_EDGE_FRAMES:].any())
