"""Networks: sizes of the published ones, independence of batch and padding, learning, pre-trained weights."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmestim._utils.torchaudio import torchaudio
from mmestim.voice.networks import LCNN, BoundaryNet, ComplexNet, RawNet2, SmallCNN, SSLNet, load_wav2vec2
from mmestim.voice.networks.complex_net import ComplexConv2d, MagnitudeNorm, ModReLU
from mmestim.voice.networks.front_ends import LFCC, ComplexSTFT, LogSpectrogram
from mmestim.voice.networks.layers import Block, MaxFeatureMap
from mmestim.voice.networks.masking import length_mask

TINY = {
    "extractor_mode": "group_norm",
    "extractor_conv_bias": False,
    "encoder_embed_dim": 32,
    "encoder_num_layers": 2,
    "extractor_conv_layer_config": [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2],
    "encoder_num_heads": 4,
    "encoder_ff_interm_features": 48,
    "encoder_layer_norm_first": False,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,  # of 16 channels: oneDNN 3.12 computes bfloat16 groups of 8 wrongly on CPUs with AMX
}
LARGE = TINY | {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
WAVLM = TINY | {"encoder_num_buckets": 20, "encoder_max_distance": 60}
SSL = {"base": TINY, "large": LARGE, "wavlm": WAVLM}

NETWORKS = {
    "boundary": lambda: BoundaryNet(),
    "small": lambda: SmallCNN(3),
    "wide": lambda: SmallCNN(3, n_statistics=7, embedding_dim=16),
    "lcnn": lambda: LCNN(3),
    "complex": lambda: ComplexNet(3, widths=(4, 8)),
    "complex_stft": lambda: ComplexNet(3, widths=(4, 8), front_end=ComplexSTFT(256)),
    "rawnet2": lambda: RawNet2(3, width=16),
} | {name: lambda config=config: SSLNet(3, config=config, fine_tune=True) for name, config in SSL.items()}
ALL = pytest.mark.parametrize("name", NETWORKS)


def build(name, seed=0):
    torch.manual_seed(seed)
    return NETWORKS[name]()


def noise(n_samples, n_clips=1, seed=0):
    return torch.randn(n_clips, n_samples, generator=torch.Generator().manual_seed(seed))


def statistics(network, n_clips):
    n = getattr(network, "n_statistics", 0)
    return (noise(n, n_clips, seed=1),) if n else ()


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


# All of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [5600, 19200, 64800])
@ALL
def test_outputs(name, n_samples):
    network = build(name).eval()
    with torch.no_grad():
        logits, embedding = network(noise(n_samples, 2), None, *statistics(network, 2))
    frames = (1 + n_samples // 160,) if name == "boundary" else ()
    assert logits.shape == (2, 4 if frames else 3, *frames)
    assert embedding.ndim == logits.ndim
    assert logits.dtype == embedding.dtype == torch.float32
    assert logits.isfinite().all()


@ALL
def test_a_clip_gives_the_same_alone_and_among_longer_ones(name):
    network = build(name).eval()
    x, lengths = noise(9600, 3), torch.tensor([9600, 7001, 5600])
    extra = statistics(network, 3)
    with torch.no_grad():
        together, embeddings = network(x, lengths, *extra)
        for i, length in enumerate(lengths):
            logits, embedding = network(x[i : i + 1, :length], None, *(s[i : i + 1] for s in extra))
            n = logits.shape[2:]
            torch.testing.assert_close(together[i : i + 1, :, *map(slice, n)], logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(embeddings[i : i + 1, :, *map(slice, n)], embedding, atol=1e-5, rtol=1e-5)


@ALL
def test_gradients_reach_every_parameter(name):
    network = build(name)
    logits, _ = network(noise(8000, 3), torch.tensor([8000, 7000, 5600]), *statistics(network, 3))
    logits.square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.ndim < 2 or parameter.grad.any(), parameter_name


@ALL
def test_bfloat16(name):
    network = build(name).eval()
    x, lengths, extra = noise(8000, 2), torch.tensor([8000, 6000]), statistics(network, 2)
    with torch.no_grad():
        expected, _ = network(x, lengths, *extra)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, embedding = network(x, lengths, *extra)
    assert logits.dtype == embedding.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.03, rtol=0.03)


@ALL
def test_copies_give_the_same_numbers(name):
    network = build(name).eval()
    x, extra = noise(6000, 2), statistics(network, 2)
    with torch.no_grad():
        expected, _ = network(x, None, *extra)
        other = build(name, seed=1).eval()
        other.load_state_dict(network.state_dict())
        for again in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network), other):
            assert torch.equal(again(x, None, *extra)[0], expected)


@pytest.mark.parametrize("name", ["small", "wide", "lcnn", "complex", "rawnet2"])
def test_two_kinds_of_clips_are_learnt(name):
    network = build(name)
    x, y = noise(6400, 8), torch.arange(8) % 2
    x[1::2, 1:] += 0.7 * x[1::2, :-1].clone()  # a gentle low-pass
    extra = statistics(network, 8)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(60):
        logits, _ = network.train()(x, None, *extra)
        loss = nn.functional.cross_entropy(logits, y)
        if step % 10 == 9:
            with torch.no_grad():
                correct = network.eval()(x, None, *extra)[0].argmax(1) == y
            if correct.all():
                return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"only {int(correct.sum())} of 8 clips are right after 60 steps")


@pytest.mark.parametrize(
    "make, n",
    [
        (lambda: BoundaryNet(), 102_796),
        (lambda: SmallCNN(17), 330_845),
        (lambda: LCNN(1), 269_729),
        (lambda: RawNet2(2), 17_626_530),
    ],
    ids=["boundary", "small", "lcnn", "rawnet2"],
)
def test_sizes_of_the_published_networks(make, n):
    assert n_parameters(make()) == n


# One by one ----------------------------------------------------------------------------------------


def test_boundary_net_finds_a_break_in_the_right_frame():
    torch.manual_seed(0)
    network = BoundaryNet(1)
    t, x, target = torch.arange(8000) / 16000, [], torch.zeros(8, 1, 51)
    for i in range(8):
        at, frequency = 1600 + 600 * i, 300 + 200 * i
        x.append(torch.sin(2 * torch.pi * frequency * t + 2 * (torch.arange(8000) >= at)))
        target[i, 0, round(at / 160)] = 1
    x = torch.stack(x) + 0.001 * noise(8000, 8)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(network(x)[0], target, pos_weight=torch.tensor(20.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(x)[0][:, 0].argmax(1)
    assert (found - target[:, 0].argmax(1)).abs().max() <= 1


def test_boundary_net_past_the_end():
    network = build("boundary").eval()
    lengths = torch.tensor([8000, 6000])
    logits, embedding = network(noise(8000, 2), lengths)
    assert network.frames(lengths).tolist() == [51, 38]
    assert (logits[1, :, 38:] == -30).all()
    assert not embedding[1, :, 38:].any()
    assert (logits[1, :, :38] > -30).all()


def test_statistics_matter_and_their_number_is_checked():
    network = build("wide").eval()
    x = noise(6000, 2)
    one, other = (network(x, None, noise(7, 2, seed))[0] for seed in (1, 2))
    assert not torch.allclose(one, other)
    for given in (None, noise(6, 2)):
        with pytest.raises(ValueError, match="built with n_statistics=7"):
            network(x, None, given)


def test_front_ends_can_be_exchanged():
    assert LCNN(2, front_end=LogSpectrogram(128, 160)).head.in_features == 128
    for network in (LCNN(2, front_end=LogSpectrogram(128, 160)), SmallCNN(2, front_end=LFCC())):
        assert network.eval()(noise(6000))[0].shape == (1, 2)
    with pytest.raises(ValueError, match="front_end=LFCC has no complex spectrum"):
        ComplexNet(2, front_end=LFCC())


class Turned(ComplexSTFT):
    """With one phase added everywhere."""

    def _transform(self, waveform, frames):
        spectrum = torch.view_as_complex(super()._transform(waveform, frames).movedim(1, -1).contiguous())
        return torch.view_as_real(spectrum * np.exp(1.2j)).movedim(-1, 1)


def test_complex_net_sees_differences_of_phase_only():
    network = ComplexNet(3, widths=(4, 8), front_end=ComplexSTFT()).eval()
    x = noise(6000)
    expected, _ = network(x)
    network.front_end = Turned()
    torch.testing.assert_close(network(x)[0], expected, atol=1e-5, rtol=1e-4)


def test_complex_layers():
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
    kept = z.abs() > 0.31
    torch.testing.assert_close(cut[kept].angle(), z[kept].angle())


def test_magnitude_norm_remembers_the_training_rows():
    norm, x = MagnitudeNorm(1), 3 * noise(800).reshape(1, 2, 20, 20)
    for _ in range(80):
        norm(x)
    torch.testing.assert_close(norm.eval()(x), norm.train()(x), atol=1e-2, rtol=1e-2)


def test_max_feature_map():
    x = torch.tensor([[[1.0, -5.0], [3.0, 4.0]]]).unflatten(1, (2, 1))
    assert MaxFeatureMap()(x).flatten().tolist() == [3.0, 4.0]


def test_filters_of_rawnet2():
    filters = RawNet2(2, width=4).filters[0].double().numpy()
    frequencies = np.fft.rfftfreq(8192, 1 / 16000)
    gains = np.abs(np.fft.rfft(filters, 8192))
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 21)
    edges = 700 * (10 ** (mel / 2595) - 1)
    for i in range(5, 20):  # wide enough for a flat top
        low, high = edges[i : i + 2]
        top = (frequencies > low + 40) & (frequencies < high - 40)
        np.testing.assert_allclose(gains[i, top], 1, atol=0.02)
        assert gains[i, (frequencies < low - 40) | (frequencies > high + 40)].max() < 0.02


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SELU])
def test_past_the_end_there_is_nothing_and_no_gradient(activation):
    block = Block(nn.Conv1d(2, 3, 3, padding=1), nn.BatchNorm1d(3), activation()).double()
    x = torch.randn(3, 2, 7, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 3, 1])
    out, _ = block(x, lengths)
    assert torch.equal(out, nn.Sequential(*block)(x) * length_mask(lengths, 7)[:, None])
    assert torch.autograd.gradcheck(lambda x: block(x, lengths)[0], x)


def test_blocks_keep_a_frame():
    block = Block(nn.MaxPool1d(3), stride=3, pools=True)
    x, frames = block(torch.ones(2, 1, 9), torch.tensor([9, 2]))
    assert frames.tolist() == [3, 1]
    assert x[:, 0].tolist() == [[1, 1, 1], [1, 0, 0]]


# Pre-trained -----------------------------------------------------------------------------------------


@pytest.fixture(params=SSL)
def original(request):
    """torchaudio's model and its config."""
    torch.manual_seed(0)
    config = SSL[request.param]
    make = torchaudio.models.wavlm_model if request.param == "wavlm" else torchaudio.models.wav2vec2_model
    others = dict.fromkeys(
        ["encoder_projection_dropout", "encoder_attention_dropout", "encoder_ff_interm_dropout", "encoder_dropout"], 0.1
    )
    return make(**config, **others, encoder_layer_drop=0.1, aux_num_out=None).eval(), config


