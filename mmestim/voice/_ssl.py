"""Networks on wav2vec 2.0, HuBERT and WavLM, from weights that the user has; nothing is downloaded."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import remove_parametrizations

from .._torchaudio import torchaudio
from .._validation import check_flag, check_number
from ._lengths import mean, unit_level, within

Weights = str | os.PathLike | Mapping[str, torch.Tensor]

_STRIDES = {(10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2)}  # by kernel sizes: shapes of weights do not tell them
_HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16}  # by width, in the published models
_DEFAULTS = {
    "encoder_projection_dropout": 0.1, "encoder_attention_dropout": 0.1, "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1, "encoder_layer_drop": 0.0, "aux_num_out": None,
}  # fmt: skip
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class SSLNet(nn.Module):
    """A network pre-trained on speech alone, a learned mixture of its layers, and a mean over time.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    weights : path, dict of str to Tensor or None, default=None
        See :func:`load_wav2vec2`. `None` starts from random weights, with `config`.
    config : dict or None, default=None
        Arguments of torchaudio's ``wav2vec2_model`` or, with ``"encoder_num_buckets"``, ``wavlm_model``. What `weights`
        tell need not be given.
    fine_tune : bool, default=False
        Whether the pre-trained part trains. Otherwise it has no gradients and stays in evaluation mode.
    embedding_dim : int, default=256
        Length of the embedding.

    Attributes
    ----------
    config : dict
        All arguments of the builder: with them and a state dict the network can be made again.

    Notes
    -----
    It expects 16 kHz, as the published models do. Waveforms are brought to unit level for models with layer
    normalisation in their feature extractor, which were trained so, and left as they are for others. The mixture
    weighs what enters the first layer too: edits leave traces of sound rather than of language.

    References
    ----------
    .. [1] A. Baevski, H. Zhou, A. Mohamed and M. Auli, "wav2vec 2.0: A framework for self-supervised learning of speech
       representations", NeurIPS 2020.
    .. [2] S. Yang et al., "SUPERB: Speech processing universal performance benchmark", Interspeech 2021.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.networks import SSLNet
    >>> tiny = dict(
    ...     extractor_mode="layer_norm", extractor_conv_bias=False, encoder_embed_dim=32, encoder_num_layers=2,
    ...     extractor_conv_layer_config=[(16, 10, 5), (16, 8, 8), (16, 8, 8)], encoder_num_heads=4,
    ...     encoder_ff_interm_features=64, encoder_layer_norm_first=True, encoder_pos_conv_kernel=16,
    ...     encoder_pos_conv_groups=4,
    ... )
    >>> logits, embedding = SSLNet(21, config=tiny)(torch.randn(2, 16000))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 256]))
    """

    def __init__(
        self, n_outputs: int, weights: Weights | None = None, *, config: Mapping[str, Any] | None = None,
        fine_tune: bool = False, embedding_dim: int = 256,
    ) -> None:  # fmt: skip
        super().__init__()
        check_number("n_outputs", n_outputs, low=1, integer=True)
        check_number("embedding_dim", embedding_dim, low=1, integer=True)
        check_flag("fine_tune", fine_tune)
        if weights is None and config is None:
            raise ValueError(
                "weights=None and config=None: give a file, folder or state dict of a wav2vec 2.0, HuBERT or WavLM model "
                "that you have (nothing is downloaded), or a config to start from random weights."
            )
        self.fine_tune = fine_tune
        self.backbone, self.config = _build(config or {}) if weights is None else load_wav2vec2(weights, config)
        self.backbone.requires_grad_(fine_tune)
        transformer = self.backbone.encoder.transformer
        n_features = transformer.layer_norm.normalized_shape[0]
        self.layer_weights = nn.Parameter(torch.zeros(len(transformer.layers) + 1))
        self.project = nn.Linear(n_features, embedding_dim)
        self.head = nn.Linear(embedding_dim, n_outputs)
        self.train()

    def train(self, mode: bool = True) -> SSLNet:
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if not self.fine_tune:
            self.backbone.eval()
        return self

    def forward(
        self, waveform: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        with torch.set_grad_enabled(self.fine_tune and torch.is_grad_enabled()):
            layers, frames = _layers(self.backbone, self.config, waveform, lengths)
        shares = self.layer_weights.softmax(0)
        mixed = sum(
            share * nn.functional.layer_norm(x.float(), x.shape[-1:]) for share, x in zip(shares, layers, strict=True)
        )
        projected = self.project(mixed).float().relu()
        if frames is not None:
            projected = projected.masked_fill(~within(frames, projected.shape[1])[..., None], 0)
        embedding = mean(projected.mT, frames)
        return self.head(embedding).float(), embedding


def load_wav2vec2(weights: Weights, config: Mapping[str, Any] | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """A torchaudio ``Wav2Vec2Model`` from weights on disk or in memory.

    Parameters
    ----------
    weights : path or dict of str to Tensor
        State dict of a wav2vec 2.0, HuBERT or WavLM model in the names of torchaudio or of Hugging Face transformers; a
        ``.safetensors`` file or one of ``torch.save`` with such a state dict; or a folder with ``model.safetensors`` or
        ``pytorch_model.bin``. A ``config.json`` beside the file is read. Files of fairseq and of the WavLM repository
        must be converted first, by ``torchaudio.models.wav2vec2.utils`` or transformers. Heads of speech recognition
        and of pre-training are left out.
    config : dict or None, default=None
        Arguments of torchaudio's builders that override what weights and ``config.json`` tell. Weights do not tell
        ``encoder_num_heads`` unless the width is that of a published model, nor the strides in
        ``extractor_conv_layer_config`` unless the kernels are theirs.

    Returns
    -------
    model : torchaudio.models.Wav2Vec2Model
        In evaluation mode, with the weight normalisation of its positions folded in, so that it can be pickled.
    config : dict
        All arguments of the builder.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or none in the folder.
    ValueError
        If the file cannot be read without running code from it, or does not hold such a model.
    """
    state, told = (dict(weights), {}) if isinstance(weights, Mapping) else _read(Path(weights))
    state = _torchaudio_names(state)
    model, config = _build(_infer(state) | told | dict(config or {}))
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    odd = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if missing or odd:
        what = f"lack {missing[0]!r}" if missing else f"have another shape of {odd[0]!r} than config says"
        raise ValueError(f"the weights {what}: they are no wav2vec 2.0, HuBERT or WavLM model that torchaudio can "
                         "build, or config does not fit them.")  # fmt: skip
    model.load_state_dict({name: state[name] for name in expected})
    return model.eval(), config


def _build(config):
    config = _DEFAULTS | dict(config)
    builder = torchaudio.models.wavlm_model if "encoder_num_buckets" in config else torchaudio.models.wav2vec2_model
    try:
        model = builder(**config)
    except TypeError as error:
        raise ValueError(f"config does not fit torchaudio's {builder.__name__}: {error}.") from error
    positions = model.encoder.transformer.pos_conv_embed.conv
    remove_parametrizations(positions, "weight")
    return model, config


def _layers(model, config, waveform, lengths):
    """What enters the first layer and what leaves each, (n, n_frames, n_features), and the numbers of real frames.

    As ``Wav2Vec2Model.extract_features``, which for WavLM cannot take lengths and lets padding into group norms.
    """
    level = unit_level(waveform, lengths)
    x = (level if config["extractor_mode"] == "layer_norm" else waveform)[:, None]
    frames = lengths
    for layer in model.feature_extractor.conv_layers:
        x = layer.conv(x)
        frames = None if frames is None else ((frames - layer.kernel_size) // layer.stride + 1).clamp(min=1)
        if isinstance(layer.layer_norm, nn.GroupNorm) and frames is not None:
            x = _masked_group_norm(layer.layer_norm, x, frames)
        elif layer.layer_norm is not None:
            x = layer.layer_norm(x)
        x = nn.functional.gelu(x)
    x = model.encoder.feature_projection(x.mT)
    padded = None if frames is None else ~within(frames, x.shape[1])
    if padded is not None:
        x = x.masked_fill(padded[..., None], 0)
    transformer, is_wavlm = model.encoder.transformer, "encoder_num_buckets" in config
    x = transformer._preprocess(x)
    keys = mask = None
    if padded is not None:
        keys = torch.zeros(padded.shape, device=x.device).masked_fill(padded, -torch.inf)
        mask = keys[:, None, None].expand(-1, 1, padded.shape[1], -1)
    layers, bias = [x], None
    for layer in transformer.layers:
        x, bias = layer(x, position_bias=bias, **({"key_padding_mask": keys} if is_wavlm else {"attention_mask": mask}))
        layers.append(x)
    if not transformer.layer_norm_first:
        layers[-1] = transformer.layer_norm(x)
    return layers, frames


def _masked_group_norm(norm, x, frames):
    """A group norm of one channel a group, over the real frames."""
    real = within(frames, x.shape[-1])[:, None]
    x = x.float()
    center = mean(x * real, frames)[..., None]
    variance = mean((x - center).square() * real, frames)[..., None]
    return (x - center) * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]


# Reading weights --------------------------------------------------------------------------------------


def _read(path):
    """State dict in a file or folder, and what a config.json beside it says."""
    if path.is_dir():
        found = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"weights={str(path)!r} is a folder without {' or '.join(_WEIGHT_FILES)}.")
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(path)!r} does not exist. Nothing is downloaded: give a file that you have.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights={str(path)!r} holds more than tensors, and reading it could run code. Load it where you trust it "
            "and save model.state_dict(), in the names of torchaudio or transformers."
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"weights={str(path)!r} cannot be read: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"weights={str(path)!r} is no state dict: it must be a dict of tensors.")
    beside = path.with_name("config.json")
    return dict(state), _told(json.loads(beside.read_text())) if beside.is_file() else {}


def _told(hf):
    """What of a model's config.json its weights do not tell."""
    told = {}
    if {"conv_dim", "conv_kernel", "conv_stride"} <= hf.keys():
        shapes = zip(hf["conv_dim"], hf["conv_kernel"], hf["conv_stride"], strict=True)
        told["extractor_conv_layer_config"] = [tuple(shape) for shape in shapes]
    names = {
        "num_attention_heads": "encoder_num_heads", "do_stable_layer_norm": "encoder_layer_norm_first",
        "max_bucket_distance": "encoder_max_distance",
    }  # fmt: skip
    is_wavlm = hf.get("model_type") == "wavlm"
    return told | {
        ours: hf[theirs] for theirs, ours in names.items() if theirs in hf and (is_wavlm or "bucket" not in theirs)
    }


