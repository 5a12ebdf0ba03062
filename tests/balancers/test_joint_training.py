"""Training and Outputs: unimodal logits, scores, and the heads that are trained for them."""

import numpy as np
import pytest
import torch

from mmestim import JointClassifier
from mmestim.balancers import Balancer

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"audio": slice(0, 6), "image": slice(6, 12)}
FAST = {"cv": None, "optimizer": "sgd", "max_epochs": 4, "random_state": 0, "device": "cpu"}
ONE_BATCH = FAST | {"max_epochs": 1, "early_stopping": False, "batch_size": 96}


class OutputsRecorder(Balancer):
    """Balancer that records the outputs of the last batch."""

    unimodal = "split"

    def loss(self, training, outputs):
        self.outputs_ = outputs
        # Computed here, before the step changes the weights.
        assert outputs.unimodal.keys() == outputs.features.keys()
        assert outputs.scores.shape == (len(training.names), outputs.batch.size)
        return super().loss(training, outputs)

    def end(self):
        """Leave the tensors as they are."""


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_unimodal_logits_add_up_to_the_fused_logits(fusion, with_absent):
    clf = JointClassifier(GROUPS, fusion=fusion, balancer=OutputsRecorder(), **FAST | {"max_epochs": 1})
    outputs = clf.fit(*with_absent).balancers_[0].outputs_
    total = torch.stack(list(outputs.unimodal.values())).sum(0)
    torch.testing.assert_close(total, outputs.logits, atol=1e-5, rtol=1e-5)


def test_mean_scores_are_over_rows_with_two_modalities(with_absent):
    clf = JointClassifier(GROUPS, balancer=OutputsRecorder(), **ONE_BATCH).fit(*with_absent)
    outputs = clf.balancers_[0].outputs_
    rows = outputs.batch.rows.numpy()
    present = np.stack([~np.isnan(with_absent[0][rows, column]) for column in (0, 4, 8)])
    np.testing.assert_array_equal(outputs.present.numpy(), present)
    shared = present & (present.sum(0) > 1)
    for number, z in enumerate(outputs.unimodal.values()):
        score = torch.softmax(z, 1)[range(96), outputs.batch.y].detach().numpy()
        np.testing.assert_allclose(outputs.scores[number], score, rtol=1e-5)
        assert outputs.mean_scores[number].item() == pytest.approx(score[shared[number]].mean(), rel=1e-5)


def test_mean_scores_use_row_weights(data):
    X, y = data
    weight = np.where(y == 0, 3.0, 1.0)
    clf = JointClassifier(PAIR, balancer=OutputsRecorder(), **ONE_BATCH).fit(X, y, sample_weight=weight)
    outputs = clf.balancers_[0].outputs_
    expected = np.average(outputs.scores.numpy(), axis=1, weights=weight[outputs.batch.rows.numpy()])
    np.testing.assert_allclose(outputs.mean_scores, expected, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["gated", "film"])
def test_heads_that_are_only_read_do_not_train_the_encoders(fusion, data):
    plain = JointClassifier(PAIR, fusion=fusion, **FAST).fit(*data)
    clf = JointClassifier(PAIR, fusion=fusion, balancer=OutputsRecorder(), **FAST).fit(*data)
    np.testing.assert_allclose(clf.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-6)
    proba = clf.predict_proba_per_modality(data[0])["image"]
    assert (clf.classes_[proba.argmax(1)] == data[1]).mean() > 0.5  # the heads themselves are trained


def test_reading_unimodal_logits_without_requesting_them_raises_an_error(data):
    class UnrequestedReader(Balancer):
        def loss(self, training, outputs):
            return outputs.scores.sum() + super().loss(training, outputs)

    with pytest.raises(TypeError, match="set unimodal = 'split' or 'heads'"):
        JointClassifier(PAIR, fusion="gated", balancer=UnrequestedReader(), **FAST).fit(*data)
