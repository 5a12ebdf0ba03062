"""Cross-fitted branches: out-of-fold predictions, stacked training, groups, rare classes and refitting."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from torch import nn

from mmestim import LateFusionClassifier, UDIClassifier
from mmestim._data.batches import Rows
from mmestim._data.blocks import Blocks
from mmestim._data.folds import FoldRows
from mmestim._data.sources import ArrayRows
from mmestim._networks.fold_networks import FoldBranches
from mmestim._networks.multimodal_networks import Branch
from mmestim._training.loop import train
from mmestim._training.options import TrainingOptions
from mmestim.multimodal._cross_fitting import branch_training

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"max_epochs": 5, "random_state": 0, "device": "cpu", "cv": 3, "optimizer": "sgd"}
CLASSIFIERS = [LateFusionClassifier, UDIClassifier]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_random_labels_are_memorised_but_not_predicted_out_of_fold(classifier, data):
    X, y = data[0], np.random.default_rng(1).permutation(data[1])
    settings = FAST | {"max_epochs": 80, "early_stopping": False, "lr": 0.1}
    clf = classifier({"x": slice(None)}, store_oof=True, **settings).fit(X, y)
    assert clf.score(X, y) > 0.7
    assert clf.branch_scores_["x"] < 0.5
    assert clf.branch_scores_["x"] == pytest.approx((clf.oof_proba_["x"].argmax(1) == y).mean())


@pytest.mark.parametrize("guidance", ["validated", "aligned", "dynamic", (1.0, 0.5), None])
@pytest.mark.parametrize("n_rows", [90, 91])
def test_stacked_training_equals_one_network_after_the_other(guidance, n_rows, monkeypatch, data):
    X, y = data[0][:n_rows].copy(), data[1][:n_rows]
    X[::7, :4] = np.nan
    weight = np.random.default_rng(0).random(n_rows)
    clf = UDIClassifier(GROUPS, guidance=guidance, batch_size=16, **FAST)
    stacked = clf.fit(X, y, sample_weight=weight).predict_proba(X)
    stages = []

    def not_stacked(branches, stacked):
        assert stacked
        stages.append(branches[0].name)
        return FoldBranches(branches, stacked=False)

    monkeypatch.setattr(branch_training, "FoldBranches", not_stacked)
    np.testing.assert_allclose(clf.fit(X, y, sample_weight=weight).predict_proba(X), stacked, atol=1e-4)
    assert len(stages) == (3 if guidance is None else 5)


@pytest.mark.parametrize("encoder", ["mlp", "linear"])
def test_vectors_train_stacked(encoder, monkeypatch, data):
    modules = []
    original = branch_training.FoldBranches
    monkeypatch.setattr(
        branch_training, "FoldBranches", lambda *args, **kw: (modules.append(original(*args, **kw)), modules[-1])[1]
    )
    LateFusionClassifier(GROUPS, encoder=encoder, **FAST).fit(*data)
    assert [module.is_stacked for module in modules] == [True] * 3


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize(
    "cv", [2, KFold(3), StratifiedKFold(4, shuffle=True, random_state=0), list(KFold(3).split(np.zeros(240)))]
)
def test_folds_may_be_given_in_every_way(classifier, cv, data):
    clf = classifier(GROUPS, **FAST | {"cv": cv, "store_oof": True}).fit(*data)
    assert clf.n_networks_ == (cv if isinstance(cv, int) else len(cv) if isinstance(cv, list) else cv.n_splits)
    assert all(np.isfinite(proba).all() for proba in clf.oof_proba_.values())


@pytest.mark.parametrize("cv", [3, "auto", GroupKFold(3)])
def test_a_group_is_never_split(cv, data):
    """Each group has its own offset of the labels, which rows of the same group would reveal."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 6)
    marks = rng.normal(size=(40, 8))[groups] + 0.01 * rng.normal(size=(240, 8))
    y = rng.integers(0, 3, 40)[groups]
    settings = FAST | {"max_epochs": 40, "cv": cv, "lr": 0.05}
    by_group = LateFusionClassifier(**settings).fit(marks, y, groups=groups).branch_scores_["x"]
    assert by_group < 0.6 < LateFusionClassifier(**settings | {"cv": 3}).fit(marks, y).branch_scores_["x"]


def test_every_network_is_trained_on_every_class(data):
    X, y = data[0].copy(), data[1].copy()
    y[7] = 3  # the only row of its class
    clf = LateFusionClassifier(GROUPS, store_oof=True, **FAST).fit(X, y)
    is_missing = np.isnan(clf.oof_proba_["text"]).any(axis=1)
    assert np.flatnonzero(is_missing).tolist() == [7]


