"""Methods that keep one modality from dominating the others in joint training."""

from .._networks.fusion_heads import FusionHead
from ._base import Balancer
from ._joint_training import Outputs, Training
from .agm import AGM
from .amco import AMCo
from .gradient_blending import GradientBlending
from .gradient_conflict import GradientConflict
from .inforeg import InfoReg
from .lfm import LFM
from .mbsd import MBSD
from .mla import MLA
from .mmcosine import MMCosine
from .mmpareto import MMPareto
from .modality_dropout import ModalityDropout
from .ogm import OGM
from .opm import OPM
from .pmr import PMR
from .pre_training import PreTraining
from .qmf import QMF
from .reconboost import ReconBoost
from .relearning import Relearning
from .umt import UMT
from .valuation import Valuation

__all__ = [
    "AGM",
    "LFM",
    "MBSD",
    "MLA",
    "OGM",
    "OPM",
    "PMR",
    "QMF",
    "UMT",
    "AMCo",
    "Balancer",
    "FusionHead",
    "GradientBlending",
    "GradientConflict",
    "InfoReg",
    "MMCosine",
    "MMPareto",
    "ModalityDropout",
    "Outputs",
    "PreTraining",
    "ReconBoost",
    "Relearning",
    "Training",
    "Valuation",
]
