"""Views of digits, the synthetic model against independent answers, and the readers of the data folder."""

import os
import pickle

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmestim.datasets import load_av_digits, load_digit_views, load_mfeat, make_imbalanced_modalities

needs_data = pytest.mark.skipif(
    not os.environ.get("MMESTIM_DATA"), reason="MMESTIM_DATA does not name the folder of data sets"
)


def accuracy(model, modalities=None):
    return model.bayes_accuracy(modalities, n_draws=20_000)[0]


def check_container(bunch, names):
    """The columns of the modalities follow each other without a gap, and shapes fit them."""
    assert list(bunch.modalities) == names
    ends = [0]
    for columns in bunch.modalities.values():
        assert columns.start == ends[-1]
        ends.append(columns.stop)
    assert bunch.data.shape == (len(bunch.target), ends[-1])
    assert bunch.data.dtype == np.float32
    assert np.isfinite(bunch.data).all()
    for name, shape in bunch.shapes.items():
        assert len(shape) > 1
        assert np.prod(shape) == len(range(*bunch.modalities[name].indices(ends[-1])))
    assert bunch.DESCR


# Views of digits


def test_digit_views_come_in_the_order_asked_for():
    bunch = load_digit_views(views=["moments", "pixels"])
    check_container(bunch, ["moments", "pixels"])
    every = load_digit_views()
    check_container(every, ["pixels", "projections", "fourier", "moments"])
    for view in bunch.modalities:
        np.testing.assert_array_equal(bunch.data[:, bunch.modalities[view]], every.data[:, every.modalities[view]])
    assert bunch.shapes == {"pixels": (8, 8)}
    assert load_digit_views(views=["fourier"]).shapes == {}
    X, y = load_digit_views(return_X_y=True)
    np.testing.assert_array_equal(X, every.data)
    np.testing.assert_array_equal(y, every.target)


def test_digit_views_are_what_they_say():
    bunch = load_digit_views()
    view = {name: bunch.data[:, columns] for name, columns in bunch.modalities.items()}
    image = view["pixels"][7].reshape(8, 8).astype(float)
    assert view["pixels"].min() == 0
    assert view["pixels"].max() == 1
    np.testing.assert_allclose(view["projections"][7], [*image.mean(axis=1), *image.mean(axis=0)], rtol=1e-6)
    # Parseval: 30 pairs count twice, the 4 frequencies that are their own conjugates once.
    power = view["fourier"][7].astype(float) ** 2
    assert len(power) == 34
    assert 2 * power.sum() - power[[24, 28, 29, 33]].sum() == pytest.approx((image**2).sum(), rel=1e-5)
    rows, columns = np.mgrid[:8, :8] - 3.5
    moments = [image.mean(), *np.average([columns.ravel(), rows.ravel()], axis=1, weights=image.ravel())]
    covariance = np.cov(columns.ravel(), rows.ravel(), aweights=image.ravel(), ddof=0)
    np.testing.assert_allclose(view["moments"][7], [*moments, *covariance[np.triu_indices(2)]], rtol=1e-5)


def test_digit_views_differ_in_strength():
    bunch = load_digit_views()
    classifier = make_pipeline(StandardScaler(), KNeighborsClassifier(5))
    scores = [
        cross_val_score(classifier, bunch.data[:, columns], bunch.target, cv=3).mean()
        for columns in bunch.modalities.values()
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.1


def test_noise_on_one_digit_view_is_seeded_and_leaves_the_others_alone():
    clean, noisy = load_digit_views(), load_digit_views(noise={"pixels": 0.5})
    difference = noisy.data - clean.data
    assert not difference[:, clean.modalities["moments"]].any()
    assert difference[:, clean.modalities["pixels"]].std() == pytest.approx(0.5, rel=0.01)
    np.testing.assert_array_equal(noisy.data, load_digit_views(noise={"pixels": 0.5}).data)
    assert (noisy.data != load_digit_views(noise={"pixels": 0.5}, random_state=1).data).any()


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        ({"views": ["pixels", "colour"]}, ValueError, "views has 'colour'.*Choose from.*'moments'"),
        ({"views": []}, ValueError, "one name or more"),
        ({"views": ["pixels", "pixels"]}, ValueError, "each once"),
        ({"views": "pixels"}, TypeError, "views='pixels' must be a sequence"),
        ({"views": ["pixels"], "noise": {"moments": 1}}, ValueError, "noise has 'moments'"),
        ({"noise": {"pixels": -1}}, ValueError, r"noise\['pixels'\]=-1 must be at least 0"),
    ],
)
def test_bad_parameters_of_digit_views_are_named(parameters, error, message):
    with pytest.raises(error, match=message):
        load_digit_views(**parameters)


