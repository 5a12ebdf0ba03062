"""Time, parameters and memory of ModalityGapAnalyzer, compared with GaussianMixture of scikit-learn on all rows.

The benchmark runs in one process with one thread. Each round runs every contender, starting with a different one, and
the table has the medians over the rounds. A pass before the rounds, which is not timed, measures memory. Times depend
on the machine; compare the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from timeit import timeit

import numpy as np
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from mmestim import ModalityGapAnalyzer

MIXTURES = {  # means, standard deviations and weights of the gaps
    "well separated": ((0.15, 0.6), (0.04, 0.08), (0.7, 0.3)),
    "overlapping": ((0.15, 0.5), (0.05, 0.25), (0.6, 0.4)),
    "small group": ((0.2, 0.6), (0.06, 0.08), (0.97, 0.03)),
}
HEADER = (
    "| mixture | contender | fit, s | posteriors, s | both, ratio to ours | steps | largest difference from ours "
    "| peak memory, bytes a row |\n|---|---|---|---|---|---|---|---|"
)


def scores(mixture: str, n_rows: int) -> np.ndarray:
    """Return the scores of two modalities, in columns, whose gaps follow a mixture."""
    means, deviations, weights = map(np.array, MIXTURES[mixture])
    rng = np.random.default_rng(0)
    group = (rng.random(n_rows) < weights[1]).astype(int)
    first = rng.random(n_rows)
    return np.column_stack([first, first - rng.normal(means[group], deviations[group])])


class GaussianMixtureOnScores(GaussianMixture):
    """GaussianMixture of all gaps, which takes scores as the analyzer does."""

    def fit(self, X, y=None):
        return super().fit(np.abs(X[:, :1] - X[:, 1:]))

    def transform(self, X):
        return self.predict_proba(np.abs(X[:, :1] - X[:, 1:]))


def parameters(fitted: ModalityGapAnalyzer | GaussianMixtureOnScores) -> np.ndarray:
    """Return means, standard deviations and weights, with the component of the lower mean first."""
    variances = fitted.covariances_ if isinstance(fitted, GaussianMixtureOnScores) else fitted.variances_
    components = np.array([fitted.means_.ravel(), np.sqrt(variances.ravel()), fitted.weights_])
    return components[:, components[0].argsort()]


def peak(job: Callable[[], object]) -> int:
    """Return the peak of the bytes that `job` allocates."""
    tracemalloc.start()
    job()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


def compare(mixture: str, n_rows: int, rounds: int) -> list[str]:
    """Return the lines of the table for one mixture."""
    X, tol = scores(mixture, n_rows), ModalityGapAnalyzer().tol
    contenders = {
        "mmestim": ModalityGapAnalyzer(),
        "GaussianMixture": GaussianMixtureOnScores(2, max_iter=1000, random_state=0),
        f"GaussianMixture, tol={tol:g}": GaussianMixtureOnScores(2, tol=tol, max_iter=10_000, random_state=0),
    }
    # Run fit before transform, which needs it.
    memory = {n: max(peak(lambda job=job: job(X)) for job in (c.fit, c.transform)) for n, c in contenders.items()}
    times, names = {name: [] for name in contenders}, list(contenders)
    for round_number in range(rounds):
        start = round_number % len(names)
        for name in names[start:] + names[:start]:
            jobs = (contenders[name].fit, contenders[name].transform)
            times[name].append([timeit(lambda job=job: job(X), number=1) for job in jobs])
    medians = {name: [statistics.median(values) for values in zip(*times[name], strict=True)] for name in names}
    lines = []
    for name, contender in contenders.items():
        ratio = sum(medians[name]) / sum(medians["mmestim"])
        difference = np.abs(parameters(contender) - parameters(contenders["mmestim"])).max()
        fields = [f"{value:.3f}" for value in medians[name]] + [f"{ratio:.1f}", contender.n_iter_, f"{difference:.1e}"]
        lines.append("| " + " | ".join(map(str, [mixture, name, *fields, round(memory[name] / n_rows)])) + " |")
    return lines


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of rows (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="number of timed rounds (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="output folder of mixture.md"
    )
    options = parser.parse_args(args)
    lines = [f"{options.rows} rows of two float64 scores, 1 thread, median of {options.rounds} round(s)\n", HEADER]
    print(*lines, sep="\n")
    with threadpool_limits(1):
        for mixture in MIXTURES:
            lines += (new := compare(mixture, options.rows, options.rounds))
            print(*new, sep="\n", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "mixture.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
