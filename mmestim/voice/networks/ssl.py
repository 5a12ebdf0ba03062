"""Network on a pre-trained wav2vec 2.0, HuBERT or WavLM model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..._utils.validation import check_flag, check_number
from .layers import Output
from .masking import length_mask, masked_mean, scale_to_unit_rms
from .ssl_checkpoints import Weights, build_wav2vec2, load_wav2vec2


class SSLNet(nn.Module):
    """Network on a self-supervised speech model: a learned mixture of its layers, a projection and a mean over time.

    >>> from mmestim.voice.networks import SSLNet
    >>> network = SSLNet(21, weights="wavlm_base_plus.pt")  # doctest: +SKIP

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    weights : path, dict of str to Tensor or None, default=None
        Pre-trained weights, as :func:`load_wav2vec2` takes them. `None` starts from random weights and needs `config`.
    config : dict or None, default=None
        Arguments of torchaudio's ``wav2vec2_model`` or, with ``"encoder_num_buckets"``, ``wavlm_model``. Arguments that
        can be derived from `weights` may be left out.
    fine_tune : bool, default=False
        Whether the pre-trained model is trained too. If not, it gets no gradients and stays in evaluation mode.
    embedding_dim : int, default=256
        Length of the embedding.

    Attributes
    ----------
    config : dict
        All arguments of torchaudio's builder. With these and a state dict, the network can be rebuilt.

    Notes
    -----
    The forward pass takes `waveform` of shape (n_clips, n_samples) at 16 kHz, the rate of the published models [1]_,
    and `lengths` of shape (n_clips,) or None. It returns logits of shape (n_clips, n_outputs) and embeddings of shape
    (n_clips, embedding_dim).

    Waveforms are scaled to unit root mean square for models with layer normalisation in their feature extractor, as
    in their pre-training; for other models they are left unchanged. The mixture [2]_ includes the input of the first
    transformer layer, because edits leave acoustic rather than linguistic traces.

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
                "weights and config are both None. Pass a file, folder or state dict of a wav2vec 2.0, HuBERT or WavLM "
                "model (nothing is downloaded), or pass config to start from random weights."
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

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        """Return logits (n_clips, n_outputs) and embeddings (n_clips, embedding_dim)."""
        with torch.set_grad_enabled(self.fine_tune and torch.is_grad_enabled()):
            layers, frames = _extract_layers(self.backbone, self.config, waveform, lengths)
        mixture_weights = self.layer_weights.softmax(0)
        mixed = sum(
            weight * nn.functional.layer_norm(x.float(), x.shape[-1:])
            for weight, x in zip(mixture_weights, layers, strict=True)
        )
        projected = self.project(mixed).float().relu()
        if frames is not None:
            projected = projected.masked_fill(~length_mask(frames, projected.shape[1])[..., None], 0)
        embedding = masked_mean(projected.mT, frames)
        return self.head(embedding).float(), embedding


def _extract_layers(
    model: Any, config: Mapping[str, Any], waveform: torch.Tensor, lengths: torch.Tensor | None
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Return the input of the first transformer layer, the outputs of all layers, and the numbers of real frames.

    Each has shape (n, n_frames, n_features). ``Wav2Vec2Model.extract_features`` cannot replace this function: with
    WavLM it takes no lengths, and padding would enter its group norms.
    """
    scaled = scale_to_unit_rms(waveform, lengths)
    x = (scaled if config["extractor_mode"] == "layer_norm" else waveform)[:, None]
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
    is_padding = None if frames is None else ~length_mask(frames, x.shape[1])
    if is_padding is not None:
        x = x.masked_fill(is_padding[..., None], 0)
    transformer, is_wavlm = model.encoder.transformer, "encoder_num_buckets" in config
    x = transformer._preprocess(x)
    key_padding_mask = attention_mask = None
    if is_padding is not None:
        key_padding_mask = torch.zeros(is_padding.shape, device=x.device).masked_fill(is_padding, -torch.inf)
        attention_mask = key_padding_mask[:, None, None].expand(-1, 1, is_padding.shape[1], -1)
    mask = {"key_padding_mask": key_padding_mask} if is_wavlm else {"attention_mask": attention_mask}
    layers, position_bias = [x], None
    for layer in transformer.layers:
        x, position_bias = layer(x, position_bias=position_bias, **mask)
        layers.append(x)
    if not transformer.layer_norm_first:
        layers[-1] = transformer.layer_norm(x)
    return layers, frames


def _masked_group_norm(norm: nn.GroupNorm, x: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Apply a group norm with one channel per group, with statistics of the real frames only."""
    is_real = length_mask(frames, x.shape[-1])[:, None]
    x = x.float()
    center = masked_mean(x * is_real, frames)[..., None]
    variance = masked_mean((x - center).square() * is_real, frames)[..., None]
    return (x - center) * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]
