"""scikit-learn's classifiers in balance.py, on the same columns, rows and inner folds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from _tasks import Task

CODE = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=4).hexdigest()  # for the key of stored runs
Folds = list[tuple[np.ndarray, np.ndarray]]


def fit_logistic(task: Task, X: np.ndarray, y: np.ndarray, folds: Folds) -> Any:
    """Fit a logistic regression to the standardised columns of all modalities."""
    return with_chosen_penalty(standardised(task, *task.data.modalities), X, y, folds).fit(X, y)


def fit_stacked(task: Task, X: np.ndarray, y: np.ndarray, folds: Folds) -> Any:
    """Fit a logistic regression to the out-of-fold probabilities of one logistic regression per modality."""
    branches = [(name, with_chosen_penalty(standardised(task, name), X, y, folds)) for name in task.data.modalities]
    final = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1, 10, 100]}, scoring=negative_log_loss)
    return StackingClassifier(branches, final, cv=folds, stack_method="predict_proba").fit(X, y)


def fit_boosting(task: Task, X: np.ndarray, y: np.ndarray, folds: Folds) -> Any:
    """Fit gradient boosted trees with scikit-learn's defaults."""
    return make_pipeline(standardised(task, *task.data.modalities), HistGradientBoostingClassifier()).fit(X, y)


REFERENCES: dict[str, Callable[..., Any]] = {
    "logistic": fit_logistic,
    "stacked": fit_stacked,
    "boosting": fit_boosting,
}


def inner_folds(y: np.ndarray, groups: np.ndarray | None, seed: int, n_folds: int = 5) -> Folds:
    """Return the folds on which a classifier chooses and stacks; groups are not divided."""
    if groups is None:
        return list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(y, y))
    folds = StratifiedGroupKFold(min(n_folds, len(np.unique(groups))), shuffle=True, random_state=seed)
    return list(folds.split(y, y, groups))


def with_chosen_penalty(columns: ColumnTransformer, X: np.ndarray, y: np.ndarray, folds: Folds) -> Pipeline:
    """Return an unfitted logistic regression with the C of the lowest log-loss on the folds."""
    model = make_pipeline(columns, LogisticRegression(max_iter=1000))
    search = GridSearchCV(
        model, {"logisticregression__C": np.logspace(-4, 2, 7)}, scoring=negative_log_loss, cv=folds, refit=False
    )
    return model.set_params(**search.fit(X, y).best_params_)


def negative_log_loss(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Return the negative log-loss; scikit-learn's scorer fails where the rows lack a class."""
    return -log_loss(model.predict_proba(X), model.classes_, y)


def log_loss(proba: np.ndarray, classes: np.ndarray, y: np.ndarray) -> float:
    """Return the mean negative log-probability of the true class, which is at least 1e-15 here."""
    columns = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    true_class = np.where(classes[columns] == y, proba[np.arange(len(y)), columns], 0)
    return float(-np.log(true_class.clip(1e-15)).mean())


def standardised(task: Task, *names: str) -> ColumnTransformer:
    """Return a transformer to the standardised columns of these modalities."""

    def steps(name: str) -> list[Any]:
        if name not in task.summarised:
            return [StandardScaler()]
        return [FunctionTransformer(frame_statistics, kw_args={"shape": task.data.shapes[name]}), StandardScaler()]

    return ColumnTransformer([(name, make_pipeline(*steps(name)), task.data.modalities[name]) for name in names])


def frame_statistics(X: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the mean and the standard deviation of each band over the frames."""
    frames = X.reshape(len(X), *shape)
    return np.hstack([frames.mean(axis=1), frames.std(axis=1)])
