"""Convolutional networks on a spectrogram: breaks, padding, statistics."""

import pytest
import torch
from torch import nn

from mmestim.voice.networks import BoundaryNet, SharedFrontEnd, SmallCNN


def test_boundary_net_learns_the_frame_of_a_phase_jump(noise):
    torch.manual_seed(0)
    network = BoundaryNet(1)
    t, x, target = torch.arange(8000) / 16000, [], torch.zeros(8, 1, 51)
    for i in range(8):
        position, frequency = 1600 + 600 * i, 300 + 200 * i
        x.append(torch.sin(2 * torch.pi * frequency * t + 2 * (torch.arange(8000) >= position)))
        target[i, 0, round(position / 160)] = 1
    x = torch.stack(x) + 0.001 * noise(8000, 8)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(network(x)[0], target, pos_weight=torch.tensor(20.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        detected = network.eval()(x)[0][:, 0].argmax(1)
    assert (detected - target[:, 0].argmax(1)).abs().max() <= 1


def test_boundary_net_masks_padding(noise):
    network = BoundaryNet().eval()
    lengths = torch.tensor([8000, 6000])
    logits, embedding = network(noise(8000, 2), lengths)
    assert network.frames(lengths).tolist() == [51, 38]
    assert (logits[1, :, 38:] == -30).all()
    assert not embedding[1, :, 38:].any()
    assert (logits[1, :, :38] > -30).all()


def test_statistics_matter_and_their_number_is_checked(noise):
    network = SmallCNN(3, n_statistics=7, embedding_dim=16).eval()
    x = noise(6000, 2)
    first, second = (network(x, None, noise(7, 2, seed))[0] for seed in (1, 2))
    assert not torch.allclose(first, second)
    for wrong in (None, noise(6, 2)):
        with pytest.raises(ValueError, match="built with n_statistics=7"):
            network(x, None, wrong)


@pytest.mark.parametrize("make", [lambda n: BoundaryNet(n), lambda n: SmallCNN(n, n_statistics=7, embedding_dim=16)])
def test_networks_behind_one_front_end_have_the_outputs_that_they_have_alone(make, noise):
    networks = [make(n).eval() for n in (3, 2)]
    inputs = [noise(8000, 2), torch.tensor([8000, 6000])]
    if isinstance(networks[0], SmallCNN):
        inputs.append(noise(7, 2))
    alone = [network(*inputs) for network in networks]
    for together, *parts in zip(SharedFrontEnd(*networks)(*inputs), *alone, strict=True):
        assert torch.equal(together, torch.cat(parts, 1))