# The synthetic model: its accuracies against independent answers


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
def test_nothing_to_learn_gives_chance(n_classes):
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


def test_redundancy_lowers_the_joint_accuracy_and_no_other():
    joint = []
    for redundancy in (0, 0.3, 0.7, 1):
        model = make_imbalanced_modalities(10, strength=[3, 2], redundancy=redundancy).model
        assert accuracy(model, ["strong"]) == pytest.approx(0.847, abs=1e-3)
        assert accuracy(model, ["weak"]) == pytest.approx(0.678, abs=1e-3)
        joint.append(accuracy(model))
    assert (np.diff(joint) < 0).all()


def test_synergy_alone_shows_only_in_all_modalities_together():
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
    # Right if an even number of bits is misread: bits flip with probability 1 - Phi(t / 2).
    expected = (1 + np.prod(2 * norm.cdf(synergy / 2) - 1)) / 2
    value, standard_error = model.bayes_accuracy()
    assert 0 < standard_error < 0.002
    assert value == pytest.approx(expected, abs=4 * standard_error)


MODELS = {
    "own": {"strength": [3, 2]},
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
def test_stated_accuracy_is_that_of_the_posteriors_on_samples(parameters):
    model = make_imbalanced_modalities(10, random_state=0, **parameters).model
    X, y = model.sample(20_000, random_state=1)
    for modalities in [*([name] for name in model.modalities), None]:
        proba = model.predict_proba(X, modalities)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        value, standard_error = model.bayes_accuracy(modalities, n_draws=20_000)
        error = np.hypot(standard_error, np.sqrt(value * (1 - value) / len(y)))
        assert (proba.argmax(axis=1) == y).mean() == pytest.approx(value, abs=4 * error)
        # Calibrated as well: the mean of the largest posterior is the accuracy.
        assert proba.max(axis=1).mean() == pytest.approx(value, abs=4 * error)


@pytest.mark.parametrize("parameters", MODELS.values(), ids=MODELS)
def test_all_modalities_are_worth_at_least_as_much_as_each(parameters):
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
def test_linear_discriminant_analysis_comes_near_the_bound_and_not_above(redundancy):
    model = make_imbalanced_modalities(10, strength=[3, 2], redundancy=redundancy, n_features=16, random_state=0).model
    train, test = model.sample(8000, random_state=1), model.sample(8000, random_state=2)
    for modalities in (["strong"], ["weak"], ["strong", "weak"]):
        columns = np.concatenate([np.arange(32)[model.modalities[name]] for name in modalities])
        score = LinearDiscriminantAnalysis().fit(train[0][:, columns], train[1]).score(test[0][:, columns], test[1])
        assert accuracy(model, modalities) == pytest.approx(score, abs=0.02)
        assert score <= accuracy(model, modalities) + 4 * np.sqrt(0.25 / 8000)


def test_a_code_is_found_by_neighbours_but_by_no_linear_classifier():
    model = make_imbalanced_modalities(
        10, n_classes=2, strength=0, synergy=4, redundancy=0, n_features=2, random_state=0
    ).model
    train, test = model.sample(6000, random_state=1), model.sample(6000, random_state=2)
    bound, slack = accuracy(model), 4 * np.sqrt(0.25 / 6000)
    assert LogisticRegression().fit(*train).score(*test) == pytest.approx(0.5, abs=slack)
    neighbours = KNeighborsClassifier(51).fit(*train).score(*test)
    assert bound - 0.03 < neighbours < bound + slack


# The synthetic model: interface


def test_synthetic_bunch_is_a_seeded_container():
    bunch = make_imbalanced_modalities(
        300,
        modalities=["audio", "image", "text"],
        n_features={"text": 3, "audio": 5, "image": 40},
        random_state=3,
    )
    check_container(bunch, ["audio", "image", "text"])
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


def test_posteriors_ignore_modalities_not_asked_for():
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
        ({"modalities": ["a", "a"]}, ValueError, "each once"),
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
        ({"n_features": [32, 2]}, ValueError, "n_features=2 is too small for 'weak'.*take 3 or more"),
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
    with pytest.raises(ValueError, match="one name or more"):
        model.predict_proba(np.zeros((1, 64)), [])


# Readers


@needs_data
def test_av_digits_reads_audio_and_image():
    bunch = load_av_digits()
    check_container(bunch, ["audio", "image"])
    assert bunch.shapes == {"audio": (64, 32), "image": (28, 28)}
    image = bunch.data[:, bunch.modalities["image"]]
    assert image.min() == 0
    assert image.max() == 1
    assert set(np.unique(bunch.target)) == set(range(10))
    assert len(np.unique(bunch.speaker)) == 6
    # The file name of a clip begins with its digit and its speaker.
    digit, speaker, _ = bunch.clip[1234].split("_")
    assert (int(digit), speaker) == (bunch.target[1234], bunch.speaker[1234])
    assert set(bunch.mnist_index[bunch.split == "train"]).isdisjoint(bunch.mnist_index[bunch.split == "test"])


@needs_data
def test_av_digits_noise_is_reproducible_and_on_the_image_only():
    clean, noisy = load_av_digits(), load_av_digits(image_noise=0.8)
    difference = noisy.data - clean.data
    assert not difference[:, clean.modalities["audio"]].any()
    assert difference[:, clean.modalities["image"]].std() == pytest.approx(0.8, rel=0.01)
    X, y = load_av_digits(image_noise=0.8, random_state=0, return_X_y=True)
    np.testing.assert_array_equal(X, noisy.data)
    np.testing.assert_array_equal(y, clean.target)


@needs_data
def test_mfeat_reads_six_views():
    bunch = load_mfeat()
    check_container(bunch, ["fac", "fou", "kar", "mor", "pix", "zer"])
    assert bunch.shapes == {}
    assert bunch.data.shape == (2000, 649)
    assert (np.bincount(bunch.target) == 200).all()
    assert (bunch.split == "train").sum() == 1400
    np.testing.assert_array_equal(load_mfeat(os.environ["MMESTIM_DATA"], return_X_y=True)[0], bunch.data)


@pytest.mark.parametrize("load, file", [(load_av_digits, "av_digits_3000.npz"), (load_mfeat, "mfeat_six_views.npz")])
def test_missing_data_say_where_they_were_looked_for(load, file, monkeypatch, tmp_path):
    monkeypatch.delenv("MMESTIM_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=f"MMESTIM_DATA is None.*folder that holds .*{file}"):
        load()
    monkeypatch.setenv("MMESTIM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"no file {tmp_path}.*{file}.*MMESTIM_DATA"):
        load()
    with pytest.raises(FileNotFoundError, match=r"no file elsewhere.*data_home='elsewhere'"):
        load("elsewhere")


def test_negative_image_noise_is_refused():
    with pytest.raises(ValueError, match="image_noise=-1 must be at least 0"):
        load_av_digits(image_noise=-1)


def test_readers_take_the_folder_from_the_environment(monkeypatch, tmp_path):
    (tmp_path / "mfeat").mkdir()
    views = {name: np.full((3, 2), i) for i, name in enumerate(["fac", "fou", "kar", "mor", "pix", "zer"])}
    np.savez(tmp_path / "mfeat" / "mfeat_six_views.npz", label=[3, 1, 2], split=["train", "train", "test"], **views)
    monkeypatch.setenv("MMESTIM_DATA", str(tmp_path))
    bunch = load_mfeat()
    check_container(bunch, list(views))
    np.testing.assert_array_equal(bunch.data[0], np.repeat(np.arange(6), 2))
    np.testing.assert_array_equal(bunch.target, [3, 1, 2])
