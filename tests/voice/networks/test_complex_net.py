"""Complex network: phases, and its layers against complex arithmetic."""

import numpy as np
import torch
from torch import nn

from mmestim.voice.networks import ComplexNet
from mmestim.voice.networks.complex_net import ComplexConv2d, MagnitudeNorm, ModReLU
from mmestim.voice.networks.front_ends import ComplexSTFT


class PhaseShifted(ComplexSTFT):
    """Front end that adds one phase to all bins and frames."""

    def _transform(self, waveform, frames):
        spectrum = torch.view_as_complex(super()._transform(waveform, frames).movedim(1, -1).contiguous())
        return torch.view_as_real(spectrum * np.exp(1.2j)).movedim(-1, 1)


def test_common_phase_offset_does_not_matter(noise):
    network = ComplexNet(3, widths=(4, 8), front_end=ComplexSTFT()).eval()
    x = noise(6000)
    expected, _ = network(x)
    network.front_end = PhaseShifted()
    torch.testing.assert_close(network(x)[0], expected, atol=1e-5, rtol=1e-4)


def test_layers_match_complex_arithmetic(noise):
    z = torch.complex(noise(2 * 3 * 9 * 11), noise(2 * 3 * 9 * 11, seed=1)).reshape(2, 3, 9, 11)
    x = torch.cat([z.real, z.imag], 1)

    def as_complex(x):
        return torch.complex(*x.chunk(2, 1))

    conv = ComplexConv2d(3, 5, 3, stride=2)
    expected = nn.functional.conv2d(z, torch.complex(conv.real, conv.imag), stride=2, padding=1)
    torch.testing.assert_close(as_complex(conv(x)), expected, atol=1e-5, rtol=1e-5)

    normalized = as_complex(MagnitudeNorm(3)(4 * x))
    torch.testing.assert_close(normalized.abs().square().mean((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalized.angle(), z.angle())

    cut = as_complex(ModReLU(3)(x))
    torch.testing.assert_close(cut.abs(), (z.abs() - 0.3).relu(), atol=1e-4, rtol=1e-4)
    is_positive = z.abs() > 0.31
    torch.testing.assert_close(cut[is_positive].angle(), z[is_positive].angle())


def test_magnitude_norm_tracks_the_mean_square(noise):
    norm, x = MagnitudeNorm(1), 3 * noise(800).reshape(1, 2, 20, 20)
    for _ in range(80):
        norm(x)
    torch.testing.assert_close(norm.eval()(x), norm.train()(x), atol=1e-2, rtol=1e-2)
