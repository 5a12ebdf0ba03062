"""Training of nets: options, devices, early stopping, callbacks, interruption and divergence."""

import copy
import functools
import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    InputShapeSetter,
    LRScheduler,
    PassthroughScoring,
)

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim._data.batches import Rows
from mmestim._data.blocks import Blocks
from mmestim._data.sources import ArrayRows
from mmestim._data.splits import inner_split
from mmestim._training.callbacks import one_cycle
from mmestim._training.devices import seed_for
from mmestim._training.loop import Objective, train
from mmestim._training.losses import weighted_cross_entropy
from mmestim._training.net import Net
from mmestim._training.options import TrainingOptions

FAST = {"max_epochs": 4, "random_state": 0, "device": "cpu", "cv": None}
GROUPS = {"audio": slice(0, 5), "image": slice(5, 8)}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    return (rng.normal(size=(150, 8)) + 0.8 * y[:, None]).astype(np.float32), y


def epochs(clf, key):
    return [row[key] for row in clf.history_]


@pytest.mark.filterwarnings("ignore:.*loss still fell")
@pytest.mark.parametrize("monitor", ["valid_loss", "valid_accuracy"])
def test_early_stopping_keeps_the_best_epoch(monitor, data):
    settings = {"n_iter_no_change": 3, "lr_schedule": None, "monitor": monitor, "cv": None}
    settings |= {"random_state": 0, "device": "cpu", "lr": 0.1, "validation_fraction": 0.3}
    clf = JointClassifier(GROUPS, **settings).fit(*data)
    accuracy, loss = epochs(clf, "valid_accuracy"), epochs(clf, "valid_loss")
    # There are 45 validation rows, so their loss is averaged over three epochs.
    smoothed = [np.mean(loss[max(0, i - 2) : i + 1]) for i in range(len(loss))]
    if monitor == "valid_loss":
        best = int(np.argmin(smoothed))
    else:
        best = max(range(len(accuracy)), key=lambda i: (accuracy[i], -loss[i]))
    assert len(accuracy) == best + 1 + 3 < 100
    shorter = JointClassifier(GROUPS, max_epochs=best + 1, **settings).fit(*data)
    np.testing.assert_array_equal(shorter.predict_proba(data[0]), clf.predict_proba(data[0]))


def test_many_validation_rows_judge_every_epoch_by_itself():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 500)
    X = rng.normal(size=(500, 8)) + 0.4 * y[:, None]
    settings = {"n_iter_no_change": 3, "lr_schedule": None, "validation_fraction": 0.5, "cv": None, "lr": 0.1}
    clf = JointClassifier(GROUPS, random_state=0, device="cpu", **settings).fit(X, y)
    assert len(clf.history_) == int(np.argmin(epochs(clf, "valid_loss"))) + 1 + 3


def test_stopping_by_accuracy_while_the_loss_falls_is_reported(data):
    X, y = data
    settings = {"monitor": "valid_accuracy", "n_iter_no_change": 3, "optimizer": "sgd", "lr": 1e-4, "cv": None}
    settings |= {"encoder": "mlp", "random_state": 0}
    with pytest.warns(ConvergenceWarning, match=r"joint: .* stopped after epoch \d+ of 100.*monitor='valid_loss'"):
        stopped = JointClassifier(GROUPS, device="cpu", **settings).fit(X, y)
    patient = JointClassifier(GROUPS, device="cpu", **settings | {"monitor": "valid_loss"}).fit(X, y)
    assert stopped.n_iter_ < patient.n_iter_ == 100


def test_without_early_stopping_all_rows_train_to_the_end(data):
    clf = JointClassifier(GROUPS, early_stopping=False, **FAST).fit(*data)
    assert clf.n_iter_ == 4
    assert "valid_loss" not in clf.history_[0]


@pytest.mark.parametrize(
    "lr_schedule, expected",
    [(None, None), ("step", [0.1] * 7 + [0.01] * 3), ("cosine", 0.05 * (1 + np.cos(np.pi * np.arange(10) / 10)))],
)
def test_learning_rate_over_the_epochs(lr_schedule, expected, data):
    settings = FAST | {"max_epochs": 10, "early_stopping": False}
    clf = JointClassifier(GROUPS, lr=0.1, lr_schedule=lr_schedule, **settings).fit(*data)
    if expected is None:
        assert "lr" not in clf.history_[0]
    else:
        np.testing.assert_allclose(epochs(clf, "lr"), expected)


