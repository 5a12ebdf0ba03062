"""Balancing methods with parameters that take effect in the first epochs, for short fits."""

from __future__ import annotations

from mmestim import balancers

METHODS = {
    name: method
    for name, method in vars(balancers).items()
    if isinstance(method, type) and issubclass(method, balancers.Balancer) and method is not balancers.Balancer
}
# Parameters of methods that by default start after more epochs than a short fit has, or need more of them.
EARLY_PARAMETERS = {
    "GradientBlending": {"n_epochs": 1, "super_epoch": 2},
    "OPM": {"starts": 0},
    "ReconBoost": {"stage_epochs": 1, "rectify_epochs": 1},
    "Relearning": {"interval": 1},
    "Valuation": {"warmup": 0},
}


def early_method(name: str) -> balancers.Balancer:
    """Return the balancing method of that name."""
    return METHODS[name](**EARLY_PARAMETERS.get(name, {}))
