"""Models of speech that others trained, from the weights that the user has; nothing is downloaded."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..._utils.torchaudio import torchaudio

import_huggingface = torchaudio.models.wav2vec2.utils.import_huggingface  # needs no transformers

Weights = str | os.PathLike | Mapping[str, torch.Tensor]

_STRIDES = {(10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2)}  # by kernel sizes: shapes of weights do not tell them
_HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16}  # by width, in the published models
_DEFAULTS = {
    "encoder_projection_dropout": 0.1,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}
_WEIGHT_NORM = [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")]
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


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
    model, config = build_wav2vec2(_infer(state) | told | dict(config or {}))
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    odd = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if missing or odd:
        what = f"lack {missing[0]!r}" if missing else f"have another shape of {odd[0]!r} than config says"
        raise ValueError(
            f"the weights {what}: they are no wav2vec 2.0, HuBERT or WavLM model that torchaudio can "
            "build, or config does not fit them."
        )
    model.load_state_dict({name: state[name] for name in expected})
    return model.eval(), config


def build_wav2vec2(config: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A model of random weights and all arguments of its builder, from those that have no default here."""
    config = _DEFAULTS | dict(config)
    builder = torchaudio.models.wavlm_model if "encoder_num_buckets" in config else torchaudio.models.wav2vec2_model
    names = inspect.signature(builder).parameters.keys()
    if unknown := config.keys() - names:
        raise ValueError(f"config has {sorted(unknown)[0]!r}, which torchaudio's {builder.__name__} does not know.")
    if lacking := [name for name in names if name not in config]:
        raise ValueError(
            f"config lacks {lacking}: give config={{{lacking[0]!r}: ...}}, see torchaudio's {builder.__name__}."
        )
    model = builder(**config)
    positions = model.encoder.transformer.pos_conv_embed
    positions.conv = _plain(positions.conv)
    return model, config


def _plain(conv):
    """A convolution without its weight normalisation, which could not be pickled."""
    plain = nn.Conv1d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, groups=conv.groups)
    with torch.no_grad():
        plain.weight.copy_(conv.weight)
        plain.bias.copy_(conv.bias)
    return plain


def weights_file(path: Path) -> Path:
    """The file of weights that a path stands for, itself or in a folder; raises if there is none."""
    if path.is_dir():
        found = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"weights={str(path)!r} is a folder without {' or '.join(_WEIGHT_FILES)}.")
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"weights={str(path)!r} does not exist. Nothing is downloaded: give a file that you have."
        )
    return path


def _read(path):
    """State dict in a file or folder, and what a config.json beside it says."""
    path = weights_file(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        beside = path.with_name("config.json")
        told = _told(json.loads(beside.read_text())) if beside.is_file() else {}
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights={str(path)!r} is damaged or holds more than tensors, and reading it could run code. Load it "
            "where you trust it and save model.state_dict(), in the names of torchaudio or transformers."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, json.JSONDecodeError) as error:
        raise ValueError(f"weights={str(path)!r} or the config.json beside it cannot be read: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"weights={str(path)!r} is no state dict: it must be a dict of tensors.")
    return dict(state), told


def _told(hf):
    """What of a model's config.json its weights do not tell."""
    names = {"num_attention_heads": "encoder_num_heads", "do_stable_layer_norm": "encoder_layer_norm_first"}
    if hf.get("model_type") == "wavlm":
        names["max_bucket_distance"] = "encoder_max_distance"
    told = {ours: hf[theirs] for theirs, ours in names.items() if theirs in hf}
    if {"conv_dim", "conv_kernel", "conv_stride"} <= hf.keys():
        told["extractor_conv_layer_config"] = list(
            zip(hf["conv_dim"], hf["conv_kernel"], hf["conv_stride"], strict=True)
        )
    return told


def _torchaudio_names(state):
    """The state dict in torchaudio's names, without heads, with the weight normalisation of positions folded in."""
    state = {re.sub(r"^(wav2vec2|hubert|wavlm|model)\.", "", name): value for name, value in state.items()}
    if any(name.startswith("feature_projection.") for name in state):
        state = _from_transformers(state)
    positions = "encoder.transformer.pos_conv_embed.conv."
    for old_size, old_direction in _WEIGHT_NORM:
        if positions + old_size in state and positions + old_direction in state:
            size, direction = (state.pop(positions + name).float() for name in (old_size, old_direction))
            norm = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
            state[positions + "weight"] = direction * (size / norm)
    return {name: value for name, value in state.items() if name.startswith(("feature_extractor.", "encoder."))}


def _from_transformers(state):
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^encoder\.", "encoder.transformer.", name)
        renamed[re.sub(r"^feature_projection\.", "encoder.feature_projection.", name)] = value
    prefix = "encoder.transformer."
    layers = {name.removeprefix(prefix): renamed.pop(name) for name in list(renamed) if name.startswith(prefix)}
    if any(name.endswith("gru_rel_pos_const") for name in layers):  # WavLM: torchaudio has its projections in one
        n_layers = sum(name.endswith("q_proj.weight") for name in layers)
        import_huggingface.transform_wavlm_encoder_state(layers, n_layers)
    return renamed | {prefix + name: value for name, value in layers.items()}


def _infer(state):
    """Arguments of the builder as far as the shapes of weights tell them."""
    first = "encoder.transformer.layers.0."
    n_layers = len({name.split(".")[3] for name in state if name.startswith("encoder.transformer.layers.")})
    n_convolutions = len({name.split(".")[2] for name in state if name.startswith("feature_extractor.conv_layers.")})
    try:
        positions = state["encoder.transformer.pos_conv_embed.conv.weight"].shape
        n_inner = state[first + "feed_forward.intermediate_dense.weight"].shape[0]
        convolutions = [state[f"feature_extractor.conv_layers.{i}.conv.weight"].shape for i in range(n_convolutions)]
    except KeyError as error:
        raise ValueError(
            f"the weights lack {error}: they are no wav2vec 2.0, HuBERT or WavLM model in the names of torchaudio or "
            "transformers. Convert them with torchaudio.models.wav2vec2.utils or transformers."
        ) from None
    width = positions[0]
    is_layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    config = {
        "extractor_mode": "layer_norm" if is_layer_norm else "group_norm",
        "extractor_conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "encoder_embed_dim": width,
        "encoder_pos_conv_kernel": positions[2],
        "encoder_pos_conv_groups": width // positions[1],
        "encoder_num_layers": n_layers,
        "encoder_ff_interm_features": n_inner,
        "encoder_layer_norm_first": is_layer_norm,
    }
    if strides := _STRIDES.get(tuple(shape[2] for shape in convolutions)):
        config["extractor_conv_layer_config"] = [
            (n_out, kernel, stride) for (n_out, _, kernel), stride in zip(convolutions, strides, strict=True)
        ]
    if first + "attention.gru_rel_pos_const" in state:
        n_buckets, n_heads = state[first + "attention.rel_attn_embed.weight"].shape
        config |= {"encoder_num_heads": n_heads, "encoder_num_buckets": n_buckets, "encoder_max_distance": 800}
    elif width in _HEADS:
        config["encoder_num_heads"] = _HEADS[width]
    return config
