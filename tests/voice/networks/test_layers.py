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


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv1d(4, 3, 3, padding=1, bias=False), nn.BatchNorm1d(3), nn.ReLU()],
        [nn.Conv1d(4, 3, 5, 2, padding=8, dilation=4), nn.BatchNorm1d(3)],
        [nn.Conv2d(4, 6, 3, (2, 1), padding=1), nn.BatchNorm2d(6, affine=False), nn.SELU()],
        [nn.Conv2d(4, 3, 3, padding=1), nn.ReLU()],
        [nn.Conv1d(4, 2, 1), nn.BatchNorm1d(2, track_running_stats=False), nn.ReLU()],
    ],
)
def test_evaluation_without_gradients_computes_the_same(layers):
    block = Block(*layers)
    x = torch.randn(2, 4, *(9,) * (1 if isinstance(layers[0], nn.Conv1d) else 2))
    block(3 * x + 1, None)  # sets running means and variances
    expected, _ = block.eval()(x, None)
    with torch.no_grad():
        torch.testing.assert_close(block(x, None)[0], expected)


def test_pooling_leaves_at_least_one_frame():
    block = Block(nn.MaxPool1d(3), stride=3, pools=True)
    x, frames = block(torch.ones(2, 1, 9), torch.tensor([9, 2]))
    assert frames.tolist() == [3, 1]
    assert x[:, 0].tolist() == [[1, 1, 1], [1, 0, 0]]
