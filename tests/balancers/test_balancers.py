"""Contract that every balancing method fulfils, whatever its formula."""

import contextlib
import inspect
import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import EarlyStopping
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmestim import JointClassifier, balancers, load, save
from mmestim.balancers import AGM, MLA, OGM, UMT, AMCo, Balancer, GradientConflict, MMCosine, MMPareto, PreTraining
from mmestim.multimodal._objectives.balanced import BalancedObjective

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"audio": slice(0, 6), "image": slice(6, 12)}
FAST = {"cv": None, "optimizer": "sgd", "max_epochs": 4, "random_state": 0, "device": "cpu"}

# With six modalities ReconBoost needs more epochs than these tests train.
pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def data(make_data):
    X, y = make_data(150)
    return X, np.array(["red", "green", "blue"])[y]


def fit(balancer, data, modalities=GROUPS, **settings):
    return JointClassifier(modalities, balancer=balancer, **FAST | settings).fit(*data)


def test_methods_are_public(balancing_method):
    assert balancing_method.__name__ in balancers.__all__


def test_constructors_follow_the_conventions_of_estimators(balancing_method):
    balancer = balancing_method()
    assert clone(balancer).get_params() == balancer.get_params()
    assert vars(balancer) == balancer.get_params()
    assert repr(balancer) == f"{balancing_method.__name__}()"


def test_overridden_hooks_inherit_their_docstrings(balancing_method):
    hooks = [name for name in vars(Balancer) if not name.startswith("_") and callable(getattr(Balancer, name))]
    assert {"begin", "train_batch", "end_epoch", "state_dict"} <= set(hooks)
    for name in hooks:
        assert inspect.getdoc(getattr(balancing_method, name)) == inspect.getdoc(getattr(Balancer, name))


@pytest.mark.parametrize("n_modalities", [2, 3, 6])
def test_methods_learn_from_any_number_of_modalities(balancer, n_modalities, data):
    width = 12 // n_modalities
    modalities = {f"m{i}": slice(width * i, width * (i + 1)) for i in range(n_modalities)}
    clf = fit(balancer, data, modalities, max_epochs=12, lr=0.05)
    assert clf.score(*data) > 0.7
    assert sorted(clf.predict_proba_per_modality(data[0])) == sorted(modalities)


def test_training_with_one_modality_is_plain(balancer, data):
    clf = fit(balancer, data, None)
    np.testing.assert_array_equal(clf.predict_proba(data[0]), JointClassifier(**FAST).fit(*data).predict_proba(data[0]))
    assert (clf.balancers_, clf.balance_history_) == ([], [])


class ScanRecorder(TorchDispatchMode):
    """Record the operations that compute on tensors of `n_values` or more; views and look-ups do not."""

    LOOK_UPS = ("index", "index_put_", "index_select", "gather", "detach", "_unsafe_index")

    def __init__(self, n_values):
        super().__init__()
        self.n_values, self.scans = n_values, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        is_look_up = function.is_view or function.overloadpacket.__name__ in self.LOOK_UPS
        read = [] if is_look_up else [args, kwargs]
        written = [] if function.overloadpacket.__name__ == "index_put_" or function.is_view else [result]
        sizes = [value.numel() for value in tree_leaves([read, written]) if isinstance(value, torch.Tensor)]
        if max(sizes, default=0) >= self.n_values:
            self.scans.append(str(function))
        return result


def test_no_step_scans_all_rows(balancer, monkeypatch):
    """The time of a step does not grow with the number of rows."""
    train_batch, recorder, steps = BalancedObjective.train_batch, ScanRecorder(1100), []

    def watched(objective, net, batch):
        steps.append(batch.size)
        with recorder if len(steps) % 40 == 0 else contextlib.nullcontext():
            return train_batch(objective, net, batch)

    monkeypatch.setattr(BalancedObjective, "train_batch", watched)
    X = np.random.default_rng(0).normal(size=(1300, 12)).astype(np.float32)
    X[::7, :4] = np.nan
    settings = {"batch_size": 16, "max_epochs": 2, "embedding_dim": 4, "encoder": "linear"}
    fit(balancer, (X, np.arange(1300) % 3), **settings)
    assert len(steps) > 120
    assert recorder.scans == []


def test_all_methods_but_gradient_conflict_change_the_training(balancer, data):
    clf, plain = fit(balancer, data), fit(Balancer(), data, unimodal_weight=float(balancer.unimodal == "heads"))
    is_unchanged = np.array_equal(clf.predict_proba(data[0]), plain.predict_proba(data[0]))
    assert is_unchanged == isinstance(balancer, GradientConflict)


def test_results_are_independent_of_the_order_of_modalities(balancer, with_absent):
    X, y = with_absent
    clf = fit(balancer, (X, y))
    swapped = np.hstack([X[:, 8:], X[:, 4:8], X[:, :4]])
    swapped_groups = {"text": slice(0, 4), "image": slice(4, 8), "audio": slice(8, 12)}
    swapped_clf = fit(balancer, (swapped, y), swapped_groups)
    np.testing.assert_allclose(swapped_clf.predict_proba(swapped), clf.predict_proba(X), atol=1e-5)


def test_fits_are_reproducible_and_do_not_change_the_parameter(balancer, data):
    X, y = data
    clf, parameters = JointClassifier(GROUPS, balancer=balancer, **FAST), balancer.get_params()
    first = clf.fit(X, y).predict_proba(X)
    assert vars(clf.balancer) == parameters
    assert clf.balancers_[0] is not clf.balancer
    torch.manual_seed(7)
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), first)
    np.testing.assert_array_equal(clone(clf).fit(X, y).predict_proba(X), first)


