"""Digests of predictions, to show that moving code changes no bit of them: --write before, --check after."""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

import mmestim
from mmestim.datasets import make_imbalanced_modalities
from mmestim.voice import LABELS, EditSimulator, VoiceEditDetector

FIGURES = Path(__file__).with_name("_same_predictions.json")
FAST = {"max_epochs": 6, "random_state": 0, "device": "cpu"}
TINY = {"window": 1.2, "n_clips": 40, "random_state": 0, "device": "cpu"}
EDITS = ["cut", "paste", "mix", "low_pass", "echo"]
RATE = 16000


def digest(*arrays):
    """One short digest of all arrays, dtypes and shapes included."""
    state = hashlib.sha256()
    for array in map(np.asarray, arrays):
        state.update(f"{array.dtype} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes() if array.dtype != object else repr(array.tolist()).encode())
    return state.hexdigest()[:24]


def speech(seconds, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * rng.uniform(100, 180) * t) / k for k in range(1, 9))
    noise = np.convolve(rng.normal(size=len(t)), [0.5, 0.5], "same")
    return (0.1 * (1 + np.sin(2 * np.pi * 3 * t)) * (0.2 * tone + noise)).astype(np.float32)


def classifiers(data):
    yield "late", mmestim.LateFusionClassifier(data.modalities, **FAST)
    yield "joint", mmestim.JointClassifier(data.modalities, **FAST)
    yield "joint adamw", mmestim.JointClassifier(data.modalities, optimizer="adamw", lr_schedule="cosine", **FAST)
    yield "udi", mmestim.UDIClassifier(data.modalities, **FAST)
    yield "udi cosine", mmestim.UDIClassifier(data.modalities, lr_schedule="cosine", batch_size=32, **FAST)
    yield "gap", mmestim.ModalityGapClassifier(data.modalities, **FAST)
    for name in mmestim.balancers.__all__:
        if name not in ("Balancer", "FusionHead", "Outputs", "Training"):
            balancer = getattr(mmestim.balancers, name)(
                **{"OPM": {"starts": 1}, "Relearning": {"interval": 2}}.get(name, {})
            )
            yield name, mmestim.JointClassifier(data.modalities, balancer=balancer, **FAST)


def multimodal():
    data = make_imbalanced_modalities(
        300, modalities=("a", "b", "c"), strength=(3.0, 2.0, 1.0), n_features=8, random_state=0
    )
    X, y = np.array(data.data, dtype=np.float64), data.target
    absent = X.copy()
    last = list(data.modalities)[-1]
    absent[np.ix_(np.arange(0, len(X), 7), np.arange(X.shape[1])[data.modalities[last]])] = np.nan
    for name, classifier in classifiers(data):
        try:
            fitted = classifier.fit(X, y)
        except ValueError as error:  # a method for two modalities, or the like
            yield name, f"ValueError: {error}"[:200]
            continue
        per_modality = fitted.predict_proba_per_modality(X)
        yield name, digest(fitted.predict_proba(X), fitted.predict(X), *(per_modality[m] for m in sorted(per_modality)))
        try:
            yield f"{name}, absent", digest(classifier.fit(absent, y).predict_proba(absent))
        except ValueError as error:
            yield f"{name}, absent", f"ValueError: {error}"[:200]
    late = mmestim.LateFusionClassifier(data.modalities, **FAST).fit(X, y)
    proba = late.predict_proba_per_modality(X)
    scores = np.column_stack([proba[name][np.arange(len(y)), y] for name in data.modalities])
    for signed, table in ((False, scores), (True, scores[:, :2])):
        analyzer = mmestim.ModalityGapAnalyzer(signed=signed).fit(table)
        yield f"analyzer, {signed=}", digest(analyzer.transform(table), analyzer.means_, analyzer.weights_)
    yield "gap_scores", digest(mmestim.gap_scores(late, X, y))
    yield "contributions", digest(mmestim.modality_contributions(late, X, y).contributions)


def voice():
    clips = [speech(1.5 + 0.3 * number, number) for number in range(12)]
    for model, training_budget in (("features", 0.02), ("hybrid", 0.01), ("lcnn", 0.002)):
        detector = VoiceEditDetector(EDITS, model=model, training_budget=training_budget, **TINY).fit(clips)
        yield (
            f"detector {model}",
            digest(detector.predict_proba(clips), detector.transform(clips), detector.thresholds_, detector.recalls_),
        )
        detector.thresholds_ = np.full(len(EDITS) + 1, 0.05)
        segments = [(s.start, s.end, s.label, s.score) for clip in detector.locate(clips) for s in clip]
        yield f"segments {model}", digest(np.array(segments, dtype=object))
        spans = [part for pair in detector.predict_proba_per_window(clips[:3]) for part in pair]
        yield f"windows {model}", digest(*spans)
        yield f"score {model}", digest(detector.score(clips[:4]))
    two = VoiceEditDetector(EDITS, model="features", training_budget=0.02, **TINY | {"window": [0.35, 1.2]}).fit(clips)
    yield "detector two windows", digest(two.predict_proba(clips))
    kind = VoiceEditDetector(model="lcnn", training_budget=0.01, **TINY).fit(clips, np.arange(12) % 3)
    yield "detector classes", digest(kind.predict_proba(clips))
    pool = [speech(4, 100 + number) for number in range(6)]
    labels = [label for label in LABELS if label not in ("unaltered", "tts", "vc")]
    for label in labels:
        simulator = EditSimulator([label], n_edits=1, random_state=0)
        edited, records = simulator.simulate(pool)
        yield (
            f"edit {label}",
            digest(*edited) + " " + hashlib.sha256(str([r.to_json() for r in records]).encode()).hexdigest()[:12],
        )
    edited, records = EditSimulator(random_state=1).simulate(pool, 1)
    yield "simulator", digest(*edited)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--part", choices=("multimodal", "voice"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"multimodal": multimodal, "voice": voice}
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    different = []
    for part in [options.part] if options.part else parts:
        for name, figure in parts[part]():
            key = f"{part}: {name}"
            if options.write:
                figures[key] = figure
                print(key, figure, flush=True)
            elif figures.get(key) != figure:
                different.append(key)
                print("DIFFERENT", key, figures.get(key), figure, flush=True)
    if options.write:
        FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    else:
        print(f"{len(different)} of {len(figures)} differ")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
