"""Resolution of the options of training."""

import functools

import pytest
import torch

from mmestim._training.options import TrainingOptions

ADAMW, OTHERS = (2e-3, "cosine", 1.0), (1e-2, "step", 1e-4)
AUTO = {"lr": "auto", "lr_schedule": "auto", "weight_decay": "auto"}


def options(**parameters):
    return TrainingOptions.from_parameters(**{"batch_size": 8, "device": "cpu"} | AUTO | parameters)


@pytest.mark.parametrize(
    "optimizer, expected",
    [
        ("adamw", ADAMW),
        (torch.optim.AdamW, ADAMW),
        (functools.partial(torch.optim.AdamW, betas=(0.9, 0.95)), ADAMW),
        ("sgd", OTHERS),
        (torch.optim.SGD, OTHERS),
        (functools.partial(torch.optim.SGD, momentum=0.5), OTHERS),
        (torch.optim.Adam, OTHERS),
    ],
)
def test_auto_follows_the_optimizer(optimizer, expected):
    resolved = options(optimizer=optimizer)
    assert (resolved.lr, resolved.lr_schedule, resolved.optimizer_kwargs["weight_decay"]) == expected


@pytest.mark.parametrize("name, value", [("lr", 0.5), ("lr_schedule", None), ("weight_decay", 0)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_given_values_replace_auto_one_by_one(optimizer, name, value):
    auto, given = options(optimizer=optimizer), options(optimizer=optimizer, **{name: value})
    for key in AUTO:
        a, b = (o.optimizer_kwargs[key] if key == "weight_decay" else getattr(o, key) for o in (auto, given))
        assert b == (value if key == name else a)


def test_auto_leaves_out_a_weight_decay_that_the_optimizer_does_not_take():
    def optimizer(params, lr):
        return torch.optim.SGD(params, lr=lr)

    assert options(optimizer=optimizer).optimizer_kwargs == {}
    with pytest.raises(ValueError, match=r"weight_decay=0.1: the optimizer optimizer takes none"):
        options(optimizer=optimizer, weight_decay=0.1)


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_other_strings_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}='fast' is not supported. Use a number or 'auto'"):
        options(**{name: "fast"})


@pytest.mark.parametrize(
    "value, error, message",
    [
        (0, ValueError, r"accumulate=0 must be at least 1"),
        (2.0, TypeError, r"accumulate=2.0 must be an integer"),
        (True, TypeError, r"accumulate=True must be an integer"),
    ],
)
def test_accumulate_is_a_number_of_parts(value, error, message):
    with pytest.raises(error, match=message):
        options(accumulate=value)


def test_compiled_networks_and_mps_do_not_accumulate(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for parameters in ({"compile": True}, {"device": "mps"}, {"accumulate": 3}):
        assert options(**parameters).accumulate == parameters.get("accumulate", 1)
    with pytest.raises(ValueError, match=r"accumulate=3 is not supported by mps.*Use device='cpu'"):
        options(accumulate=3, device="mps")
    with pytest.raises(ValueError, match=r"accumulate=3 cannot be combined with compile=True.*Use compile=False"):
        options(accumulate=3, compile=True)
