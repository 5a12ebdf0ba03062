"""Upper bound of the mutual information between two feature vectors."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from ..._networks.stacking import stack_networks


class CLUB(nn.Module):
    """Variational contrastive log-ratio upper bound (CLUB) of mutual information.

    A network q(y | x), a Gaussian with diagonal covariance, is fitted to pairs of features. The bound is
    how much likelier y is under its own x than under the x of other rows,

        I(x; y) <= 1/N^2 sum_i sum_j [log q(y_i | x_i) - log q(y_j | x_i)]    (UDI, eq. 8).

    It bounds the mutual information from above if q fits, but does not equal it. Before q fits, it may
    be negative.

    Parameters
    ----------
    n_features_x : int
        Length of x.
    n_features_y : int
        Length of y.
    hidden : int, default=256
        Width of the hidden layers. The architecture is that of the CLUB authors' code: two networks of
        two layers, with Tanh on the log-variance. UDI does not specify q.

    References
    ----------
    .. [1] Cheng et al., "CLUB: A contrastive log-ratio upper bound of mutual information",
       ICML 2020.
    .. [2] Wang et al., arXiv:2509.02281, equations 7 to 10.

    Examples
    --------
    >>> import torch
    >>> from mmestim.multimodal._objectives.mutual_information import CLUB
    >>> x, y = torch.randn(8, 3), torch.randn(8, 2)
    >>> club = CLUB(3, 2)
    >>> club.fitting_loss(x, y).shape, club(x, y).shape
    (torch.Size([]), torch.Size([]))
    """

    def __init__(self, n_features_x: int, n_features_y: int, hidden: int = 256) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(n_features_x, hidden), nn.ReLU(), nn.Linear(hidden, n_features_y))
        self.log_variance = nn.Sequential(
            nn.Linear(n_features_x, hidden), nn.ReLU(), nn.Linear(hidden, n_features_y), nn.Tanh()
        )

    def fitting_loss(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the negative mean log-likelihood of y given x, without its constant, for fitting q.

        Parameters
        ----------
        x : Tensor of shape (..., n_samples, n_features_x)
            Conditioning features.
        y : Tensor of shape (..., n_samples, n_features_y)
            Features whose density is fitted.
        mask : bool Tensor of shape (..., n_samples), default=None
            Rows to include; all by default.

        Returns
        -------
        Tensor of shape (...)
            Loss (UDI, eq. 10).
        """
        log_variance = self.log_variance(x)
        squares = (self.mean(x) - y) ** 2
        return masked_mean(0.5 * (squares * (-log_variance).exp() + log_variance).sum(-1), mask)

    def forward(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the bound over all pairs of rows of a batch, differentiable in y.

        Parameters
        ----------
        x : Tensor of shape (..., n_samples, n_features_x)
            Conditioning features.
        y : Tensor of shape (..., n_samples, n_features_y)
            Features to be made independent of x.
        mask : bool Tensor of shape (..., n_samples), default=None
            Rows to include; all by default.

        Returns
        -------
        Tensor of shape (...)
            Bound, in nats.
        """
        with torch.no_grad():  # Only the features get a gradient; q is fitted by `fitting_loss`.
            mean, precision = self.mean(x), (-self.log_variance(x)).exp()
        if mask is None:
            center = y.mean(-2, keepdim=True)
            variance = ((y - center) ** 2).mean(-2, keepdim=True)
        else:
            weight = (mask / mask.sum(-1, keepdim=True).clamp(min=1)).unsqueeze(-1)
            center = (weight * y).sum(-2, keepdim=True)
            variance = (weight * (y - center) ** 2).sum(-2, keepdim=True)
        # mean_j (m_i - y_j)^2 = (m_i - center)^2 + variance, so pairs need not be formed.
        unpaired = (mean - center) ** 2 + variance
        return masked_mean(0.5 * (precision * (unpaired - (mean - y) ** 2)).sum(-1), mask)


def stacked_clubs(clubs: Sequence[CLUB]) -> CLUB:
    """Return one bound that computes those of several folds; their axis is in front of the rows."""
    stack = copy.copy(clubs[0])
    stack._modules = {
        name: cast(nn.Module, stack_networks([getattr(club, name) for club in clubs]))
        for name in ("mean", "log_variance")
    }
    return stack


def masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over the last axis of the values where `mask` is True, or zero if it is True nowhere."""
    if mask is None:
        return values.mean(-1)
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)
