"""Fits that were killed resume from their checkpoint and end with the same weights."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, KFold
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, Freezer, LRScheduler
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim._networks.fold_networks import join_networks
from mmestim._training import checkpoints
from mmestim._training.fingerprint import Fingerprint
from mmestim._training.net import Net
from mmestim.balancers import OGM, PMR, QMF, UMT, Balancer, GradientBlending
from mmestim.datasets import load_digit_views

DIGITS = load_digit_views(views=["pixels", "fourier"])
GROUPS, X, Y = DIGITS.modalities, DIGITS.data[::9], DIGITS.target[::9]
# Modules are not part of a fingerprint, other global values that callbacks name are. `pending` holds the title of a
# training, the number of its complete epochs, and the exception that ends the fit in the next one.
KILL_PLAN = ModuleType("kill_plan")
KILL_PLAN.pending = []


class Killed(Exception):
    """Stand-in for a signal."""


class Killer(Callback):
    """End a fit within the epoch that `KILL_PLAN.pending` names."""

    def on_batch_end(self, net, training, **kwargs):
        if training and KILL_PLAN.pending and (net.title, len(net.history) - 1) == KILL_PLAN.pending[0]:
            raise KILL_PLAN.pending[1]


FAST = {"cv": None, "max_epochs": 5, "random_state": 0, "device": "cpu", "callbacks": [Killer()]}


def fit_until_killed(clf, *stage_and_epoch, how=Killed):
    KILL_PLAN.pending[:] = [stage_and_epoch, how]
    with pytest.raises(how):
        clf.fit(X, Y)
    KILL_PLAN.pending.clear()


def fitted_state(clf):
    """Return the fitted attributes, without durations."""
    attributes = {name: value for name, value in vars(clf).items() if name.endswith("_")}
    attributes["module_"] = {name: value.cpu().numpy() for name, value in clf.module_.state_dict().items()}
    attributes["history_"] = [{key: value for key, value in row.items() if key != "dur"} for row in clf.history_]
    attributes["balancers_"] = [vars(balancer) for balancer in getattr(clf, "balancers_", [])]
    return {name: vars(value) if isinstance(value, BaseEstimator) else value for name, value in attributes.items()}


def assert_same_fit(clf, other):
    np.testing.assert_equal(fitted_state(clf), fitted_state(other))


@pytest.fixture
def epochs(monkeypatch):
    """Return the list to which the title of each training is added when an epoch begins."""
    titles, run_epoch = [], Net._run_epoch

    def spy(net, *args):
        titles.append(net.title)
        return run_epoch(net, *args)

    monkeypatch.setattr(Net, "_run_epoch", spy)
    return titles


def check_resumes(make, folder, *places, **settings):
    """Check that a fit that is killed repeatedly equals an uninterrupted one, and return the latter."""
    make = partial(make, GROUPS, **FAST | settings)
    for place in places:
        fit_until_killed(make(checkpoint=folder), *place)
    uninterrupted = make().fit(X, Y)
    assert_same_fit(make(checkpoint=folder).fit(X, Y), uninterrupted)
    return uninterrupted


@pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")
def test_every_balancer_resumes(balancer, tmp_path, epochs):
    check_resumes(JointClassifier, tmp_path, ("joint", 1), ("joint", 3), balancer=balancer)
    assert epochs.count("joint") == 2 + 3 + 5 + 2
    epochs.clear()
    clf = JointClassifier(GROUPS, balancer=balancer, checkpoint=tmp_path, **FAST).fit(X, Y)
    assert epochs == []
    assert_same_fit(clf, JointClassifier(GROUPS, balancer=balancer, **FAST).fit(X, Y))


@pytest.mark.parametrize(
    "balancer, places",
    [
        (UMT(), [("unimodal fourier", 2), ("unimodal pixels", 3), ("joint", 0)]),
        (GradientBlending(3, super_epoch=2), [("blending pixels", 1), ("joint", 1), ("blending", 2), ("joint", 3)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Balancer) else "",
)
def test_nested_trainings_resume(balancer, places, tmp_path, epochs, monkeypatch):
    if isinstance(balancer, GradientBlending):  # Its own trainings have no callbacks.
        step = Net.step

        def kill_in_step(net, batch):
            if KILL_PLAN.pending and (net.title, len(net.history) - 1) == KILL_PLAN.pending[0]:
                raise KILL_PLAN.pending[1]
            step(net, batch)

        monkeypatch.setattr(Net, "step", kill_in_step)
    check_resumes(JointClassifier, tmp_path, *places, balancer=balancer)
    if isinstance(balancer, GradientBlending):
        # Files of finished inner trainings are deleted.
        assert [path.stem[-2:] for path in tmp_path.iterdir()] == ["-0"]


def test_networks_of_folds_resume_one_after_the_other(tmp_path, epochs):
    places = [("joint, fold 0", 3), ("unimodal fourier, fold 1", 1), ("joint, fold 1", 0), ("joint, fold 2", 4)]
    check_resumes(JointClassifier, tmp_path, *places, balancer=UMT(), cv=3)
    assert epochs.count("joint, fold 0") == 4 + 2 + 5
    assert epochs.count("joint, fold 2") == 5 + 1 + 5


def test_kill_before_obsolete_files_are_deleted(tmp_path, monkeypatch):
    make = partial(JointClassifier, GROUPS, balancer=GradientBlending(1, super_epoch=2), **FAST)

    def kill(path, missing_ok):
        raise Killed

    monkeypatch.setattr(checkpoints, "_WRITE_INTERVAL", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            make(checkpoint=tmp_path).fit(X, Y)
    assert len(list(tmp_path.iterdir())) == 4
    assert_same_fit(make(checkpoint=tmp_path).fit(X, Y), make().fit(X, Y))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("fusion", ["sum", "mean"])
def test_late_fusion_resumes(fusion, tmp_path, epochs):
    places = [("unimodal pixels", 2), ("unimodal fourier", 4)]
    check_resumes(LateFusionClassifier, tmp_path, *places, fusion=fusion)
    assert len(epochs) == 3 + 3 + 5 + 10 + 1


@pytest.mark.parametrize("settings", [{"guidance": "aligned"}, {"guidance": (1.0, 0.1), "follower_init": "warm"}])
def test_udi_resumes_in_every_stage(settings, tmp_path):
    first = UDIClassifier(GROUPS, **FAST).fit(X, Y).order_[1]
    places = [("unimodal fourier", 2), (f"guided {first}", 0), (f"guided {first}", 1), (f"guided {first}", 4)]
    uninterrupted = check_resumes(UDIClassifier, tmp_path, *places, **settings)
    assert uninterrupted.order_[1] == first


@pytest.mark.parametrize("cv", [None, 3])
def test_modality_gap_resumes_in_every_stage(cv, tmp_path):
    settings = {"max_epochs": 10, "warmup_fraction": 0.3, "lr": 0.1, "fine_tune_epochs": 3, "cv": cv}
    places = [("joint", 2), ("joint", 3), ("joint", 7)]
    uninterrupted = check_resumes(ModalityGapClassifier, tmp_path, *places, **settings)
    assert uninterrupted.gap_history_["kept"].any()


@pytest.mark.parametrize("cv", [None, 3])
def test_modality_gap_resumes_in_fine_tuning(cv, tmp_path, monkeypatch):
    monkeypatch.setattr(ModalityGapClassifier, "_fit_module", fine_tune_on_all)
    check_resumes(ModalityGapClassifier, tmp_path, ("fine-tuning", 1), fine_tune_epochs=3, cv=cv)


def fine_tune_on_all(self, context):
    """Fine-tune as the method does if all rows are balanced."""
    self.analyzer_, self.gap_history_, self.fine_tuned_, self.n_warmup_ = None, {}, False, 0
    networks = [self._build_joint(fold) for fold in context.fold_contexts()]
    self.n_networks_ = len(networks)
    interrupted = self._fine_tune(context, networks, context.train.rows.numpy())
    return join_networks(networks), interrupted


def noisy_encoder(input_shape, embedding_dim):
    layers = nn.Linear(input_shape[0], embedding_dim), nn.BatchNorm1d(embedding_dim), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(*layers)


class Drifting(nn.Linear):
    """Encoder with two non-persistent buffers that change, one of which grows."""

    def __init__(self, input_shape):
        super().__init__(input_shape[0], 8)
        self.register_buffer("drift", torch.zeros(8), persistent=False)
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.drift += 0.01
            self.seen = torch.cat([self.seen, x.detach().mean().reshape(1)])
        return super().forward(x) + self.drift + self.seen.sum()


def test_non_persistent_buffers_are_restored(tmp_path):
    uninterrupted = check_resumes(JointClassifier, tmp_path, ("joint", 2), encoder={"pixels": Drifting})
    for clf in (
        uninterrupted,
        JointClassifier(GROUPS, checkpoint=tmp_path, encoder={"pixels": Drifting}, **FAST).fit(X, Y),
    ):
        np.testing.assert_array_equal(clf.predict_proba(X), uninterrupted.predict_proba(X))
    assert uninterrupted.module_.branch("pixels").encoder.drift.any()


class StatefulCallback(Callback):
    """Callback that lowers the learning rate by its state."""

    def initialize(self):
        self.seen = []
        return self

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.history[-1, "train_loss"])
        net.optimizer_.param_groups[0]["lr"] = 0.01 / len(self.seen)

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": noisy_encoder},
        {"encoder": noisy_encoder, "optimizer": "adamw", "lr_schedule": "cosine", "max_grad_norm": 0.1},
        {"optimizer": torch.optim.Adagrad, "lr_schedule": None},
        {"precision": "bf16", "unimodal_weight": 1.0},
        {"max_epochs": 30, "n_iter_no_change": 2, "lr": 0.3},
        {"early_stopping": False, "random_state": np.random.RandomState(3)},
        {"callbacks": [LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=0)], "lr_schedule": None},
        {"callbacks": [LRScheduler("CyclicLR", base_lr=0.01, max_lr=0.1, step_every="batch")], "lr_schedule": None},
        {"callbacks": [EpochScoring("accuracy", lower_is_better=False), EarlyStopping("train_loss", patience=1)]},
        {"callbacks": [Freezer("branches.0.*")]},
        {"callbacks": [StatefulCallback()], "lr_schedule": None},
    ],
)
def test_resumes_with_any_settings(settings, tmp_path):
    settings = settings | {"callbacks": [*settings.get("callbacks", []), Killer()]}
    uninterrupted = check_resumes(
        lambda *args, **kwargs: clone(JointClassifier(*args, **kwargs)), tmp_path, ("joint", 3), **settings
    )
    assert len(uninterrupted.history_) > 3


RECORDED = []


class RecordHistory(Callback):
    """Record the history of a net at the end."""

    def on_train_end(self, net, **kwargs):
        RECORDED.append(net.history[:, ("epoch", "train_loss_best", "accuracy_best")])


def test_history_of_the_net_resumes(tmp_path):
    scoring = EpochScoring("accuracy", lower_is_better=False)
    make = partial(JointClassifier, GROUPS, lr=1.0, **FAST | {"callbacks": [scoring, Killer(), RecordHistory()]})
    fit_until_killed(make(checkpoint=tmp_path), "joint", 4)
    make(checkpoint=tmp_path).fit(X, Y)
    make().fit(X, Y)
    resumed, uninterrupted = RECORDED
    assert resumed == uninterrupted
    assert [epoch for epoch, *_ in uninterrupted] == [1, 2, 3, 4, 5]


KILL = """
import os, signal, sys
import torch
from mmestim import JointClassifier, UDIClassifier
from mmestim._training import checkpoints
from mmestim._training.fingerprint import Fingerprint
from mmestim.balancers import PMR
from mmestim.datasets import load_digit_views
from mmestim._training.net import Net

