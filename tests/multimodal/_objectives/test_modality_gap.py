"""Adaptive loss of ModalityGapClassifier, compared with numpy formulas, and its posteriors."""

import contextlib

import numpy as np
import pytest
import torch
from scipy.special import softmax

from mmestim import ModalityGapAnalyzer
from mmestim._data.batches import Batch
from mmestim.multimodal._analysis.gap_mixture import GapMixture
from mmestim.multimodal._objectives.modality_gap import (
    GapObjective,
    GapTerms,
    batch_gaps,
    gap_history,
    gap_loss,
    shift_loss,
)

MODALITIES = ("audio", "image", "text")


# The loss ------------------------------------------------------------------------------------------


def example(absent):
    """Return logits of three modalities, fused logits, the batch and the scores (NaN if absent) of five rows."""
    rng = np.random.default_rng(3)
    values = {name: rng.normal(size=(5, 4), scale=2) for name in MODALITIES}
    fused, y = rng.normal(size=(5, 4)), np.array([0, 3, 1, 2, 0])
    is_present = {name: np.ones(5, dtype=bool) for name in MODALITIES}
    if absent:
        is_present["audio"][[0, 2]] = is_present["image"][[2, 3]] = False
    present = {name: torch.from_numpy(np.flatnonzero(mask)) for name, mask in is_present.items() if not mask.all()}
    x = {name: torch.zeros(mask.sum(), 4) for name, mask in is_present.items()}
    weight = rng.uniform(0.5, 2, 5)
    batch = Batch(x, present, 5, torch.from_numpy(y), torch.from_numpy(weight), torch.arange(5))
    scores = np.column_stack(
        [np.where(is_present[m], softmax(z, axis=1)[range(5), y], np.nan) for m, z in values.items()]
    )
    logits = {name: torch.from_numpy(z).requires_grad_() for name, z in values.items()}
    return logits, torch.from_numpy(fused), batch, scores


def cross_entropies(logits, y):
    return -np.log(softmax(np.asarray(logits), axis=1)[np.arange(len(y)), y])


