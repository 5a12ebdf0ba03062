"""The network on wav2vec 2.0, HuBERT and WavLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..._utils.validation import check_flag, check_number
from .masking import mean, unit_level, within
from .ssl_checkpoints import Weights, build_wav2vec2, load_wav2vec2


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

    backbone: Any

    def __init__(
        self,
        n_outputs: int,
        weights: Weights | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        fine_tune: bool = False,
        embedding_dim: int = 256,
    ) -> None:
        super().__init__()
        check_number("n_outputs", n_outputs, low=1, integer=True)
        check_number("embedding_dim", embedding_dim, low=1, integer=True)
        check_flag("fine_tune", fine_tune)
        if weights is None and config is None:
            raise ValueError(
                "weights=None and config=None: give a file, folder or state dict of a wav2vec 2.0, HuBERT or WavLM "
                "model that you have (nothing is downloaded), or a config to start from random weights."
            )
        self.fine_tune = fine_tune
        self.backbone, self.config = build_wav2vec2(config or {}) if weights is None else load_wav2vec2(weights, config)
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

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
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
