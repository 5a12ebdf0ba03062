"""ModalityGapClassifier: its stages, out-of-fold gaps, and equality with joint training if all weights are 0."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from skorch.callbacks import Callback
from torch import nn

from mmestim import JointClassifier, ModalityGapAnalyzer, ModalityGapClassifier, gap_scores
from mmestim._training.net import Net
from mmestim.multimodal import modality_gap_classifier
from mmestim.multimodal._objectives.gap_scorers import OutOfFoldScores
from mmestim.multimodal._objectives.modality_gap import (
    HISTORY,
)

PAIR = {"audio": slice(0, 3), "image": slice(3, 6)}
GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"max_epochs": 10, "random_state": 0, "device": "cpu"}
EVERY_ROW = FAST | {"early_stopping": False}
OFF = {"gap_weight": 0, "shift_weight": 0, "balanced_weight": 0, "fine_tune_epochs": 0}


@pytest.fixture(scope="module")
def uneven():
    """Two modalities, of which the second is uninformative in a third of the rows."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 240)
    X = 3 * np.tile(np.eye(3)[y], 2) + rng.normal(size=(240, 6))
    X[160:, 3:] = 1 + rng.normal(size=(80, 3))
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def with_absent(data):
    """Rows of which some lack one or two modalities."""
    X, y = data[0].copy(), data[1]
    X[::3, :4] = np.nan
    X[1::3, 4:8] = np.nan
    X[:12, :8] = np.nan
    return X, y


# Stages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap_source", ["train", "out_of_fold"])
def test_zero_weights_equal_joint_training(gap_source, with_absent):
    X, y = with_absent
    joint = JointClassifier(GROUPS, unimodal_weight=1.0, **FAST).fit(X, y)
    clf = ModalityGapClassifier(GROUPS, gap_source=gap_source, **OFF, **FAST).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), joint.predict_proba(X))
    assert clf.n_warmup_ == clf.n_iter_ == joint.n_iter_
    assert {key: len(values) for key, values in clf.gap_history_.items()} == dict.fromkeys(HISTORY.names, 0)
    assert clf.analyzer_.means_.shape == (2,)


@pytest.mark.parametrize("term", ["gap_weight", "shift_weight", "balanced_weight"])
def test_each_term_changes_the_network(term, data):
    X, y = data
    off = ModalityGapClassifier(GROUPS, **OFF, **EVERY_ROW).fit(X, y)
    on = ModalityGapClassifier(GROUPS, **OFF | {term: 1.0}, **EVERY_ROW).fit(X, y)
    assert not np.allclose(on.predict_proba(X), off.predict_proba(X), atol=1e-3)


def test_adaptive_epochs_follow_the_warm_up(data):
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=0.25, fine_tune_epochs=2, **EVERY_ROW).fit(*data)
    assert clf.n_warmup_ == 3  # A quarter of ten, rounded up.
    assert [row["stage"] for row in clf.history_] == 3 * ["warm-up"] + 7 * ["adaptive"] + 2 * ["fine-tuning"]
    shapes = {key: values.shape for key, values in clf.gap_history_.items()}
    assert shapes == {
        "means": (7, 2),
        "variances": (7, 2),
        "weights": (7, 2),
        "separation": (7,),
        "mean_gap": (7,),
        "kept": (7,),
    }
    assert (clf.gap_history_["means"][:, 0] <= clf.gap_history_["means"][:, 1]).all()


def test_warm_up_fraction_of_one_equals_joint_training(data):
    X, y = data
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=1.0, fine_tune_epochs=0, **EVERY_ROW).fit(X, y)
    joint = JointClassifier(GROUPS, unimodal_weight=1.0, **EVERY_ROW).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), joint.predict_proba(X))


def test_early_stopping_starts_with_the_adaptive_epochs(data):
    settings = FAST | {"max_epochs": 40, "n_iter_no_change": 1, "lr": 0.1}
    assert JointClassifier(GROUPS, unimodal_weight=1.0, **settings).fit(*data).n_iter_ < 20
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=0.5, fine_tune_epochs=0, **settings).fit(*data)
    assert clf.n_iter_ > clf.n_warmup_ == 20


