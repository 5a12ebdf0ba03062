"""Networks that map waveforms to logits of edits, their front ends and their layers.

``network(waveform, lengths=None)`` takes clips of any length from 0.35 s at 16 kHz. ``waveform`` has shape
(n_clips, n_samples) and may be padded with arbitrary values. ``lengths``, an integer tensor of shape (n_clips,), is the
number of real samples of each clip; None means that all samples are real.

The output is a tuple of logits of shape (n_clips, n_outputs) and embeddings of shape (n_clips, embedding_dim), both
float32 even under autocast. Gain does not change them, with the exception of ``SSLNet``. In evaluation mode, the output
for a clip does not depend, up to rounding, on padding or on the other clips of the batch. In training mode, batch
normalisation counts the zeros of the padding.
"""

from .boundary_net import BoundaryNet, SharedFrontEnd
from .complex_net import ComplexNet
from .lcnn import LCNN
from .rawnet2 import RawNet2
from .ssl import SSLNet
from .ssl_checkpoints import load_wav2vec2

__all__ = ["LCNN", "BoundaryNet", "ComplexNet", "RawNet2", "SSLNet", "SharedFrontEnd", "load_wav2vec2"]