def needed(config):
    """What the tiny weights do not tell."""
    return {key: config[key] for key in ("encoder_num_heads", "encoder_max_distance") if key in config}


def transformers_names(state, config):
    """torchaudio's state dict as transformers names it, in a model for speech recognition."""
    renamed = {"lm_head.weight": torch.zeros(3, 3), "wav2vec2.masked_spec_embed": torch.zeros(32)}
    for name, value in state.items():
        name = name.removeprefix("encoder.") if "feature_projection" in name else name.replace("transformer.", "")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        if "in_proj" in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                renamed["wav2vec2." + name.replace("attention.in_proj_", f"{part}_proj.")] = piece
        else:
            renamed["wav2vec2." + name.replace("attention.attention.out_proj", "attention.out_proj")] = value
    return renamed


def test_layers_are_those_of_torchaudio(original):
    model, config = original
    network = SSLNet(2, model.state_dict(), config=needed(config)).eval()
    x = noise(8000, 2)
    x /= x.square().mean(1, keepdim=True).sqrt()
    layers, _ = model.extract_features(x)
    if config["encoder_layer_norm_first"]:
        layers[-1] = model.encoder.transformer.layer_norm(layers[-1])
    entering = model.encoder.transformer._preprocess(
        model.encoder.feature_projection(model.feature_extractor(x, None)[0])
    )
    normalized = [nn.functional.layer_norm(layer, (32,)) for layer in (entering, *layers)]
    with torch.no_grad():
        network.layer_weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
    mixed = sum(s * layer for s, layer in zip(torch.tensor([0.0, 1.0, 2.0]).softmax(0), normalized, strict=True))
    expected = network.head(network.project(mixed).relu().mean(1))
    torch.testing.assert_close(network(x)[0], expected, atol=1e-5, rtol=1e-4)


