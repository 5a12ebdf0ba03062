"""Models of windows by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from ..networks import LCNN, ComplexNet, RawNet2, SSLNet
from ..networks.ssl_checkpoints import Weights, weights_file
from .base import WindowModel
from .features import FeatureModel
from .hybrid import HybridModel
from .network import NetworkModel

ModelName = Literal["hybrid", "features", "lcnn", "complexnet", "rawnet2", "ssl"]

_N_WINDOWS, _N_WINDOWS_SSL = 60_000, 20_000
_LR = 1e-3
# Low, so that a pretrained network does not forget.
_FINE_TUNING_LR = 1e-5
# Class and highest learning rate of each network.
_NETWORKS: dict[ModelName, tuple[Callable[..., nn.Module], float]] = {
    "lcnn": (LCNN, _LR),
    "complexnet": (ComplexNet, _LR),
    "rawnet2": (RawNet2, 3e-4),
}
MODELS = get_args(ModelName)


def make_model(
    model: ModelName | Callable[..., nn.Module],
    weights: Weights | None,
    sample_rate: int,
    *,
    fine_tune: bool = False,
    config: dict[str, Any] | None = None,
) -> WindowModel:
    """Return an untrained model of windows.

    Parameters
    ----------
    model : str, class or callable
        One of `MODELS`, or a function of the number of labels that returns a network.
    weights : str, path, dict or None
        Pretrained weights for ``'ssl'``.
    sample_rate : int
        Samples per second.
    fine_tune : bool, default=False
        Whether to train the pretrained weights too.
    config : dict, default=None
        Architecture of an ``'ssl'`` network whose weights come from a saved detector.

    Returns
    -------
    WindowModel
        The model.

    Raises
    ------
    ValueError
        If ``'ssl'`` has neither `weights` nor `config`.
    OSError
        If the file of weights does not exist.
    """
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
            weights_file(Path(weights))  # Raises before hours of simulation.
        network = partial(SSLNet, weights=weights, config=config, fine_tune=fine_tune)
        return NetworkModel(network, "ssl", _N_WINDOWS_SSL, _LR, _FINE_TUNING_LR if fine_tune else None)
    if isinstance(model, str):
        make, lr = _NETWORKS[model]
        return NetworkModel(make, model, _N_WINDOWS, lr)
    return NetworkModel(model, getattr(model, "__name__", "network"), _N_WINDOWS, _LR)
