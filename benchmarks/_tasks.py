"""Data sets of balance.py, and their splits into training, validation and test rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

import mmestim
from mmestim.datasets import load_av_digits, load_digit_views, load_mfeat, make_imbalanced_modalities


@dataclass
class Task:
    """Data set with a rule that splits its rows.

    With `test`, the test rows are fixed and the seed draws training rows. Without it, the seed draws both: whole
    groups if there are groups, stratified rows otherwise.
    """

    data: Any
    n_train: int | None = None  # None: all rows that are not scored
    test: np.ndarray | None = None  # mask of the test rows
    pool: np.ndarray | None = None  # mask of the rows to train on; None: those that are not test rows
    note: str = ""  # part of the key of stored runs
    is_slow: bool = False  # needs convolutions
    groups: np.ndarray | None = None  # of all rows; scored rows belong to other groups than fitted rows
    n_folds: int = 4  # where rows are drawn, one of this number of folds is scored
    # Rows with the same number share data: no row is fitted if one that shares its data is scored.
    shared_ids: np.ndarray | None = None
    # Modalities of shape (frames, bands) of which scikit-learn's classifiers get means and deviations over frames.
    summarised: tuple[str, ...] = ()
    # Function from the rows to fit to all columns, where these contain features that have to be fitted.
    features: Callable[[np.ndarray], np.ndarray] | None = None

    def rows(self, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to fit and the rows to score."""
        y = self.data.target
        if self.test is not None:
            pool, scored = np.flatnonzero(~self.test if self.pool is None else self.pool), np.flatnonzero(self.test)
        else:
            pool, scored = self._hold_out(np.arange(len(y)), seed, self.n_train)
        if split == "validation":
            pool, scored = self._hold_out(pool, seed, None)
        if self.shared_ids is not None:
            pool = pool[~np.isin(self.shared_ids[pool], self.shared_ids[scored])]
        if self.n_train is not None and self.n_train < len(pool):
            pool, _ = train_test_split(pool, train_size=self.n_train, stratify=y[pool], random_state=seed)
        return pool, scored

    def columns(self, fitted: np.ndarray) -> np.ndarray:
        """Return all rows of X, with features that are fitted to these rows alone."""
        return self.data.data if self.features is None else self.features(fitted)

    def _hold_out(self, rows: np.ndarray, seed: int, n_train: int | None) -> tuple[np.ndarray, np.ndarray]:
        y = self.data.target[rows]
        if self.groups is None:
            size = 1 - 1 / self.n_folds if n_train is None else n_train
            kept, held_out = train_test_split(rows, train_size=size, stratify=y, random_state=seed)
            return kept, held_out
        groups = self.groups[rows]
        n_folds = min(self.n_folds, len(np.unique(groups)))
        # Consecutive seeds use all folds of one division into folds.
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed // n_folds)
        kept, held_out = list(folds.split(rows, y, groups))[seed % n_folds]
        return rows[kept], rows[held_out]


# Fixed test rows: settings can be tuned on rows that are never test rows ---------------------------


def digits(views: list[str], n_train: int) -> Task:
    data = load_digit_views(views=views)
    rows = np.arange(len(data.target))
    test = np.isin(rows, train_test_split(rows, test_size=0.3, stratify=data.target, random_state=0)[1])
    return Task(data, n_train, test)


def synthetic() -> Task:
    """Return a task with a few informative columns and many weak ones."""
    data = make_imbalanced_modalities(20_000, n_classes=10, strength=[5, 3.5], n_features=[16, 64], random_state=0)
    bayes_accuracy = {
        " + ".join(names): data.model.bayes_accuracy(names)[0] for names in (["strong"], ["weak"], ["strong", "weak"])
    }
    note = (
        f"Bayes-optimal accuracy: {', '.join(f'{name} {100 * value:.1f}' for name, value in bayes_accuracy.items())}."
    )
    return Task(data, 1000, np.arange(len(data.target)) >= 10_000, note=note)


def av_digits() -> Task:
    data = load_av_digits()
    note = "Raw spectrograms and images; official test rows."
    return Task(data, 1000, data.split == "test", note=note, is_slow=True, shared_ids=data.mnist_index)


def av_digits_hard() -> Task:
    data = load_av_digits(image_noise=0.8)
    test = np.isin(data.speaker, ["theo", "yweweler"])
    # An image may be paired with several recordings, so exclude test images from the pool.
    pool = ~test & ~np.isin(data.mnist_index, data.mnist_index[test])
    note = "Image noise of standard deviation 0.8; the test rows are of speakers, and images, never trained on."
    return Task(data, 1000, test, pool, note=note, is_slow=True, groups=data.speaker, shared_ids=data.mnist_index)


