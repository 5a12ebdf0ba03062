"""Generative model of several modalities with exact posteriors and Bayes-optimal accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from .._utils.types import Seed
from .._utils.validation import check_number
from ._arguments import check_names


@dataclass(frozen=True, eq=False)
class ModalityModel:  # numpydoc ignore=PR02
    """Generative model with exact posteriors, returned by `make_imbalanced_modalities`.

    >>> from mmestim.datasets import make_imbalanced_modalities
    >>> model = make_imbalanced_modalities(n_classes=2, strength=2, random_state=0).model
    >>> X, y = model.sample(5000, random_state=1)
    >>> accuracy = (model.predict_proba(X, ["weak"]).argmax(axis=1) == y).mean()
    >>> round(float(accuracy), 2), round(model.bayes_accuracy(["weak"])[0], 2)
    (0.84, 0.84)

    The docstring of :func:`make_imbalanced_modalities` defines the model.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    modalities : dict of str to slice
        Columns of each modality.
    noise : dict of str to float
        Standard deviation of the noise of each modality.
    levels : dict of str to ndarray of shape (3,)
        Distances between class means (A, B) and between code words (C), in units of `noise`.
    frames : dict of str to ndarray of shape (3, n_features, n_classes - 1)
        Orthonormal directions A, B and C; zero for a term that the modality lacks.
    """

    n_classes: int
    modalities: dict[str, slice]
    noise: dict[str, float]
    levels: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]

    def sample(self, n_samples: int, random_state: Seed = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw samples from the model.

        Parameters
        ----------
        n_samples : int
            Number of samples to draw.
        random_state : int, RandomState instance or None, default=None
            Seed of the samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Blocks of the modalities side by side, float32.
        y : ndarray of shape (n_samples,)
            Classes, 0 to ``n_classes - 1``.
        """
        check_number("n_samples", n_samples, low=1, integer=True)
        rng, corners = check_random_state(random_state), _simplex(self.n_classes)
        y = rng.randint(self.n_classes, size=n_samples)
        _, carriers, _ = self._subset(None)
        words = {name: rng.randint(self.n_classes, size=n_samples) for name in carriers}
        if carriers:
            words[carriers[-1]] = (y - sum(words[name] for name in carriers[:-1])) % self.n_classes
        # Add noise from the strongest shared evidence to the weakest, keeping the variance at 1.
        shared_noise, noise, previous_level = {}, np.zeros((n_samples, self.n_classes - 1)), np.inf
        for name, (_, level, _) in sorted(self.levels.items(), key=lambda item: -item[1][1]):
            ratio = level / previous_level if level > 0 else 0.0
            noise = ratio * noise + np.sqrt(1 - ratio**2) * rng.standard_normal(noise.shape)
            shared_noise[name], previous_level = noise, level
        blocks = []
        for name, (unique, shared, code) in self.frames.items():
            x = rng.standard_normal((n_samples, len(unique)))
            x += (shared_noise[name] - x @ shared) @ shared.T
            unique_level, shared_level, code_level = self.levels[name]
            x += corners[y] @ (unique_level * unique + shared_level * shared).T
            x += code_level * corners[words.get(name, y)] @ code.T
            blocks.append(self.noise[name] * x)
        return np.hstack(blocks).astype(np.float32), y

    def predict_proba(self, X: np.ndarray, modalities: Sequence[str] | None = None) -> np.ndarray:
        """Compute the exact posterior of the classes given some or all modalities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Blocks of all modalities side by side, as `sample` returns them.
        modalities : sequence of str, default=None
            Modalities to use; `None` uses all.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Posterior probabilities, which no classifier of these modalities can surpass.
        """
        names, carriers, leader = self._subset(modalities)
        X, corners = np.asarray(X, dtype=np.float64), _simplex(self.n_classes)
        scores = {}
        for name in names:
            x = X[:, self.modalities[name]] / self.noise[name]
            scores[name] = self.levels[name][:, None, None] * (x @ self.frames[name] @ corners.T)
        # Given the strongest shared evidence, the other shared evidence is independent of the class.
        evidence = sum(unique for unique, _, _ in scores.values()) + scores[leader][1]
        return _posterior(evidence, [scores[name][2] for name in carriers])

    def bayes_accuracy(
        self, modalities: Sequence[str] | None = None, *, n_draws: int = 100_000, random_state: Seed = 0
    ) -> tuple[float, float]:
        """Compute the accuracy of the best possible classifier of some or all modalities.

        Parameters
        ----------
        modalities : sequence of str, default=None
            Modalities that the classifier uses; `None` uses all.
        n_draws : int, default=100000
            Number of Monte-Carlo draws, used only if these modalities contain the whole code of a synergy.
            Otherwise, the accuracy is an integral over one variable that is computed to rounding error.
        random_state : int, RandomState instance or None, default=0
            Seed of the draws.

        Returns
        -------
        accuracy : float
            Probability that the most probable class is the true one.
        standard_error : float
            Standard error of the Monte-Carlo mean; 0 if the accuracy is an integral.
        """
        from scipy.special import ndtr

        check_number("n_draws", n_draws, low=2, integer=True)
        names, carriers, leader = self._subset(modalities)
        d = np.sqrt(sum(self.levels[name][0] ** 2 for name in names) + self.levels[leader][1] ** 2)
        if not carriers:
            z = np.linspace(-12, 12, 4801)
            density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
            return float(density @ ndtr(z + d / np.sqrt(2)) ** (self.n_classes - 1) * (z[1] - z[0])), 0.0
        rng, scores = check_random_state(random_state), []
        for distance in (d, *(self.levels[name][2] for name in carriers)):
            # By symmetry, it suffices to consider class 0 and the words 0. Up to a constant, the scores of a simplex
            # are one normal variable per corner, and the variable of the true corner has a higher mean.
            z = rng.standard_normal((n_draws, self.n_classes))
            z[:, 0] += distance / np.sqrt(2)
            scores.append(distance / np.sqrt(2) * z)
        # The maximum posterior has the same mean as the indicator of a correct prediction, but less variance.
        max_posterior = _posterior(scores[0], scores[1:]).max(axis=1)
        return float(max_posterior.mean()), float(max_posterior.std(ddof=1) / np.sqrt(n_draws))

    def _subset(self, modalities: Sequence[str] | None) -> tuple[list[str], list[str], str]:
        """Return the names, the carriers of the code if it is complete, and the modality with most shared evidence."""
        names = list(self.levels) if modalities is None else check_names("modalities", modalities, self.levels)
        carriers = [name for name, (_, _, level) in self.levels.items() if level > 0]
        leader = max(names, key=lambda name: self.levels[name][1])
        return names, carriers if set(carriers) <= set(names) else [], leader


def _simplex(n_classes: int) -> np.ndarray:
    """Return the corners of a regular simplex with edges of length 1, of shape (n_classes, n_classes - 1)."""
    directions = np.linalg.svd(np.eye(n_classes) - 1 / n_classes)[0]
    return np.asarray(directions[:, :-1] / np.sqrt(2))


def _posterior(evidence: np.ndarray, codes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the posterior of the class from its log-likelihoods and from those of the code words."""
    from scipy.special import softmax

    total = np.eye(1, evidence.shape[1])  # distribution of the empty sum, which is 0
    for code in codes:
        word = softmax(code, axis=1)
        total = sum(word[:, [u]] * np.roll(total, u, axis=1) for u in range(evidence.shape[1]))
    prior = np.log(np.maximum(total, np.finfo(float).tiny)) if codes else 0.0
    return np.asarray(softmax(evidence + prior, axis=1))
