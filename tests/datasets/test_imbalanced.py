"""Synthetic model, compared with independently derived results."""

import pickle

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from mmestim.datasets import make_imbalanced_modalities


def accuracy(model, modalities=None):
    return model.bayes_accuracy(modalities, n_draws=20_000)[0]


@pytest.mark.parametrize("strength, noise", [(1.0, 1.0), (3.0, 2.0), (0.5, 0.1)])
def test_two_classes_in_one_dimension_have_the_textbook_accuracy(strength, noise):
    model = make_imbalanced_modalities(
        10, n_classes=2, modalities=["a"], n_features=1, strength=strength, noise=noise, random_state=0
    ).model
    assert model.bayes_accuracy() == (pytest.approx(norm.cdf(strength / noise / 2), abs=1e-12), 0.0)
    X, y = model.sample(4000, random_state=1)
    assert abs(X[y == 1].mean() - X[y == 0].mean()) == pytest.approx(strength, abs=4 * noise / np.sqrt(1000))
    assert X[y == 0].std() == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_zero_strength_gives_chance_accuracy(n_classes):
    bunch = make_imbalanced_modalities(3000, n_classes=n_classes, strength=0, random_state=0)
    for modalities in (["strong"], ["weak"], None):
        assert accuracy(bunch.model, modalities) == pytest.approx(1 / n_classes, abs=1e-12)
    np.testing.assert_allclose(bunch.model.predict_proba(bunch.data), 1 / n_classes)


def test_independent_evidence_adds_up_in_squares():
    model = make_imbalanced_modalities(10, modalities=["a", "b", "c"], strength=[1.5, 2, 6], noise=[1, 1, 2]).model
    alone = make_imbalanced_modalities(10, modalities=["d"], strength=np.sqrt(1.5**2 + 2**2 + 3**2)).model
    assert accuracy(model) == pytest.approx(accuracy(alone), abs=1e-12)


@pytest.mark.parametrize("strength", [2.0, [3.0, 2.0, 1.0], [1.0, 0.0, 2.0]])
def test_full_redundancy_leaves_the_best_modality_alone(strength):
    model = make_imbalanced_modalities(10, modalities=["a", "b", "c"], strength=strength, redundancy=1).model
    best = max(accuracy(model, [name]) for name in "abc")
    assert accuracy(model) == pytest.approx(best, abs=1e-12)


def test_equal_redundant_modalities_are_copies():
    bunch = make_imbalanced_modalities(
        50, n_classes=2, strength=[2, 2], noise=[1, 1], redundancy=1, n_features=1, random_state=0
    )
    np.testing.assert_allclose(np.abs(bunch.data[:, 0]), np.abs(bunch.data[:, 1]), rtol=1e-5)


def test_redundancy_lowers_only_the_joint_accuracy():
    joint = []
    for redundancy in (0, 0.3, 0.7, 1):
        model = make_imbalanced_modalities(10, strength=[3, 2], redundancy=redundancy).model
        assert accuracy(model, ["strong"]) == pytest.approx(0.847, abs=1e-3)
        assert accuracy(model, ["weak"]) == pytest.approx(0.678, abs=1e-3)
        joint.append(accuracy(model))
    assert (np.diff(joint) < 0).all()


def test_synergy_alone_is_informative_only_in_all_modalities_together():
    bunch = make_imbalanced_modalities(
        2000, modalities=["a", "b", "c"], strength=0, synergy={"a": 8, "b": 8, "c": 8}, random_state=0
    )
    for modalities in (["a"], ["b"], ["a", "b"], ["a", "c"]):
        assert bunch.model.bayes_accuracy(modalities) == (pytest.approx(0.25, abs=1e-12), 0.0)
    assert accuracy(bunch.model) > 0.99
    assert (bunch.model.predict_proba(bunch.data).argmax(axis=1) == bunch.target).mean() > 0.99


def test_a_binary_code_has_the_accuracy_of_exclusive_or():
    synergy = np.array([2.0, 3.0, 4.0])
    model = make_imbalanced_modalities(10, n_classes=2, modalities=list("abc"), strength=0, synergy=synergy).model
    # The parity is right if an even number of bits is misread; a bit flips with probability 1 - Phi(t / 2).
    expected = (1 + np.prod(2 * norm.cdf(synergy / 2) - 1)) / 2
    value, standard_error = model.bayes_accuracy()
    assert 0 < standard_error < 0.002
    assert value == pytest.approx(expected, abs=4 * standard_error)


