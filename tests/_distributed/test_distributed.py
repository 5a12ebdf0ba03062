"""A fit on several processes ends with the same estimator on all of them, that of one process."""

import contextlib
import io
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from contextvars import copy_context
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from joblib import Parallel, delayed, parallel_config
from sklearn.model_selection import KFold
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset

from _distributed import CLASSIFIERS, ConvNet, fit, fitted, is_same, rows, run_processes
from mmestim import JointClassifier, LateFusionClassifier
from mmestim._distributed import processes
from mmestim._distributed.exchange import share_of
from mmestim._distributed.processes import data_parallel
from mmestim._training.devices import resolve_device
from mmestim._training.net import Net
from mmestim._training.options import TrainingOptions
from mmestim.balancers import OGM
from mmestim.voice import VoiceEditDetector
from mmestim.voice._models.losses import ClassLoss
from mmestim.voice._models.network_training import WindowRows, train_network

MODALITIES = {"first": slice(0, 64), "second": slice(64, 98)}
TINY = {"max_epochs": 3, "cv": None, "device": "cpu", "random_state": 0}
# Rounding to bfloat16 differs with the rows of a product.
TOLERANCES = {'precision="bf16"': 0.02}
RANDOM = "encoder with BatchNorm and dropout"


def process():
    return dist.get_rank() if dist.is_initialized() else 0


