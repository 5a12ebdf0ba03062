"""Losses that guide a follower, and the formulas of their weights."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from mmestim.multimodal._objectives.guidance import _product_and_norm, guidance_weights, jensen_shannon


def test_jensen_shannon_agrees_with_scipy():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), size=20), rng.dirichlet(np.full(5, 0.2), size=20)
    divergence = jensen_shannon(torch.tensor(p).log(), torch.tensor(q).log())
    np.testing.assert_allclose(divergence, jensenshannon(p, q, axis=1) ** 2, atol=1e-9)


def test_jensen_shannon_stays_between_zero_and_ln_2():
    logits = torch.tensor([[100.0, 0.0, 0.0], [0.0, 100.0, 0.0], [1.0, 1.0, 1.0]])
    log_p, log_q = torch.log_softmax(logits, 1), torch.log_softmax(logits[[1, 1, 2]], 1)
    divergence = jensen_shannon(log_p, log_q)
    torch.testing.assert_close(divergence, torch.tensor([math.log(2), 0.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "alignment, weights",
    [((3.0, 1.0), (0.75, 0.25)), ((2.0, -5.0), (1.0, 0.0)), ((-1.0, 4.0), (0.0, 1.0)), ((-1.0, -2.0), (0.0, 0.0))],
)
def test_weights_are_fractions_of_the_positive_alignments(alignment, weights):
    torch.testing.assert_close(guidance_weights(torch.tensor(alignment)), torch.tensor(weights), atol=1e-6, rtol=0)


def test_product_covers_parameters_that_both_losses_reach():
    fused = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    product, norm = _product_and_norm(fused, [torch.tensor([2.0, -1.0]), torch.tensor([[5.0]])])
    assert (product, norm) == (15.0, pytest.approx(30**0.5))
    # The complementarity loss does not reach the head.
    product, norm = _product_and_norm(fused, [torch.tensor([2.0, 1.0]), None])
    assert (product, norm) == (4.0, pytest.approx(5**0.5))