torch.set_num_threads(1)
checkpoints._WRITE_INTERVAL = 0
digits = load_digit_views(views=["pixels", "fourier"])
n_left, step = int(sys.argv[1]), Net.step

def count_down(net, batch):
    global n_left
    n_left -= 1
    if n_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    step(net, batch)

Net.step = count_down
name = Fingerprint()
name.add({*"abcde"})
print(name.hexdigest(), flush=True)
clf = eval(sys.argv[2])(digits.modalities, max_epochs=5, random_state=0, device="cpu", checkpoint=sys.argv[3])
clf.fit(digits.data[::9], digits.target[::9])
"""


@pytest.mark.parametrize(
    "make, n_steps",  # of 3 an epoch and 15 a training
    [
        ("UDIClassifier", 8),
        ("UDIClassifier", 41),
        ("lambda *args, **kwargs: JointClassifier(*args, balancer=PMR(), **kwargs)", 11),
    ],
    ids=["alone", "guided", "balanced"],
)
def test_sigkill(make, n_steps, tmp_path, epochs):
    settings = {"max_epochs": 5, "random_state": 0, "device": "cpu"}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-c", KILL, str(n_steps), make, str(tmp_path)]
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    digest = Fingerprint()
    digest.add({*"abcde"})
    assert killed.stdout.decode().split() == [digest.hexdigest()]  # Each process orders sets differently.
    make = eval(make)
    clf = make(GROUPS, checkpoint=tmp_path, **settings).fit(X, Y)
    n_resumed = len(epochs)
    assert_same_fit(clf, make(GROUPS, **settings).fit(X, Y))
    assert n_resumed == len(clf.history_) - (n_steps - 1) // 3


class Clock:
    """Clock that only passes between epochs."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock of checkpoints by one that each epoch advances by 0.4 s."""
    clock, run_epoch = Clock(), Net._run_epoch

    def timed(net, *args):
        clock.seconds += 0.4
        return run_epoch(net, *args)

    monkeypatch.setattr(checkpoints.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(Net, "_run_epoch", timed)
    return clock


def test_short_epochs_are_written_once_a_second(tmp_path, clock, monkeypatch):
    writes, write_atomically = [], checkpoints.write_atomically

    def spy(path, parts):
        writes.append((path.stem[-1], round(clock.seconds, 1)))
        write_atomically(path, parts)

    monkeypatch.setattr(checkpoints, "write_atomically", spy)
    LateFusionClassifier(GROUPS, checkpoint=tmp_path, **FAST).fit(X, Y)
    # Epochs of the two trainings end at 0.4, 0.8, ... 2.0 s and 2.4, ... 4.0 s. The last write is of the results.
    assert writes == [("0", 1.2), ("0", 2.0), ("1", 3.2), ("1", 4.0)]


@pytest.mark.parametrize(
    "make, place, n_lost",
    [
        (LateFusionClassifier, ("unimodal fourier", 2), 2),
        (partial(JointClassifier, balancer=GradientBlending(1, super_epoch=2)), ("joint", 4), 1),
        (partial(JointClassifier, balancer=QMF()), ("joint", 4), 1),
    ],
    ids=["late", "nested", "balanced"],
)
def test_a_killed_fit_loses_the_epochs_of_a_second(make, place, n_lost, tmp_path, clock, epochs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "__exit__", lambda *args: None)  # nothing runs after SIGKILL
        fit_until_killed(make(GROUPS, checkpoint=tmp_path, **FAST), *place)
    epochs.clear()
    resumed = make(GROUPS, checkpoint=tmp_path, **FAST).fit(X, Y)
    assert epochs.count(place[0]) == 5 - place[1] + n_lost
    assert_same_fit(resumed, make(GROUPS, **FAST).fit(X, Y))


def test_resumes_after_ctrl_c(tmp_path):
    interrupted = UDIClassifier(GROUPS, checkpoint=tmp_path, **FAST)
    fit_until_killed(interrupted, "unimodal fourier", 2, how=KeyboardInterrupt)
    assert len(interrupted.fit(X, Y).history_) == 15
    assert_same_fit(interrupted, UDIClassifier(GROUPS, **FAST).fit(X, Y))


def test_finished_trainings_take_little_space(tmp_path):
    clf = JointClassifier(GROUPS, balancer=UMT(), optimizer="adamw", checkpoint=tmp_path, **FAST).fit(X, Y)
    n_bytes = sum(value.numel() * value.element_size() for value in clf.module_.state_dict().values())
    assert len(list(tmp_path.iterdir())) == 3
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < n_bytes + 25_000


def test_candidates_of_a_search_have_separate_files(tmp_path, epochs):
    search = GridSearchCV(
        JointClassifier(GROUPS, balancer=OGM(), checkpoint=tmp_path / "new" / "folder", **FAST),
        {
            "balancer__alpha": [0.1, 0.8],
            "lr": [0.01, 0.1],
        },
        cv=2,
    )
    scores = search.fit(X, Y).cv_results_["mean_test_score"]
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 4 * 2 + 1
    epochs.clear()
    np.testing.assert_array_equal(search.fit(X, Y).cv_results_["mean_test_score"], scores)
    assert not epochs
    plain = search.set_params(estimator__checkpoint=None).fit(X, Y)
    np.testing.assert_array_equal(plain.cv_results_["mean_test_score"], scores)


def test_changed_parameters_or_data_train_anew(tmp_path):
    Z, weight, groups = X.copy(), np.ones(len(Y)), np.arange(len(Y)) // 2
    Z[7, 3] += 1e-3

    def fit(X=X, Y=Y, sample_weight=None, groups=None, **settings):
        settings = {"cv": None, "random_state": 0, "device": "cpu", "max_epochs": 1} | settings
        JointClassifier(settings.pop("modalities", GROUPS), checkpoint=tmp_path, **settings).fit(
            X, Y, sample_weight=sample_weight, groups=groups
        )
        return len(list(tmp_path.iterdir()))

    assert fit() == 1
    assert fit(verbose=2, max_memory=0.1) == fit(X.copy(order="F"), list(Y), device="auto" if no_gpu() else "cpu") == 1
    changed_settings = [
        {"lr": 0.02},
        {"random_state": 1},
        {"max_epochs": 2},
        {"unimodal_weight": 0.5},
        {"encoder": "linear"},
        {"X": Z},
        {"Y": np.roll(Y, 1)},
        {"sample_weight": weight},
        {"sample_weight": np.arange(1, len(Y) + 1)},
        {"groups": groups},
        {"balancer": OGM()},
        {"balancer": OGM(0.5)},
        {"balancer": PMR()},
        {"encoder": {"pixels": lambda input_shape: nn.Flatten()}},
        {"encoder": {"pixels": lambda input_shape: nn.Sequential(nn.Flatten())}},
        {"encoder": {"pixels": nn.Linear(64, 3)}},
        {"encoder": {"pixels": nn.Linear(64, 3)}},
        {"callbacks": [EarlyStopping("train_loss", patience=3)]},
        {"optimizer": partial(torch.optim.SGD, momentum=0.5)},
        {"callbacks": [EarlyStopping("train_loss", patience=4)]},
        {"optimizer": partial(torch.optim.SGD, momentum=0.6)},
        {"modalities": dict(reversed(GROUPS.items()))},
    ]
    assert [fit(**settings) for settings in changed_settings] == list(range(2, len(changed_settings) + 2))


def no_gpu():
    return not torch.cuda.is_available() and not torch.backends.mps.is_available()


class Rogue:
    def __reduce__(self):
        return os.mkdir, ("rogue",)


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def nothing(content):
    return b""


def rogue(content):
    content = pickle.dumps(Rogue(), protocol=2)
    return hashlib.blake2b(content, digest_size=16).digest() + content


@pytest.mark.parametrize("damage", [truncated, flipped, nothing, rogue])
def test_corrupt_file_is_reported_and_replaced(damage, tmp_path, monkeypatch, epochs):
    monkeypatch.chdir(tmp_path)
    make = partial(LateFusionClassifier, GROUPS, **FAST)
    clf = make(checkpoint=tmp_path)
    fit_until_killed(clf, "unimodal fourier", 2)
    (path,) = tmp_path.glob("*-1.ckpt")
    path.write_bytes(damage(path.read_bytes()))
    epochs.clear()
    with pytest.warns(UserWarning, match=rf"checkpoint .*{path.name}.* cannot be read .* starts anew"):
        clf.fit(X, Y)
    assert len(epochs) == 5
    assert_same_fit(clf, make().fit(X, Y))
    assert_same_fit(make(checkpoint=tmp_path).fit(X, Y), clf)
    assert not (tmp_path / "rogue").exists()


def test_bad_checkpoint_parameters(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "below"):
        with pytest.raises(ValueError, match=r"checkpoint=.* is not a writable folder"):
            JointClassifier(GROUPS, checkpoint=place, **FAST).fit(X, Y)
    with pytest.raises(TypeError, match="checkpoint=3 must be the path of a folder, or None"):
        JointClassifier(GROUPS, checkpoint=3, **FAST).fit(X, Y)
    with pytest.raises(ValueError, match="checkpoint='' names no folder"):
        JointClassifier(GROUPS, checkpoint="", **FAST).fit(X, Y)
    with pytest.raises(ValueError, match=r"checkpoint=.*random_state=None draws .* Use an int"):
        JointClassifier(GROUPS, checkpoint=tmp_path).fit(X, Y)
    with pytest.raises(ValueError, match=r"cv=KFold.* shuffles .* Give it a random_state"):
        ModalityGapClassifier(GROUPS, checkpoint=tmp_path, **FAST | {"cv": KFold(3, shuffle=True)}).fit(X, Y)


def test_files_are_written_atomically(tmp_path, monkeypatch):
    clf = JointClassifier(GROUPS, checkpoint=tmp_path, **FAST)
    fit_until_killed(clf, "joint", 2)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()

    def no_room(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(OSError, match="No space left") as caught:
            clf.fit(X, Y)
    assert str(tmp_path) in caught.value.__notes__[0]
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content
    assert_same_fit(clf.fit(X, Y), JointClassifier(GROUPS, **FAST).fit(X, Y))


def test_stale_temporary_files_are_deleted(tmp_path):
    clf = JointClassifier(GROUPS, checkpoint=tmp_path, **FAST).fit(X, Y)
    (path,) = tmp_path.iterdir()
    temporary_paths = [tmp_path / f".{name}.0123456789abcdef.tmp" for name in (path.name, path.name, "other-0.ckpt")]
    temporary_paths[1] = temporary_paths[1].with_name(temporary_paths[1].name.replace("0123", "4567"))
    for temporary_path in temporary_paths:
        temporary_path.touch()
    for old_path in (temporary_paths[0], temporary_paths[2]):
        os.utime(old_path, (0, 0))
    clf.fit(X, Y)
    assert set(tmp_path.iterdir()) == {
        path,
        temporary_paths[1],
        temporary_paths[2],
    }  # Recent files and those of other fits are retained.


class Twin(Callback):
    """Run the same fit within the third epoch."""

    def on_epoch_begin(self, net, **kwargs):
        if KILL_PLAN.pending and len(net.history) == 2:
            fit = KILL_PLAN.pending.pop()
            fit()


def test_identical_concurrent_fits_share_a_folder(tmp_path):
    make = partial(JointClassifier, GROUPS, **FAST | {"callbacks": [Twin()], "balancer": UMT()})
    twin, slow = make(checkpoint=tmp_path), make(checkpoint=tmp_path)
    KILL_PLAN.pending[:] = [lambda: twin.fit(X, Y)]
    slow.fit(X, Y)
    assert_same_fit(slow, twin)
    assert_same_fit(make(checkpoint=tmp_path).fit(X, Y), make().fit(X, Y))


class Teacher(Balancer):
    """Balancer with state of every supported type."""

    unimodal = "split"

    def begin(self, training):
        name = training.names[0]
        self._network = nn.Linear(64, 1)
        self._weights = training.parameters[name]
        self._scale = torch.ones(3, requires_grad=True)
        self._optimizer = torch.optim.Adam([*self._network.parameters(), self._scale], lr=0.1)
        self._numpy = np.random.default_rng(training.context.seed_for("teacher"))
        self._torch = [torch.Generator().manual_seed(3)]
        self.seen_ = {"rows": 0, "shares": np.zeros(2), "kinds": {1, 2}, ("a", 1): None}
        self.both_ = torch.zeros(4)
        self._half = self.both_[:2]
        self._early = []

    def loss(self, training, outputs):
        features = next(iter(outputs.features.values()))
        self._optimizer.zero_grad()
        loss = (self._network(features.detach()).squeeze() - self._scale.sum()).square().mean()
        loss.backward()
        self._optimizer.step()
        self._half += float(self._numpy.random()) + torch.rand(2, generator=self._torch[0])
        self.seen_["rows"] += outputs.batch.size
        self.seen_["shares"] += self._half.numpy()
        with torch.no_grad():
            self._weights[0].mul_(1 - 1e-3 * float(self._half[0]))
        training.record("scale", self._scale.sum() + self.both_[:2].sum())
        return training.joint_loss(outputs) * self._scale.detach().mean()


def test_state_of_a_custom_balancer_is_restored(tmp_path):
    uninterrupted = check_resumes(JointClassifier, tmp_path, ("joint", 1), ("joint", 3), balancer=Teacher())
    assert uninterrupted.balancers_[0].seen_["rows"] > 0


class CustomState(Balancer):
    """Balancer with an iterator, which its state_dict replaces by a number."""

    def begin(self, training):
        self._count = iter(range(99))

    def begin_epoch(self, training):
        self._last = next(self._count)
        training.record("last", self._last)

    def state_dict(self):
        return {"next": self._last + 1 if hasattr(self, "_last") else 0}

    def load_state_dict(self, state):
        self._count = iter(range(state["next"], 99))


def test_state_dict_of_a_balancer_is_used(tmp_path):
    uninterrupted = check_resumes(JointClassifier, tmp_path, ("joint", 3), balancer=CustomState())
    np.testing.assert_array_equal(uninterrupted.balance_history_[0]["last"], range(5))


class Unstorable(Balancer):
    """Balancer with state that cannot be stored."""

    def __init__(self, what="lambda"):
        self.what = what

    def begin(self, training):
        if self.what == "lambda":
            self._function = [lambda: None]
        if self.what == "alias":
            self._alias = training.parameters["pixels"][0].detach()

    def end_epoch(self, training):
        if self.what == "late":
            self._network = nn.Linear(2, 2)


@pytest.mark.parametrize(
    "what, message, n_epochs",
    [
        ("lambda", r"Unstorable._function\[0\] is of type function, which cannot be stored", 0),
        ("alias", r"Unstorable._alias shares memory with the network. Keep the parameter itself", 0),
        ("late", r"Unstorable._network was created after the first epoch began.* Create it in `begin`", 1),
    ],
)
def test_state_that_cannot_be_stored_is_reported_at_once(what, message, n_epochs, tmp_path, epochs):
    with pytest.raises(TypeError, match=message):
        JointClassifier(GROUPS, balancer=Unstorable(what), checkpoint=tmp_path, **FAST).fit(X, Y)
    assert len(epochs) == n_epochs
    JointClassifier(GROUPS, balancer=Unstorable(what), **FAST).fit(X, Y)


def test_file_of_other_code_is_refused(tmp_path, monkeypatch):
    clf = JointClassifier(GROUPS, checkpoint=tmp_path, **FAST)
    fit_until_killed(clf, "joint", 2)
    (path,) = tmp_path.iterdir()
    fit_until_killed(
        other := JointClassifier(GROUPS, checkpoint=tmp_path, **FAST | {"unimodal_weight": 1.0}), "joint", 2
    )
    (changed,) = set(tmp_path.iterdir()) - {path}
    path.replace(changed)
    with pytest.raises(ValueError, match=f"checkpoint .*{changed.name}.* does not fit this training.* Delete"):
        other.fit(X, Y)


def test_verbose_reports_resumed_epochs(tmp_path, capsys):
    clf = JointClassifier(GROUPS, checkpoint=tmp_path, verbose=2, **FAST)
    fit_until_killed(clf, "joint", 2)
    assert "epochs 1 to" not in capsys.readouterr().out
    clf.fit(X, Y)
    assert f"joint: epochs 1 to 2 are in '{tmp_path}" in capsys.readouterr().out


@pytest.mark.gpu
def test_resumes_on_a_gpu(tmp_path):
    make = partial(JointClassifier, GROUPS, balancer=OGM(), **FAST | {"device": "cuda", "encoder": noisy_encoder})
    fit_until_killed(make(checkpoint=tmp_path), "joint", 3)
    resumed, uninterrupted = make(checkpoint=tmp_path).fit(X, Y), make().fit(X, Y)
    np.testing.assert_allclose(resumed.predict_proba(X), uninterrupted.predict_proba(X), atol=1e-4)
