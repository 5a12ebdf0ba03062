"""Stacks of networks: equality with the networks themselves, and the networks that have no stacked form."""

import numpy as np
import pytest
import torch
from torch import nn

from mmestim._data.batches import Batch
from mmestim._networks.multimodal_networks import Branch
from mmestim._networks.stacking import copy_weights_back, stack_networks
from mmestim.encoders import ConvEncoder, LinearEncoder, MLPEncoder, TabularEncoder
from mmestim.encoders.standardize import fit_statistics


class Subclass(nn.Linear):
    """Linear layer that may do anything in its forward pass."""


def shared_layer():
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, layer)


def hooked_layer():
    layer = nn.Linear(6, 6)
    layer.register_forward_hook(lambda *args: None)
    return layer


def branches(encoder, rng):
    built = [Branch("x", encoder((6,), 4), 4, 3) for _ in range(3)]
    for branch in built:
        fit_statistics(branch.encoder, [torch.tensor(rng.normal(2, 3, (20, 6)), dtype=torch.float32)])
    return built


@pytest.mark.parametrize("encoder", [LinearEncoder, MLPEncoder, TabularEncoder])
def test_a_stack_computes_all_networks_and_their_gradients(encoder):
    rng = np.random.default_rng(0)
    networks = branches(encoder, rng)
    stack = stack_networks(networks)
    x = torch.tensor(rng.normal(size=(3, 5, 6)), dtype=torch.float32)
    logits, features = stack(Batch({"x": x}, {}, 5))
    logits.square().sum().backward()
    gradients = dict(stack.named_parameters())
    for number, network in enumerate(networks):
        expected_logits, expected_features = network(Batch({"x": x[number]}, {}, 5))
        torch.testing.assert_close(logits[number], expected_logits)
        torch.testing.assert_close(features[number], expected_features)
        expected_logits.square().sum().backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradients[name].grad[number].view_as(parameter), parameter.grad)


@pytest.mark.parametrize("part", ["head", "encoder"])
def test_weights_are_copied_back_and_frozen_ones_stay_frozen(part):
    networks = branches(TabularEncoder, np.random.default_rng(0))
    for network in networks:
        getattr(network, part).requires_grad_(False)
    stack = stack_networks(networks)
    assert [p.requires_grad for p in stack.parameters()] == [p.requires_grad for p in networks[0].parameters()]
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.arange(1.0, 4).view(3, *(1,) * (parameter.dim() - 1)))
    before = [[p.clone() for p in network.parameters()] for network in networks]
    copy_weights_back(stack, networks)
    for number, network in enumerate(networks):
        for parameter, old in zip(network.parameters(), before[number], strict=True):
            torch.testing.assert_close(parameter, old + number + 1)


@pytest.mark.parametrize(
    "network",
    [
        lambda: ConvEncoder((6,), 4, n_dims=1),
        lambda: Subclass(6, 6),
        lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)),
        shared_layer,
        hooked_layer,
    ],
    ids=["convolution", "subclass", "batch norm", "shared layer", "hook"],
)
def test_other_networks_have_no_stack(network):
    assert stack_networks([network(), network()]) is None
