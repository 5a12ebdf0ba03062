"""ModalityGapClassifier: its stages, out-of-fold gaps, and equality with joint training if all weights are 0."""

import shutil

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, KFold
from skorch.callbacks import Callback
from torch import nn

from mmestim import JointClassifier, ModalityGapAnalyzer, ModalityGapClassifier, gap_scores
from mmestim._training.net import Net
from mmestim.multimodal import modality_gap_classifier
from mmestim.multimodal._objectives.gap_scorers import GapScorer
from mmestim.multimodal._objectives.modality_gap import HISTORY

PAIR = {"audio": slice(0, 3), "image": slice(3, 6)}
GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"cv": None, "optimizer": "sgd", "max_epochs": 10, "random_state": 0, "device": "cpu"}
EVERY_ROW = FAST | {"early_stopping": False}
FOLDS = EVERY_ROW | {"cv": 3}
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


@pytest.mark.parametrize("cv", [None, 3])
def test_zero_weights_equal_joint_training(cv, with_absent):
    X, y = with_absent
    settings = FAST | {"cv": cv}
    joint = JointClassifier(GROUPS, unimodal_weight=1.0, **settings).fit(X, y)
    clf = ModalityGapClassifier(GROUPS, **OFF, **settings).fit(X, y)
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


@pytest.mark.parametrize("cv", [None, 2])
def test_warm_up_fraction_of_one_equals_joint_training(cv, data):
    X, y = data
    settings = EVERY_ROW | {"cv": cv}
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=1.0, fine_tune_epochs=0, **settings).fit(X, y)
    joint = JointClassifier(GROUPS, unimodal_weight=1.0, **settings).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), joint.predict_proba(X))


def test_early_stopping_starts_with_the_adaptive_epochs(data):
    settings = FAST | {"max_epochs": 40, "n_iter_no_change": 1, "lr": 0.1}
    assert JointClassifier(GROUPS, unimodal_weight=1.0, **settings).fit(*data).n_iter_ < 20
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=0.5, fine_tune_epochs=0, **settings).fit(*data)
    assert clf.n_iter_ > clf.n_warmup_ == 20


@pytest.mark.parametrize("cv", [None, 3])
def test_best_epoch_is_an_adaptive_one_for_all_networks(cv, data, monkeypatch):
    states = []

    class Keep(Callback):
        def on_epoch_end(self, net, **kwargs):
            networks = [net.module_] if cv is None else net.module_.networks
            states.append([[p.detach().clone() for p in network.branch("text").parameters()] for network in networks])

    # Every epoch is worse than the one before.
    monkeypatch.setattr(Net, "validate", lambda net, valid: (1.0 * len(net.history), 1.0 / len(net.history)))
    settings = FAST | {"cv": cv, "max_epochs": 20, "n_iter_no_change": 2, "callbacks": [Keep()]}
    clf = ModalityGapClassifier(GROUPS, unimodal_weight=0.0, warmup_fraction=0.25, fine_tune_epochs=0, **settings).fit(
        *data
    )
    assert (clf.n_warmup_, clf.n_iter_) == (5, 8)
    encoder = clf.module_.branch("text").encoder
    for network, first_adaptive in zip([encoder] if cv is None else encoder.encoders, states[5], strict=True):
        assert all(torch.equal(p, q) for p, q in zip(network.parameters(), first_adaptive, strict=True))


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


@pytest.fixture
def fine_tuning(monkeypatch):
    """Return the list of the rows of all networks, and the learning rate, of each fine-tuning in a test."""
    calls, original = [], modality_gap_classifier.train_in_step

    def train_in_step(context, networks, objective, **kwargs):
        if kwargs:
            rows = [train_rows.rows.tolist() for train_rows, _ in kwargs["rows"]]
            calls.append((rows, kwargs["options"].lr))
        return original(context, networks, objective, **kwargs)

    monkeypatch.setattr(modality_gap_classifier, "train_in_step", train_in_step)
    return calls


@pytest.mark.parametrize("cv", [None, KFold(3)])
def test_fine_tuning_uses_balanced_rows_of_each_network_only(cv, uneven, fine_tuning, tables):
    X, y = uneven
    settings = EVERY_ROW | {"cv": cv}
    before = ModalityGapClassifier(PAIR, fine_tune_epochs=0, **settings).fit(X, y)
    balanced_rows = np.flatnonzero(before.analyzer_.transform(tables[-1])[:, 0] > 0.5)
    after = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **settings).fit(X, y)
    assert 80 < len(balanced_rows) < 200
    folds = [np.arange(240)] if cv is None else [train for train, _ in cv.split(X)]
    [(rows, lr)] = fine_tuning
    assert rows == [np.intersect1d(balanced_rows, train).tolist() for train in folds]
    assert lr == pytest.approx(0.001)
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


