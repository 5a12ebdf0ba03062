"""Networks from waveforms to labels, their front ends and layers."""

from .architectures import LCNN, BoundaryNet, ComplexNet, RawNet2, SmallCNN
from .ssl import SSLNet
from .ssl_checkpoints import load_wav2vec2

__all__ = ["LCNN", "BoundaryNet", "ComplexNet", "RawNet2", "SSLNet", "SmallCNN", "load_wav2vec2"]
