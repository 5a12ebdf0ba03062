"""Masked operations on batches of clips of different lengths.

The functions take ``lengths``, the number of real samples or frames of each clip, or None if no clip is padded. Samples
and frames past the end of a clip are zero and do not affect any result.
"""

from __future__ import annotations

import torch

#: Shortest waveform, 0.35 s at 16 kHz: a shorter one leaves the deeper networks without a frame.
MIN_SAMPLES = 5600


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Return a boolean mask of shape (n, size), true at the real positions."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def zero_padding(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Return `x`, whose last axis is time, with zeros past the end of each clip."""
    # On a GPU, this check would wait for the device and cost more than the masking it saves.
    if lengths is None or (lengths.device.type == "cpu" and bool((lengths >= x.shape[-1]).all())):
        return x
    return x.masked_fill(_padding_mask(lengths, x), 0)


def zero_padding_(x: torch.Tensor, lengths: torch.Tensor | None) -> None:
    """Set `x`, whose last axis is time, to zero past the end of each clip, in place."""
    if lengths is None:
        return
    if x.device.type == "cpu":  # a full mask takes as long as a layer, and few clips are padded
        for row, end in enumerate(lengths.tolist()):
            x[row, ..., end:] = 0
    else:
        x.masked_fill_(_padding_mask(lengths, x), 0)


def _padding_mask(lengths: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return a mask of the padding that broadcasts to the shape of `x`."""
    return ~length_mask(lengths, x.shape[-1]).view(len(x), *(1,) * (x.ndim - 2), -1)


def scale_to_unit_rms(waveform: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Scale each waveform to a root mean square of 1 over its real samples; digital silence stays zero.

    Parameters
    ----------
    waveform : float Tensor of shape (n_clips, n_samples)
        Waveforms, padded to one length of at least `MIN_SAMPLES`.
    lengths : int Tensor of shape (n_clips,) or None
        Number of real samples of each clip.

    Returns
    -------
    float32 Tensor of shape (n_clips, n_samples)
        The scaled waveforms, zero past the end of each clip.

    Raises
    ------
    ValueError
        If `waveform` has the wrong type or shape or is too short, or if `lengths` has the wrong shape.
    """
    if waveform.ndim != 2 or not waveform.is_floating_point() or waveform.shape[1] < MIN_SAMPLES:
        raise ValueError(
            f"waveform has shape {tuple(waveform.shape)} and dtype {waveform.dtype}, but must be a floating-point "
            f"tensor of shape (n_clips, n_samples) with at least {MIN_SAMPLES} samples. Pad shorter clips with zeros "
            "and pass lengths."
        )
    if lengths is not None and lengths.shape != waveform.shape[:1]:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)}, but must have one entry for each of {len(waveform)} clips."
        )
    waveform = zero_padding(waveform.float(), lengths)
    return waveform * masked_mean(waveform.square(), lengths).clamp(min=1e-10).rsqrt()[:, None]


def masked_mean(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over time, the last axis, of an `x` that is zero past the end of each clip."""
    if lengths is None:
        return x.mean(-1)
    return x.sum(-1) / lengths.clamp(min=1).view(-1, *(1,) * (x.ndim - 2))


def mean_max_std(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Pool (n, channels, n_frames) over time to (n, 3 * channels): means, maxima, standard deviations."""
    center = masked_mean(x, lengths)
    variance = masked_mean(zero_padding(x - center[..., None], lengths).square(), lengths)
    masked = x if lengths is None else x.masked_fill(~length_mask(lengths, x.shape[-1])[:, None], -torch.inf)
    return torch.cat([center, masked.amax(-1), (variance + 1e-5).sqrt()], 1)


def repeat_last_frame(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Return `x` of shape (n, n_bins, n_frames) with the last real frame repeated past the end of each clip."""
    if lengths is None:
        return x
    position = torch.arange(x.shape[-1], device=x.device).minimum(lengths.clamp(min=1)[:, None] - 1)
    return x.gather(-1, position[:, None].expand_as(x))
