"""ModalityGapClassifier: its loss by numbers worked elsewhere, its stages, its plain counterpart when all is off."""

import contextlib

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from skorch.callbacks import Callback
from torch import nn

from mmestim import JointClassifier, ModalityGapAnalyzer, ModalityGapClassifier, gap_scores
from mmestim._data.batches import Batch
from mmestim._training.net import Net
from mmestim.multimodal import modality_gap_classifier
from mmestim.multimodal._analysis.gap_mixture import GapMixture
from mmestim.multimodal._objectives.gap_scorers import OutOfFoldScores
from mmestim.multimodal._objectives.modality_gap import (
    HISTORY,
    GapObjective,
    GapTerms,
    batch_gaps,
    gap_history,
    gap_loss,
    shift_loss,
)

PAIR = {"audio": slice(0, 3), "image": slice(3, 6)}
GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"max_epochs": 10, "random_state": 0, "device": "cpu"}
EVERY_ROW = FAST | {"early_stopping": False}
OFF = {"gap_weight": 0, "shift_weight": 0, "balanced_weight": 0, "fine_tune_epochs": 0}


@pytest.fixture(scope="module")
def data():
    """Three modalities, each stronger than the one before."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    means = np.repeat(np.eye(3)[y], [2, 1, 1], axis=1)
    X = np.hstack([scale * means + rng.normal(size=(240, 4)) for scale in (0.7, 1.2, 3.0)])
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def uneven():
    """Two modalities, of which the second tells nothing in a third of the rows."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 240)
    X = 3 * np.tile(np.eye(3)[y], 2) + rng.normal(size=(240, 6))
    X[160:, 3:] = 1 + rng.normal(size=(80, 3))
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def with_absent(data):
    X, y = data[0].copy(), data[1]
    X[::3, :4] = np.nan
    X[1::3, 4:8] = np.nan
    X[:12, :8] = np.nan
    return X, y


# The loss ------------------------------------------------------------------------------------------


def example(absent):
    """Logits of three modalities and fused ones for five rows, as a batch and in numpy, NaN where absent."""
    rng = np.random.default_rng(3)
    values = {name: rng.normal(size=(5, 4), scale=2) for name in GROUPS}
    fused, y = rng.normal(size=(5, 4)), np.array([0, 3, 1, 2, 0])
    have = {name: np.ones(5, dtype=bool) for name in GROUPS}
    if absent:
        have["audio"][[0, 2]] = have["image"][[2, 3]] = False
    present = {name: torch.from_numpy(np.flatnonzero(mask)) for name, mask in have.items() if not mask.all()}
    x = {name: torch.zeros(mask.sum(), 4) for name, mask in have.items()}
    weight = rng.uniform(0.5, 2, 5)
    batch = Batch(x, present, 5, torch.from_numpy(y), torch.from_numpy(weight), torch.arange(5))
    scores = np.column_stack([np.where(have[m], softmax(z, axis=1)[range(5), y], np.nan) for m, z in values.items()])
    logits = {name: torch.from_numpy(z).requires_grad_() for name, z in values.items()}
    return logits, torch.from_numpy(fused), batch, scores


def cross_entropies(logits, y):
    return -np.log(softmax(np.asarray(logits), axis=1)[np.arange(len(y)), y])


