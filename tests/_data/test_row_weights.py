"""Weights of rows from sample weights and class weights."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from mmestim._data.row_weights import row_weights

LABELS = np.array(["blue", "green", "red"])
Y = np.repeat(LABELS, [3, 2, 1])


@pytest.mark.parametrize("class_weight", ["balanced", {"red": 3}, {"red": 0, "green": np.float32(2)}])
def test_class_weights_are_those_of_scikit_learn(class_weight):
    np.testing.assert_allclose(row_weights(None, class_weight, LABELS, Y), compute_sample_weight(class_weight, Y))


def test_numbered_classes_match_keys_of_equal_value():
    weights = row_weights(None, {0: 2.0, np.int64(1): 3.0}, np.array([0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    np.testing.assert_array_equal(weights, [2, 3, 3])


def test_a_complete_dict_may_have_further_classes():
    weights = row_weights(None, {"blue": 1, "green": 2, "red": 3, "white": 4}, LABELS, Y)
    np.testing.assert_array_equal(weights, [1, 1, 1, 2, 2, 3])


@pytest.mark.parametrize(
    "sample_weight, class_weight, message",
    [
        (None, dict.fromkeys(LABELS, 0), r"class_weight={.*} gives every row weight 0"),
        ((Y == "red").astype(float), {"red": 0.0}, r"class_weight={.*} together with sample_weight gives every row"),
        (None, {"red": -1}, r"class_weight\['red'\]=-1 must be at least 0"),
        (None, {"red": np.nan}, r"class_weight\['red'\]=nan must be at least 0"),
        (None, {"red": np.inf}, r"class_weight\['red'\]=inf must be finite"),
        (None, {"pink": 1.0}, r"class_weight names 'pink', which is not a class of y.*\['blue', 'green', 'red'\]"),
        (None, {2: 1.0}, "class_weight names 2, which is not a class"),
        (None, "balance", "class_weight='balance' must be 'balanced', a dict"),
        (None, [1, 2, 3], r"class_weight=\[1, 2, 3\] must be"),
        (None, 3, "class_weight=3 must be"),
        (None, np.array([1.0]), "class_weight=array.* must be"),
    ],
)
def test_invalid_class_weights_are_named(sample_weight, class_weight, message):
    with pytest.raises(ValueError, match=message):
        row_weights(sample_weight, class_weight, LABELS, Y)


@pytest.mark.parametrize("value", ["a", None, True])
def test_class_weights_must_be_numbers(value):
    with pytest.raises(TypeError, match=r"class_weight\['red'\]=.* must be a number"):
        row_weights(None, {"red": value}, LABELS, Y)
