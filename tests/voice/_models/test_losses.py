"""Losses of the networks."""

import numpy as np
import torch
from numpy.testing import assert_allclose

from mmestim._data.batches import Batch
from mmestim.voice._models.losses import FrameLoss
from mmestim.voice._window_labels import LABEL_UNKNOWN


def test_frame_loss_by_hand():
    logits = torch.zeros(1, 2, 4)
    logits[..., 3] = -30.0  # past the end of the clip
    y = torch.tensor([[[1, 0, LABEL_UNKNOWN, 0], [0, 1, 1, 1]]])
    loss = FrameLoss(2.0, [1.0, 5.0]).loss(None, (logits,), Batch({}, {}, 1, y, None, None))
    # Every known frame costs log 2, twice if it is positive; the second map has a weight of 5.
    expected = np.log(2) * ((2 + 1) + 5 * (1 + 2 + 2)) / (2 + 5 * 3)
    assert_allclose(loss.item(), expected, rtol=1e-6)