class Stub:
    """What an objective needs of a net."""

    def __init__(self, logits):
        self.logits, self.options, self.module_ = logits, self, self

    def autocast(self):
        return contextlib.nullcontext()

    def unimodal_logits(self, features, name):
        return self.logits[name]


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize(
    "terms",
    [
        {"gap_weight": 0.7},
        {"shift_weight": 0.6},
        {"balanced_weight": 1.5},
        {"gap_weight": 0.7, "imbalanced_weight": 2.0},
        {"gap_weight": 0.7, "shift_weight": 0.6, "balanced_weight": 1.5, "imbalanced_weight": 2.0},
    ],
)
def test_loss_is_the_formula(terms, absent):
    logits, fused, batch, scores = example(absent)
    terms = {"gap_weight": 0.0, "shift_weight": 0.0, "balanced_weight": 0.0, "imbalanced_weight": 0.0, **terms}
    objective = GapObjective(0.8, GapTerms(**terms, detach_stronger=False), None, 0)
    objective.mixture = GapMixture(np.array([0.1, 0.6]), np.array([0.01, 0.04]), np.array([0.5, 0.5]))
    q = np.array([0.9, 0.2, 0.5, 0.7, 0.1])
    objective.balanced = torch.from_numpy(q)

    w, y, r = batch.weight.numpy(), batch.y.numpy(), 1 - q
    gap = np.nanmax(scores, axis=1) - np.nanmin(scores, axis=1)
    known = (~np.isnan(scores)).sum(axis=1) > 1
    expected = np.mean(w * (1 + terms["balanced_weight"] * q) * cross_entropies(fused, y))
    for column, z in enumerate(logits.values()):
        have = ~np.isnan(scores[:, column])
        expected += 0.8 * np.mean((w * cross_entropies(z.detach(), y))[have])
    expected += terms["gap_weight"] * np.mean((w * (1 + terms["imbalanced_weight"] * r) * gap)[known])
    excess = (w * r * np.maximum(0, gap - 0.1) ** 2)[known].sum() / (w * r)[known].sum()
    expected += terms["shift_weight"] * excess
    assert known.sum() == (4 if absent else 5)
    assert objective.loss(Stub(logits), (fused, None), batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("term", ["gap", "shift"])
def test_gradients_are_those_of_finite_differences(term, weighted, absent):
    logits, _, batch, _ = example(absent)
    imbalanced, weight = torch.tensor([0.9, 0.2, 0.5, 0.7, 0.1]), batch.weight if weighted else None

    def loss(*values):
        gaps, known = batch_gaps(dict(zip(logits, values, strict=True)), batch, detach_stronger=False)
        return (gap_loss if term == "gap" else shift_loss)(gaps, imbalanced, weight, known, 0.3)

    assert torch.autograd.gradcheck(loss, tuple(logits.values()))


def test_detached_the_stronger_modality_is_not_pulled():
    logits, _, batch, scores = example(absent=False)
    batch_gaps(logits, batch, detach_stronger=True)[0].sum().backward()
    strongest, weakest = scores.argmax(axis=1), scores.argmin(axis=1)
    for column, z in enumerate(logits.values()):
        pulled = z.grad.abs().sum(1).numpy() > 0
        np.testing.assert_array_equal(pulled, weakest == column)
        assert not pulled[strongest == column].any()


def test_a_row_without_modalities_gives_no_gap_and_no_nan():
    logits, _, batch, _ = example(absent=True)
    nothing = {name: positions[positions != 4] for name, positions in batch.present.items()}
    nothing["text"] = torch.arange(4)
    batch = batch._replace(present=nothing, x={name: torch.zeros(len(at), 4) for name, at in nothing.items()})
    gaps, known = batch_gaps(logits, batch, detach_stronger=False)
    gaps.sum().backward()
    assert (gaps[4].item(), known[4].item()) == (0, False)
    assert all(torch.isfinite(z.grad).all() for z in logits.values())


# Posteriors ----------------------------------------------------------------------------------------


def renewed(*tables):
    """An objective that saw these tables of scores, each row of X a training row."""
    objective = GapObjective(1.0, GapTerms(0.5, 0.5, 1.0, 1.0, False), None, 0)
    objective.balanced = torch.full((len(tables[0]),), 0.5)
    for table in tables:
        objective._update_posteriors(table, torch.arange(len(table)))
    return objective


def table(*gaps_and_counts):
    rng = np.random.default_rng(0)
    gaps = np.concatenate([rng.normal(gap, 0.03, n) for gap, n in gaps_and_counts])
    return np.column_stack([0.05 + gaps.clip(0, 0.9), np.full(len(gaps), 0.05)]).astype(np.float32)


def test_posteriors_are_those_of_the_analyzer():
    scores = table((0.1, 300), (0.6, 100))
    scores[:5, 1] = np.nan
    expected = ModalityGapAnalyzer().fit(scores).transform(scores)
    objective = renewed(scores)
    np.testing.assert_allclose(objective.balanced, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(objective.balanced[:5], objective.mixture.weights[0], atol=1e-6)
    history = gap_history(objective.records)
    assert history["kept"].tolist() == [True]
    assert history["mean_gap"][0] == pytest.approx(np.nanmean(scores[:, 0] - scores[:, 1]), abs=1e-6)


@pytest.mark.parametrize("collapsed", [table((0.02, 400)), table((0.02, 395), (0.8, 5)), np.full((400, 2), 0.5)])
def test_a_mixture_that_does_not_hold_leaves_the_last_good_one(collapsed):
    good = table((0.1, 300), (0.6, 100))
    objective = renewed(good, collapsed)
    assert gap_history(objective.records)["kept"].tolist() == [True, False]
    np.testing.assert_array_equal(objective.mixture.means, renewed(good).mixture.means)
    alone = renewed(collapsed)
    assert (alone.balanced == 0.5).all()
    # What did not hold is no place to start from.
    alone._update_posteriors(good, torch.arange(400))
    assert gap_history(alone.records)["kept"].tolist() == [False, True]


# Stages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap_source", ["train", "out_of_fold"])
def test_with_every_weight_zero_it_is_joint_training(gap_source, with_absent):
    X, y = with_absent
    joint = JointClassifier(GROUPS, unimodal_weight=1.0, **FAST).fit(X, y)
    clf = ModalityGapClassifier(GROUPS, gap_source=gap_source, **OFF, **FAST).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), joint.predict_proba(X))
    assert clf.n_warmup_ == clf.n_iter_ == joint.n_iter_
    assert {key: len(values) for key, values in clf.gap_history_.items()} == dict.fromkeys(HISTORY.names, 0)
    assert clf.analyzer_.means_.shape == (2,)