def test_best_epoch_is_an_adaptive_one(data, monkeypatch):
    states = []

    class Keep(Callback):
        def on_epoch_end(self, net, **kwargs):
            states.append([p.detach().clone() for p in net.module_.parameters()])

    # Every epoch is worse than the one before.
    monkeypatch.setattr(Net, "validate", lambda net, valid: (1.0, 1.0 / len(net.history)))
    settings = FAST | {"max_epochs": 20, "n_iter_no_change": 2, "callbacks": [Keep()]}
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=0.25, fine_tune_epochs=0, **settings).fit(*data)
    assert (clf.n_warmup_, clf.n_iter_) == (5, 8)
    for parameter, first_adaptive in zip(clf.module_.parameters(), states[5], strict=True):
        assert torch.equal(parameter, first_adaptive)


@pytest.mark.parametrize("detach_stronger", [False, True])
def test_gap_weight_reduces_the_gap(detach_stronger, uneven):
    X, y = uneven
    settings = EVERY_ROW | {"max_epochs": 30, "lr": 0.05}

    def gap(weight):
        weights = OFF | {"gap_weight": weight, "detach_stronger": detach_stronger}
        scores = gap_scores(ModalityGapClassifier(PAIR, **weights, **settings).fit(X, y), X, y)
        return np.ptp(scores, axis=1).mean()

    assert gap(4.0) < 0.8 * gap(0.0)


def test_analyzer_describes_the_training_rows(data):
    X, y = data
    clf = ModalityGapClassifier(GROUPS, fine_tune_epochs=0, **EVERY_ROW).fit(X, y)
    expected = ModalityGapAnalyzer().fit(gap_scores(clf, X, y))
    np.testing.assert_allclose(clf.analyzer_.means_, expected.means_, atol=1e-5)
    np.testing.assert_allclose(clf.analyzer_.weights_, expected.weights_, atol=1e-4)


def test_fine_tuning_uses_balanced_rows_only(uneven, monkeypatch):
    X, y = uneven
    before = ModalityGapClassifier(PAIR, fine_tune_epochs=0, **EVERY_ROW).fit(X, y)
    calls, original = [], modality_gap_classifier.train

    def train(module, train_rows, valid_rows, options, **kwargs):
        calls.append((train_rows.rows.tolist(), options.lr))
        return original(module, train_rows, valid_rows, options, **kwargs)

    monkeypatch.setattr(modality_gap_classifier, "train", train)
    after = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **EVERY_ROW).fit(X, y)
    balanced = before.analyzer_.transform(gap_scores(before, X, y))[:, 0] > 0.5
    assert 100 < balanced.sum() < 200
    assert calls == [(np.flatnonzero(balanced).tolist(), pytest.approx(0.001))]
    assert not np.array_equal(after.predict_proba(X), before.predict_proba(X))
    assert (before.fine_tuned_, after.fine_tuned_) == (False, True)


def test_fine_tuning_requires_every_class(uneven):
    X, y = uneven
    y = y.copy()
    y[160:] = 3  # The rows in which the image is uninformative.
    clf = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **EVERY_ROW).fit(X, y)
    balanced = clf.analyzer_.transform(gap_scores(clf, X, y))[:, 0] > 0.5
    assert clf.fine_tuned_ == (set(y[balanced]) == {0, 1, 2, 3})
    labels = np.r_[y[:160], np.full(80, 0)]
    labels[-1] = 4
    X = X.copy()
    X[-1, 3:] = np.nan  # Without a gap it does not count as balanced.
    clf = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **EVERY_ROW).fit(X, labels)
    assert not clf.fine_tuned_
    assert "fine-tuning" not in {row["stage"] for row in clf.history_}


