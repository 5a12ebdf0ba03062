"""Contract of all networks: outputs, batches, padding, gradients, precision, copies, learning."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmestim.voice.networks import LCNN, BoundaryNet, ComplexNet, RawNet2, SSLNet
from mmestim.voice.networks.front_ends import LFCC, ComplexSTFT, LogSpectrogram

NETWORKS = {
    "boundary": lambda: BoundaryNet(),
    "lcnn": lambda: LCNN(3),
    "complex": lambda: ComplexNet(3, widths=(4, 8)),
    "complex_stft": lambda: ComplexNet(3, widths=(4, 8), front_end=ComplexSTFT(256)),
    "rawnet2": lambda: RawNet2(3, width=16),
}
SSL_NETWORKS = ["base", "large", "wavlm"]
ALL = pytest.mark.parametrize("name", [*NETWORKS, *SSL_NETWORKS])


@pytest.fixture
def build(ssl_configs):
    """Function that builds a network by its name, with weights from a seed."""

    def build(name, seed=0):
        torch.manual_seed(seed)
        return NETWORKS[name]() if name in NETWORKS else SSLNet(3, config=ssl_configs[name], fine_tune=True)

    return build


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("n_samples", [5600, 19200, 64800])
@ALL
def test_outputs_have_documented_shapes(name, n_samples, noise, build):
    network = build(name).eval()
    with torch.no_grad():
        logits, embedding = network(noise(n_samples, 2))
    frames = (1 + n_samples // 160,) if name == "boundary" else ()
    assert logits.shape == (2, 4 if frames else 3, *frames)
    assert embedding.ndim == logits.ndim
    assert logits.dtype == embedding.dtype == torch.float32
    assert logits.isfinite().all()


@ALL
def test_output_does_not_depend_on_padding(name, noise, build):
    network = build(name).eval()
    x, lengths = noise(9600, 3), torch.tensor([9600, 7001, 5600])
    with torch.no_grad():
        together, embeddings = network(x, lengths)
        for i, length in enumerate(lengths):
            logits, embedding = network(x[i : i + 1, :length])
            n = logits.shape[2:]
            torch.testing.assert_close(together[i : i + 1, :, *map(slice, n)], logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(embeddings[i : i + 1, :, *map(slice, n)], embedding, atol=1e-5, rtol=1e-5)


@ALL
def test_gradients_reach_every_parameter(name, noise, build):
    network = build(name)
    logits, _ = network(noise(8000, 3), torch.tensor([8000, 7000, 5600]))
    logits.square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.ndim < 2 or parameter.grad.any(), parameter_name


@ALL
def test_bfloat16_is_close_to_float32(name, noise, build):
    network = build(name).eval()
    x, lengths = noise(8000, 2), torch.tensor([8000, 6000])
    with torch.no_grad():
        expected, _ = network(x, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, embedding = network(x, lengths)
    assert logits.dtype == embedding.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.03, rtol=0.03)


@ALL
def test_copies_have_identical_outputs(name, noise, build):
    network = build(name).eval()
    x = noise(6000, 2)
    with torch.no_grad():
        expected, _ = network(x)
        other = build(name, seed=1).eval()
        other.load_state_dict(network.state_dict())
        for duplicate in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network), other):
            assert torch.equal(duplicate(x)[0], expected)


@pytest.mark.parametrize("name", ["lcnn", "complex", "rawnet2"])
def test_low_passed_clips_are_learnt(name, noise, build):
    network = build(name)
    x, y = noise(6400, 8), torch.arange(8) % 2
    x[1::2, 1:] += 0.7 * x[1::2, :-1].clone()  # a gentle low-pass
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(60):
        logits, _ = network.train()(x)
        loss = nn.functional.cross_entropy(logits, y)
        if step % 10 == 9:
            with torch.no_grad():
                correct = network.eval()(x)[0].argmax(1) == y
            if correct.all():
                break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert correct.all(), f"only {int(correct.sum())} of 8 clips are right after 60 steps"


@pytest.mark.parametrize(
    "make, n",
    [
        (lambda: BoundaryNet(), 164_620),
        (lambda: LCNN(1), 269_729),
        (lambda: RawNet2(2), 17_626_530),
    ],
    ids=["boundary", "lcnn", "rawnet2"],
)
def test_numbers_of_parameters(make, n):
    assert n_parameters(make()) == n


def test_front_ends_can_be_exchanged(noise):
    assert LCNN(2, front_end=LogSpectrogram(128, 160)).head.in_features == 128
    for network in (LCNN(2, front_end=LogSpectrogram(128, 160)), LCNN(2, front_end=LFCC())):
        assert network.eval()(noise(6000))[0].shape == (1, 2)
    with pytest.raises(ValueError, match="front_end=LFCC has no complex spectrum"):
        ComplexNet(2, front_end=LFCC())