@pytest.mark.parametrize("term", ["gap_weight", "shift_weight", "balanced_weight"])
def test_each_term_alone_changes_what_is_learnt(term, data):
    X, y = data
    off = ModalityGapClassifier(GROUPS, **OFF, **EVERY_ROW).fit(X, y)
    on = ModalityGapClassifier(GROUPS, **OFF | {term: 1.0}, **EVERY_ROW).fit(X, y)
    assert not np.allclose(on.predict_proba(X), off.predict_proba(X), atol=1e-3)


def test_the_adaptive_epochs_begin_after_the_warm_up(data):
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=0.25, fine_tune_epochs=2, **EVERY_ROW).fit(*data)
    assert clf.n_warmup_ == 3  # a quarter of ten, rounded up
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


def test_warm_up_only(data):
    X, y = data
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=1.0, fine_tune_epochs=0, **EVERY_ROW).fit(X, y)
    joint = JointClassifier(GROUPS, unimodal_weight=1.0, **EVERY_ROW).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), joint.predict_proba(X))


def test_early_stopping_waits_for_the_adaptive_epochs(data):
    settings = FAST | {"max_epochs": 40, "n_iter_no_change": 1, "lr": 0.1}
    assert JointClassifier(GROUPS, unimodal_weight=1.0, **settings).fit(*data).n_iter_ < 20
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=0.5, fine_tune_epochs=0, **settings).fit(*data)
    assert clf.n_iter_ > clf.n_warmup_ == 20


def test_the_epoch_kept_is_an_adaptive_one(data, monkeypatch):
    states = []

    class Keep(Callback):
        def on_epoch_end(self, net, **kwargs):
            states.append([p.detach().clone() for p in net.module_.parameters()])

    # Ever worse from the first epoch on.
    monkeypatch.setattr(Net, "validate", lambda net, valid: (1.0, 1.0 / len(net.history)))
    settings = FAST | {"max_epochs": 20, "n_iter_no_change": 2, "callbacks": [Keep()]}
    clf = ModalityGapClassifier(GROUPS, warmup_fraction=0.25, fine_tune_epochs=0, **settings).fit(*data)
    assert (clf.n_warmup_, clf.n_iter_) == (5, 8)
    for kept, first_adaptive in zip(clf.module_.parameters(), states[5], strict=True):
        assert torch.equal(kept, first_adaptive)


@pytest.mark.parametrize("detach_stronger", [False, True])
def test_the_pull_closes_the_gap(detach_stronger, uneven):
    X, y = uneven
    settings = EVERY_ROW | {"max_epochs": 30, "lr": 0.05}

    def gap(weight):
        weights = OFF | {"gap_weight": weight, "detach_stronger": detach_stronger}
        scores = gap_scores(ModalityGapClassifier(PAIR, **weights, **settings).fit(X, y), X, y)
        return np.ptp(scores, axis=1).mean()

    assert gap(4.0) < 0.8 * gap(0.0)


def test_the_analyzer_is_that_of_the_training_rows(data):
    X, y = data
    clf = ModalityGapClassifier(GROUPS, fine_tune_epochs=0, **EVERY_ROW).fit(X, y)
    expected = ModalityGapAnalyzer().fit(gap_scores(clf, X, y))
    np.testing.assert_allclose(clf.analyzer_.means_, expected.means_, atol=1e-5)
    np.testing.assert_allclose(clf.analyzer_.weights_, expected.weights_, atol=1e-4)