def test_fine_tuning_without_improvement_is_undone(uneven, monkeypatch):
    X, y = uneven
    before = ModalityGapClassifier(PAIR, fine_tune_epochs=0, **FAST).fit(X, y)
    original = modality_gap_classifier.train

    def ruin(module, *args, **kwargs):
        run = original(module, *args, **kwargs)
        with torch.no_grad():
            module.fusion_head.linear.weight.zero_()
        return run

    monkeypatch.setattr(modality_gap_classifier, "train", ruin)
    after = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **FAST).fit(X, y)
    np.testing.assert_array_equal(after.predict_proba(X), before.predict_proba(X))
    assert not after.fine_tuned_
    assert "fine-tuning" in {row["stage"] for row in after.history_}


@pytest.mark.parametrize(
    "modalities, absent",
    [({"all": slice(None)}, False), ({"audio": slice(0, 8), "text": slice(8, 12)}, True)],
)
def test_rows_without_gaps_give_joint_training(modalities, absent, data):
    X, y = data[0].copy(), data[1]
    if absent:
        X[::2, :8] = np.nan
        X[1::2, 8:] = np.nan
    clf = ModalityGapClassifier(modalities, **FAST).fit(X, y)
    joint = JointClassifier(modalities, unimodal_weight=1.0, **FAST).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), joint.predict_proba(X))
    assert (clf.analyzer_, clf.fine_tuned_, clf.n_warmup_) == (None, False, clf.n_iter_)
    assert clf.gap_history_["means"].shape == (0, 2)


@pytest.mark.parametrize("unimodal_weight", [0.0, 1.0])
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_absent_modalities(fusion, unimodal_weight, with_absent):
    X, y = with_absent
    clf = ModalityGapClassifier(GROUPS, fusion=fusion, unimodal_weight=unimodal_weight, lr=0.05, **FAST).fit(X, y)
    assert clf.score(X, y) > 0.6
    assert all(np.isfinite(values).all() for values in clf.gap_history_.values())


def test_refitting_discards_the_first_gaps(data):
    X, y = data
    clf = ModalityGapClassifier(GROUPS, **FAST).fit(X, y)
    clf.set_params(**OFF).fit(X, y)
    assert len(clf.gap_history_["kept"]) == 0


# Gaps out of fold ----------------------------------------------------------------------------------


def test_out_of_fold_networks_train_in_step_without_the_scored_rows(data, monkeypatch):
    calls = []
    original = OutOfFoldScores.train_epoch

    def train_epoch(self, net):
        calls.append((self, net))
        original(self, net)

    monkeypatch.setattr(OutOfFoldScores, "train_epoch", train_epoch)
    X, y = data
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=4, **EVERY_ROW).fit(X, y)
    scorer, net = calls[-1]
    assert len(calls) == 10  # One call per epoch.
    assert np.sort(np.concatenate([held_out_rows for _, held_out_rows in scorer.splits])).tolist() == list(range(240))
    for network, (training_rows, held_out_rows) in zip(scorer.shadow_networks, scorer.splits, strict=True):
        assert np.union1d(training_rows, held_out_rows).tolist() == list(range(240))
        assert (len(training_rows), len(held_out_rows)) == (180, 60)
        assert np.ptp(np.bincount(y[held_out_rows]) - np.bincount(y) / 4) < 2  # stratified
        assert network.rows.rows.tolist() == training_rows.tolist()
        assert network.net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.001)  # As net in the last epochs.
        assert network.net.module_ is not net.module_
    table = scorer.scores(clf.module_)
    clf = ModalityGapClassifier(GROUPS, **OFF, **EVERY_ROW).fit(X, y)  # For predict_proba_per_modality.
    clf.module_ = scorer.shadow_networks[2].net.module_
    held_out_rows = scorer.splits[2][1]
    np.testing.assert_allclose(table[held_out_rows], gap_scores(clf, X[held_out_rows], y[held_out_rows]), atol=1e-5)


