"""Behaviour of all classifiers: predictions, absent modalities, weights and seeds."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim._training.options import TrainingOptions

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
GROUPS = {"audio": slice(0, 5), "image": slice(5, 8)}
FAST = {"max_epochs": 4, "random_state": 0, "device": "cpu", "cv": None, "optimizer": "sgd"}


@pytest.fixture(scope="module")
def data():
    """Two modalities that depend on three classes with names."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    X = rng.normal(size=(150, 8)).astype(np.float32)
    X[:, :5] += 1.5 * y[:, None]
    X[:, 5:] -= y[:, None]
    return X, np.array(["red", "green", "blue"])[y]


@pytest.fixture(scope="module")
def with_absent(data):
    """Rows of which some lack one modality."""
    X, y = data[0].copy(), data[1]
    X[::3, :5] = np.nan
    X[1::3, 5:] = np.nan
    return X, y


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_fit_learns_and_sets_the_attributes(classifier, data):
    X, y = data
    clf = classifier(GROUPS, random_state=0, device="cpu").fit(X, y)
    assert clf.score(X, y) > 0.85
    assert clf.classes_.tolist() == ["blue", "green", "red"]
    assert {name: columns.tolist() for name, columns in clf.modalities_.items()} == {
        "audio": [0, 1, 2, 3, 4],
        "image": [5, 6, 7],
    }
    assert clf.device_ == "cpu"
    assert clf.n_iter_ == len(clf.history_) > 0
    assert {"stage", "modality", "epoch", "train_loss", "valid_loss", "valid_accuracy"} <= set(clf.history_[0])
    names = clf.get_feature_names_out()
    assert clf.transform(X).shape == (150, len(names))
    assert (names[0], names[-1]) == ("audio0", f"image{64 * clf.n_networks_ - 1}")


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_outputs_are_float32_and_do_not_depend_on_the_batch(classifier, cv, with_absent):
    X, y = with_absent
    clf = classifier(GROUPS, **FAST | {"cv": cv}).fit(X, y)
    all_rows = clf.predict_proba(X)
    assert all_rows.dtype == clf.transform(X).dtype == np.float32
    np.testing.assert_allclose(all_rows, np.concatenate([clf.predict_proba(row[None]) for row in X]), atol=1e-5)


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_order_of_modalities_does_not_change_predictions(classifier, cv, with_absent):
    X, y = with_absent
    settings = FAST | {"cv": cv}
    first = classifier(GROUPS, **settings).fit(X, y)
    second = classifier({"image": slice(0, 3), "audio": slice(3, 8)}, **settings)
    swapped = np.hstack([X[:, 5:], X[:, :5]])
    np.testing.assert_allclose(second.fit(swapped, y).predict_proba(swapped), first.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_same_seed_gives_same_model_and_keeps_torch_state(classifier, cv, data):
    X, y = data
    settings = FAST | {"cv": cv}
    before = torch.get_rng_state()
    first = classifier(GROUPS, **settings).fit(X, y).predict_proba(X)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(123)
    np.testing.assert_array_equal(classifier(GROUPS, **settings).fit(X, y).predict_proba(X), first)
    assert not np.array_equal(classifier(GROUPS, **settings | {"random_state": 1}).fit(X, y).predict_proba(X), first)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_rows_are_predicted_from_the_modalities_present(classifier, with_absent):
    X, y = with_absent
    # Without unimodal heads, a modality is scored by the fused prediction with the others absent.
    is_joint = issubclass(classifier, JointClassifier | ModalityGapClassifier)
    settings = {"unimodal_weight": 0.0} if is_joint else {"fusion": "sum"}
    clf = classifier(GROUPS, random_state=0, device="cpu", **settings).fit(X, y)
    assert clf.score(X, y) > 0.55
    per_modality = clf.predict_proba_per_modality(X)
    np.testing.assert_array_equal(np.isnan(per_modality["audio"]).all(1), np.isnan(X[:, 0]))
    np.testing.assert_array_equal(np.isnan(per_modality["image"]).any(1), np.isnan(X[:, 5]))
    np.testing.assert_allclose(clf.predict_proba(X)[::3], per_modality["image"][::3], atol=1e-6)
    assert (clf.transform(X)[::3, : 64 * clf.n_networks_] == 0).all()


def test_branches_of_late_fusion_train_independently(data):
    X, y = data
    both = LateFusionClassifier(GROUPS, **FAST).fit(X, y).predict_proba_per_modality(X)["audio"]
    alone = LateFusionClassifier({"audio": slice(None)}, **FAST, fusion="sum").fit(X[:, :5], y)
    np.testing.assert_array_equal(both, alone.predict_proba(X[:, :5]))


def test_rows_of_weight_zero_are_ignored(data):
    X, y = data
    weight = np.ones(len(y))
    weight[100:] = 0
    settings = FAST | {"early_stopping": False, "fusion": "sum"}
    unweighted = LateFusionClassifier(GROUPS, **settings).fit(X[:100], y[:100])
    weighted = clone(unweighted).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(weighted.predict_proba(X), unweighted.predict_proba(X))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_class_weight_shifts_predictions(classifier, data):
    X, y = data
    X = X + np.random.default_rng(1).normal(size=X.shape, scale=3)
    plain = classifier(GROUPS, **FAST).fit(X, y).predict(X)
    weighted = classifier(GROUPS, **FAST, class_weight={"red": 20.0}).fit(X, y).predict(X)
    assert (weighted == "red").sum() > (plain == "red").sum() + 20


@pytest.mark.parametrize(
    "sample_weight, message",
    [(-np.ones(150), "at least 0"), (np.zeros(150), "zero"), (np.ones((150, 2)), "1D"), (np.ones(3), "inconsistent")],
)
def test_invalid_sample_weights_raise(sample_weight, message, data):
    with pytest.raises(ValueError, match=message):
        LateFusionClassifier(GROUPS, **FAST).fit(*data, sample_weight=sample_weight)


def test_modality_absent_from_every_training_row_raises(data):
    X, y = data[0].copy(), data[1]
    X[:, 5:] = np.nan
    with pytest.raises(ValueError, match=r"'image' is absent .* every training row"):
        LateFusionClassifier(GROUPS, **FAST).fit(X, y)


def test_rare_modality_keeps_a_training_row(data):
    X, y = data[0].copy(), data[1]
    X[1:, 5:] = np.nan
    for seed in range(20):
        clf = LateFusionClassifier(GROUPS, **FAST | {"max_epochs": 1, "random_state": seed})
        with pytest.warns(UserWarning, match="no row with modality 'image' is held out"):
            clf.fit(X, y)
        assert np.isfinite(clf.predict_proba(X)).all()


def test_failed_fit_leaves_the_classifier_unfitted(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST).fit(X, y).set_params(lr=1e9)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X)