class Stub:
    """Net with the attributes that an objective reads."""

    def __init__(self, logits):
        self.logits, self.options, self.module_ = logits, self, self

    def autocast(self):
        return contextlib.nullcontext()

    def unimodal_logits(self, features, name):
        return self.logits[name]


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize(
    "terms",
    [
        {"gap_weight": 0.7},
        {"shift_weight": 0.6},
        {"balanced_weight": 1.5},
        {"gap_weight": 0.7, "imbalanced_weight": 2.0},
        {"gap_weight": 0.7, "shift_weight": 0.6, "balanced_weight": 1.5, "imbalanced_weight": 2.0},
    ],
)
def test_loss_equals_the_formula(terms, absent):
    logits, fused, batch, scores = example(absent)
    terms = {"gap_weight": 0.0, "shift_weight": 0.0, "balanced_weight": 0.0, "imbalanced_weight": 0.0, **terms}
    objective = GapObjective(0.8, GapTerms(**terms, detach_stronger=False), None, 0)
    objective.mixture = GapMixture(np.array([0.1, 0.6]), np.array([0.01, 0.04]), np.array([0.5, 0.5]))
    q = np.array([0.9, 0.2, 0.5, 0.7, 0.1])
    objective.balanced = torch.from_numpy(q)

    w, y, r = batch.weight.numpy(), batch.y.numpy(), 1 - q
    gap = np.nanmax(scores, axis=1) - np.nanmin(scores, axis=1)
    has_gap = (~np.isnan(scores)).sum(axis=1) > 1
    expected = np.mean(w * (1 + terms["balanced_weight"] * q) * cross_entropies(fused, y))
    for column, z in enumerate(logits.values()):
        is_present = ~np.isnan(scores[:, column])
        expected += 0.8 * np.mean((w * cross_entropies(z.detach(), y))[is_present])
    expected += terms["gap_weight"] * np.mean((w * (1 + terms["imbalanced_weight"] * r) * gap)[has_gap])
    excess = (w * r * np.maximum(0, gap - 0.1) ** 2)[has_gap].sum() / (w * r)[has_gap].sum()
    expected += terms["shift_weight"] * excess
    assert has_gap.sum() == (4 if absent else 5)
    assert objective.loss(Stub(logits), (fused, None), batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("term", ["gap", "shift"])
def test_gradients_equal_finite_differences(term, weighted, absent):
    logits, _, batch, _ = example(absent)
    imbalanced, weight = torch.tensor([0.9, 0.2, 0.5, 0.7, 0.1]), batch.weight if weighted else None

    def loss(*values):
        gaps, has_gap = batch_gaps(dict(zip(logits, values, strict=True)), batch, detach_stronger=False)
        return (gap_loss if term == "gap" else shift_loss)(gaps, imbalanced, weight, has_gap, 0.3)

    assert torch.autograd.gradcheck(loss, tuple(logits.values()))


def test_detached_stronger_modality_gets_no_gradient():
    logits, _, batch, scores = example(absent=False)
    batch_gaps(logits, batch, detach_stronger=True)[0].sum().backward()
    strongest, weakest = scores.argmax(axis=1), scores.argmin(axis=1)
    for column, z in enumerate(logits.values()):
        has_gradient = z.grad.abs().sum(1).numpy() > 0
        np.testing.assert_array_equal(has_gradient, weakest == column)
        assert not has_gradient[strongest == column].any()


def test_row_without_modalities_has_no_gap_and_finite_gradients():
    logits, _, batch, _ = example(absent=True)
    nothing = {name: positions[positions != 4] for name, positions in batch.present.items()}
    nothing["text"] = torch.arange(4)
    batch = batch._replace(present=nothing, x={name: torch.zeros(len(at), 4) for name, at in nothing.items()})
    gaps, has_gap = batch_gaps(logits, batch, detach_stronger=False)
    gaps.sum().backward()
    assert (gaps[4].item(), has_gap[4].item()) == (0, False)
    assert all(torch.isfinite(z.grad).all() for z in logits.values())


# Posteriors ----------------------------------------------------------------------------------------


def fitted_objective(*tables):
    """Return an objective after updates with these tables of scores, where all rows train."""
    objective = GapObjective(1.0, GapTerms(0.5, 0.5, 1.0, 1.0, False), None, 0)
    objective.balanced = torch.full((len(tables[0]),), 0.5)
    for table in tables:
        objective._update_posteriors(table, torch.arange(len(table)))
    return objective


def table(*gaps_and_counts):
    rng = np.random.default_rng(0)
    gaps = np.concatenate([rng.normal(gap, 0.03, n) for gap, n in gaps_and_counts])
    return np.column_stack([0.05 + gaps.clip(0, 0.9), np.full(len(gaps), 0.05)]).astype(np.float32)


def test_posteriors_equal_those_of_the_analyzer():
    scores = table((0.1, 300), (0.6, 100))
    scores[:5, 1] = np.nan
    expected = ModalityGapAnalyzer().fit(scores).transform(scores)
    objective = fitted_objective(scores)
    np.testing.assert_allclose(objective.balanced, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(objective.balanced[:5], objective.mixture.weights[0], atol=1e-6)
    history = gap_history(objective.records)
    assert history["kept"].tolist() == [True]
    assert history["mean_gap"][0] == pytest.approx(np.nanmean(scores[:, 0] - scores[:, 1]), abs=1e-6)


@pytest.mark.parametrize("collapsed", [table((0.02, 400)), table((0.02, 395), (0.8, 5)), np.full((400, 2), 0.5)])
def test_invalid_mixture_keeps_the_last_valid_one(collapsed):
    good = table((0.1, 300), (0.6, 100))
    objective = fitted_objective(good, collapsed)
    assert gap_history(objective.records)["kept"].tolist() == [True, False]
    np.testing.assert_array_equal(objective.mixture.means, fitted_objective(good).mixture.means)
    alone = fitted_objective(collapsed)
    assert (alone.balanced == 0.5).all()
    # An invalid mixture is not used as a start.
    alone._update_posteriors(good, torch.arange(400))
    assert gap_history(alone.records)["kept"].tolist() == [False, True]