def test_out_of_fold_networks_do_not_change_random_numbers_of_the_main_one(data):
    def noisy(input_shape, embedding_dim):
        return nn.Sequential(nn.Linear(*input_shape, embedding_dim), nn.Dropout(0.5))

    first, second = (
        ModalityGapClassifier(GROUPS, encoder=noisy, gap_source=source, **OFF, **FAST).fit(*data).predict_proba(data[0])
        for source in ("train", "out_of_fold")
    )
    np.testing.assert_array_equal(first, second)


def test_class_in_only_one_fold_gives_no_gap(data, monkeypatch):
    tables = []
    original = OutOfFoldScores.scores
    monkeypatch.setattr(OutOfFoldScores, "scores", lambda *args: (tables.append(original(*args)), tables[-1])[1])
    y = data[1].copy()
    y[7] = 3
    ModalityGapClassifier(GROUPS, gap_source="out_of_fold", **EVERY_ROW).fit(data[0], y)
    for table in tables:
        np.testing.assert_array_equal(np.isnan(table).all(axis=1), np.arange(240) == 7)
    # Only the first two rows have two modalities, and each is the only one of its class.
    X = data[0].copy()
    X[2:, :8] = np.nan
    y[:2] = 4, 5
    with pytest.raises(ValueError, match="no row to score"):
        ModalityGapClassifier(GROUPS, gap_source="out_of_fold", **EVERY_ROW).fit(X, y)


def test_out_of_fold_gaps_persist_when_rows_are_memorised():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    X = rng.normal(size=(200, 40))  # Noise, which can only be memorised.
    X[:, :20] += 0.5 * rng.normal(size=(3, 20))[y]
    modalities = {"audio": slice(0, 20), "image": slice(20, 40)}
    settings = OFF | {"balanced_weight": 0.01} | EVERY_ROW | {"max_epochs": 60, "lr": 0.1}
    train_gap, out_of_fold_gap = (
        ModalityGapClassifier(modalities, gap_source=source, **settings).fit(X, y).gap_history_["mean_gap"][-1]
        for source in ("train", "out_of_fold")
    )
    assert train_gap < 0.05 < 0.2 < out_of_fold_gap


@pytest.fixture
def splits(monkeypatch):
    """List of the splits of all fits in a test."""
    calls = []
    original = OutOfFoldScores.begin
    monkeypatch.setattr(OutOfFoldScores, "begin", lambda self, net: (calls.append(self.splits), original(self, net)))
    return calls


def test_folds_keep_groups_whole(data, splits):
    groups = np.arange(240) % 13
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=3, **FAST | {"max_epochs": 2})
    clf.fit(*data, groups=groups)
    assert len(splits[0]) == 3
    for training_rows, held_out_rows in splits[0]:
        assert set(groups[training_rows]).isdisjoint(groups[held_out_rows])
    with pytest.raises(ValueError, match=r"cv=3 is more than the 2 groups .* smaller cv"):
        clf.set_params(early_stopping=False).fit(*data, groups=np.arange(240) % 2)


def test_cv_accepts_a_splitter_or_a_list(data, splits):
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", **EVERY_ROW | {"max_epochs": 1})
    clf.set_params(cv=KFold(3)).fit(*data)
    assert [held_out_rows.tolist() for _, held_out_rows in splits[0]] == np.arange(240).reshape(3, 80).tolist()
    # A list may leave rows out of training on purpose.
    purged = [(np.arange(100, 240), np.arange(80)), (np.arange(60), np.arange(80, 240))]
    clf.set_params(cv=purged, early_stopping=True).fit(*data)
    for (training_rows, held_out_rows), (listed_rows, _) in zip(splits[1], purged, strict=True):
        assert set(training_rows) < set(listed_rows)  # Without the validation rows.
        assert set(training_rows).isdisjoint(held_out_rows)


@pytest.mark.parametrize(
    "cv, error, message",
    [
        (1, ValueError, "cv=1 must be at least 2"),
        (1000, ValueError, "cv=1000 is more than the 240 rows"),
        (None, TypeError, "cv=None must be a number of folds"),
        (iter([]), TypeError, "must be a number of folds, a scikit-learn splitter"),
        (ShuffleSplit(3), ValueError, "hold out every row once"),
        ([], ValueError, "hold out every row once"),
        ([(np.empty(0, dtype=int), np.arange(240))], ValueError, "without rows to train on"),
    ],
)
def test_invalid_cv_raises(cv, error, message, data):
    with pytest.raises(error, match=message):
        ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=cv, **EVERY_ROW).fit(*data)