def _torchaudio_names(state):
    """The state dict in torchaudio's names, with its weight normalisation folded in, and without heads."""
    state = {re.sub(r"^(wav2vec2|hubert|wavlm|model)\.", "", name): value for name, value in state.items()}
    if any(name.startswith("feature_projection.") for name in state):  # transformers
        state = {
            re.sub(r"^(feature_projection\.)", r"encoder.\1", re.sub(r"^encoder\.", "encoder.transformer.", name)): value
            for name, value in state.items()
        }
        prefix = "encoder.transformer.layers."
        for name in [name for name in state if re.fullmatch(re.escape(prefix) + r"\d+\.attention\.q_proj\.\w+", name)]:
            layer, kind = name.split(".q_proj.")
            if f"{layer}.gru_rel_pos_const" not in state:
                continue  # WavLM alone has its projections in one
            parts = [state.pop(f"{layer}.{part}_proj.{kind}") for part in "qkv"]
            state[f"{layer}.attention.in_proj_{kind}"] = torch.cat(parts)
            state[f"{layer}.attention.out_proj.{kind}"] = state.pop(f"{layer}.out_proj.{kind}")
    positions = "encoder.transformer.pos_conv_embed.conv."
    for size, direction in (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")):
        if positions + direction in state:
            size, direction = state.pop(positions + size), state.pop(positions + direction)
            norm = torch.linalg.vector_norm(direction.float(), dim=(0, 1), keepdim=True)
            state[positions + "weight"] = (direction * (size / norm)).to(direction.dtype)
    return {name: value for name, value in state.items() if name.startswith(("feature_extractor.", "encoder."))}


def _infer(state):
    """Arguments of the builder as far as the shapes of weights tell them."""
    extractor = {
        int(match[1]): value.shape
        for name, value in state.items() if (match := re.fullmatch(r"feature_extractor\.conv_layers\.(\d+)\.conv\.weight", name))
    }  # fmt: skip
    layers = {int(match[1]) for name in state if (match := re.match(r"encoder\.transformer\.layers\.(\d+)\.", name))}
    first = "encoder.transformer.layers.0."
    try:
        positions = state["encoder.transformer.pos_conv_embed.conv.weight"].shape
        width, n_inner = positions[0], state[first + "feed_forward.intermediate_dense.weight"].shape[0]
        kernels = tuple(extractor[i][2] for i in range(len(extractor)))
    except KeyError as error:
        raise ValueError(
            f"the weights lack {error}: they are no wav2vec 2.0, HuBERT or WavLM model in the names of torchaudio or "
            "transformers. Convert them with torchaudio.models.wav2vec2.utils or transformers."
        ) from None
    is_layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    config = {
        "extractor_mode": "layer_norm" if is_layer_norm else "group_norm",
        "extractor_conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "encoder_embed_dim": width, "encoder_pos_conv_kernel": positions[2],
        "encoder_pos_conv_groups": width // positions[1], "encoder_num_layers": len(layers),
        "encoder_ff_interm_features": n_inner, "encoder_layer_norm_first": is_layer_norm,
    }  # fmt: skip
    if kernels in _STRIDES:
        config["extractor_conv_layer_config"] = [
            (extractor[i][0], kernel, stride)
            for i, (kernel, stride) in enumerate(zip(kernels, _STRIDES[kernels], strict=True))
        ]
    if first + "attention.gru_rel_pos_const" in state:
        n_buckets, n_heads = state[first + "attention.rel_attn_embed.weight"].shape
        config |= {"encoder_num_heads": n_heads, "encoder_num_buckets": n_buckets, "encoder_max_distance": 800}
    elif width in _HEADS:
        config["encoder_num_heads"] = _HEADS[width]
    return config