def test_fine_tuning_requires_every_class_in_every_fold(uneven, monkeypatch):
    X, y = uneven
    y = y.copy()
    y[:2] = 3  # Each network has seen one of the two rows.
    folds = [(np.arange(1, 240, 2), np.arange(0, 240, 2)), (np.arange(0, 240, 2), np.arange(1, 240, 2))]

    def balance_all_rows_but(*imbalanced_rows):
        posterior = np.ones((240, 2))
        posterior[list(imbalanced_rows), 0] = 0
        monkeypatch.setattr(ModalityGapAnalyzer, "transform", lambda self, scores: posterior)

    clf = ModalityGapClassifier(PAIR, fine_tune_epochs=1, **EVERY_ROW | {"cv": folds})
    balance_all_rows_but()
    assert clf.fit(X, y).fine_tuned_
    balance_all_rows_but(1)
    assert not clf.fit(X, y).fine_tuned_
    assert "fine-tuning" not in {row["stage"] for row in clf.history_}


@pytest.mark.parametrize("cv", [None, 3])
def test_fine_tuning_without_improvement_is_undone(cv, uneven, monkeypatch):
    X, y = uneven
    settings = FAST | {"cv": cv}
    before = ModalityGapClassifier(PAIR, fine_tune_epochs=0, **settings).fit(X, y)
    original = modality_gap_classifier.train_in_step

    def ruin(context, networks, objective, **kwargs):
        run = original(context, networks, objective, **kwargs)
        if kwargs:
            with torch.no_grad():
                networks[-1].fusion_head.linear.weight.zero_()
                networks[-1].fusion_head.linear.bias.mul_(-100.0)
        return run

    monkeypatch.setattr(modality_gap_classifier, "train_in_step", ruin)
    after = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **settings).fit(X, y)
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


@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("unimodal_weight", [0.0, 1.0])
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_absent_modalities(fusion, unimodal_weight, cv, with_absent):
    X, y = with_absent
    settings = FAST | {"cv": cv, "lr": 0.05}
    clf = ModalityGapClassifier(GROUPS, fusion=fusion, unimodal_weight=unimodal_weight, **settings).fit(X, y)
    assert clf.score(X, y) > 0.6
    assert all(np.isfinite(values).all() for values in clf.gap_history_.values())


def test_refitting_discards_the_first_gaps(data):
    X, y = data
    clf = ModalityGapClassifier(GROUPS, **FAST).fit(X, y)
    clf.set_params(**OFF).fit(X, y)
    assert len(clf.gap_history_["kept"]) == 0


# Gaps out of fold ----------------------------------------------------------------------------------


@pytest.fixture
def tables(monkeypatch):
    """Return the list of all tables of scores in a test."""
    tables, original = [], GapScorer.scores
    monkeypatch.setattr(GapScorer, "scores", lambda *args: (tables.append(original(*args)), tables[-1])[1])
    return tables


def test_rows_are_scored_by_the_network_that_has_not_seen_them(data, monkeypatch):
    X, y = data
    calls, original = [], GapScorer.scores

    def scores(self, networks):
        calls.append((networks, original(self, networks)))
        return calls[-1][1]

    monkeypatch.setattr(GapScorer, "scores", scores)
    settings = EVERY_ROW | {"cv": KFold(4)}
    clf = ModalityGapClassifier(GROUPS, fine_tune_epochs=0, **settings).fit(X, y)
    assert (clf.n_networks_, clf.n_iter_, len(calls)) == (4, 10, 10)  # In 9 adaptive epochs, and after them.
    networks, table = calls[-1]
    single = ModalityGapClassifier(GROUPS, **OFF, **EVERY_ROW | {"max_epochs": 1}).fit(X, y)
    for network, (_, held_out_rows) in zip(networks, KFold(4).split(X), strict=True):
        single.module_ = network.eval()
        expected = gap_scores(single, X[held_out_rows], y[held_out_rows])
        np.testing.assert_allclose(table[held_out_rows], expected, atol=1e-5)
    np.testing.assert_allclose(clf.analyzer_.means_, ModalityGapAnalyzer().fit(table).means_)
    # The mean of the networks' logits is the prediction.
    logits = []
    for network in networks:
        single.module_ = network
        logits.append(np.log(single.predict_proba(X)))
    mean = np.exp(np.mean(logits, axis=0))
    np.testing.assert_allclose(clf.predict_proba(X), mean / mean.sum(1, keepdims=True), atol=1e-5)


