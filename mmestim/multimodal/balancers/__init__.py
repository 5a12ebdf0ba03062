"""Methods that keep one modality from silencing the others in joint training."""

from .base import Balancer, Outputs, Training

__all__ = ["Balancer", "Outputs", "Training"]
