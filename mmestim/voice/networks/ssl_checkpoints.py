"""Loading of pre-trained wav2vec 2.0, HuBERT and WavLM models from local weights; nothing is downloaded."""

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

import_huggingface = torchaudio.models.wav2vec2.utils.import_huggingface  # works without transformers

Weights = str | os.PathLike[str] | Mapping[str, torch.Tensor]

# Strides and numbers of attention heads do not show in the shapes of weights; these are from the published models.
_STRIDES_BY_KERNEL_SIZES: dict[tuple[int, ...], tuple[int, ...]] = {(10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2)}
_N_HEADS_BY_WIDTH = {768: 12, 1024: 16, 1280: 16, 1920: 16}
_DEFAULTS = {
    "encoder_projection_dropout": 0.1,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}
# Names of the norm and the direction of a weight-normalised convolution, in old and new versions of torch.
_WEIGHT_NORM = [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")]
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def load_wav2vec2(weights: Weights, config: Mapping[str, Any] | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Build a torchaudio ``Wav2Vec2Model`` from weights on disk or in memory.

    Parameters
    ----------
    weights : path or dict of str to Tensor
        State dict of a wav2vec 2.0, HuBERT or WavLM model, with the parameter names of torchaudio or of Hugging Face
        transformers; or a file with such a state dict, written by safetensors (suffix ``.safetensors``) or by
        ``torch.save``; or a folder with ``model.safetensors`` or ``pytorch_model.bin``. A ``config.json`` beside the
        file is read. Checkpoints of fairseq and of the WavLM repository must first be converted with
        ``torchaudio.models.wav2vec2.utils`` or transformers. Heads for speech recognition and pre-training are dropped.
    config : dict or None, default=None
        Arguments of torchaudio's builders, which override those derived from the weights and ``config.json``. Without
        ``config.json``, ``encoder_num_heads`` is derived only for the widths of published models, and the strides in
        ``extractor_conv_layer_config`` only for their kernel sizes.

    Returns
    -------
    model : torchaudio.models.Wav2Vec2Model
        The model in evaluation mode. The weight normalisation of its positional convolution is folded into the
        weights, so that the model can be pickled.
    config : dict
        All arguments of torchaudio's builder.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or the folder contains no file of weights.
    ValueError
        If the file cannot be read without running code from it, or does not contain such a model.
    """
    state, file_config = (dict(weights), {}) if isinstance(weights, Mapping) else _read_checkpoint(Path(weights))
    state = _to_torchaudio_names(state)
    model, config = build_wav2vec2(_infer_config(state) | file_config | dict(config or {}))
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    mismatched = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if missing or mismatched:
        if missing:
            problem = f"the weights lack {missing[0]!r}"
        else:
            problem = f"the shape of {mismatched[0]!r} in the weights does not match config"
        raise ValueError(
            f"{problem}. Either the weights are not of a wav2vec 2.0, HuBERT or WavLM model that torchaudio can build, "
            "or config does not fit them."
        )
    model.load_state_dict({name: state[name] for name in expected})
    return model.eval(), config


def build_wav2vec2(config: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Build a model with random weights; return it with all arguments of its builder.

    Parameters
    ----------
    config : dict
        Arguments of torchaudio's builder. Dropout rates, the layer drop and the auxiliary head have defaults.

    Returns
    -------
    model : torchaudio.models.Wav2Vec2Model
        The model, without weight normalisation.
    config : dict
        All arguments of torchaudio's builder.

    Raises
    ------
    ValueError
        If `config` lacks an argument or has an unknown one.
    """
    config = _DEFAULTS | dict(config)
    builder = torchaudio.models.wavlm_model if "encoder_num_buckets" in config else torchaudio.models.wav2vec2_model
    names = inspect.signature(builder).parameters.keys()
    if unknown := config.keys() - names:
        raise ValueError(
            f"config has {sorted(unknown)[0]!r}, which is not an argument of torchaudio's {builder.__name__}."
        )
    if missing := [name for name in names if name not in config]:
        raise ValueError(
            f"config lacks {missing}. Pass config={{{missing[0]!r}: ...}}; see torchaudio's {builder.__name__}."
        )
    model = builder(**config)
    positions = model.encoder.transformer.pos_conv_embed
    positions.conv = _without_weight_norm(positions.conv)
    return model, config


def _without_weight_norm(conv: Any) -> nn.Conv1d:
    """Return a copy of a convolution without its weight normalisation, which cannot be pickled."""
    plain = nn.Conv1d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, groups=conv.groups)
    plain.load_state_dict({"weight": conv.weight, "bias": conv.bias})
    return plain


def weights_file(path: Path) -> Path:
    """Return the file of weights at a path, which is the file or its folder; raise FileNotFoundError without one."""
    if path.is_dir():
        candidates = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not candidates:
            raise FileNotFoundError(f"weights={str(path)!r} is a folder without {' or '.join(_WEIGHT_FILES)}.")
        path = candidates[0]
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(path)!r} does not exist. Nothing is downloaded: pass a local file.")
    return path


