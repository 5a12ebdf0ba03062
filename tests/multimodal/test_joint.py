"""JointClassifier over folds: each network equals one that is trained alone, and their mean is the prediction."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import KFold, ShuffleSplit
from torch import nn

from mmestim import JointClassifier, ModalityGapClassifier, load, save
from mmestim._training.net import Net
from mmestim.balancers import UMT, Balancer

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"audio": slice(0, 6), "image": slice(6, 12)}
FAST = {"cv": 3, "max_epochs": 4, "random_state": 0, "device": "cpu"}
CLASSIFIERS = [JointClassifier, ModalityGapClassifier]


class RowsRecorder(Balancer):
    """Balancer that records the rows of its network."""

    def begin(self, training):
        self.rows_ = training.rows.rows.numpy(), training.valid.rows.numpy()


def with_absent(data):
    X = data[0].copy()
    X[::3, :6] = np.nan
    X[1::3, 6:] = np.nan
    return X, data[1]


@pytest.mark.parametrize("unimodal_weight", [0.0, 1.0])
@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_prediction_is_the_mean_of_the_networks(classifier, fusion, unimodal_weight, data, monkeypatch, tmp_path):
    networks = []
    original = classifier._build_joint
    monkeypatch.setattr(classifier, "_build_joint", lambda *args: (networks.append(original(*args)), networks[-1])[1])
    X, y = with_absent(data)
    clf = classifier(PAIR, fusion=fusion, unimodal_weight=unimodal_weight, **FAST).fit(X, y)
    assert len(networks) == clf.n_networks_ == 3
    joined, fused, unimodal = clf.module_, [], []
    for network in networks:
        clf.module_ = network.eval()
        fused.append(np.log(clf.predict_proba(X)))
        unimodal.append(np.log(clf.predict_proba_per_modality(X)["audio"]))
    clf.module_ = joined
    for probabilities, logits in (
        (clf.predict_proba(X), fused),
        (clf.predict_proba_per_modality(X)["audio"], unimodal),
    ):
        mean = np.exp(np.mean(logits, axis=0))
        np.testing.assert_allclose(probabilities, mean / mean.sum(1, keepdims=True), atol=1e-5)
    save(clf, tmp_path / "model.mme")
    loaded = load(tmp_path / "model.mme", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(loaded.transform(X), clf.transform(X))


def test_history_has_the_fold_of_each_network(data):
    clf = JointClassifier(GROUPS, balancer=UMT(), **FAST | {"early_stopping": False}).fit(*data)
    stages = 12 * ["unimodal"] + 4 * ["joint"]
    assert [(row["fold"], row["stage"]) for row in clf.history_] == [(k, stage) for k in range(3) for stage in stages]
    single = clone(clf).set_params(cv=None).fit(*data)
    assert {row["fold"] for row in single.history_} == {None}
    gap = ModalityGapClassifier(GROUPS, **FAST).fit(*data)
    assert {row["fold"] for row in gap.history_} == {None}


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_folds_learn(classifier, precision, data):
    X, y = with_absent(data)
    clf = classifier(PAIR, precision=precision, **FAST | {"max_epochs": 15, "lr": 0.05}).fit(X, y)
    assert clf.score(X, y) > 0.7
    assert clf.predict_proba(X).dtype == np.float32


def folds_of(data, groups=None, **settings):
    clf = JointClassifier(GROUPS, balancer=RowsRecorder(), **FAST | {"max_epochs": 1} | settings)
    return [balancer.rows_ for balancer in clf.fit(*data, groups=groups).balancers_]


def test_folds_are_stratified_and_hold_out_every_row_once(data):
    splits = folds_of(data)
    assert np.sort(np.concatenate([valid for _, valid in splits])).tolist() == list(range(240))
    for train, valid in splits:
        assert np.union1d(train, valid).tolist() == list(range(240))
        assert np.ptp(np.bincount(data[1][valid]) - np.bincount(data[1]) / 3) < 2


def test_folds_keep_groups_whole(data):
    groups = np.arange(240) % 13
    for train, valid in folds_of(data, groups):
        assert set(groups[train]).isdisjoint(groups[valid])
    with pytest.raises(ValueError, match=r"cv=3 is more than the 2 groups .* smaller cv"):
        folds_of(data, np.arange(240) % 2)


def test_cv_accepts_a_splitter_or_a_list(data):
    splits = folds_of(data, cv=KFold(3))
    assert [valid.tolist() for _, valid in splits] == np.arange(240).reshape(3, 80).tolist()
    # A list may leave rows out of training on purpose.
    purged = [(np.arange(100, 240), np.arange(80)), (np.arange(60), np.arange(80, 240))]
    for (train, valid), (listed_train, listed_valid) in zip(folds_of(data, cv=purged), purged, strict=True):
        assert (train.tolist(), valid.tolist()) == (listed_train.tolist(), listed_valid.tolist())


@pytest.mark.parametrize(
    "cv, error, message",
    [
        (1, ValueError, "cv=1 must be at least 2"),
        (1000, ValueError, "cv=1000 is more than the 240 rows"),
        (iter([]), TypeError, "must be 'auto', a number of folds, a scikit-learn splitter"),
        (KFold, TypeError, "must be .auto., a number of folds, a scikit-learn splitter"),
        (ShuffleSplit(3), ValueError, "hold out every row once"),
        ([], ValueError, "hold out every row once"),
        ([(np.empty(0, dtype=int), np.arange(240))], ValueError, "without rows to train on"),
    ],
)
def test_invalid_cv_raises(cv, error, message, data):
    with pytest.raises(error, match=message):
        JointClassifier(GROUPS, **FAST | {"cv": cv}).fit(*data)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_modality_of_one_row_trains_in_every_fold(classifier, data):
    X = data[0].copy()
    X[1:, :4] = np.nan
    clf = classifier(GROUPS, **FAST).fit(X, data[1])
    assert np.isfinite(clf.predict_proba(X)).all()
    for encoder in clf.module_.branch("audio").encoder.encoders:
        np.testing.assert_array_equal(encoder.standardize.mean.numpy(), X[0, :4])


@pytest.mark.parametrize(
    "title, n_epochs, n_networks",
    [("joint, fold 0", 0, 0), ("joint, fold 0", 2, 1), ("joint, fold 2", 0, 2), ("joint, fold 2", 2, 3)],
)
def test_ctrl_c_keeps_the_networks_with_a_complete_epoch(title, n_epochs, n_networks, data, monkeypatch):
    original = Net.train_epoch

    def train_epoch(self, train, batches):
        if self.title == title and len(self.history) == n_epochs + 1:
            raise KeyboardInterrupt
        return original(self, train, batches)

    complete = JointClassifier(GROUPS, balancer=UMT(), **FAST).fit(*data)
    monkeypatch.setattr(Net, "train_epoch", train_epoch)
    clf = JointClassifier(GROUPS, balancer=UMT(), **FAST)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*data)
    assert hasattr(clf, "module_") == (n_networks > 0)
    if n_networks:
        assert (clf.n_networks_, len(clf.balancers_), len(clf.balance_history_)) == (n_networks,) * 3
        assert clf.n_iter_ == len(clf.history_)
        assert {row["fold"] for row in clf.history_} == set(range(n_networks))
        assert clf.score(*data) > 0.5
    if n_networks > 1:
        finished, expected_encoders = (model.module_.branch("text").encoder.encoders[:2] for model in (clf, complete))
        for encoder, expected in zip(finished, expected_encoders, strict=True):
            assert all(torch.equal(p, q) for p, q in zip(encoder.parameters(), expected.parameters(), strict=True))


def test_user_encoders_are_copied_for_every_fold(data):
    encoder = nn.Linear(4, 7)
    before = encoder.weight.detach().clone()
    clf = JointClassifier(GROUPS, encoder={"text": encoder}, **FAST).fit(*data)
    encoders = clf.module_.branch("text").encoder.encoders
    assert len({id(copied) for copied in [encoder, *encoders]}) == 4
    assert torch.equal(encoder.weight, before)
    assert clf.transform(data[0]).shape == (240, 3 * (64 + 64 + 7))
