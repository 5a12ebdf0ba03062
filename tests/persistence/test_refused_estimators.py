"""Estimators that cannot be saved, and paths where no file can be written."""

import os
import pickle
import stat

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, load, save

pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")


class Subclass(JointClassifier):
    """Subclass, which load would restore as its parent."""


def test_other_objects_are_refused_with_a_way_out(fitted, digits, path, fast_options):
    X, y, modalities = digits
    pipeline = make_pipeline(StandardScaler(), LateFusionClassifier(modalities, **fast_options)).fit(X, y)
    search = GridSearchCV(LateFusionClassifier(modalities, **fast_options), {"lr": [0.1]}, cv=2).fit(X, y)
    for unsupported, way_out in [
        (pipeline, r"'standardscaler': 'StandardScaler', .*save\(pipeline\['latefusionclassifier'\]"),
        (search, "best_estimator_"),
        (Subclass(modalities, **fast_options).fit(X, y), "subclass of JointClassifier"),
        (LogisticRegression(), "joblib"),
        (JointClassifier, "joblib"),
        (fitted.module_, "joblib"),
    ]:
        with pytest.raises(TypeError, match=way_out):
            save(unsupported, path)
    with pytest.raises(NotFittedError):
        save(JointClassifier(), path)
    assert not path.exists()
    save(search.best_estimator_, path)


@pytest.mark.parametrize(
    "changed",
    [
        {"embedding_dim": 9},
        {"fusion": "sum"},
        {"encoder": "linear"},
        {"lr": "x"},
        {"modalities": {"pixels": slice(0, 60), "fourier": slice(60, None)}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_parameters_changed_after_fit_are_refused(changed, fitted, path):
    other = pickle.loads(pickle.dumps(fitted)).set_params(**changed)
    with pytest.raises(ValueError, match="do not describe the fitted network"):
        save(other, path)


def test_values_that_the_header_cannot_hold_are_refused(fitted, digits, path, fast_options):
    X, y, _ = digits
    long_weights = {f"{'long ' * 10}{n}": 1.0 for n in range(10**5)}
    with pytest.raises(ValueError, match=r"the header would have .*Shorten the parameters"):
        save(pickle.loads(pickle.dumps(fitted)).set_params(class_weight=long_weights), path)
    complex_encoder = nn.Sequential(nn.Linear(98, 4))
    complex_encoder.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"phase' has torch.complex64"):
        save(LateFusionClassifier(encoder=complex_encoder, **fast_options).fit(X, y), path)
    with pytest.raises(ValueError, match="classes_ is an array of"):
        save(LateFusionClassifier(**fast_options).fit(X, (y % 2).astype(np.longdouble)), path)
    assert not path.exists()
    save(pickle.loads(pickle.dumps(fitted)).set_params(class_weight={(1, 2): 1.0}), path)
    assert load(path).class_weight is None


def test_unusable_paths_are_named(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'[^']*none/model\.mme'$"):
        save(fitted, tmp_path / "none" / "model.mme")
    with pytest.raises(IsADirectoryError) as caught:
        save(fitted, tmp_path)
    assert caught.value.filename == str(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failure_while_writing_leaves_the_old_file_intact(failure, fitted, path, monkeypatch):
    save(fitted, path)
    before = path.read_bytes()

    def fail(descriptor):
        raise failure

    monkeypatch.setattr(os, "fsync", fail)  # Fail after the last byte and before the renaming.
    with pytest.raises(type(failure)):
        save(fitted.set_params(verbose=1), path)
    fitted.set_params(verbose=0)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_files_have_the_usual_permissions(fitted, path):
    if os.name != "posix":
        pytest.skip("needs the permissions of POSIX")
    other_file = path.with_name("other")
    other_file.touch()
    save(fitted, path)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other_file.stat().st_mode)
    path.chmod(0o640)
    save(fitted, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    link = path.with_name("link.mme")
    link.symlink_to(path)
    save(fitted, link)
    assert link.is_symlink()