def test_networks_train_in_step_on_their_own_rows(data, monkeypatch):
    seen, original = [], Net.infer

    def infer(self, batch, **kwargs):
        if self.module_.training:
            seen.append((len(self.history), batch.fold, batch.rows.tolist()))
        return original(self, batch, **kwargs)

    monkeypatch.setattr(Net, "infer", infer)
    clf = ModalityGapClassifier(GROUPS, fine_tune_epochs=0, **FOLDS | {"cv": KFold(3), "batch_size": 50}).fit(*data)
    for epoch in range(1, clf.n_iter_ + 1):
        assert [fold for number, fold, _ in seen if number == epoch] == [0, 1, 2] * 4  # Of 160 rows each.
        for fold, (training_rows, _) in enumerate(KFold(3).split(data[0])):
            rows = [row for number, other, batch in seen if (number, other) == (epoch, fold) for row in batch]
            assert sorted(rows) == training_rows.tolist()


def test_gradients_and_steps_of_a_network_do_not_reach_the_others(data, monkeypatch):
    original = Net.step

    def step(self, batch):
        before = [[p.detach().clone() for p in network.parameters()] for network in self.module_.networks]
        original(self, batch)
        for fold, (network, parameters) in enumerate(zip(self.module_.networks, before, strict=True)):
            changed = any(not torch.equal(p, q) for p, q in zip(network.parameters(), parameters, strict=True))
            assert changed == (fold == batch.fold)

    monkeypatch.setattr(Net, "step", step)
    for optimizer in ("sgd", "adamw"):
        settings = FOLDS | {"max_epochs": 2, "optimizer": optimizer, "max_grad_norm": 0.1}
        ModalityGapClassifier(GROUPS, fine_tune_epochs=1, **settings).fit(*data)