def test_more_folds_than_rows_of_any_class_raise(data):
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=5, **EVERY_ROW)
    with pytest.raises(ValueError, match="cv=5 is more than the 4 rows of the largest class"):
        clf.fit(data[0], np.arange(240) % 60, groups=np.arange(240) % 10)


def test_out_of_fold_does_not_depend_on_the_order_of_modalities(with_absent):
    X, y = with_absent
    settings = {"gap_source": "out_of_fold", "cv": 2, **FAST}
    first = ModalityGapClassifier(GROUPS, **settings).fit(X, y)
    reordered = {"text": slice(0, 4), "image": slice(4, 8), "audio": slice(8, 12)}
    swapped = np.hstack([X[:, 8:], X[:, 4:8], X[:, :4]])
    second = ModalityGapClassifier(reordered, **settings).fit(swapped, y)
    np.testing.assert_allclose(second.predict_proba(swapped), first.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(second.gap_history_["means"], first.gap_history_["means"], atol=1e-5)


# As an estimator -----------------------------------------------------------------------------------


def test_grid_search(data):
    grid = {"gap_weight": [0.0, 0.5], "gap_source": ["train", "out_of_fold"]}
    search = GridSearchCV(ModalityGapClassifier(GROUPS, **FAST | {"max_epochs": 3}), grid, cv=2).fit(*data)
    assert len(search.cv_results_["params"]) == 4


@pytest.mark.parametrize(
    "stopped_in, epoch, is_fitted", [("joint", 0, False), ("joint", 4, True), ("fine-tuning", 0, True)]
)
def test_ctrl_c_keeps_usable_networks(stopped_in, epoch, is_fitted, monkeypatch, uneven):
    original = Net.train_epoch

    def train_epoch(self, train, batches):
        if self.title == stopped_in and len(self.history) == epoch + 1:
            raise KeyboardInterrupt
        return original(self, train, batches)

    monkeypatch.setattr(Net, "train_epoch", train_epoch)
    clf = ModalityGapClassifier(PAIR, fine_tune_epochs=5, **FAST)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*uneven)
    assert hasattr(clf, "module_") == is_fitted
    if is_fitted:
        assert clf.score(*uneven) > 0.5
        n_adaptive = sum(row["stage"] == "adaptive" for row in clf.history_)
        assert len(clf.gap_history_["means"]) == n_adaptive > 0


def test_divergence_of_an_out_of_fold_network_raises(data, monkeypatch):
    original = Net.train_epoch
    monkeypatch.setattr(
        Net, "train_epoch", lambda self, *args: np.nan if "fold 1" in self.title else original(self, *args)
    )
    with pytest.raises(ValueError, match=r"diverged \(joint, fold 1, epoch 1\)"):
        ModalityGapClassifier(GROUPS, gap_source="out_of_fold", **FAST).fit(*data)


@pytest.mark.parametrize(
    "parameter, value, error, message",
    [
        ("gap_weight", -1, ValueError, "gap_weight=-1 must be at least 0"),
        ("shift_weight", "1", TypeError, "must be a number"),
        ("balanced_weight", -0.5, ValueError, "at least 0"),
        ("imbalanced_weight", -0.5, ValueError, "at least 0"),
        ("detach_stronger", 1, TypeError, "True or False"),
        ("warmup_fraction", 1.5, ValueError, "at most 1"),
        ("gap_source", "test", ValueError, "'train', 'out_of_fold'"),
        ("fine_tune_epochs", 2.5, TypeError, "an integer"),
    ],
)
def test_invalid_parameters_raise(parameter, value, error, message, data):
    with pytest.raises(error, match=message):
        ModalityGapClassifier(GROUPS, **{parameter: value}).fit(*data)
