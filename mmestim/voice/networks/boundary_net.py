"""Convolutional network with an output per frame, and several of them behind one front end."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..._utils.validation import check_number
from .._constants import PAST_END_LOGIT
from .front_ends import FrontEnd, PhaseDifferences
from .layers import Block, Output, conv_stack, run_blocks
from .masking import length_mask

#: Number of channels of the embeddings of `BoundaryNet`.
EMBEDDING_DIM = 64
#: Frames on either side that `BoundaryNet.local` depends on.
CONTEXT_FRAMES = 18


class BoundaryNet(nn.Module):
    """Convolutional network that detects events, such as splice points, in each frame of 10 ms.

    >>> import torch
    >>> from mmestim.voice.networks import BoundaryNet
    >>> logits, _ = BoundaryNet()(torch.randn(2, 16000))
    >>> logits.shape
    torch.Size([2, 4, 101])

    Its input is the log power spectrum and the second differences of the phase. The other networks have one output
    per clip; this one has one per frame, which depends on 1.3 s before and after it.

    Parameters
    ----------
    n_maps : int, default=4
        Number of event types, for instance cut, edge of a paste, edge of a mix and inside of a mix.
    front_end : FrontEnd or None, default=None
        Front end from :mod:`mmestim.voice.networks.front_ends`. The network outputs one frame for every two frames
        of the front end. `None` is ``PhaseDifferences()``, which is meant for 16 kHz.

    Attributes
    ----------
    hop_length : int
        Number of samples between output frames; frame ``t`` is centred at sample ``t * hop_length``.

    Notes
    -----
    The forward pass returns logits of shape (n_clips, n_maps, n_frames), -30 past the end of a clip, and embeddings of
    shape (n_clips, 64, n_frames), 0 past the end of a clip.
    """

    def __init__(self, n_maps: int = 4, *, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        check_number("n_maps", n_maps, low=1, integer=True)
        self.front_end = PhaseDifferences() if front_end is None else front_end
        self.hop_length = 2 * self.front_end.hop_length
        self.blocks, n_features = conv_stack(
            self.front_end, widths=(8, 16, 24, 32), strides=((2, 1), (2, 1), (2, 2), (2, 1))
        )
        self.context = nn.ModuleList()
        for n_in, kernel, dilation in ((n_features, 3, 1), (EMBEDDING_DIM, 5, 2), (EMBEDDING_DIM, 5, 4)):
            conv = nn.Conv1d(n_in, EMBEDDING_DIM, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)
            self.context.append(Block(conv, nn.BatchNorm1d(EMBEDDING_DIM), nn.ReLU()))
        # An event is judged by what is around it, too: these layers reach 1.1 s in either direction.
        self.surroundings = nn.ModuleList()
        for dilation in (8, 16, 32):
            conv = nn.Conv1d(EMBEDDING_DIM, EMBEDDING_DIM, 5, padding=2 * dilation, dilation=dilation, bias=False)
            self.surroundings.append(Block(conv, nn.BatchNorm1d(EMBEDDING_DIM), nn.ReLU()))
        self.head = nn.Conv1d(EMBEDDING_DIM, n_maps, 1)

    def frames(self, lengths: torch.Tensor | None) -> torch.Tensor | None:
        """Return the number of output frames of clips with these numbers of samples."""
        return None if lengths is None else 1 + lengths // self.hop_length

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        """Return logits (n_clips, n_maps, n_frames) and embeddings (n_clips, 64, n_frames)."""
        return self.outputs(*self.local(self.front_end(waveform, lengths), self.front_end.frames(lengths)))

    def local(self, features: torch.Tensor, frames: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what `outputs` needs: features (n_clips, 64, n_frames) of 0.36 s around each frame.

        Parameters
        ----------
        features : Tensor of shape (n_clips, n_channels, n_bins, n_front_end_frames)
            Features of the front end.
        frames : int Tensor of shape (n_clips,) or None
            Number of their real frames.

        Returns
        -------
        local : Tensor of shape (n_clips, 64, n_frames)
            The features.
        frames : int Tensor of shape (n_clips,) or None
            Number of real frames of the features.
        """
        x, frames = run_blocks(self.blocks, features, frames)
        return run_blocks(self.context, x.flatten(1, 2), frames)

    def outputs(self, local: torch.Tensor, frames: torch.Tensor | None) -> Output:
        """Return logits and embeddings from the results of `local`."""
        x = local
        for block in self.surroundings:
            x = x + block(x, frames)[0]
        logits = self.head(x).float()
        if frames is not None:
            logits = logits.masked_fill(~length_mask(frames, logits.shape[-1])[:, None], PAST_END_LOGIT)
        return logits, x.float()


class SharedFrontEnd(nn.Module):
    """Networks of frames with equal front ends, of which one runs for all.

    >>> import torch
    >>> from mmestim.voice.networks import BoundaryNet, SharedFrontEnd
    >>> logits, _ = SharedFrontEnd(BoundaryNet(4), BoundaryNet(2))(torch.randn(2, 16000))
    >>> logits.shape
    torch.Size([2, 6, 101])

    Parameters
    ----------
    *networks : BoundaryNet
        The networks.

    Notes
    -----
    The forward pass takes the arguments of the networks. It returns their outputs concatenated along the channels.
    """

    def __init__(self, *networks: BoundaryNet) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        """Return the concatenated logits and embeddings."""
        return self.outputs(*self.local(waveform, lengths))

    def local(
        self, waveform: torch.Tensor, lengths: torch.Tensor | None, *, is_scaled: bool = False
    ) -> tuple[torch.Tensor, Any]:
        """Return the concatenated `BoundaryNet.local`. The front end does not scale waveforms that `is_scaled`."""
        networks: list[Any] = list(self.networks)
        front_end = networks[0].front_end
        features = front_end(waveform, lengths, is_scaled=is_scaled)
        parts = [network.local(features, front_end.frames(lengths)) for network in networks]
        return torch.cat([x for x, _ in parts], 1), parts[0][1]

    def outputs(self, local: torch.Tensor, frames: torch.Tensor | None) -> Output:
        """Return the concatenated `BoundaryNet.outputs`."""
        networks: list[Any] = list(self.networks)
        parts = zip(networks, local.chunk(len(networks), 1), strict=True)
        logits, embeddings = zip(*(network.outputs(x, frames) for network, x in parts), strict=True)
        return torch.cat(logits, 1), torch.cat(embeddings, 1)
