"""What every balancing method must do, whatever its formula."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import EarlyStopping
from torch import nn

from mmestim import JointClassifier, balancers
from mmestim.balancers import Balancer

METHODS = [value for value in vars(balancers).values() if isinstance(value, type) and issubclass(value, Balancer)]
METHODS.remove(Balancer)
GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"audio": slice(0, 6), "image": slice(6, 12)}
FAST = {"max_epochs": 4, "random_state": 0, "device": "cpu"}

# Methods that by default begin after these few epochs, or need more of them.
AT_WORK = {
    "OPM": {"starts": 0},
    "ReconBoost": {"stage_epochs": 1, "rectify_epochs": 1},
    "Relearning": {"interval": 1},
    "Valuation": {"warmup": 0},
}

# Six modalities take more turns than there are epochs.
pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)


@pytest.fixture(scope="module")
def data(make_data):
    X, y = make_data(150)
    return X, np.array(["red", "green", "blue"])[y]


def at_work(method):
    return method(**AT_WORK.get(method.__name__, {}))


def fit(method, data, modalities=GROUPS, **settings):
    return JointClassifier(modalities, balancer=at_work(method), **FAST | settings).fit(*data)


def test_all_methods_are_public():
    assert {method.__name__ for method in METHODS} < set(balancers.__all__)


@every_method
def test_parameters_are_those_of_an_estimator(method):
    balancer = method()
    assert clone(balancer).get_params() == balancer.get_params()
    assert vars(balancer) == balancer.get_params()
    assert repr(balancer) == f"{method.__name__}()"


@every_method
@pytest.mark.parametrize("n_modalities", [2, 3, 6])
def test_learns_from_any_number_of_modalities(method, n_modalities, data):
    width = 12 // n_modalities
    modalities = {f"m{i}": slice(width * i, width * (i + 1)) for i in range(n_modalities)}
    clf = fit(method, data, modalities, max_epochs=12, lr=0.05)
    assert clf.score(*data) > 0.7
    assert sorted(clf.predict_proba_per_modality(data[0])) == sorted(modalities)


@every_method
def test_with_one_modality_it_is_plain(method, data):
    clf = fit(method, data, None)
    np.testing.assert_array_equal(clf.predict_proba(data[0]), JointClassifier(**FAST).fit(*data).predict_proba(data[0]))
    assert (clf.balancer_, clf.balance_history_) == (None, {})


@every_method
def test_it_changes_the_training(method, data):
    clf, plain = fit(method, data), fit(Balancer, data, unimodal_weight=float(method.unimodal == "heads"))
    same = np.array_equal(clf.predict_proba(data[0]), plain.predict_proba(data[0]))
    assert same == (method is balancers.GradientConflict)  # which only measures


@every_method
def test_order_of_modalities_does_not_matter(method, with_absent):
    X, y = with_absent
    one = fit(method, (X, y))
    swapped = np.hstack([X[:, 8:], X[:, 4:8], X[:, :4]])
    turned = {"text": slice(0, 4), "image": slice(4, 8), "audio": slice(8, 12)}
    other = fit(method, (swapped, y), turned)
    np.testing.assert_allclose(other.predict_proba(swapped), one.predict_proba(X), atol=1e-5)


@every_method
def test_fits_leave_nothing_behind(method, data):
    X, y = data
    clf = JointClassifier(GROUPS, balancer=at_work(method), **FAST)
    first = clf.fit(X, y).predict_proba(X)
    assert vars(clf.balancer) == at_work(method).get_params()
    assert clf.balancer_ is not clf.balancer
    torch.manual_seed(7)
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), first)
    np.testing.assert_array_equal(clone(clf).fit(X, y).predict_proba(X), first)


@every_method
def test_pickles_with_its_state(method, data):
    clf = fit(method, data)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(data[0]), clf.predict_proba(data[0]))
    np.testing.assert_array_equal(
        again.predict_proba_per_modality(data[0])["text"], clf.predict_proba_per_modality(data[0])["text"]
    )
    np.testing.assert_equal(vars(again.balancer_), vars(clf.balancer_))
    assert not [name for name, value in flat(vars(clf.balancer_)) if isinstance(value, torch.Tensor | nn.Module)]
    assert all(
        len(values) == sum(row["stage"] == "joint" for row in clf.history_) for values in clf.balance_history_.values()
    )


def flat(values, prefix=""):
    for name, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield f"{prefix}{name}", value
        if isinstance(value, dict | list | tuple):
            yield from flat(value, f"{prefix}{name}.")


@every_method
@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
def test_any_fusion(method, fusion, with_absent):
    X, y = with_absent[0][:, 4:], with_absent[1]
    X = X.copy()
    X[np.isnan(X).all(1), 4:] = 0
    clf = fit(method, (X, y), {"image": slice(0, 4), "text": slice(4, 8)}, fusion=fusion)
    assert np.isfinite(clf.predict_proba(X)).all()
    assert all(np.isfinite(values).all() for values in clf.balance_history_.values())


@every_method
def test_frozen_encoders(method, data):
    clf = fit(method, data, encoder={"audio": nn.Identity(), "text": nn.Identity()})
    assert np.isfinite(clf.predict_proba(data[0])).all()


@every_method
def test_rare_classes_weights_and_small_batches(method, data):
    X, y = data[0], data[1].copy()
    y[:2] = "black"
    clf = JointClassifier(GROUPS, balancer=at_work(method), batch_size=7, class_weight="balanced", **FAST)
    clf.fit(X, y, sample_weight=np.linspace(0, 2, 150))
    assert np.isfinite(clf.predict_proba(X)).all()


@every_method
def test_bf16(method, data):
    assert np.isfinite(fit(method, data, precision="bf16").predict_proba(data[0])).all()


@pytest.mark.gpu
@every_method
def test_gpu(method, with_absent):
    clf = fit(method, with_absent, device="cuda")
    assert np.isfinite(clf.predict_proba(with_absent[0])).all()


def test_grid_search(data):
    methods = [None, *(method() for method in METHODS[:2])]
    search = GridSearchCV(JointClassifier(PAIR, **FAST | {"max_epochs": 2}), {"balancer": methods}, cv=2).fit(*data)
    assert len(search.cv_results_["params"]) == 3


def test_grid_search_over_parameters_of_a_method(data):
    clf = JointClassifier(PAIR, balancer=balancers.OGM(), **FAST)
    grid = [{"balancer__alpha": [0.1, 1.0], "balancer__enhance": [False]}, {"balancer": [None]}]
    search = GridSearchCV(clf, grid, cv=2).fit(*data)
    assert len(search.cv_results_["params"]) == 3
    apart = [JointClassifier(PAIR, balancer=b, **FAST) for b in (balancers.OGM(0.1, enhance=False), None)]
    scores = [cross_val_score(one, *data, cv=2).mean() for one in apart]
    assert search.cv_results_["mean_test_score"][[0, 2]].tolist() == scores


def test_numbers_are_recorded(data):
    class Counting(Balancer):
        def after_backward(self, training, outputs):
            training.record("half", 0.5)

    np.testing.assert_array_equal(fit(Counting, data).balance_history_["half"], [0.5] * 4)


def test_a_misspelt_kind_of_logits_is_named(data):
    class Misspelt(Balancer):
        unimodal = "head"

    with pytest.raises(ValueError, match=r"Misspelt.unimodal='head' is not known. Use one of None, 'split', 'heads'"):
        fit(Misspelt, data)


@pytest.mark.parametrize("balancer", ["ogm", Balancer, object()])
def test_what_is_no_balancer_is_refused(balancer, data):
    with pytest.raises(TypeError, match=r"balancer=.* must be an instance .* mmestim.balancers, or None"):
        JointClassifier(PAIR, balancer=balancer, **FAST).fit(*data)


def test_a_balancer_without_hooks_is_plain_training(data):
    with_hooks = JointClassifier(GROUPS, balancer=Balancer(), unimodal_weight=0.7, **FAST).fit(*data)
    plain = JointClassifier(GROUPS, unimodal_weight=0.7, **FAST).fit(*data)
    np.testing.assert_allclose(with_hooks.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-6)


class Spy(Balancer):
    """Notes what it is called with."""

    unimodal = "split"

    def begin(self, training):
        self.calls_ = ["begin"]

    def begin_epoch(self, training):
        self.calls_.append(f"begin_epoch {training.epoch}")

    def loss(self, training, outputs):
        self.calls_.append("loss")
        self.seen_ = outputs
        assert outputs.unimodal.keys() == outputs.features.keys()
        assert outputs.scores.shape == (len(training.names), outputs.batch.size)  # before the weights move on
        return super().loss(training, outputs)

    def backward(self, training, outputs, loss):
        self.calls_.append("backward")
        super().backward(training, outputs, loss)

    def after_backward(self, training, outputs):
        self.calls_.append("after_backward")
        training.record("loudness", torch.tensor([1.0, 2.0]) * len(self.calls_))

    def end_epoch(self, training):
        self.calls_.append("end_epoch")

    def _keep_state(self):
        """Tensors stay what they are, to be looked at."""


def test_hooks_come_in_order(data):
    clf = fit(Spy, data, PAIR, max_epochs=2, batch_size=100, early_stopping=False)
    step = ["loss", "backward", "after_backward"]
    epochs = [["begin_epoch 0", *step, *step, "end_epoch"], ["begin_epoch 1", *step, *step, "end_epoch"]]
    assert clf.balancer_.calls_ == ["begin", *epochs[0], *epochs[1]]
    # The means of what was recorded: after 5 and 8 calls, then after 13 and 16.
    np.testing.assert_allclose(clf.balance_history_["loudness"], [[6.5, 13.0], [14.5, 29.0]])


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_parts_add_up_to_the_fused_logits(fusion, with_absent):
    outputs = fit(Spy, with_absent, fusion=fusion, max_epochs=1).balancer_.seen_
    total = torch.stack(list(outputs.unimodal.values())).sum(0)
    torch.testing.assert_close(total, outputs.logits, atol=1e-5, rtol=1e-5)


def test_scores_are_those_of_rows_that_have_two_modalities(with_absent):
    outputs = fit(Spy, with_absent, max_epochs=1, early_stopping=False, batch_size=150).balancer_.seen_
    rows = outputs.batch.rows.numpy()
    have = np.stack([~np.isnan(with_absent[0][rows, column]) for column in (0, 4, 8)])
    np.testing.assert_array_equal(outputs.present.numpy(), have)
    shared = have & (have.sum(0) > 1)
    for number, z in enumerate(outputs.unimodal.values()):
        score = torch.softmax(z, 1)[range(150), outputs.batch.y].detach().numpy()
        np.testing.assert_allclose(outputs.scores[number], score, rtol=1e-5)
        assert outputs.mean_scores[number].item() == pytest.approx(score[shared[number]].mean(), rel=1e-5)


@pytest.mark.parametrize("fusion", ["gated", "film"])
def test_heads_that_are_only_read_leave_the_encoders_alone(fusion, data):
    plain = JointClassifier(PAIR, fusion=fusion, **FAST).fit(*data)
    read = fit(Spy, data, PAIR, fusion=fusion)
    np.testing.assert_allclose(read.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-6)
    share = read.predict_proba_per_modality(data[0])["image"]
    assert (read.classes_[share.argmax(1)] == data[1]).mean() > 0.5  # though these learn


def test_heads_that_are_not_asked_for_are_not_there(data):
    class Curious(Balancer):
        def loss(self, training, outputs):
            return outputs.scores.sum() + super().loss(training, outputs)

    with pytest.raises(TypeError, match="set unimodal = 'split' or 'heads'"):
        JointClassifier(PAIR, fusion="gated", balancer=Curious(), **FAST).fit(*data)


@pytest.mark.parametrize("method", [balancers.UMT, balancers.PreTraining])
def test_callbacks_serve_the_joint_stage_afresh(method, data):
    """Trainings before it must leave them no state of theirs."""
    stop = EarlyStopping("train_loss", patience=3, threshold=0, threshold_mode="abs", sink=lambda text: None)
    settings = FAST | {"max_epochs": 12, "early_stopping": False, "lr": 0.005}
    clf = JointClassifier(GROUPS, balancer=method(), callbacks=[stop], **settings).fit(*data)
    assert sum(row["stage"] == "joint" for row in clf.history_) == 12


@pytest.mark.parametrize("method", [balancers.MMCosine, balancers.AMCo, balancers.MLA])
def test_a_head_of_its_own_takes_the_place_of_gates(method, data):
    clf = fit(method, data, fusion="gated")
    np.testing.assert_array_equal(clf.predict_proba(data[0]), fit(method, data).predict_proba(data[0]))


def test_scores_count_rows_by_their_weights(data):
    X, y = data
    weight = np.where(y == "red", 3.0, 1.0)
    settings = {"max_epochs": 1, "early_stopping": False, "batch_size": 150}
    clf = JointClassifier(PAIR, balancer=Spy(), **FAST | settings).fit(X, y, sample_weight=weight)
    outputs = clf.balancer_.seen_
    expected = np.average(outputs.scores.numpy(), axis=1, weights=weight[outputs.batch.rows.numpy()])
    np.testing.assert_allclose(outputs.mean_scores, expected, rtol=1e-5)


class Shared(nn.Linear):
    """A layer that all encoders have in common."""

    layer = nn.Linear(4, 5)

    def __init__(self, input_shape):
        super().__init__(5, 6)
        self.common = self.layer

    def forward(self, x):
        return super().forward(self.common(x))


def test_mmpareto_refuses_encoders_that_share_parameters(data):
    with pytest.raises(ValueError, match="two encoders share parameters"):
        fit(balancers.MMPareto, data, encoder=Shared)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler uses what torch deprecates.
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_methods_that_go_back_twice_serve_a_graph_that_plain_training_compiled(data):
    for balancer in (None, balancers.GradientConflict(), balancers.MMPareto()):
        plain, compiled = (
            JointClassifier(PAIR, balancer=balancer, compile=compile, **FAST | {"max_epochs": 2}).fit(*data)
            for compile in (False, True)
        )
        np.testing.assert_allclose(compiled.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-4)