def test_skorch_scheduler_as_a_callback(data):
    callback = LRScheduler("ExponentialLR", gamma=0.5, event_name="lr")
    clf = JointClassifier(GROUPS, lr_schedule=None, lr=0.1, callbacks=[callback], **FAST).fit(*data)
    np.testing.assert_allclose(epochs(clf, "lr"), [0.1, 0.05, 0.025, 0.0125])


@pytest.mark.parametrize(
    "optimizer, weight_decay",
    [
        ("sgd", 1e-4),
        ("adamw", 1e-2),
        (torch.optim.RMSprop, 0),
        (functools.partial(torch.optim.SGD, nesterov=True, momentum=0.5), 0),
    ],
)
def test_optimizers_learn(optimizer, weight_decay, data):
    settings = FAST | {"max_epochs": 20}
    clf = JointClassifier(GROUPS, optimizer=optimizer, weight_decay=weight_decay, **settings).fit(*data)
    assert clf.score(*data) > 0.6


def test_sgd_has_momentum_and_weight_decay():
    options = TrainingOptions.from_estimator(JointClassifier(optimizer="sgd", weight_decay=0.3, device="cpu"))
    assert options.optimizer is torch.optim.SGD
    assert options.optimizer_kwargs.items() >= {"momentum": 0.9, "weight_decay": 0.3}.items()


def test_partial_keeps_its_own_weight_decay():
    optimizer = functools.partial(torch.optim.AdamW, weight_decay=0.5)
    assert TrainingOptions.from_estimator(JointClassifier(optimizer=optimizer, device="cpu")).optimizer_kwargs == {}


def test_gradients_are_clipped(data):
    settings = FAST | {"max_epochs": 1, "early_stopping": False, "batch_size": 200, "weight_decay": 0.0, "lr": 1.0}
    settings |= {"optimizer": "sgd"}
    start = JointClassifier(GROUPS, **settings | {"lr": 1e-30}).fit(*data)
    clipped = JointClassifier(GROUPS, max_grad_norm=0.01, **settings).fit(*data)
    pairs = zip(start.module_.parameters(), clipped.module_.parameters(), strict=True)
    assert sum(((a - b) ** 2).sum().item() for a, b in pairs) ** 0.5 == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    "parameter, value, error, message",
    [
        ("optimizer", "adam", ValueError, r"optimizer='adam'.*'sgd', 'adamw'"),
        ("optimizer", 3, TypeError, "optimizer=3"),
        ("optimizer", torch.optim.LBFGS, ValueError, "LBFGS needs a closure"),
        ("lr", 0, ValueError, "lr=0 must be above 0"),
        ("lr", "fast", ValueError, "lr='fast' is not supported. Use a number or 'auto'"),
        ("lr_schedule", "linear", ValueError, "lr_schedule='linear'.*LRScheduler"),
        ("batch_size", 0, ValueError, "batch_size=0 must be at least 1"),
        ("max_epochs", 2.5, TypeError, "max_epochs=2.5 must be an integer"),
        ("validation_fraction", 1.0, ValueError, "validation_fraction=1.0"),
        ("max_grad_norm", 0, ValueError, "max_grad_norm=0 must be above 0"),
        ("early_stopping", "yes", TypeError, "early_stopping='yes' must be True or False"),
        ("precision", "fp16", ValueError, "precision='fp16'.*'float32', 'bf16'"),
        ("device", "tpu9", ValueError, r"device='tpu9' is not a device.*'cpu'"),
        ("device", "cuda:77", ValueError, r"device='cuda:77' was requested, but this machine has \['cpu'"),
        ("callbacks", 3, TypeError, "callbacks=3"),
    ],
)
def test_bad_parameters(parameter, value, error, message, data):
    with pytest.raises(error, match=message):
        JointClassifier(GROUPS, **{parameter: value}).fit(*data)


class OwnBatchScoring(BatchScoring):
    """Callback of a user that derives from one of skorch's."""


