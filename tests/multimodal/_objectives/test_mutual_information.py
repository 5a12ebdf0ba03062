"""CLUB bound, compared with values by hand, over all pairs, and in closed form."""

import pytest
import torch
from torch import nn

from mmestim.multimodal._objectives.mutual_information import CLUB


def unit_club(n_features):
    """Return a bound whose q(y | x) is a unit Gaussian around x."""
    club = CLUB(n_features, n_features)
    club.mean = nn.Identity()
    club.log_variance = nn.Threshold(torch.inf, 0.0)  # Always zero.
    return club


def fitted_club(x, y, n_steps=400):
    torch.manual_seed(0)
    club = CLUB(x.shape[1], y.shape[1], hidden=32)
    optimizer = torch.optim.Adam(club.parameters(), lr=5e-3)
    for _ in range(n_steps):
        optimizer.zero_grad()
        club.fitting_loss(x, y).backward()
        optimizer.step()
    return club


def test_bound_of_three_samples_by_hand():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    # Paired distances are 0. The squared unpaired distances are 1, 9 and 4, each twice among 9 pairs.
    torch.testing.assert_close(unit_club(1)(x, x), torch.tensor(0.5 * 28 / 9))


def test_fitting_loss_by_hand():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [1.0]])
    torch.testing.assert_close(unit_club(1).fitting_loss(x, y), torch.tensor(0.5 * 4 / 2))


@pytest.mark.parametrize("masked", [False, True])
def test_bound_equals_the_sum_over_all_pairs(masked):
    torch.manual_seed(0)
    x, y = torch.randn(7, 3), torch.randn(7, 4)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1], dtype=torch.bool) if masked else None
    club = CLUB(3, 4)
    rows = [i for i in range(7) if mask is None or mask[i]]

    def log_q(j, i):
        variance = club.log_variance(x[i]).exp()
        return torch.distributions.Normal(club.mean(x[i]), variance.sqrt()).log_prob(y[j]).sum()

    pairs = torch.stack([log_q(i, i) - log_q(j, i) for i in rows for j in rows])
    torch.testing.assert_close(club(x, y, mask), pairs.mean())


def test_masked_rows_get_no_gradient():
    y = torch.randn(4, 2, requires_grad=True)
    CLUB(3, 2)(torch.randn(4, 3), y, torch.tensor([True, True, False, True])).backward()
    assert (y.grad[2] == 0).all()
    assert (y.grad[0] != 0).any()


def test_bound_gives_gradients_to_features_only():
    club, y = CLUB(3, 2), torch.randn(5, 2, requires_grad=True)
    club(torch.randn(5, 3), y).backward()
    assert y.grad is not None
    assert all(p.grad is None for p in club.parameters())


@pytest.mark.parametrize("rho", [0.0, 0.4, -0.7])
def test_bound_of_correlated_gaussians_reaches_the_closed_form(rho):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 1, generator=generator)
    y = rho * x + (1 - rho**2) ** 0.5 * torch.randn(4000, 1, generator=generator)
    bound = float(fitted_club(x, y)(x, y).detach())
    assert bound == pytest.approx(rho**2 / (1 - rho**2), abs=0.08)
