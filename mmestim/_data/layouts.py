"""Axes of images: channels in the last axis are moved to the first one."""

from __future__ import annotations

Shape = tuple[int, ...]

# Numbers of channels by which an image is recognised: grey, colours, and colours with transparency.
_CHANNELS = (1, 3, 4)


def channels_first(shape: Shape) -> Shape:
    """Return the shape of one sample with channels first: that of an image (H, W, C) is (C, H, W), others stay."""
    return moved(shape) if _is_channels_last(shape) and not _is_ambiguous(shape) else shape


def resolve_layout(name: str, shape: Shape) -> Shape:
    """Return the shape of a block's samples with channels first, or raise ValueError if either end may be channels."""
    if _is_ambiguous(shape):
        raise ValueError(
            f"modality {name!r} has samples of shape {shape}, whose channels may be the first or the last axis. Pass "
            f"shapes={{{name!r}: {shape}}} if they come first, or shapes={{{name!r}: {moved(shape)}}} to move the last "
            "axis to the front."
        )
    return channels_first(shape)


def moved(shape: Shape) -> Shape:
    """Return the shape (height, width, channels) as (channels, height, width)."""
    return (shape[2], shape[0], shape[1])


def fits_when_moved(shape: Shape, expected: Shape) -> bool:
    """Return whether samples of this shape are images with channels last that have the expected shape once moved."""
    return len(shape) == 3 and shape[2] in _CHANNELS and moved(shape) == expected


def _is_channels_last(shape: Shape) -> bool:
    return len(shape) == 3 and shape[2] in _CHANNELS and min(shape[:2]) > shape[2]


def _is_ambiguous(shape: Shape) -> bool:
    """Return whether both the first and the last axis may be the channels of a strip that is longer than these."""
    return len(shape) == 3 and shape[0] in _CHANNELS and shape[2] in _CHANNELS and shape[1] > max(shape[0], shape[2])
