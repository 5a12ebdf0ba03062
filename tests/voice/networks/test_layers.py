"""Layers that the networks share."""

import pytest
import torch
from torch import nn

from mmestim.voice.networks.layers import Block, MaxFeatureMap
from mmestim.voice.networks.masking import length_mask


def test_max_feature_map_is_the_larger_half():
    x = torch.tensor([[[1.0, -5.0], [3.0, 4.0]]]).unflatten(1, (2, 1))
    assert MaxFeatureMap()(x).flatten().tolist() == [3.0, 4.0]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SELU])
def test_padding_is_zero_and_gets_no_gradient(activation):
    block = Block(nn.Conv1d(2, 3, 3, padding=1), nn.BatchNorm1d(3), activation()).double()
    x = torch.randn(3, 2, 7, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 3, 1])
    out, _ = block(x, lengths)
    assert torch.equal(out, nn.Sequential(*block)(x) * length_mask(lengths, 7)[:, None])
    assert torch.autograd.gradcheck(lambda x: block(x, lengths)[0], x)


def test_pooling_leaves_at_least_one_frame():
    block = Block(nn.MaxPool1d(3), stride=3, pools=True)
    x, frames = block(torch.ones(2, 1, 9), torch.tensor([9, 2]))
    assert frames.tolist() == [3, 1]
    assert x[:, 0].tolist() == [[1, 1, 1], [1, 0, 0]]