def test_one_class_raises(data):
    with pytest.raises(ValueError, match=r"2 or more classes, got 1 class: 0\.0\."):
        JointClassifier(GROUPS).fit(data[0], np.zeros(150))


@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
@pytest.mark.parametrize("unimodal_weight", [0.0, 1.0])
def test_every_fusion_learns(fusion, unimodal_weight, data):
    X, y = data
    clf = JointClassifier(
        GROUPS, fusion=fusion, unimodal_weight=unimodal_weight, lr=0.05, random_state=0, device="cpu"
    ).fit(X, y)
    assert clf.score(X, y) > 0.85


def test_unimodal_heads_train_with_a_weight(data):
    X, y = data
    per_modality = JointClassifier(GROUPS, unimodal_weight=1.0, random_state=0, device="cpu").fit(X, y)
    probabilities = per_modality.predict_proba_per_modality(X)["image"]
    assert (per_modality.classes_[probabilities.argmax(1)] == y).mean() > 0.6


@pytest.mark.parametrize("fusion", ["gated", "film"])
def test_gated_fusions_require_two_modalities(fusion, data):
    with pytest.raises(ValueError, match=rf"fusion='{fusion}' takes two modalities.*got 1"):
        JointClassifier(fusion=fusion).fit(*data)


def test_late_fusion_sums_logits_or_averages_probabilities(data):
    X, y = data
    probabilities = LateFusionClassifier(GROUPS, **FAST).fit(X, y).predict_proba_per_modality(X)
    summed = probabilities["audio"] * probabilities["image"]
    np.testing.assert_allclose(
        LateFusionClassifier(GROUPS, fusion="sum", **FAST).fit(X, y).predict_proba(X),
        summed / summed.sum(1, keepdims=True),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        LateFusionClassifier(GROUPS, fusion="mean", **FAST).fit(X, y).predict_proba(X),
        (probabilities["audio"] + probabilities["image"]) / 2,
        atol=1e-6,
    )


def test_refitting_discards_the_first_data(data):
    X, y = data
    clf = LateFusionClassifier(**FAST).fit(X, y).fit(X[:, :2], y[:])
    assert (clf.n_features_in_, clf.transform(X[:, :2]).shape) == (2, (150, 64))


def test_balanced_class_weights_ignore_rows_of_weight_zero(data):
    X, y = data[0], data[1].copy()
    weight = (np.arange(150) < 100).astype(float)
    clf = LateFusionClassifier(GROUPS, class_weight="balanced", **FAST)
    first = clf.fit(X, y, sample_weight=weight).predict_proba(X)
    y[100:] = "red"
    np.testing.assert_array_equal(clf.fit(X, y, sample_weight=weight).predict_proba(X), first)


class Normed(nn.Module):
    """Encoder with BatchNorm, which cannot train on one row."""

    def __init__(self, input_shape, embedding_dim):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(input_shape[0]), nn.Linear(input_shape[0], embedding_dim))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_batch_norm_never_trains_on_one_row(classifier, cv, data):
    X, y = data[0][:65].copy(), data[1][:65]
    X[1:60, 5:] = np.nan
    clf = classifier(GROUPS, encoder=Normed, **FAST | {"cv": cv}).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("classifier, lr", [(UDIClassifier, 0.01), (ModalityGapClassifier, 0.001)])
def test_published_settings(classifier, lr):
    clf = classifier.published(GROUPS, device="cpu")
    assert clf.modalities is GROUPS
    assert (clf.optimizer, clf.lr_schedule, clf.weight_decay, clf.lr, clf.cv) == ("sgd", "step", 1e-4, lr, None)
    options = TrainingOptions.from_estimator(clf)
    assert options.optimizer_kwargs["momentum"] == 0.9
    assert (options.batch_size, options.max_epochs) == (64, 100)


@pytest.mark.parametrize("classifier", [UDIClassifier, ModalityGapClassifier])
def test_given_parameters_replace_published_ones(classifier):
    clf = classifier.published(max_epochs=20, optimizer="adamw", encoder="mlp")
    assert (clf.max_epochs, clf.optimizer, clf.encoder) == (20, "adamw", "mlp")
    assert classifier.published(max_epochs=300).n_iter_no_change == 300
    assert classifier.published(n_iter_no_change=7).n_iter_no_change == 7


def test_published_udi_sums_logits_and_guides_dynamically():
    clf = UDIClassifier.published()
    assert (clf.fusion, clf.guidance) == ("sum", "dynamic")


def test_published_udi_trains_for_all_epochs(data):
    X, y = data
    clf = UDIClassifier.published(GROUPS, max_epochs=4, random_state=0, device="cpu").fit(X, y)
    assert clf.n_iter_ == 3 * 4