MODELS = {
    "unique": {"strength": [3, 2]},
    "redundant": {"strength": [3, 2], "redundancy": [0.9, 0.5], "noise": [2, 0.5]},
    "synergistic": {"strength": [1, 0], "synergy": [4, 5]},
    "all": {"n_classes": 3, "strength": [2, 1.5], "redundancy": 0.5, "synergy": [3, 4]},
    "three": {
        "modalities": ["a", "b", "c"],
        "strength": {"c": 1, "a": 2, "b": 1.5},
        "redundancy": [1, 0.5, 0],
        "synergy": [0, 4, 4],
    },
}


@pytest.mark.parametrize("parameters", MODELS.values(), ids=MODELS)
def test_bayes_accuracy_matches_the_posteriors_on_samples(parameters):
    model = make_imbalanced_modalities(10, random_state=0, **parameters).model
    X, y = model.sample(20_000, random_state=1)
    for modalities in [*([name] for name in model.modalities), None]:
        proba = model.predict_proba(X, modalities)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        value, standard_error = model.bayes_accuracy(modalities, n_draws=20_000)
        error = np.hypot(standard_error, np.sqrt(value * (1 - value) / len(y)))
        assert (proba.argmax(axis=1) == y).mean() == pytest.approx(value, abs=4 * error)
        # The posteriors are calibrated: the mean of the largest one is the accuracy.
        assert proba.max(axis=1).mean() == pytest.approx(value, abs=4 * error)


@pytest.mark.parametrize("parameters", MODELS.values(), ids=MODELS)
def test_the_joint_accuracy_is_at_least_that_of_each_modality(parameters):
    model = make_imbalanced_modalities(10, random_state=0, **parameters).model
    value, standard_error = model.bayes_accuracy(n_draws=20_000)
    for name in model.modalities:
        assert value >= accuracy(model, [name]) - 3 * standard_error - 1e-12


def test_order_of_the_modalities_does_not_matter():
    names, values = ["a", "b", "c"], {"a": 3.0, "b": 2.0, "c": 1.0}
    parts = {
        "strength": values,
        "redundancy": {"a": 0.2, "b": 0.9, "c": 0.5},
        "synergy": {"a": 0, "b": 3, "c": 3},
    }
    one, two = (make_imbalanced_modalities(10, modalities=order, **parts).model for order in (names, names[::-1]))
    for modalities in (["a"], ["a", "b"], ["c", "a"]):
        assert accuracy(one, modalities) == pytest.approx(accuracy(two, modalities[::-1]), abs=1e-12)
    (first, error), (second, other) = one.bayes_accuracy(), two.bayes_accuracy(random_state=1)
    assert first == pytest.approx(second, abs=4 * np.hypot(error, other))


@pytest.mark.parametrize("redundancy", [0.0, 0.6, 1.0])
def test_linear_discriminant_analysis_approaches_the_bound(redundancy):
    model = make_imbalanced_modalities(10, strength=[3, 2], redundancy=redundancy, n_features=16, random_state=0).model
    train, test = model.sample(8000, random_state=1), model.sample(8000, random_state=2)
    for modalities in (["strong"], ["weak"], ["strong", "weak"]):
        columns = np.concatenate([np.arange(32)[model.modalities[name]] for name in modalities])
        score = LinearDiscriminantAnalysis().fit(train[0][:, columns], train[1]).score(test[0][:, columns], test[1])
        assert accuracy(model, modalities) == pytest.approx(score, abs=0.02)
        assert score <= accuracy(model, modalities) + 4 * np.sqrt(0.25 / 8000)


def test_neighbours_but_no_linear_classifier_learn_a_code():
    model = make_imbalanced_modalities(
        10, n_classes=2, strength=0, synergy=4, redundancy=0, n_features=2, random_state=0
    ).model
    train, test = model.sample(6000, random_state=1), model.sample(6000, random_state=2)
    bound, slack = accuracy(model), 4 * np.sqrt(0.25 / 6000)
    assert LogisticRegression().fit(*train).score(*test) == pytest.approx(0.5, abs=slack)
    neighbours = KNeighborsClassifier(51).fit(*train).score(*test)
    assert bound - 0.03 < neighbours < bound + slack


