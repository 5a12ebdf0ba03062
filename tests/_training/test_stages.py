"""Stages of a fit: their number and headings, and what Ctrl-C in each of them keeps and reports."""

import re

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.balancers import UMT, GradientBlending

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu"}

CASES = {
    "late fusion": (LateFusionClassifier, {}, 3),
    "late fusion of folds": (LateFusionClassifier, {"cv": 2}, 3),
    "late fusion refitted": (LateFusionClassifier, {"cv": 2, "ensemble": False}, 6),
    "UDI": (UDIClassifier, {}, 5),
    "UDI without guidance": (UDIClassifier, {"guidance": None}, 3),
    "UDI of folds": (UDIClassifier, {"cv": 2}, 5),
    "UDI refitted": (UDIClassifier, {"cv": 2, "ensemble": False}, 8),
    "UDI refitted from warm followers": (UDIClassifier, {"cv": 2, "ensemble": False, "follower_init": "warm"}, 10),
    "joint": (JointClassifier, {}, 1),
    "joint of folds": (JointClassifier, {"cv": 2}, 2),
    "joint with teachers": (JointClassifier, {"balancer": UMT()}, 1),
    "joint with trials": (JointClassifier, {"balancer": GradientBlending(n_epochs=1, super_epoch=1)}, 1),
    "gap": (ModalityGapClassifier, {"fine_tune_epochs": 0}, 1),
    "gap with fine-tuning": (ModalityGapClassifier, {"fine_tune_epochs": 1}, 2),
    "gap of folds": (ModalityGapClassifier, {"cv": 2, "fine_tune_epochs": 1}, 2),
    "gap of folds without its terms": (
        ModalityGapClassifier,
        {"cv": 2, "gap_weight": 0, "shift_weight": 0, "balanced_weight": 0, "fine_tune_epochs": 0},
        2,
    ),
    "gap of folds without pairs": (ModalityGapClassifier, {"cv": 2, "fine_tune_epochs": 1}, 2),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    return (rng.normal(size=(80, 12)) + y[:, None]).astype(np.float32), y


def build(case, **settings):
    classifier, parameters, n_stages = CASES[case]
    return classifier(GROUPS, **{"cv": None} | parameters | FAST | settings), n_stages


@pytest.mark.parametrize("verbose", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_bars_and_tables_number_every_stage(case, verbose, data, capsys):
    clf, n_stages = build(case, verbose=verbose)
    X, y = data
    if case == "gap of folds without pairs":
        names = [*clf.modalities]
        X = X.copy()
        for row, values in enumerate(X):
            for name in {*names} - {names[row % len(names)]}:
                values[clf.modalities[name]] = np.nan
    clf.fit(X, y)
    printed = "".join(capsys.readouterr())
    numbers = re.findall(r"stage (\d+) of (\d+): (?:unimodal|guided|joint|fine-tuning)", printed)
    expected = [(str(number), str(n_stages)) for number in range(1, n_stages + 1)] if n_stages > 1 else []
    assert sorted(set(numbers), key=lambda pair: int(pair[0])) == expected
    if verbose == 2:
        assert len(numbers) == len(expected)  # One table per stage.
        assert "valid_loss" in printed
    assert "selection" not in printed
    assert not re.search(r"all rows (audio|image|text)", printed)


class Interrupt(Callback):
    """Raise KeyboardInterrupt, as Ctrl-C does, in an epoch of a stage, or count the stages if there is none."""

    def __init__(self, stage, epoch):
        self.stage = stage
        self.epoch = epoch
        self.n_stages = 0

    def initialize(self):
        return self

    def on_train_begin(self, net, **kwargs):
        self.n_stages += net.heading.startswith("stage") or net.title == "joint"

    def on_epoch_begin(self, net, **kwargs):
        if self.n_stages == self.stage and len(net.history) == self.epoch:
            raise KeyboardInterrupt


# Stages from which on a classifier can be fitted: those of late fusion need every branch.
FIRST_FITTED = {"late fusion": 3, "late fusion of folds": 3, "UDI": 3, "joint": 1, "joint of folds": 1, "gap": 1}


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    "case, stage", [(case, stage) for case in FIRST_FITTED for stage in range(1, CASES[case][2] + 1)]
)
def test_ctrl_c_reports_the_stage_and_what_is_kept(case, stage, epoch, data):
    clf, n_stages = build(case)
    clf.set_params(callbacks=[Interrupt(stage, epoch)])
    with pytest.raises(KeyboardInterrupt) as raised:
        clf.fit(*data)
    message = str(raised.value)
    place = f" of stage {stage} of {n_stages} (" if n_stages > 1 else ". "
    assert message.startswith(f"{type(clf).__name__}.fit was interrupted after {epoch - 1} complete epoch(s){place}")
    assert "checkpoint='folder'" in message
    # Without a complete epoch the stages before have to suffice.
    if stage - (epoch == 1) >= FIRST_FITTED[case]:
        assert "The classifier is fitted with the epochs so far" in message
        assert ("later stage(s)" in message) == (stage < n_stages)
        assert np.isfinite(clf.predict_proba(data[0])).all()
    else:
        assert "Nothing is kept: the classifier is not fitted." in message
        with pytest.raises(NotFittedError):
            clf.predict(data[0])


def test_ctrl_c_names_the_checkpoint_that_the_next_fit_resumes(data, tmp_path):
    clf, _ = build("late fusion", checkpoint=tmp_path, callbacks=[Interrupt(2, 3)])
    with pytest.raises(KeyboardInterrupt, match=rf"Nothing is kept.*checkpoint={str(tmp_path)!r} resumes from there"):
        clf.fit(*data)
    resumed = clf.set_params(callbacks=None).fit(*data)
    expected = build("late fusion")[0].fit(*data)
    np.testing.assert_array_equal(resumed.predict_proba(data[0]), expected.predict_proba(data[0]))


def test_ctrl_c_before_the_first_stage_says_so(data, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(LateFusionClassifier, "_build_branch", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"before its first stage\. Nothing is kept"):
        build("late fusion")[0].fit(*data)