class StopOnLast(Callback):
    """Stop after the second epoch, on the last process."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2 and process() == (dist.get_world_size() - 1 if dist.is_initialized() else 0):
            raise KeyboardInterrupt


class Rarely(nn.Module):
    """Encoder with a layer that only the batches with a large first value reach."""

    def __init__(self, input_shape, embedding_dim=8):
        super().__init__()
        self.often, self.rarely = (nn.Linear(input_shape[0], embedding_dim) for _ in range(2))
        self.n_features = embedding_dim

    def forward(self, x):
        return self.often(x) + self.rarely(x) * (x[:, 2] > 11).any() if (x[:, 2] > 11).any() else self.often(x)


class CountedItems(Dataset):
    """Rows of X that count how often they are read."""

    def __init__(self, X):
        self.X, self.n_reads = X, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, number):
        self.n_reads += 1
        return {name: self.X[number, columns] for name, columns in MODALITIES.items()}


# Run in two processes, and in this one for reference ---------------------------------------------------


def weighted(folder):
    X, y = rows()
    weight = np.random.default_rng(1).random(len(y)) * (np.arange(len(y)) % 5 > 0)
    clf = JointClassifier(MODALITIES, unimodal_weight=1.0, class_weight="balanced", **TINY | {"cv": 2})
    return fitted(clf.fit(X, y, sample_weight=weight), X)


def batches_too_small_to_share(folder):
    X, y = rows()
    return fitted(JointClassifier(MODALITIES, batch_size=3, **TINY | {"max_epochs": 1}).fit(X[:50], y[:50]), X)


def rarely_reached_layer(folder):
    X, y = rows()
    encoder = {"first": Rarely, "second": "mlp"}
    return fitted(JointClassifier(MODALITIES, encoder=encoder, batch_size=8, **TINY).fit(X, y), X)


def stopped_by_one_process(folder):
    X, y = rows()
    clf = JointClassifier(MODALITIES, callbacks=[StopOnLast()], **TINY).fit(X, y)
    assert clf.n_iter_ == 2
    return fitted(clf, X)


def resumed(folder):
    X, y = rows()
    clf = JointClassifier(MODALITIES, checkpoint=folder / "checkpoint", **TINY).fit(X, y)
    return fitted(clf, X), [epoch["dur"] for epoch in clf.history_]


def accumulated(folder):
    X, y = rows()
    return fitted(LateFusionClassifier(MODALITIES, batch_size=15, accumulate=3, **TINY | {"cv": 2}).fit(X, y), X)


def network_of_windows(folder):
    rng = np.random.default_rng(0)
    waveforms, y = rng.normal(size=(75, 32)).astype(np.float32), np.eye(2)[np.arange(75) % 2]
    waveforms[y[:, 0] == 1] += 1
    windows = SimpleNamespace(floats=waveforms.__getitem__, lengths=np.full(75, 32))
    options = TrainingOptions.from_parameters(lr=0.1, batch_size=16, optimizer="sgd", device="cpu")
    network, history = data_parallel(train_network)(
        WindowNet,
        WindowRows(windows, y, np.arange(75), options.device),
        ClassLoss(),
        options,
        n_windows=150,
        lr=0.1,
        seed=0,
        stage="windows",
    )
    with torch.no_grad():
        proba = network(torch.from_numpy(waveforms), None)[0].softmax(1).numpy()
    module = SimpleNamespace(state_dict=network.state_dict)
    return fitted(SimpleNamespace(module_=module, history_=history, predict_proba=lambda X: proba), None)


class WindowNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, waveform, lengths):
        return self.layers(waveform), waveform


CASES = [
    weighted,
    batches_too_small_to_share,
    rarely_reached_layer,
    accumulated,
    network_of_windows,
]


# Run in two processes alone -----------------------------------------------------------------------------


def from_different_states(folder):
    """Fit with seeds, weights and folds that only the first process decides."""
    X, y = rows()
    torch.manual_seed(process())
    encoder = {"first": ConvNet((64,)), "second": "mlp"}
    clf = JointClassifier(MODALITIES, encoder=encoder, **TINY | {"random_state": None, "cv": KFold(2, shuffle=True)})
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        clf.set_params(verbose=2).fit(X, y)
    return fitted(clf, X), printed.getvalue()


def accumulated_with_batch_norm(folder):
    """Fit to batches of which one process reads three rows, so one part, and the other four."""
    X, y = rows()
    clf = LateFusionClassifier(MODALITIES, encoder=ConvNet, batch_size=7, accumulate=2, **TINY | {"cv": 2})
    return fitted(clf.set_params(max_epochs=1).fit(X, y), X)


def read_rows(folder):
    """Return how often one epoch reads a row."""
    X, y = rows()
    n_reads = []
    for max_epochs in (1, 2):
        items = CountedItems(np.nan_to_num(X))
        JointClassifier(max_memory=0, early_stopping=False, **TINY | {"max_epochs": max_epochs}).fit(items, y)
        n_reads.append(items.n_reads)
    return n_reads[1] - n_reads[0]


def different_data(folder):
    X, y = rows()
    with pytest.raises(ValueError, match="Pass all rows") as error:
        JointClassifier(MODALITIES, **TINY).fit(X[process() :], y[process() :])
    return str(error.value)


def different_parameters(folder):
    X, y = rows()
    with pytest.raises(ValueError, match="different data or parameters"):
        JointClassifier(MODALITIES, balancer=OGM(alpha=0.1 + process()), **TINY).fit(X, y)
    clips = np.random.default_rng(0).normal(scale=0.1, size=(8, 8000))
    detector = VoiceEditDetector(["cut"], window=0.35, n_clips=20, training_budget=1 + process(), random_state=0)
    with pytest.raises(ValueError, match="different data or parameters"):
        detector.fit(clips)


def in_another_thread(folder):
    """Return the warnings of a fit in a thread."""
    X, y = rows()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=JointClassifier(MODALITIES, **TINY).fit, args=(X, y))
        thread.start()
        thread.join()
    return [str(warning.message) for warning in caught]


def in_threads(folder):
    X, y = rows()
    seeds = [1, 2] if process() == 0 else [2, 1]
    with parallel_config("threading", n_jobs=2):
        fits = Parallel()(
            delayed(JointClassifier(MODALITIES, **TINY | {"random_state": seed}).fit)(X, y) for seed in seeds
        )
    return {seed: fitted(clf, X) for seed, clf in zip(seeds, fits, strict=True)}


ALONE = [
    stopped_by_one_process,
    from_different_states,
    accumulated_with_batch_norm,
    read_rows,
    different_data,
    different_parameters,
    in_another_thread,
    in_threads,
    resumed,
]


def run_all(folder):
    results = {name: fit(name) for name in CLASSIFIERS}
    return results | {function.__name__: function(folder) for function in [*CASES, *ALONE]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def killed_history(folder):
    """Epochs of a fit on one process that was killed in its third one, and left a checkpoint."""
    epochs = []

    def train_epoch(net, *arguments):
        epochs[:] = net.history[:, "dur"] if len(net.history) > 1 else []
        if len(net.history) == 3:
            raise SystemExit
        return run_epoch(net, *arguments)

    run_epoch = Net.train_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Net, "train_epoch", train_epoch)
        with pytest.raises(SystemExit):
            resumed(folder)
    return epochs[:2]


@pytest.fixture(scope="module")
def results(folder, killed_history):
    return run_processes(__file__, "run_all", 2, folder, folder)


@pytest.mark.filterwarnings("ignore")  # Short fits do not converge.
@pytest.mark.parametrize("name", [*CLASSIFIERS, *(function.__name__ for function in CASES)])
def test_fit_is_that_of_one_process(results, folder, name):
    first, second = (result[name] for result in results)
    assert is_same(first, second)
    if name != RANDOM:
        alone = fit(name) if name in CLASSIFIERS else globals()[name](folder)
        np.testing.assert_allclose(first.proba, alone.proba, atol=TOLERANCES.get(name, 1e-4))


def test_the_first_process_decides_and_reports(results):
    (first, report), (second, nothing) = (result["from_different_states"] for result in results)
    assert is_same(first, second)
    assert "rows in 2 folds" in report
    assert "valid_loss" in report
    assert not nothing


def test_a_callback_of_one_process_stops_all(results):
    first, second = (result["stopped_by_one_process"] for result in results)
    assert is_same(first, second)


def test_parts_of_a_batch_are_the_same_on_every_process(results):
    first, second = (result["accumulated_with_batch_norm"] for result in results)
    assert is_same(first, second)


def test_a_process_reads_its_share_alone(results):
    X, _ = rows()
    reads = [result["read_rows"] for result in results]
    assert sum(reads) == len(X)
    assert max(reads) - min(reads) <= 5


def test_different_data_raise_on_every_process(results):
    assert len({result["different_data"] for result in results}) == 1


def test_a_fit_in_a_thread_warns_that_it_is_alone(results):
    for result in results:
        assert sum("Call it in the main thread" in message for message in result["in_another_thread"]) == 1


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads
def test_a_forked_process_is_alone():
    context = copy_context()
    context.run(processes._processes.set, processes._Processes(0, 2))
    with context.run(multiprocessing.get_context("fork").Pool, 1) as pool:
        assert pool.apply(processes.n_processes) == 1


@pytest.mark.filterwarnings("ignore")
def test_tasks_of_joblib_train_alone(results):
    X, y = rows()
    for seed in (1, 2):
        alone = fitted(JointClassifier(MODALITIES, **TINY | {"random_state": seed}).fit(X, y), X)
        for result in results:
            np.testing.assert_array_equal(result["in_threads"][seed].proba, alone.proba)


def test_checkpoints_resume_on_other_numbers_of_processes(results, folder, killed_history):
    (first, history), (second, _) = (result["resumed"] for result in results)
    assert is_same(first, second)
    assert history[:2] == killed_history
    assert len(history) == 3
    again, same_history = resumed(folder)  # from the results of the two processes
    assert is_same(first, again)
    assert same_history == history
    X, y = rows()
    plain = fitted(JointClassifier(MODALITIES, **TINY).fit(X, y), X)
    np.testing.assert_allclose(first.proba, plain.proba, atol=1e-4)


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("n_rows", [16, 17, 64, 99])
def test_shares_are_the_parts_of_a_batch(size, n_rows):
    contexts = [copy_context() for _ in range(size)]
    for number, context in enumerate(contexts):
        context.run(processes._processes.set, processes._Processes(number, size))
    shares = [context.run(share_of, n_rows) for context in contexts]
    assert np.concatenate([share.of(np.arange(n_rows)) for share in shares]).tolist() == list(range(n_rows))
    lengths = [share.stop - share.start for share in shares]
    assert {share.fewest for share in shares} == {min(lengths)}
    assert min(lengths) >= 2
    assert contexts[0].run(share_of, 2 * size - 1) is None
    assert contexts[0].run(share_of, n_rows, n_sure=shares[-1].start + 1) is None
    n_fewer = max(lengths) - 2
    firsts = [context.run(share.first, n_rows - n_fewer) for context, share in zip(contexts, shares, strict=True)]
    assert firsts[0][:3] == (*shares[0][:2], n_rows - n_fewer)
    assert firsts[-1][:2] == (shares[-1].start, n_rows - n_fewer)
    assert {share.fewest for share in firsts} == {2}


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_launched_processes_have_gpus_of_their_own(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert str(resolve_device(device)) == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert str(resolve_device(device)) == "cuda:3"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # The launcher hides the others.
    assert str(resolve_device(device)) == "cuda:0"


SCRIPT = """
import hashlib, os
import torch.distributed as dist
from skorch.callbacks import Callback
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from mmestim import JointClassifier
from mmestim.datasets import load_digit_views