@pytest.mark.parametrize("n_present", [1, 2, 5])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_rare_modalities_are_trained_in_every_fold(classifier, n_present, data):
    X, y = data[0].copy(), data[1]
    X[n_present:, :4] = np.nan
    clf = classifier(GROUPS, **FAST)
    # The first two rows are of two classes, and a network judges only classes that it was trained on.
    is_judged = n_present > 2
    with nullcontext() if is_judged else pytest.warns(UserWarning, match="no row with modality 'audio' is held out"):
        clf.fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()
    assert set(clf.fusion_weights_) == set(GROUPS)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("cv", [None, 3])
def test_one_network_can_be_refitted_on_all_rows(classifier, cv, data):
    X, y = data
    clf = classifier(GROUPS, ensemble=False, **FAST | {"cv": cv}).fit(X, y)
    assert clf.n_networks_ == 1
    assert clf.transform(X).shape == (240, 3 * 64)
    stages = {(row["stage"], row["modality"]) for row in clf.history_}
    for name in GROUPS:
        kind = "unimodal" if classifier is LateFusionClassifier or name == "text" else "guided"
        folds = [row["valid_loss"] for row in clf.history_ if (row["stage"], row["modality"]) == (kind, name)]
        all_rows = [row for row in clf.history_ if (row["stage"], row["modality"]) == (f"{kind}, all rows", name)]
        smoothed = [np.mean(folds[max(0, i - 2) : i + 1]) for i in range(len(folds))]
        n_valid = 240 if cv else 24
        assert len(all_rows) == 1 + np.argmin(folds if n_valid >= 200 else smoothed)
    assert len(stages) == 6 if classifier is LateFusionClassifier else 8


class Doubled(nn.Linear):
    """Encoder whose training is not stacked."""

    def __init__(self, input_shape):
        super().__init__(input_shape[0], 5)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("settings", [{"encoder": Doubled}, {"max_grad_norm": 1.0}, {"precision": "bf16"}])
def test_other_settings_train_too(classifier, settings, data):
    clf = classifier(GROUPS, **FAST, **settings).fit(*data)
    assert clf.n_networks_ == 3
    assert clf.score(*data) > 0.7


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_many_rows_or_one_group_are_held_out_once(classifier, monkeypatch, data):
    settings = FAST | {"cv": "auto", "max_epochs": 1, "fusion": "sum"}
    assert classifier(GROUPS, **settings).fit(*data).n_networks_ == 5
    assert classifier(GROUPS, **settings).fit(*data, groups=np.zeros(240)).n_networks_ == 1
    monkeypatch.setattr("mmestim._data.splits.AUTO_ROWS", 239)
    assert classifier(GROUPS, **settings).fit(*data).n_networks_ == 1


@pytest.mark.parametrize(
    "cv, message", [(300, "cv=300 is more than the 240 rows"), ([([0], [1])], "hold out every row once")]
)
def test_impossible_folds_raise(cv, message, data):
    with pytest.raises(ValueError, match=message):
        LateFusionClassifier(GROUPS, **FAST | {"cv": cv}).fit(*data)


def test_gradients_of_each_fold_are_clipped_apart():
    """A fold with large gradients must not shorten those of another fold."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6)).astype(np.float32)
    X[40:] *= 1000
    blocks = Blocks({"x": ArrayRows(X)}, {"x": (6,)}).load(10, torch.device("cpu"))
    rows = Rows(blocks, torch.arange(80) % 2, None, torch.arange(80), ["x"])
    folds = [rows.subset(np.arange(40)), rows.subset(np.arange(40, 80))]
    settings = {"max_epochs": 1, "batch_size": 10, "early_stopping": False, "max_grad_norm": 0.5, "device": "cpu"}
    options = TrainingOptions.from_parameters(lr=0.1, optimizer="sgd", **settings)

    def train_first_of(n_folds):
        torch.manual_seed(0)
        branches = [Branch("x", nn.Linear(6, 4), 4, 2) for _ in range(2)][:n_folds]
        module = FoldBranches(branches, stacked=False)
        source = FoldRows(folds[:n_folds])
        train(
            module, source, source, options, n_classes=2, seed=0, stage="s", objective=branch_training.FoldObjective()
        )
        return module.finish()[0].state_dict()

    torch.testing.assert_close(train_first_of(2), train_first_of(1))
