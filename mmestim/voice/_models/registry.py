"""The models by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ..networks import LCNN, ComplexNet, RawNet2, SSLNet
from ..networks.ssl_checkpoints import weights_file
from .base import WindowModel
from .features import FeatureModel
from .hybrid import HybridModel
from .network import NetworkModel

# Windows that a network sees, and its highest learning rate.
_NETWORKS: dict[str, tuple[Callable[..., nn.Module], int, float]] = {
    "lcnn": (LCNN, 60_000, 1e-3),
    "complexnet": (ComplexNet, 60_000, 1e-3),
    "rawnet2": (RawNet2, 60_000, 3e-4),
}
# Of a network that is trained further: what it knows already is to stay.
_FINE_TUNING_LR = 1e-5
MODELS = ("hybrid", "features", *_NETWORKS, "ssl")


def make_model(
    model: Any, weights: Any, sample_rate: int, *, fine_tune: bool = False, config: Any = None
) -> WindowModel:
    """What a name or a network's class stands for; `config` is of a network whose weights come from a file of ours."""
    if model == "hybrid":
        return HybridModel(sample_rate)
    if model == "features":
        return FeatureModel(sample_rate)
    if model == "ssl":
        if config is not None:
            weights = None
        elif weights is None:
            raise ValueError(
                "model='ssl' needs weights=, a file or state dict of a wav2vec 2.0, HuBERT or WavLM model that you "
                "have. Nothing is downloaded."
            )
        elif isinstance(weights, str | os.PathLike):
            weights_file(Path(weights))  # before hours of work
        network = partial(SSLNet, weights=weights, config=config, fine_tune=fine_tune)
        return NetworkModel(network, "ssl", 20_000, 1e-3, _FINE_TUNING_LR if fine_tune else None)
    if isinstance(model, str):
        make, seen, lr = _NETWORKS[model]
        return NetworkModel(make, model, seen, lr)
    return NetworkModel(model, getattr(model, "__name__", "network"), 60_000, 1e-3)
