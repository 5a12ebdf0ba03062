"""Methods that keep one modality from silencing the others, for `JointClassifier(balancer=...)`."""

from .multimodal.balancers import *  # noqa: F403
from .multimodal.balancers import __all__ as __all__