def _read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the state dict in a file or folder, and the builder's arguments in the config.json beside it."""
    path = weights_file(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        config_path = path.with_name("config.json")
        config = _builder_arguments(json.loads(config_path.read_text())) if config_path.is_file() else {}
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights={str(path)!r} is damaged or contains more than tensors, so reading it could run code. Load it "
            "where you trust it and save model.state_dict(), with the names of torchaudio or transformers."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, json.JSONDecodeError) as error:
        raise ValueError(f"weights={str(path)!r} or the config.json beside it cannot be read: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"weights={str(path)!r} is not a state dict: it must be a dict of tensors.")
    return dict(state), config


def _builder_arguments(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Translate those entries of a transformers config.json that do not show in the shapes of the weights."""
    names = {"num_attention_heads": "encoder_num_heads", "do_stable_layer_norm": "encoder_layer_norm_first"}
    if hf.get("model_type") == "wavlm":
        names["max_bucket_distance"] = "encoder_max_distance"
    arguments = {argument: hf[entry] for entry, argument in names.items() if entry in hf}
    if {"conv_dim", "conv_kernel", "conv_stride"} <= hf.keys():
        arguments["extractor_conv_layer_config"] = list(
            zip(hf["conv_dim"], hf["conv_kernel"], hf["conv_stride"], strict=True)
        )
    return arguments


def _to_torchaudio_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a state dict to torchaudio's names, drop its heads, and fold in the positional weight normalisation."""
    state = {re.sub(r"^(wav2vec2|hubert|wavlm|model)\.", "", name): value for name, value in state.items()}
    if any(name.startswith("feature_projection.") for name in state):
        state = _from_transformers(state)
    positions = "encoder.transformer.pos_conv_embed.conv."
    for norm_name, direction_name in _WEIGHT_NORM:
        if positions + norm_name in state and positions + direction_name in state:
            norm, direction = (state.pop(positions + name).float() for name in (norm_name, direction_name))
            direction_norm = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
            state[positions + "weight"] = direction * (norm / direction_norm)
    return {name: value for name, value in state.items() if name.startswith(("feature_extractor.", "encoder."))}


def _from_transformers(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a state dict from the names of transformers to those of torchaudio."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^encoder\.", "encoder.transformer.", name)
        renamed[re.sub(r"^feature_projection\.", "encoder.feature_projection.", name)] = value
    prefix = "encoder.transformer."
    layers = {name.removeprefix(prefix): renamed.pop(name) for name in list(renamed) if name.startswith(prefix)}
    # In WavLM models, torchaudio stores the projections as one matrix.
    if any(name.endswith("gru_rel_pos_const") for name in layers):
        n_layers = sum(name.endswith("q_proj.weight") for name in layers)
        import_huggingface.transform_wavlm_encoder_state(layers, n_layers)
    return renamed | {prefix + name: value for name, value in layers.items()}


def _infer_config(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Derive the builder's arguments from the names and shapes of the weights."""
    first = "encoder.transformer.layers.0."
    n_layers = len({name.split(".")[3] for name in state if name.startswith("encoder.transformer.layers.")})
    n_convolutions = len({name.split(".")[2] for name in state if name.startswith("feature_extractor.conv_layers.")})
    try:
        positions = state["encoder.transformer.pos_conv_embed.conv.weight"].shape
        n_inner = state[first + "feed_forward.intermediate_dense.weight"].shape[0]
        convolutions = [state[f"feature_extractor.conv_layers.{i}.conv.weight"].shape for i in range(n_convolutions)]
    except KeyError as error:
        raise ValueError(
            f"the weights lack {error}: they are not of a wav2vec 2.0, HuBERT or WavLM model with the names of "
            "torchaudio or transformers. Convert them with torchaudio.models.wav2vec2.utils or transformers."
        ) from None
    width = positions[0]
    is_layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    config: dict[str, Any] = {
        "extractor_mode": "layer_norm" if is_layer_norm else "group_norm",
        "extractor_conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "encoder_embed_dim": width,
        "encoder_pos_conv_kernel": positions[2],
        "encoder_pos_conv_groups": width // positions[1],
        "encoder_num_layers": n_layers,
        "encoder_ff_interm_features": n_inner,
        "encoder_layer_norm_first": is_layer_norm,
    }
    if strides := _STRIDES_BY_KERNEL_SIZES.get(tuple(shape[2] for shape in convolutions)):
        config["extractor_conv_layer_config"] = [
            (n_out, kernel, stride) for (n_out, _, kernel), stride in zip(convolutions, strides, strict=True)
        ]
    if first + "attention.gru_rel_pos_const" in state:
        n_buckets, n_heads = state[first + "attention.rel_attn_embed.weight"].shape
        config |= {"encoder_num_heads": n_heads, "encoder_num_buckets": n_buckets, "encoder_max_distance": 800}
    elif width in _N_HEADS_BY_WIDTH:
        config["encoder_num_heads"] = _N_HEADS_BY_WIDTH[width]
    return config
