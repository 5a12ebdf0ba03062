"""Clips of several lengths in one batch: what lies past the end of a clip is zero and counts for nothing.

Everything here takes ``lengths``, the number of real samples or frames of each clip, or None where all are real.
"""

from __future__ import annotations

import torch

# .35 s at 16 kHz: below it the deeper networks have no frame left.
MIN_SAMPLES = 5600


def within(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Boolean of shape (n, size): which positions are real."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def silence(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """`x`, whose last axis is time, with zeros past the end of each clip."""
    # Of full clips nothing changes, which takes long to tell of a GPU only.
    if lengths is None or (lengths.device.type == "cpu" and bool((lengths >= x.shape[-1]).all())):
        return x
    return x.masked_fill(_past(lengths, x), 0)


def silence_(x: torch.Tensor, lengths: torch.Tensor | None) -> None:
    """The same in place."""
    if lengths is None:
        return
    if x.device.type == "cpu":  # A mask of all clips takes as long as a layer, and few end early.
        for row, end in enumerate(lengths.tolist()):
            x[row, ..., end:] = 0
    else:
        x.masked_fill_(_past(lengths, x), 0)


def _past(lengths, x):
    return ~within(lengths, x.shape[-1]).view(len(x), *(1,) * (x.ndim - 2), -1)


def unit_level(waveform: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """The waveforms at a root mean square of 1 over their real samples; silence stays silence."""
    if waveform.ndim != 2 or not waveform.is_floating_point() or waveform.shape[1] < MIN_SAMPLES:
        raise ValueError(
            f"waveform has shape {tuple(waveform.shape)} and type {waveform.dtype}: it must be floating and of shape "
            f"(n_clips, n_samples) with at least {MIN_SAMPLES} samples. Pad shorter clips with zeros and give lengths."
        )
    if lengths is not None and lengths.shape != waveform.shape[:1]:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)}: it must have one entry for each of {len(waveform)} clips."
        )
    waveform = silence(waveform.float(), lengths)
    return waveform * mean(waveform.square(), lengths).clamp(min=1e-10).rsqrt()[:, None]


def mean(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Mean over time, the last axis, of what is zero past the end of each clip."""
    if lengths is None:
        return x.mean(-1)
    return x.sum(-1) / lengths.clamp(min=1).view(-1, *(1,) * (x.ndim - 2))


def mean_max_deviation(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Mean, maximum and standard deviation over time of (n, channels, n_frames), side by side."""
    center = mean(x, lengths)
    spread = mean(silence(x - center[..., None], lengths).square(), lengths)
    top = x if lengths is None else x.masked_fill(~within(lengths, x.shape[-1])[:, None], -torch.inf)
    return torch.cat([center, top.amax(-1), (spread + 1e-5).sqrt()], 1)


def hold(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """(n, n_bins, n_frames) with the last real frame repeated past the end of each clip."""
    if lengths is None:
        return x
    position = torch.arange(x.shape[-1], device=x.device).minimum(lengths.clamp(min=1)[:, None] - 1)
    return x.gather(-1, position[:, None].expand_as(x))
