"""skorch's callback for TensorBoard: its files hold the scores of every stage."""

import pytest
from sklearn.base import clone
from skorch.callbacks import TensorBoard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from mmestim import JointClassifier, UDIClassifier
from mmestim.datasets import load_digit_views

FAST = {"max_epochs": 3, "embedding_dim": 8, "random_state": 0, "device": "cpu", "cv": None}


class StageCurves(TensorBoard):
    """Curves of each training stage, as a run of its own."""

    def __init__(self, folder, writer=None, **kwargs):
        super().__init__(writer, **kwargs)
        self.folder = folder

    def on_train_begin(self, net, **kwargs):
        self.writer = SummaryWriter(f"{self.folder}/{net.title}")


@pytest.fixture(scope="module")
def digits():
    bunch = load_digit_views(views=["pixels", "fourier"])
    return bunch.data[:150], bunch.target[:150], bunch.modalities


def read_scalars(folder, tag):
    return [event.value for event in EventAccumulator(str(folder)).Reload().Scalars(tag)]


def assert_is_history(folder, epochs):
    for key in ("train_loss", "valid_loss", "valid_accuracy"):
        assert read_scalars(folder, f"Loss/{key}") == pytest.approx([row[key] for row in epochs])
    assert read_scalars(folder, "lr") == pytest.approx([row["lr"] for row in epochs])


def test_tensorboard_holds_the_history(digits, tmp_path):
    X, y, modalities = digits
    callbacks = [TensorBoard(SummaryWriter(tmp_path))]
    clf = JointClassifier(modalities, callbacks=callbacks, **FAST).fit(X, y)
    assert_is_history(tmp_path, clf.history_)


def test_each_stage_is_a_run_by_the_title_of_its_net(digits, tmp_path):
    X, y, modalities = digits
    clf = UDIClassifier(modalities, callbacks=[StageCurves(str(tmp_path))], **FAST).fit(X, y)
    titles = [f"{row['stage']} {row['modality']}" for row in clf.history_]
    assert {run.name for run in tmp_path.iterdir()} == set(titles)
    for run in tmp_path.iterdir():
        assert_is_history(run, [row for row, title in zip(clf.history_, titles, strict=True) if title == run.name])
    clone(clf)