def test_only_rows_called_balanced_fine_tune(uneven, monkeypatch):
    X, y = uneven
    before = ModalityGapClassifier(PAIR, fine_tune_epochs=0, **EVERY_ROW).fit(X, y)
    seen, original = [], modality_gap_classifier.train

    def train(module, train_rows, valid_rows, options, **kwargs):
        seen.append((train_rows.rows.tolist(), options.lr))
        return original(module, train_rows, valid_rows, options, **kwargs)

    monkeypatch.setattr(modality_gap_classifier, "train", train)
    after = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **EVERY_ROW).fit(X, y)
    balanced = before.analyzer_.transform(gap_scores(before, X, y))[:, 0] > 0.5
    assert 100 < balanced.sum() < 200
    assert seen == [(np.flatnonzero(balanced).tolist(), pytest.approx(0.001))]
    assert not np.array_equal(after.predict_proba(X), before.predict_proba(X))
    assert (before.fine_tuned_, after.fine_tuned_) == (False, True)


def test_fine_tuning_leaves_no_class_out(uneven):
    X, y = uneven
    y = y.copy()
    y[160:] = 3  # the rows in which the image tells nothing
    clf = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **EVERY_ROW).fit(X, y)
    balanced = clf.analyzer_.transform(gap_scores(clf, X, y))[:, 0] > 0.5
    assert clf.fine_tuned_ == (set(y[balanced]) == {0, 1, 2, 3})
    lonely = np.r_[y[:160], np.full(80, 0)]
    lonely[-1] = 4
    X = X.copy()
    X[-1, 3:] = np.nan  # without a gap it is not balanced
    clf = ModalityGapClassifier(PAIR, fine_tune_epochs=3, **EVERY_ROW).fit(X, lonely)
    assert not clf.fine_tuned_
    assert "fine-tuning" not in {row["stage"] for row in clf.history_}


def test_fine_tuning_for_the_worse_is_undone(uneven, monkeypatch):
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
def test_where_no_row_has_a_gap_it_is_joint_training(modalities, absent, data):
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


def test_refitting_forgets_the_first_gaps(data):
    X, y = data
    clf = ModalityGapClassifier(GROUPS, **FAST).fit(X, y)
    clf.set_params(**OFF).fit(X, y)
    assert len(clf.gap_history_["kept"]) == 0


# Gaps out of fold ----------------------------------------------------------------------------------


def test_each_row_is_scored_by_a_network_that_has_not_seen_it(data, monkeypatch):
    seen = []
    original = OutOfFoldScores.train_epoch

    def train_epoch(self, net):
        seen.append((self, net))
        original(self, net)

    monkeypatch.setattr(OutOfFoldScores, "train_epoch", train_epoch)
    X, y = data
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=4, **EVERY_ROW).fit(X, y)
    source, net = seen[-1]
    assert len(seen) == 10  # in step
    assert np.sort(np.concatenate([held_out for _, held_out in source.splits])).tolist() == list(range(240))
    for companion, (kept, held_out) in zip(source.shadow_networks, source.splits, strict=True):
        assert np.union1d(kept, held_out).tolist() == list(range(240))
        assert (len(kept), len(held_out)) == (180, 60)
        assert np.ptp(np.bincount(y[held_out]) - np.bincount(y) / 4) < 2  # stratified
        assert companion.rows.rows.tolist() == kept.tolist()
        assert companion.net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.001)  # of the last epochs, as net's
        assert companion.net.module_ is not net.module_
    table = source.scores(clf.module_)
    own = ModalityGapClassifier(GROUPS, **OFF, **EVERY_ROW).fit(X, y)  # for its predict_proba_per_modality
    own.module_ = source.shadow_networks[2].net.module_
    held_out = source.splits[2][1]
    np.testing.assert_allclose(table[held_out], gap_scores(own, X[held_out], y[held_out]), atol=1e-5)


def test_networks_out_of_fold_draw_no_random_numbers_of_the_main_one(data):
    def noisy(input_shape, embedding_dim):
        return nn.Sequential(nn.Linear(*input_shape, embedding_dim), nn.Dropout(0.5))

    one, other = (
        ModalityGapClassifier(GROUPS, encoder=noisy, gap_source=source, **OFF, **FAST).fit(*data).predict_proba(data[0])
        for source in ("train", "out_of_fold")
    )
    np.testing.assert_array_equal(one, other)


def test_a_class_that_only_one_fold_has_gives_no_gap(data, monkeypatch):
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