def test_weights_in_the_names_of_transformers(original, tmp_path):
    model, config = original
    state = transformers_names(model.state_dict(), config)
    torch.save(state, tmp_path / "pytorch_model.bin")
    told = {
        "num_attention_heads": 4,
        "max_bucket_distance": 60,
        "model_type": "wavlm" if "encoder_num_buckets" in config else "wav2vec2",
        "do_stable_layer_norm": config["encoder_layer_norm_first"],
        "conv_dim": [8] * 7,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    (other := tmp_path / "other").mkdir()
    save_file({name: value.contiguous() for name, value in state.items()}, other / "model.safetensors")
    x = noise(8000)
    expected = model.extract_features(x)[0][0]
    for weights, given in ((tmp_path, None), (tmp_path / "pytorch_model.bin", None), (other, needed(config))):
        loaded, full = load_wav2vec2(weights, given)
        torch.testing.assert_close(loaded.extract_features(x)[0][0], expected, atol=1e-5, rtol=1e-4)
        assert {key: full[key] for key in config} == config


def test_a_frozen_network_stays_as_it_is(original):
    model, config = original
    network = SSLNet(2, model.state_dict(), config=needed(config)).train()
    assert not any(module.training for module in network.backbone.modules())
    assert network.project.training
    assert torch.equal(network(noise(6000))[0], network(noise(6000))[0])  # no dropout
    network(noise(6000))[0].sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert trained == {"layer_weights", "project.weight", "project.bias", "head.weight", "head.bias"}
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())


