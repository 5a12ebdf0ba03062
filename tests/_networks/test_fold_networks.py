"""Networks of folds joined into one, whose logits are the mean of theirs."""

import copy

import pytest
import torch

from mmestim._data.batches import Batch
from mmestim._networks.fold_networks import FoldNetworks, join_branches, join_networks
from mmestim._networks.fusion_heads import SumHead, build_head
from mmestim._networks.multimodal_networks import Branch, JointModule
from mmestim.encoders import MLPEncoder

BATCH = Batch({"a": torch.randn(7, 6), "v": torch.randn(5, 3)}, {"v": torch.tensor([0, 1, 3, 4, 6])}, 7)


def branch(name):
    return Branch(name, MLPEncoder((6 if name == "a" else 3,), 4), 4, 3)


@torch.no_grad()
def test_joined_branches_average_their_logits():
    branches = [branch("a") for _ in range(3)]
    logits, features = join_branches(branches)(BATCH)
    outputs = [one(BATCH) for one in branches]
    torch.testing.assert_close(logits, torch.stack([z for z, _ in outputs]).mean(0))
    torch.testing.assert_close(features, torch.cat([f for _, f in outputs], dim=1))


def test_one_branch_stays_as_it_is():
    only = branch("a")
    assert join_branches([only]) is only


@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
@pytest.mark.parametrize("unimodal_heads", [True, False])
@torch.no_grad()
def test_joined_networks_average_their_logits(fusion, unimodal_heads):
    networks = [
        JointModule({n: branch(n) for n in "av"}, build_head(fusion, {"a": 4, "v": 4}, 3, ["a", "v"]), unimodal_heads)
        for _ in range(3)
    ]
    joined = join_networks(copy.deepcopy(networks))
    fused, features = joined(BATCH)
    outputs = [network(BATCH) for network in networks]
    torch.testing.assert_close(fused, torch.stack([z for z, _ in outputs]).mean(0))
    for name in "av":
        expected = [network.unimodal_logits(f, name) for network, (_, f) in zip(networks, outputs, strict=True)]
        torch.testing.assert_close(joined.unimodal_logits(features, name), torch.stack(expected).mean(0))


@torch.no_grad()
def test_each_batch_is_read_by_the_network_of_its_fold():
    networks = [JointModule({n: branch(n) for n in "av"}, SumHead({"a": 4, "v": 4}, 3), True) for _ in range(3)]
    module = FoldNetworks(networks)
    for number, network in enumerate(networks):
        logits, features = module(BATCH._replace(fold=number))
        expected_logits, expected_features = network(BATCH)
        assert torch.equal(logits, expected_logits)
        assert all(torch.equal(features[name], expected_features[name]) for name in "av")
    assert {id(p) for p in module.parameters()} == {id(p) for network in networks for p in network.parameters()}