def mfeat(*views: str) -> Task:
    data = load_mfeat()
    if views:
        blocks = {view: data.data[:, data.modalities[view]] for view in views}
        data.data, data.modalities, data.shapes = mmestim.stack_modalities(**blocks)
    return Task(data, 500, data.split == "test")


# Test rows drawn by the seed: intervals cover the choice of test rows -------------------------------


def views(name: str, n_train: int) -> Task:
    """Return one of the five sets of vectors in the folder views."""
    arrays = read_arrays(f"views/{name}.npz")
    target = arrays.pop("target")
    arrays.pop("split", None)
    return drawn(bunch(arrays, target), n_train)


def drawn(data: Bunch, n_train: int) -> Task:
    return Task(data, n_train, note=f"{n_train} random stratified rows train, {len(data.target) - n_train} test.")


def av_digits_speakers() -> Task:
    data = load_av_digits()
    note = (
        "1000 rows of four speakers train; the rows of the two others test, and no image is in both. "
        "scikit-learn's classifiers get the flattened spectrograms and images."
    )
    return Task(data, 1000, note=note, is_slow=True, groups=data.speaker, n_folds=3, shared_ids=data.mnist_index)


def ravdess() -> Task:
    arrays = read_arrays("ravdess/ravdess_16_actors.npz")
    data = bunch({"audio": arrays["audio"].astype(np.float32), "face": arrays["face"]}, arrays["target"])
    note = (
        "Twelve actors train and four test. scikit-learn's classifiers get the mean and the standard deviation of each "
        "band over the frames instead of the spectrogram."
    )
    return Task(data, note=note, is_slow=True, groups=arrays["actor"], summarised=("audio",))


def emoji() -> Task:
    arrays, n_features = read_arrays("emoji/emoji.npz"), 128
    # One subgroup has 258 of the 269 flags: a split by subgroup leaves nearly none on one of its sides.
    arrays = {name: array[arrays["group"] != 9] for name, array in arrays.items()}
    image, text = arrays["image"].transpose(0, 3, 1, 2) / np.float32(255), arrays["text"]
    data = bunch({"image": image, "text": np.zeros((len(text), n_features), np.float32)}, arrays["group"])

    def features(fitted: np.ndarray) -> np.ndarray:
        vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2)
        embedding = make_pipeline(vectorizer, TruncatedSVD(n_features, random_state=0)).fit(text[fitted])
        X = data.data.copy()
        X[:, data.modalities["text"]] = embedding.transform(text)
        return X

    note = (
        "Three quarters of the subgroups train and the others test; the flags are left out. Text: "
        f"{n_features} singular vectors of TF-IDF, fitted to the training rows. scikit-learn's classifiers get the "
        "flattened pixels."
    )
    return Task(data, note=note, is_slow=True, groups=arrays["subgroup"], features=features)


def bunch(blocks: dict[str, np.ndarray], target: np.ndarray) -> Bunch:
    X, modalities, shapes = mmestim.stack_modalities(**blocks)
    return Bunch(data=X, target=target.astype(np.int64), modalities=modalities, shapes=shapes)


def read_arrays(file: str) -> dict[str, np.ndarray]:
    path = Path(os.environ.get("MMESTIM_DATA") or "$MMESTIM_DATA") / file
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Set MMESTIM_DATA to the folder that contains {file}.")
    with np.load(path) as arrays:
        return dict(arrays)


FIXED: dict[str, Callable[[], Task]] = {
    "digits": lambda: digits(["pixels", "fourier"], 300),
    "synthetic": synthetic,
    "digits-four": lambda: digits(["pixels", "projections", "fourier", "moments"], 300),
    "mfeat": mfeat,
    "mfeat-pair": lambda: mfeat("pix", "fou"),
    "av-digits": av_digits,
    "av-digits-hard": av_digits_hard,
}
DRAWN: dict[str, Callable[[], Task]] = {
    "leaves": lambda: views("leaves", 800),
    "msrc": lambda: views("msrc", 126),
    "bdgp": lambda: views("bdgp", 700),
    "houston": lambda: views("houston", 700),
    "rosmap": lambda: views("rosmap", 245),
    "mfeat-drawn": lambda: drawn(load_mfeat(), 500),
    "digit-views": lambda: drawn(load_digit_views(), 300),
    "ravdess": ravdess,
    "emoji": emoji,
    "av-digits-speakers": av_digits_speakers,
}
DATA_SETS = {**FIXED, **DRAWN}
