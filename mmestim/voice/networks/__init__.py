"""Networks from waveforms to labels, their front ends and layers."""

from .complex_net import ComplexNet
from .lcnn import LCNN
from .rawnet2 import RawNet2
from .spectrogram_cnns import BoundaryNet, SmallCNN
from .ssl import SSLNet
from .ssl_checkpoints import load_wav2vec2

__all__ = ["LCNN", "BoundaryNet", "ComplexNet", "RawNet2", "SSLNet", "SmallCNN", "load_wav2vec2"]