def test_config_and_state_make_the_network_again(original):
    model, config = original
    network = SSLNet(2, model.state_dict(), config=needed(config)).eval()
    again = SSLNet(2, config=json.loads(json.dumps(network.config))).eval()
    again.load_state_dict(network.state_dict())
    x = noise(6000)
    assert torch.equal(again(x)[0], network(x)[0])


def test_fewer_layers_than_the_weights_have(original):
    model, config = original
    network = SSLNet(2, model.state_dict(), config=needed(config) | {"encoder_num_layers": 1})
    assert network.layer_weights.shape == (2,)


@pytest.mark.parametrize("width, n_heads", [(768, 12), (1024, 16)])
def test_heads_of_published_widths_are_known(width, n_heads):
    config = TINY | {"encoder_embed_dim": width, "encoder_num_layers": 1, "encoder_pos_conv_groups": 16}
    state = SSLNet(2, config=config | {"encoder_num_heads": n_heads}).backbone.state_dict()
    assert load_wav2vec2(state)[1]["encoder_num_heads"] == n_heads


class Bomb:
    def __reduce__(self):
        return print, ("code of the file ran",)


def test_weights_that_will_not_do(tmp_path, capsys):
    state = SSLNet(2, config=LARGE).backbone.state_dict()
    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "noise.safetensors").write_bytes(b"\x05" * 50)
    (tmp_path / "noise.pt").write_bytes(b"\x05" * 50)
    (tmp_path / "empty.pt").touch()
    less = {name: value for name, value in state.items() if "layers.1.final" not in name}
    for weights, config, kind, message in [
        (None, None, ValueError, "nothing is downloaded"),
        (tmp_path / "no.pt", None, FileNotFoundError, "does not exist. Nothing is downloaded"),
        (tmp_path, None, FileNotFoundError, "a folder without model.safetensors or pytorch_model.bin"),
        (tmp_path / "bomb.pt", None, ValueError, "contains more than tensors"),
        (tmp_path / "list.pt", None, ValueError, "must be a dict of tensors"),
        (tmp_path / "noise.safetensors", None, ValueError, "cannot be read"),
        (tmp_path / "noise.pt", None, ValueError, "is damaged"),
        (tmp_path / "empty.pt", None, ValueError, "cannot be read"),
        ({"conv.weight": torch.zeros(3)}, None, ValueError, "with the names of torchaudio or transformers"),
        (state, None, ValueError, "config lacks .'encoder_num_heads'.. Pass config="),
        (
            state,
            {"heads": 4},
            ValueError,
            "config has 'heads', which is not an argument of torchaudio's wav2vec2_model",
        ),
        (less, {"encoder_num_heads": 4}, ValueError, "lack 'encoder.transformer.layers.1.final_layer_norm.bias'"),
        (state, {"encoder_num_heads": 4, "encoder_ff_interm_features": 7}, ValueError, "does not match config"),
    ]:
        with pytest.raises(kind, match=message):
            SSLNet(2, weights, config=config)
    assert "code of the file ran" not in capsys.readouterr().out