@pytest.mark.parametrize("with_name", [False, True])
@pytest.mark.parametrize(
    "callback, error, message",
    [
        (BatchScoring("accuracy"), ValueError, "BatchScoring.* use EpochScoring"),
        (BatchScoring, ValueError, "BatchScoring.* use EpochScoring"),
        (OwnBatchScoring("accuracy"), ValueError, "OwnBatchScoring.* use EpochScoring"),
        (PassthroughScoring("train_loss"), ValueError, "PassthroughScoring.* use EpochScoring"),
        (EpochScoring("accuracy", use_caching=False), ValueError, "use_caching=True"),
        (InputShapeSetter(), ValueError, "InputShapeSetter.*takes input_shape"),
        ("EpochTimer", TypeError, "'EpochTimer'.*neither a skorch callback nor a pair"),
        (lambda net: None, TypeError, "neither a skorch callback nor a pair"),
    ],
)
def test_callbacks_that_do_not_work_are_refused_before_x_is_read(callback, error, message, with_name):
    callbacks = [EpochScoring("accuracy"), ("name", callback) if with_name else callback]
    with pytest.raises(error, match=f"callbacks has .*{message}"):
        JointClassifier(GROUPS, callbacks=callbacks).fit(None, None)


@pytest.mark.parametrize("settings", [{"lr": 1e6}, {"lr": 1e6, "early_stopping": False, "max_grad_norm": None}])
def test_divergence_error_names_the_stage_and_the_remedy(settings, data):
    with pytest.raises(
        ValueError, match=r"training diverged \(unimodal audio, epoch \d+\): the .* Lower lr \(now 1000000"
    ):
        LateFusionClassifier(GROUPS, random_state=0, device="cpu", **settings).fit(*data)


class Recorder(Callback):
    """Record the calls of skorch; stop or interrupt the training at a given epoch."""

    def __init__(self, stop_after=None, interrupt_in=None):
        self.stop_after = stop_after
        self.interrupt_in = interrupt_in

    def initialize(self):
        self.events_ = getattr(self, "events_", [])
        return self

    def on_train_begin(self, net, **kwargs):
        self.events_.append("train_begin")

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.events_.append("grad")
        assert all(p.grad is not None for _, p in named_parameters)

    def on_batch_end(self, net, batch, training, **kwargs):
        self.events_.append("batch" if training else "valid_batch")

    def on_epoch_begin(self, net, **kwargs):
        if self.interrupt_in is not None and (net.title, len(net.history)) == self.interrupt_in:
            raise KeyboardInterrupt

    def on_epoch_end(self, net, **kwargs):
        self.events_.append("epoch")
        if self.stop_after is not None and len(net.history) == self.stop_after:
            raise KeyboardInterrupt


def test_callbacks_are_called_as_by_skorch(data):
    recorder = Recorder()
    LateFusionClassifier(GROUPS, callbacks=[recorder], **FAST).fit(*data)
    count = recorder.events_.count
    # Two branches, four epochs, 135 rows in batches of 64.
    assert (count("train_begin"), count("epoch")) == (2, 8)
    assert (count("grad"), count("batch"), count("valid_batch")) == (24, 24, 8)


def test_callback_may_stop_a_stage(data):
    clf = LateFusionClassifier(GROUPS, callbacks=[Recorder(stop_after=2)], **FAST).fit(*data)
    assert clf.n_iter_ == 4


