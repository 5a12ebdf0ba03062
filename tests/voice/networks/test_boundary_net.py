"""Convolutional network of frames: breaks, padding, reach."""

import torch
from torch import nn

from mmestim.voice.networks import BoundaryNet, SharedFrontEnd
from mmestim.voice.networks.boundary_net import CONTEXT_FRAMES


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


def test_networks_behind_one_front_end_have_the_outputs_that_they_have_alone(noise):
    networks = [BoundaryNet(n).eval() for n in (3, 2)]
    inputs = [noise(8000, 2), torch.tensor([8000, 6000])]
    alone = [network(*inputs) for network in networks]
    for together, *parts in zip(SharedFrontEnd(*networks)(*inputs), *alone, strict=True):
        assert torch.equal(together, torch.cat(parts, 1))


def test_frames_depend_on_a_second_around_them_and_local_features_on_a_fifth(noise):
    torch.manual_seed(0)
    network = BoundaryNet().eval()
    x, changed = noise(48000, 1), noise(48000, 1, seed=1)
    changed[:, 8000:] = x[:, 8000:]

    def local(waveform):
        return network.local(network.front_end(waveform, None, is_scaled=True), None)[0]

    def embeddings(waveform):
        return network.outputs(local(waveform), None)[1]

    with torch.no_grad():
        for function, reach in ((local, CONTEXT_FRAMES), (embeddings, CONTEXT_FRAMES + 2 * (8 + 16 + 32))):
            latest = (function(x) != function(changed)).any(1)[0].nonzero().max().item()
            assert 0.8 * reach < latest - 50 < reach
