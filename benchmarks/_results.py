"""Results of balance.py: lines of a CSV file, and paired statistics of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from _csv_files import read_rows

KEY = ("data_set", "estimator", "seed", "split", "config")
NUMBERS = ("accuracy", "log_loss", "calibration_error", "fit_seconds")
BY_NAME = ("alone", "probe", "fusion_weights", "guidance")  # values such as "audio=0.95;image=0.91"
FIELDS = (*KEY, *NUMBERS, *BY_NAME, "anchor", "n_iter", "device", "code")
Runs = dict[int, dict[str, Any]]  # by seed


@dataclass(frozen=True)
class Metric:
    """Field of a result, and the form in which it is reported."""

    field: str
    name: str
    scale: float
    digits: int
    sign: int  # 1 if higher is better, -1 if lower is better

    def cell(self, values: Iterable[float], sign: str = "") -> str:
        """Return the mean of values and the half-width of its 95 % interval."""
        value, half_width = interval(values, self.scale)
        text = f"{value:{sign}z.{self.digits}f}"
        return text if np.isnan(half_width) else f"{text} ± {half_width:.{self.digits}f}"


ACCURACY = Metric("accuracy", "accuracy", 100, 1, 1)
LOG_LOSS = Metric("log_loss", "log-loss", 1, 3, -1)
CALIBRATION_ERROR = Metric("calibration_error", "calibration error", 100, 1, -1)

# Lines -----------------------------------------------------------------------------------------


def load_results(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the results of earlier calls by key; the last line of a key counts."""
    return {tuple(line[field] for field in KEY): parse_line(line) for line in read_rows(path, FIELDS)}


def format_scores(scores: dict[str, float]) -> str:
    """Format the scores of all modalities as one field, such as "audio=0.95;image=0.91"."""
    return ";".join(f"{name}={value:.5f}" for name, value in scores.items())


def parse_line(
    line: dict[str, str], numbers: Iterable[str] = NUMBERS, by_name: Iterable[str] = BY_NAME
) -> dict[str, Any]:
    """Convert the numeric fields of a line to numbers."""
    result: dict[str, Any] = {**line, "seed": int(line["seed"])}
    result |= {field: float(line[field]) for field in numbers}
    for field in by_name:
        pairs = (part.split("=") for part in line[field].split(";") if part)
        result[field] = {name: float(value) for name, value in pairs}
    return result


# Statistics ------------------------------------------------------------------------------------


def grouped(results: list[dict[str, Any]]) -> dict[str, dict[str, Runs]]:
    """Return the results by data set, estimator and seed, in the order of the runs."""
    groups: dict[str, dict[str, Runs]] = {}
    for result in results:
        groups.setdefault(result["data_set"], {}).setdefault(result["estimator"], {})[result["seed"]] = result
    return groups


def on_common_seeds(estimators: dict[str, Runs]) -> dict[str, Runs]:
    """Return the results on the seeds that all estimators share."""
    seeds = sorted(set.intersection(*map(set, estimators.values())))
    return {name: {seed: runs[seed] for seed in seeds} for name, runs in estimators.items()}


def modalities_of(estimators: dict[str, Runs]) -> list[str]:
    """Return the modalities of a data set; some estimators have no scores per modality."""
    return list(max((result["alone"] for runs in estimators.values() for result in runs.values()), key=len))


def interval(values: Iterable[float], scale: float = 100) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % t-interval, in percent; the latter is NaN for a single value."""
    values = scale * np.array(list(values))
    n = len(values)
    return values.mean(), t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5 if n > 1 else np.nan


def values_of(runs: Runs, *path: str) -> list[float]:
    return [get_nested(result, path) for result in runs.values()]


def mean(runs: Runs, *path: str) -> float:
    return interval(values_of(runs, *path))[0]


def paired_differences(runs: Runs, reference: Runs, *path: str) -> np.ndarray:
    """Return the differences of the value at `path`, on the seeds that both have."""
    seeds = [seed for seed in runs if seed in reference]
    return np.array([get_nested(runs[seed], path) - get_nested(reference[seed], path) for seed in seeds])


def best_of(estimators: dict[str, Runs], names: Iterable[str], metric: Metric) -> str | None:
    """Return the estimator with the best mean of a metric among those that ran, on their common seeds."""
    candidates = {name: estimators[name] for name in names if name in estimators}
    if not candidates:
        return None
    means = {name: np.mean(values_of(runs, metric.field)) for name, runs in on_common_seeds(candidates).items()}
    return max(means, key=lambda name: metric.sign * means[name])


def gains_over_best_branch(runs: Runs) -> np.ndarray:
    """Return the accuracy minus that of the modality which is the best alone on average; empty without such scores."""
    names = list(next(iter(runs.values()))["alone"])
    if not names:
        return np.array([])
    best = max(names, key=lambda name: mean(runs, "alone", name))
    return np.array([result["accuracy"] - result["alone"][best] for result in runs.values()])


def is_positive(value: float, half_width: float) -> bool:
    """Return whether an interval lies above zero; False without an interval."""
    return value > half_width


def get_nested(result: Any, path: Iterable[str]) -> float:
    for key in path:
        result = result[key]
    return result