@pytest.mark.parametrize(
    "callback",
    [
        EpochScoring("neg_log_loss", lower_is_better=False),
        Checkpoint("valid_loss_best", f_params=None, f_optimizer=None, f_criterion=None, f_history=None),
        EarlyStopping(patience=2, sink=lambda text: None),
        ("early_stopping", GradientNormClipping(1.0)),
        Freezer("*encoder.*"),
        LRScheduler("CyclicLR", base_lr=0.01, max_lr=0.1, step_every="batch"),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_skorch_callbacks_work(callback, data):
    assert UDIClassifier(GROUPS, callbacks=[callback], lr_schedule=None, **FAST).fit(*data).n_iter_ > 3


def test_callbacks_may_predict_with_the_net(data):
    accuracies = []

    class Predict(Callback):
        def on_epoch_end(self, net, dataset_valid, **kwargs):
            hits = net.predict(dataset_valid) == dataset_valid.y[dataset_valid.rows].numpy()
            accuracies.append((hits.mean(), net.history[-1]["valid_accuracy"]))

    JointClassifier(GROUPS, callbacks=[Predict()], **FAST).fit(*data)
    assert len(accuracies) == 4
    np.testing.assert_allclose(*zip(*accuracies, strict=True), atol=1e-6)


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("classifier", [JointClassifier, LateFusionClassifier])
def test_skorch_scoring_agrees_with_ours(classifier, cv, data):
    scores = []

    class RecordScores(Callback):
        def on_epoch_end(self, net, **kwargs):
            scores.append((net.history[-1]["acc"], net.history[-1]["valid_accuracy"]))

    scoring = EpochScoring("accuracy", name="acc", lower_is_better=False)
    X, y = data[0][:, :5], data[1]
    classifier(callbacks=[("acc", scoring), RecordScores()], **FAST | {"cv": cv}).fit(X, y)
    assert len(scores) == (12 if cv and classifier is JointClassifier else 4)
    np.testing.assert_allclose(*zip(*scores, strict=True), atol=1e-6)


@pytest.mark.parametrize(
    "interrupt_in, is_fitted",
    [(("unimodal audio", 3), False), (("unimodal image", 1), False), (("unimodal image", 3), True)],
)
def test_ctrl_c_keeps_the_best_epoch_if_every_branch_has_one(interrupt_in, is_fitted, data):
    clf = LateFusionClassifier(GROUPS, callbacks=[Recorder(interrupt_in=interrupt_in)], **FAST)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*data)
    assert hasattr(clf, "module_") == is_fitted
    if is_fitted:
        assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4, 1, 2]
        losses = [row["valid_loss"] for row in clf.history_[4:]]
        best = clf.history_[4 + int(np.argmin(np.cumsum(losses) / [1, 2]))]["valid_accuracy"]
        X, y = data
        valid = inner_split(np.arange(150), y, None, 0.1, int(np.random.RandomState(0).randint(2**31 - 1)))[1]
        proba = clf.predict_proba_per_modality(X[valid])["image"]
        assert (proba.argmax(1) == y[valid]).mean() == pytest.approx(best)


def test_ctrl_c_discards_the_unfinished_epoch(monkeypatch, data):
    original = Net.train_epoch

    def train_epoch(self, train_rows, epoch):
        loss = original(self, train_rows, epoch)
        if len(self.history) == 3:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(Net, "train_epoch", train_epoch)
    interrupted = JointClassifier(GROUPS, lr_schedule=None, **FAST)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(*data)
    monkeypatch.undo()
    losses = [row["valid_loss"] for row in interrupted.history_]
    best = 1 + int(np.argmin(np.cumsum(losses) / np.arange(1, len(losses) + 1)))
    plain = JointClassifier(GROUPS, lr_schedule=None, **FAST | {"max_epochs": best}).fit(*data)
    np.testing.assert_array_equal(interrupted.predict_proba(data[0]), plain.predict_proba(data[0]))


def test_weighted_loss_by_hand():
    class Batch:
        y, weight = torch.tensor([0, 1]), torch.tensor([0.5, 1.5])

    logits = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    expected = (0.5 * np.log(2) + 1.5 * np.log(1 + np.exp(-1))) / 2
    assert float(weighted_cross_entropy(logits, Batch)) == pytest.approx(expected, rel=1e-6)


def test_seeds_differ_by_purpose():
    seeds = {seed_for(0, "a"), seed_for(0, "b"), seed_for(1, "a"), seed_for(0, "a", "b"), seed_for(0, "ab")}
    assert len(seeds) == 5
    assert seed_for(0, "a") == seed_for(0, "a")


def test_bf16_is_close_to_float32_and_returns_float32(data):
    exact = UDIClassifier(GROUPS, **FAST).fit(*data).predict_proba(data[0])
    half = UDIClassifier(GROUPS, precision="bf16", **FAST).fit(*data)
    assert half.predict_proba(data[0]).dtype == half.transform(data[0]).dtype == np.float32
    difference = np.abs(half.predict_proba(data[0]) - exact)
    assert 0 < difference.mean() < 0.05


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler uses what torch deprecates.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # by the compiler of torch 2.11
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_training_gives_the_same_model(data):
    settings = FAST | {"max_epochs": 2, "early_stopping": False, "fusion": "sum", "encoder": "linear"}
    plain = UDIClassifier(GROUPS, **settings).fit(*data)
    compiled = UDIClassifier(GROUPS, compile=True, **settings).fit(*data)
    np.testing.assert_allclose(compiled.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-4)
    assert pickle.loads(pickle.dumps(compiled)).score(*data) == compiled.score(*data)