def test_gaps_out_of_fold_outlive_learning_by_heart():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    X = rng.normal(size=(200, 40))  # nothing to learn but the rows themselves
    X[:, :20] += 0.5 * rng.normal(size=(3, 20))[y]
    modalities = {"audio": slice(0, 20), "image": slice(20, 40)}
    settings = OFF | {"balanced_weight": 0.01} | EVERY_ROW | {"max_epochs": 60, "lr": 0.1}
    own, other = (
        ModalityGapClassifier(modalities, gap_source=source, **settings).fit(X, y).gap_history_["mean_gap"][-1]
        for source in ("train", "out_of_fold")
    )
    assert own < 0.05 < 0.2 < other


@pytest.fixture
def splits(monkeypatch):
    """Splits of the fits of a test."""
    seen = []
    original = OutOfFoldScores.begin
    monkeypatch.setattr(OutOfFoldScores, "begin", lambda self, net: (seen.append(self.splits), original(self, net)))
    return seen


def test_folds_keep_groups_whole(data, splits):
    groups = np.arange(240) % 13
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=3, **FAST | {"max_epochs": 2})
    clf.fit(*data, groups=groups)
    assert len(splits[0]) == 3
    for kept, held_out in splits[0]:
        assert set(groups[kept]).isdisjoint(groups[held_out])
    with pytest.raises(ValueError, match=r"cv=3 is more than the 2 groups .* smaller cv"):
        clf.set_params(early_stopping=False).fit(*data, groups=np.arange(240) % 2)


def test_cv_may_be_a_splitter_or_a_list(data, splits):
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", **EVERY_ROW | {"max_epochs": 1})
    clf.set_params(cv=KFold(3)).fit(*data)
    assert [held_out.tolist() for _, held_out in splits[0]] == np.arange(240).reshape(3, 80).tolist()
    # Who leaves rows out of training has reasons to.
    purged = [(np.arange(100, 240), np.arange(80)), (np.arange(60), np.arange(80, 240))]
    clf.set_params(cv=purged, early_stopping=True).fit(*data)
    for (kept, held_out), (whole, _) in zip(splits[1], purged, strict=True):
        assert set(kept) < set(whole)  # without those that validate
        assert set(kept).isdisjoint(held_out)


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
def test_bad_cv(cv, error, message, data):
    with pytest.raises(error, match=message):
        ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=cv, **EVERY_ROW).fit(*data)


def test_more_folds_than_rows_of_any_class(data):
    clf = ModalityGapClassifier(GROUPS, gap_source="out_of_fold", cv=5, **EVERY_ROW)
    with pytest.raises(ValueError, match="cv=5 is more than the 4 rows of the largest class"):
        clf.fit(data[0], np.arange(240) % 60, groups=np.arange(240) % 10)


def test_out_of_fold_does_not_depend_on_the_order_of_modalities(with_absent):
    X, y = with_absent
    settings = {"gap_source": "out_of_fold", "cv": 2, **FAST}
    one = ModalityGapClassifier(GROUPS, **settings).fit(X, y)
    turned = {"text": slice(0, 4), "image": slice(4, 8), "audio": slice(8, 12)}
    swapped = np.hstack([X[:, 8:], X[:, 4:8], X[:, :4]])
    other = ModalityGapClassifier(turned, **settings).fit(swapped, y)
    np.testing.assert_allclose(other.predict_proba(swapped), one.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(other.gap_history_["means"], one.gap_history_["means"], atol=1e-5)


# As an estimator -----------------------------------------------------------------------------------


def test_grid_search(data):
    grid = {"gap_weight": [0.0, 0.5], "gap_source": ["train", "out_of_fold"]}
    search = GridSearchCV(ModalityGapClassifier(GROUPS, **FAST | {"max_epochs": 3}), grid, cv=2).fit(*data)
    assert len(search.cv_results_["params"]) == 4


@pytest.mark.parametrize(
    "stopped_in, epoch, is_fitted", [("joint", 0, False), ("joint", 4, True), ("fine-tuning", 0, True)]
)
def test_ctrl_c_keeps_what_is_usable(stopped_in, epoch, is_fitted, monkeypatch, uneven):
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


def test_divergence_of_a_network_out_of_fold_is_told(data, monkeypatch):
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
def test_bad_parameters(parameter, value, error, message, data):
    with pytest.raises(error, match=message):
        ModalityGapClassifier(GROUPS, **{parameter: value}).fit(*data)
