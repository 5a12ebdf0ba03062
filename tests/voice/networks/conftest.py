"""Fixtures of the networks' tests."""

import pytest
import torch

from mmestim._utils.torchaudio import torchaudio

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
CONFIGS = {"base": TINY, "large": LARGE, "wavlm": WAVLM}


@pytest.fixture(scope="session")
def noise():
    """Function that draws white noise of shape (n_clips, n_samples) from a seed."""

    def draw(n_samples, n_clips=1, seed=0):
        return torch.randn(n_clips, n_samples, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture(scope="session")
def ssl_configs():
    """Builder's arguments of tiny pre-trained models, by kind of model."""
    return CONFIGS


@pytest.fixture(params=CONFIGS)
def ssl_model(request):
    """A tiny torchaudio model of each kind, and its builder's arguments."""
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    make = torchaudio.models.wavlm_model if request.param == "wavlm" else torchaudio.models.wav2vec2_model
    dropouts = dict.fromkeys(
        ["encoder_projection_dropout", "encoder_attention_dropout", "encoder_ff_interm_dropout", "encoder_dropout"], 0.1
    )
    return make(**config, **dropouts, encoder_layer_drop=0.1, aux_num_out=None).eval(), config


@pytest.fixture
def required_config():
    """Function that returns the builder's arguments that the tiny weights do not show."""
    return lambda config: {key: config[key] for key in ("encoder_num_heads", "encoder_max_distance") if key in config}