def test_fitted_methods_survive_pickling_and_hold_no_tensors(balancer, data):
    clf = fit(balancer, data)
    unpickled = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(unpickled.predict_proba(data[0]), clf.predict_proba(data[0]))
    np.testing.assert_array_equal(
        unpickled.predict_proba_per_modality(data[0])["text"], clf.predict_proba_per_modality(data[0])["text"]
    )
    np.testing.assert_equal(vars(unpickled.balancers_[0]), vars(clf.balancers_[0]))
    assert not [
        value for value in nested_values(vars(clf.balancers_[0])) if isinstance(value, torch.Tensor | nn.Module)
    ]
    assert all(
        len(values) == sum(row["stage"] == "joint" for row in clf.history_)
        for values in clf.balance_history_[0].values()
    )


def test_every_fold_has_its_own_network_and_balancer(balancer, with_absent, tmp_path):
    X, y = with_absent
    clf = fit(balancer, (X, y), cv=2, max_epochs=2)
    assert (clf.n_networks_, len(clf.balancers_), len(clf.balance_history_)) == (2, 2, 2)
    assert clf.balancers_[0] is not clf.balancers_[1]
    for fold in (0, 1):
        is_joint = [row["stage"] == "joint" for row in clf.history_ if row["fold"] == fold]
        assert all(len(values) == sum(is_joint) > 0 for values in clf.balance_history_[fold].values())
    assert len({tuple(values.ravel()) for values in clf.predict_proba_per_modality(X).values()}) == 3
    assert clf.transform(X).shape == (len(X), 2 * 3 * 64)
    save(clf, tmp_path / "model.mme")
    loaded = load(tmp_path / "model.mme", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    for name, probabilities in clf.predict_proba_per_modality(X).items():
        np.testing.assert_array_equal(loaded.predict_proba_per_modality(X)[name], probabilities)


def nested_values(container):
    for value in container.values() if isinstance(container, dict) else container:
        yield value
        if isinstance(value, dict | list | tuple):
            yield from nested_values(value)


@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
def test_methods_work_with_any_fusion(balancer, fusion, with_absent):
    X, y = with_absent[0][:, 4:], with_absent[1]
    X = X.copy()
    X[np.isnan(X).all(1), 4:] = 0
    clf = fit(balancer, (X, y), {"image": slice(0, 4), "text": slice(4, 8)}, fusion=fusion)
    assert np.isfinite(clf.predict_proba(X)).all()
    assert all(np.isfinite(values).all() for values in clf.balance_history_[0].values())


def test_methods_work_with_encoders_without_parameters(balancer, data):
    clf = fit(balancer, data, encoder={"audio": nn.Identity(), "text": nn.Identity()})
    assert np.isfinite(clf.predict_proba(data[0])).all()


def test_methods_work_with_rare_classes_row_weights_and_small_batches(balancer, data):
    X, y = data[0], data[1].copy()
    y[:2] = "black"
    clf = JointClassifier(GROUPS, balancer=balancer, batch_size=7, class_weight="balanced", **FAST)
    clf.fit(X, y, sample_weight=np.linspace(0, 2, 150))
    assert np.isfinite(clf.predict_proba(X)).all()


def test_methods_work_in_bf16(balancer, data):
    assert np.isfinite(fit(balancer, data, precision="bf16").predict_proba(data[0])).all()


@pytest.mark.gpu
def test_methods_work_on_a_gpu(balancer, with_absent):
    clf = fit(balancer, with_absent, device="cuda")
    assert np.isfinite(clf.predict_proba(with_absent[0])).all()


def test_grid_search_over_methods(data):
    grid = {"balancer": [None, AGM(), AMCo()]}
    search = GridSearchCV(JointClassifier(PAIR, **FAST | {"max_epochs": 2}), grid, cv=2).fit(*data)
    assert len(search.cv_results_["params"]) == 3


def test_grid_search_over_parameters_of_a_method(data):
    clf = JointClassifier(PAIR, balancer=OGM(), **FAST)
    grid = [{"balancer__alpha": [0.1, 1.0], "balancer__enhance": [False]}, {"balancer": [None]}]
    search = GridSearchCV(clf, grid, cv=2).fit(*data)
    assert len(search.cv_results_["params"]) == 3
    classifiers = [JointClassifier(PAIR, balancer=b, **FAST) for b in (OGM(0.1, enhance=False), None)]
    scores = [cross_val_score(classifier, *data, cv=2).mean() for classifier in classifiers]
    assert search.cv_results_["mean_test_score"][[0, 2]].tolist() == scores


@pytest.mark.parametrize("method", [UMT, PreTraining])
def test_trainings_before_the_joint_stage_leave_no_state_in_callbacks(method, data):
    stop = EarlyStopping("train_loss", patience=3, threshold=0, threshold_mode="abs", sink=lambda text: None)
    clf = fit(method(), data, callbacks=[stop], max_epochs=12, early_stopping=False, lr=0.005)
    assert sum(row["stage"] == "joint" for row in clf.history_) == 12


@pytest.mark.parametrize("method", [MMCosine, AMCo, MLA])
def test_heads_of_methods_replace_the_fusion(method, data):
    clf = fit(method(), data, fusion="gated")
    np.testing.assert_array_equal(clf.predict_proba(data[0]), fit(method(), data).predict_proba(data[0]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler uses what torch deprecates.
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_methods_with_two_backward_passes_accept_graphs_compiled_for_one(data):
    for balancer in (None, GradientConflict(), MMPareto()):
        plain, compiled = (
            JointClassifier(
                PAIR, balancer=balancer, compile=compile, **FAST | {"encoder": "linear", "max_epochs": 2}
            ).fit(*data)
            for compile in (False, True)
        )
        np.testing.assert_allclose(compiled.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-4)
