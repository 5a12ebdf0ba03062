"""Views of the digits of scikit-learn."""

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmestim.datasets import load_digit_views


def test_digit_views_are_returned_in_the_requested_order(assert_is_container):
    bunch = load_digit_views(views=["moments", "pixels"])
    assert_is_container(bunch, ["moments", "pixels"])
    every = load_digit_views()
    assert_is_container(every, ["pixels", "projections", "fourier", "moments"])
    for view in bunch.modalities:
        np.testing.assert_array_equal(bunch.data[:, bunch.modalities[view]], every.data[:, every.modalities[view]])
    assert bunch.shapes == {"pixels": (8, 8)}
    assert load_digit_views(views=["fourier"]).shapes == {}
    X, y = load_digit_views(return_X_y=True)
    np.testing.assert_array_equal(X, every.data)
    np.testing.assert_array_equal(y, every.target)


def test_digit_views_match_their_definitions():
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
        ({"views": []}, ValueError, "one or more names"),
        ({"views": ["pixels", "pixels"]}, ValueError, "without repetition"),
        ({"views": "pixels"}, TypeError, "views='pixels' must be a sequence"),
        ({"views": ["pixels"], "noise": {"moments": 1}}, ValueError, "noise has 'moments'"),
        ({"noise": {"pixels": -1}}, ValueError, r"noise\['pixels'\]=-1 must be at least 0"),
    ],
)
def test_bad_parameters_of_digit_views_are_named(parameters, error, message):
    with pytest.raises(error, match=message):
        load_digit_views(**parameters)