@pytest.mark.parametrize("verbose, shown", [(0, None), (1, "unimodal audio"), (2, "valid_loss")])
def test_verbose(verbose, shown, data, capsys):
    LateFusionClassifier(GROUPS, verbose=verbose, **FAST).fit(*data)
    printed = "".join(capsys.readouterr())
    if shown is None:
        assert printed == ""
    else:
        assert shown in printed
        assert "135 rows train, 15 rows validate" in printed


@pytest.mark.parametrize("n_steps", range(1, 30))
def test_learning_rate_of_one_cycle_rises_and_falls(n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = one_cycle([0.1], n_steps)
    policy = schedule.policy(optimizer, **schedule.kwargs)
    rates = [policy.get_last_lr()[0]]
    for _ in range(n_steps):
        optimizer.step()
        policy.step()
        rates.append(policy.get_last_lr()[0])
    assert np.isfinite(rates).all()
    assert max(rates) <= 0.1 + 1e-9
    assert rates[-1] < 0.02


def test_model_from_a_missing_device_predicts_on_the_cpu(data):
    clf = JointClassifier(GROUPS, **FAST).fit(*data)
    expected = clf.predict_proba(data[0])
    moved = copy.copy(clf)
    moved.device_ = "cuda:63"
    with pytest.warns(UserWarning, match="fitted on cuda:63, which this machine does not have"):
        loaded = pickle.loads(pickle.dumps(moved))
    assert loaded.device_ == "cpu"
    np.testing.assert_array_equal(loaded.predict_proba(data[0]), expected)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "classifier",
    [
        JointClassifier,
        LateFusionClassifier,
        UDIClassifier,
        ModalityGapClassifier,
        functools.partial(ModalityGapClassifier, cv=None),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gpu(classifier, precision, data):
    X, y = data[0].copy(), data[1]
    X[::4, :5] = np.nan
    clf = classifier(GROUPS, random_state=0, device="cuda", precision=precision).fit(X, y)
    assert clf.device_ == "cuda:0"
    assert {p.device.type for p in clf.module_.parameters()} == {"cuda"}
    assert clf.score(X, y) > 0.6
    state = clf.__getstate__()
    assert {p.device.type for p in state["module_"].parameters()} == {"cpu"}
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_allclose(again.predict_proba(X), clf.predict_proba(X), atol=1e-5)


@pytest.mark.gpu
def test_gpu_agrees_with_the_cpu(data):
    cpu, gpu = (UDIClassifier(GROUPS, **FAST | {"device": device}).fit(*data) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.predict_proba(data[0]), cpu.predict_proba(data[0]), atol=1e-2)


def test_objective_hooks_are_called_in_order(data):
    events = []

    class Spy(Objective):
        def begin(self, net):
            events.append("begin")

        def begin_epoch(self, net, epoch):
            events.append(f"begin_epoch of {sum(map(len, epoch))}")

        def loss(self, net, output, batch):
            events.append("loss")
            return super().loss(net, output, batch)

        def after_backward(self, net, batch):
            events.append("after_backward")

        def end_epoch(self, net):
            events.append("end_epoch")

    X, y = data
    blocks = Blocks({"x": ArrayRows(X)}, {"x": (8,)}).load(100, torch.device("cpu"))
    rows = Rows(blocks, torch.tensor(y), None, torch.arange(150), ["x"])

    class Module(torch.nn.Linear):
        def forward(self, batch):
            return (super().forward(batch.x["x"]),)

    estimator = JointClassifier(max_epochs=2, batch_size=100, early_stopping=False, device="cpu")
    run = train(
        Module(8, 3),
        rows,
        rows,
        TrainingOptions.from_estimator(estimator),
        n_classes=3,
        seed=0,
        stage="test",
        objective=Spy(),
    )
    step = ["loss", "after_backward"]
    assert events == ["begin", *["begin_epoch of 150", *step, *step, "end_epoch"] * 2]
    assert len(run.history) == 2
    assert not run.interrupted


def test_modality_may_first_appear_after_the_first_step(data):
    X, y = data[0].copy(), data[1]
    X[3:, :5] = np.nan
    for seed in range(3):
        settings = FAST | {"early_stopping": False, "random_state": seed}
        clf = JointClassifier(GROUPS, batch_size=8, **settings).fit(X, y)
        assert np.isfinite(clf.predict_proba(X)).all()