class Fails(Callback):
    def on_epoch_end(self, net, **kwargs):
        if dist.get_rank() == 1:
            raise RuntimeError("the disk of process 1 is full")

digits = load_digit_views(views=["pixels", "fourier"])
X, y = digits.data[:200], digits.target[:200]
clf = JointClassifier(digits.modalities, max_epochs=2, cv=None, random_state=0)
with parallel_config("multiprocessing", n_jobs=2):
    search = GridSearchCV(clf, {"lr": [1e-2]}, cv=2).fit(X, y)
clf.set_params(random_state=None).fit(X, y)
weights = b"".join(t.numpy().tobytes() for t in clf.module_.state_dict().values())
with open(os.environ["OUT"] + os.environ["RANK"], "w") as file:
    print(dist.get_world_size(), search.best_score_, hashlib.sha256(weights).hexdigest(), file=file)
clf.set_params(max_epochs=100, callbacks=[Fails()]).fit(X, y)
"""


def test_torchrun_trains_on_all_processes_and_ends_them_if_one_fails(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"OUT": str(tmp_path / "rank"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    first, second = ((tmp_path / f"rank{rank}").read_text() for rank in range(2))
    assert first == second
    assert first.startswith("2 ")
    assert run.returncode == 1
    assert "the disk of process 1 is full" in run.stderr
