"""Round trips: loaded models equal the saved ones."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import Callback

from mmestim import (
    JointClassifier,
    LateFusionClassifier,
    ModalityGapAnalyzer,
    ModalityGapClassifier,
    UDIClassifier,
    gap_scores,
    load,
    save,
)
from mmestim.__main__ import main
from mmestim.balancers import OGM

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
LABELS = {
    "text": np.array(["zero", "a one", "two"]),
    "objects": np.array(["b", "é", "long name"], dtype=object),
    "integers": np.array([-5, 7, 2**40]),
    "bytes": np.array([3, 4, 200], dtype=np.uint8),
    "booleans": np.array([False, True]),
    "floats": np.array([0.0, 1.0, 4.0]),
}

pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"cv": 3}], ids=str)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_predictions_are_identical_with_absent_modalities_too(
    classifier, settings, digits, save_and_load, fast_options, assert_same_predictions
):
    X, y, modalities = digits
    with_absent = X.copy()
    with_absent[::3, modalities["pixels"]] = np.nan
    clf = classifier(modalities, **fast_options | settings).fit(with_absent, y)
    loaded = save_and_load(clf)
    for rows in (X, with_absent):
        assert_same_predictions(loaded, clf, rows)
    assert type(loaded) is classifier
    assert loaded.get_params() == clf.get_params()
    assert (loaded.device_, loaded.n_iter_, loaded.n_features_in_) == ("cpu", clf.n_iter_, clf.n_features_in_)
    assert loaded.n_networks_ == clf.n_networks_
    assert getattr(loaded, "fusion_weights_", None) == getattr(clf, "fusion_weights_", None)
    assert loaded.score(X, y) == clf.score(X, y)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_offsets_and_layouts_are_saved(classifier, digits, save_and_load, fast_options, assert_same_predictions):
    X, y, modalities = digits
    far = {"pixels": X[:, modalities["pixels"]].reshape(-1, 8, 8, 1) + 1e9, "fourier": X[:, modalities["fourier"]]}
    clf = classifier(**fast_options).fit(far, y)
    loaded = save_and_load(clf)
    assert_same_predictions(loaded, clf, far)
    assert loaded.shapes_ == {"pixels": (1, 8, 8)}
    assert list(loaded.offsets_) == ["pixels"]
    assert_array_equal(loaded.offsets_["pixels"], clf.offsets_["pixels"])


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_keep_their_type(labels, digits, save_and_load, fast_options):
    X, y, modalities = digits
    clf = LateFusionClassifier(modalities, **fast_options).fit(X, labels[y % len(labels)])
    loaded = save_and_load(clf)
    assert_array_equal(loaded.predict(X), clf.predict(X))
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert [type(label) for label in loaded.classes_.tolist()] == [type(label) for label in clf.classes_.tolist()]


def test_every_balancer(balancing_method, digits, save_and_load, fast_options, assert_same_predictions):
    X, y, modalities = digits
    clf = JointClassifier(modalities, balancer=balancing_method(), **fast_options).fit(X, y)
    loaded = save_and_load(clf)
    assert_same_predictions(loaded, clf, X)
    assert type(loaded.balancer) is balancing_method
    assert loaded.balancer.get_params() == balancing_method().get_params()


@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
def test_every_fusion(fusion, digits, save_and_load, fast_options, assert_same_predictions):
    X, y, modalities = digits
    clf = JointClassifier(modalities, fusion=fusion, unimodal_weight=0.5, **fast_options).fit(X, y)
    assert_same_predictions(save_and_load(clf), clf, X)


@pytest.mark.parametrize("encoder", ["auto", "linear", {"pixels": "conv2d", "fourier": "conv1d"}])
def test_every_encoder_name(encoder, digits, save_and_load, fast_options, assert_same_predictions):
    X, y, modalities = digits
    shapes = {"pixels": (8, 8), "fourier": (34,)}
    clf = LateFusionClassifier(modalities, encoder=encoder, shapes=shapes, fusion="mean", **fast_options).fit(X, y)
    loaded = save_and_load(clf)
    assert_same_predictions(loaded, clf, X)
    assert loaded.shapes_ == shapes


def test_column_names_of_a_frame_and_of_a_dict_of_frames(digits, save_and_load, fast_options, assert_same_predictions):
    pandas = pytest.importorskip("pandas")
    X, y, _ = digits
    frame = pandas.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    groups = {"a": frame.columns[1::2], "b": list(frame.columns[::2])}
    clf = LateFusionClassifier(groups, **fast_options).fit(frame, y)
    loaded = save_and_load(clf)
    assert_same_predictions(loaded, clf, frame)
    assert_array_equal(loaded.feature_names_in_, clf.feature_names_in_)
    clf.fit(frame, pandas.Series(np.array(["odd", "even"])[y % 2]).astype("category"))
    assert_same_predictions(save_and_load(clf), clf, frame)
    blocks = {name: frame[list(columns)] for name, columns in groups.items()}
    clf = LateFusionClassifier(**fast_options).fit(blocks, y)
    loaded = save_and_load(clf)
    assert_same_predictions(loaded, clf, blocks)
    with pytest.raises(ValueError, match="should match those of fit"):
        loaded.predict(blocks | {"a": blocks["a"][list(groups["a"][::-1])]})


def test_the_analyzer(fitted, digits, save_and_load):
    X, y, _ = digits
    scores = np.column_stack([gap_scores(fitted, X, y)[:, 0], y / 10])
    analyzer = ModalityGapAnalyzer(min_variance=1e-3).fit(scores)
    loaded = save_and_load(analyzer)
    for method in ("transform", "predict", "gap", "score_samples"):
        assert_array_equal(getattr(loaded, method)(scores), getattr(analyzer, method)(scores))
    assert {**vars(loaded), **vars(analyzer)}.keys() == vars(analyzer).keys() == vars(loaded).keys()
    assert_array_equal(loaded.bic_, analyzer.bic_)


def test_parameters_are_restored_or_listed_as_left_out(digits, save_and_load, path, fast_options):
    X, y, modalities = digits
    saved = {
        "guidance": (1.0, 0.5),
        "class_weight": {np.int64(label): 1.0 + label for label in range(10)},
        "optimizer": torch.optim.RMSprop,
        "max_grad_norm": np.float32(2),
        "device": torch.device("cpu"),
        "modalities": {name: np.arange(300)[columns] for name, columns in modalities.items()},
    }
    left_out = {"callbacks": [Callback()], "random_state": np.random.RandomState(0)}
    clf = UDIClassifier(**fast_options | saved | left_out).fit(X, y)
    loaded = save_and_load(clf)
    params = loaded.get_params()
    for name, columns in params.pop("modalities").items():
        assert_array_equal(columns, saved["modalities"][name])
    saved.pop("modalities")
    assert {name: params[name] for name in saved} == saved
    assert all(params[name] is None for name in left_out)
    assert main(["info", str(path)]) == 0
    assert (loaded.anchor_, loaded.order_, loaded.branch_scores_) == (clf.anchor_, clf.order_, clf.branch_scores_)
    gap = ModalityGapClassifier(modalities, **fast_options | {"cv": StratifiedKFold(2)}).fit(X, y)
    assert save_and_load(gap).cv == "auto"


def test_training_state_is_not_saved(digits, save_and_load, fast_options):
    X, y, modalities = digits
    clf = JointClassifier(modalities, balancer=OGM(), **fast_options).fit(X, y)
    assert set(vars(clf)) - set(vars(save_and_load(clf))) == {"balancers_", "balance_history_", "history_"}


def test_a_loaded_model_can_be_pickled_saved_and_refitted(fitted, digits, save_and_load, tmp_path):
    X, y, _ = digits
    loaded = save_and_load(fitted)
    assert_array_equal(pickle.loads(pickle.dumps(loaded)).predict_proba(X), fitted.predict_proba(X))
    save(loaded, tmp_path / "again.mme")
    assert (tmp_path / "again.mme").read_bytes() == (tmp_path / "model.mme").read_bytes()
    assert_array_equal(loaded.fit(X, y).predict_proba(X), fitted.predict_proba(X))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_fitted_on_a_gpu(digits, save_and_load, precision, fast_options, assert_same_predictions):
    X, y, modalities = digits
    clf = JointClassifier(modalities, precision=precision, **fast_options | {"device": "cuda"}).fit(X, y)
    assert_same_predictions(save_and_load(clf, device="auto"), clf, X)
    on_cpu = save_and_load(clf, device="cpu")
    assert {parameter.device.type for parameter in on_cpu.module_.parameters()} == {"cpu"}
    np.testing.assert_allclose(
        on_cpu.predict_proba(X), clf.predict_proba(X), atol=1e-4 if precision == "float32" else 0.05
    )


def test_saving_and_loading_leave_the_random_state_of_torch_alone(fitted, path):
    before = torch.get_rng_state()
    save(fitted, path)
    load(path)
    assert torch.equal(before, torch.get_rng_state())