def test_gradients_are_clipped_per_network(data, monkeypatch):
    original, norms = torch.nn.utils.clip_grad_norm_, []

    def clip(parameters, max_norm):
        parameters = list(parameters)
        original(parameters, max_norm)
        norms.append(float(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    ModalityGapClassifier(GROUPS, fine_tune_epochs=0, **FOLDS | {"max_grad_norm": 1e-3}).fit(*data)
    np.testing.assert_allclose(norms, 1e-3, rtol=1e-2)


def test_validation_pools_the_held_out_rows_of_all_folds(data):
    clf = ModalityGapClassifier(GROUPS, fine_tune_epochs=0, **FAST | {"cv": KFold(3), "max_epochs": 3}).fit(*data)
    entry = clf.history_[int(np.argmin([row["valid_loss"] for row in clf.history_]))]
    encoders = {name: clf.module_.branch(name).encoder.encoders for name in GROUPS}
    losses = []
    for fold, (_, held_out_rows) in enumerate(KFold(3).split(data[0])):
        X, y = data[0][held_out_rows], data[1][held_out_rows]
        features = {name: encoders[name][fold](torch.from_numpy(X[:, GROUPS[name]])) for name in sorted(GROUPS)}
        logits = clf.module_.fusion_head.heads[fold].fuse(features)
        losses.append(nn.functional.cross_entropy(logits, torch.from_numpy(y), reduction="none").detach())
    assert float(torch.cat(losses).mean()) == pytest.approx(entry["valid_loss"], rel=1e-4)


def test_class_in_only_one_fold_gives_no_gap(data, tables):
    y = data[1].copy()
    y[7] = 3
    ModalityGapClassifier(GROUPS, **FOLDS).fit(data[0], y)
    for table in tables:
        np.testing.assert_array_equal(np.isnan(table).all(axis=1), np.arange(240) == 7)
    # Only the first two rows have two modalities, and each is the only one of its class.
    X = data[0].copy()
    X[2:, :8] = np.nan
    y[:2] = 4, 5
    with pytest.raises(ValueError, match=r"3 folds of cv leave no row with two modalities to score.*Use cv=None"):
        ModalityGapClassifier(GROUPS, **FOLDS).fit(X, y)


def test_modality_in_only_one_fold_trains_every_network(data, tables):
    X = data[0].copy()
    X[1:, :4] = np.nan
    clf = ModalityGapClassifier(GROUPS, **FOLDS).fit(*[X, data[1]])
    assert np.isfinite(clf.predict_proba(X)).all()
    for table in tables:
        assert np.isnan(table[:, 0]).all()  # A network that has not seen the row would not know the modality.


def test_out_of_fold_gaps_persist_when_rows_are_memorised():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    X = rng.normal(size=(200, 40))  # Noise, which can only be memorised.
    X[:, :20] += 0.5 * rng.normal(size=(3, 20))[y]
    modalities = {"audio": slice(0, 20), "image": slice(20, 40)}
    settings = OFF | {"balanced_weight": 0.01} | EVERY_ROW | {"max_epochs": 60, "lr": 0.1, "encoder": "mlp"}
    train_gap, out_of_fold_gap = (
        ModalityGapClassifier(modalities, **settings | {"cv": cv}).fit(X, y).gap_history_["mean_gap"][-1]
        for cv in (None, 3)
    )
    assert train_gap < 0.05 < 0.2 < out_of_fold_gap


def test_folds_do_not_depend_on_the_order_of_modalities(with_absent):
    X, y = with_absent
    settings = FAST | {"cv": 2}
    first = ModalityGapClassifier(GROUPS, **settings).fit(X, y)
    reordered = {"text": slice(0, 4), "image": slice(4, 8), "audio": slice(8, 12)}
    swapped = np.hstack([X[:, 8:], X[:, 4:8], X[:, :4]])
    second = ModalityGapClassifier(reordered, **settings).fit(swapped, y)
    np.testing.assert_allclose(second.predict_proba(swapped), first.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(second.gap_history_["means"], first.gap_history_["means"], atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler uses what torch deprecates.
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_of_folds_share_their_graphs(data):
    settings = FOLDS | {"encoder": "linear", "max_epochs": 2, "fine_tune_epochs": 0}
    plain = ModalityGapClassifier(GROUPS, **settings).fit(*data).predict_proba(data[0])
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = ModalityGapClassifier(GROUPS, compile=True, **settings).fit(*data).predict_proba(data[0])
    np.testing.assert_allclose(compiled, plain, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4


# As an estimator -----------------------------------------------------------------------------------


def test_grid_search(data):
    grid = {"gap_weight": [0.0, 0.5], "cv": [None, 2]}
    search = GridSearchCV(ModalityGapClassifier(GROUPS, **FAST | {"max_epochs": 3}), grid, cv=2).fit(*data)
    assert len(search.cv_results_["params"]) == 4


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize(
    "stopped_in, epoch, is_fitted", [("joint", 0, False), ("joint", 4, True), ("fine-tuning", 0, True)]
)
def test_ctrl_c_keeps_usable_networks(stopped_in, epoch, is_fitted, cv, monkeypatch, uneven):
    original = Net.train_epoch

    def train_epoch(self, train, batches):
        if self.title == stopped_in and len(self.history) == epoch + 1:
            raise KeyboardInterrupt
        return original(self, train, batches)

    monkeypatch.setattr(Net, "train_epoch", train_epoch)
    clf = ModalityGapClassifier(PAIR, fine_tune_epochs=5, **FAST | {"cv": cv})
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*uneven)
    assert hasattr(clf, "module_") == is_fitted
    if is_fitted:
        assert clf.score(*uneven) > 0.5
        n_adaptive = sum(row["stage"] == "adaptive" for row in clf.history_)
        assert len(clf.gap_history_["means"]) == n_adaptive > 0


@pytest.mark.parametrize(
    "parameter, value, error, message",
    [
        ("gap_weight", -1, ValueError, "gap_weight=-1 must be at least 0"),
        ("shift_weight", "1", TypeError, "must be a number"),
        ("balanced_weight", -0.5, ValueError, "at least 0"),
        ("imbalanced_weight", -0.5, ValueError, "at least 0"),
        ("detach_stronger", 1, TypeError, "True or False"),
        ("warmup_fraction", 1.5, ValueError, "at most 1"),
        ("fine_tune_epochs", 2.5, TypeError, "an integer"),
    ],
)
def test_invalid_parameters_raise(parameter, value, error, message, data):
    with pytest.raises(error, match=message):
        ModalityGapClassifier(GROUPS, **{parameter: value}).fit(*data)