def test_synthetic_bunch_is_a_seeded_container(assert_is_container):
    bunch = make_imbalanced_modalities(
        300,
        modalities=["audio", "image", "text"],
        n_features={"text": 3, "audio": 5, "image": 40},
        random_state=3,
    )
    assert_is_container(bunch, ["audio", "image", "text"])
    assert bunch.modalities["image"] == slice(5, 45)
    assert bunch.shapes == {}
    assert set(bunch.target) == {0, 1, 2, 3}
    again = make_imbalanced_modalities(
        300, modalities=["audio", "image", "text"], n_features=[5, 40, 3], random_state=3
    )
    np.testing.assert_array_equal(again.data, bunch.data)
    np.testing.assert_array_equal(again.target, bunch.target)
    assert (make_imbalanced_modalities(random_state=0).data != make_imbalanced_modalities(random_state=1).data).any()


def test_model_survives_pickle_and_reads_single_precision():
    bunch = make_imbalanced_modalities(50, redundancy=0.5, synergy=3, random_state=0)
    model = pickle.loads(pickle.dumps(bunch)).model
    np.testing.assert_array_equal(model.predict_proba(bunch.data), bunch.model.predict_proba(bunch.data.astype(float)))
    np.testing.assert_array_equal(model.sample(5, random_state=0)[0], bunch.model.sample(5, random_state=0)[0])


def test_posteriors_ignore_modalities_that_were_not_requested():
    bunch = make_imbalanced_modalities(50, redundancy=0.5, synergy=3, random_state=0)
    X = bunch.data.copy()
    X[:, bunch.modalities["strong"]] = np.nan
    proba = bunch.model.predict_proba(X, ["weak"])
    np.testing.assert_array_equal(proba, bunch.model.predict_proba(bunch.data, ["weak"]))


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        ({"n_samples": 0}, ValueError, "n_samples=0 must be at least 1"),
        ({"n_classes": 1}, ValueError, "n_classes=1 must be at least 2"),
        ({"n_classes": 2.5}, TypeError, "n_classes=2.5 must be an integer"),
        ({"modalities": "audio"}, TypeError, "modalities='audio' must be a sequence of names"),
        ({"modalities": ["a", "a"]}, ValueError, "without repetition"),
        ({"modalities": [0, 1]}, TypeError, "must be a sequence of names"),
        (
            {"strength": [1, 2, 3]},
            ValueError,
            r"strength=\[1, 2, 3\] does not fit the modalities.*one value for all",
        ),
        ({"noise": {"strong": 1}}, ValueError, "noise={'strong': 1} does not fit"),
        ({"strength": -1}, ValueError, r"strength\['strong'\]=-1 must be at least 0"),
        ({"strength": float("nan")}, ValueError, "strength.*nan"),
        ({"strength": float("inf")}, ValueError, "strength.*inf"),
        ({"strength": "high"}, TypeError, r"strength\['strong'\]='high' must be a number"),
        ({"noise": 0}, ValueError, r"noise\['strong'\]=0 must be above 0"),
        ({"redundancy": [0, 1.5]}, ValueError, r"redundancy\['weak'\]=1.5 must be at least 0 and at most 1"),
        ({"synergy": [0, 2]}, ValueError, "synergy is non-zero in 'weak' alone.*two or more"),
        ({"n_features": [32, 2]}, ValueError, "n_features=2 is too small for 'weak'.*require 3 or more"),
        ({"n_features": 1.5}, TypeError, "must be an integer"),
    ],
)
def test_bad_parameters_of_the_synthetic_model_are_named(parameters, error, message):
    with pytest.raises(error, match=message):
        make_imbalanced_modalities(**parameters)


def test_an_unknown_subset_is_named():
    model = make_imbalanced_modalities(10).model
    with pytest.raises(ValueError, match=r"modalities has 'text'.*Choose from \['strong', 'weak'\]"):
        model.bayes_accuracy(["text"])
    with pytest.raises(ValueError, match="one or more names"):
        model.predict_proba(np.zeros((1, 64)), [])
