"""Network of features of windows."""

from __future__ import annotations

import torch
from torch import nn

from .layers import Output

_N_HIDDEN = 256
# Dropout probabilities of the features and of the hidden units.
_FEATURE_DROPOUT, _HIDDEN_DROPOUT = 0.2, 0.4
# Standardised features beyond this many deviations are outliers.
_MAX_DEVIATIONS = 6.0


class FeatureNet(nn.Module):
    """Network of two hidden layers on standardised features.

    >>> import torch
    >>> from mmestim.voice.networks.feature_net import FeatureNet
    >>> logits, hidden = FeatureNet(50, 21)(torch.randn(2, 50))
    >>> logits.shape, hidden.shape
    (torch.Size([2, 21]), torch.Size([2, 256]))

    Parameters
    ----------
    n_features, n_outputs : int
        Number of features and of logits.
    """

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.BatchNorm1d(n_features, affine=False),
            nn.Hardtanh(-_MAX_DEVIATIONS, _MAX_DEVIATIONS),
            nn.Dropout(_FEATURE_DROPOUT),
        ]
        for n_inputs in (n_features, _N_HIDDEN):
            layers += [nn.Linear(n_inputs, _N_HIDDEN), nn.ReLU(), nn.Dropout(_HIDDEN_DROPOUT)]
        self.hidden, self.head = nn.Sequential(*layers), nn.Linear(_N_HIDDEN, n_outputs)

    def forward(self, features: torch.Tensor) -> Output:
        """Return logits (n, n_outputs) and the last hidden layer (n, 256)."""
        hidden = self.hidden(features)
        return self.head(hidden).float(), hidden.float()
