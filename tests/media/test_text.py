"""Readers of texts and of features."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from mmestim.media import FrozenFeatures, ImagePixels, MediaError, TextTokens


def test_tokens_of_a_vocabulary():
    reader = TextTokens(n_tokens=6, vocabulary=["rain", "!", "sun"])
    block = reader.fit_transform(["Rain, sun!", "", "sun sun"])
    assert block.dtype == np.int32
    assert_array_equal(block, [[2, 1, 4, 3, 0, 0], [0] * 6, [4, 4, 0, 0, 0, 0]])
    array = TextTokens(n_tokens=2, vocabulary=np.array(["rain", "sun"]))
    assert_array_equal(array.fit_transform(["sun rain"]), [[3, 2]])
    given = TextTokens(n_tokens=2, vocabulary={"rain": 7}, lowercase=False)
    assert_array_equal(given.fit_transform(["rain Rain"]), [[7, 1]])


def test_hashed_tokens_are_stable_and_in_range():
    texts = [" ".join(f"word{i}" for i in range(64))]
    block = TextTokens(vocabulary_size=100).fit_transform(texts)
    assert block.min() >= 2
    assert block.max() < 100
    assert len(np.unique(block)) > 30
    assert_array_equal(TextTokens(n_tokens=2).fit_transform(["rain sun"]), [[30268, 26309]])


def test_long_texts_and_what_is_no_text():
    with pytest.warns(UserWarning, match="TextTokens: 1 of 3 values have more than n_tokens=2 tokens"):
        block = TextTokens("t", n_tokens=2, vocabulary=["a"]).fit_transform(pd.DataFrame({"t": ["a b a", "a", None]}))
    assert_array_equal(block, [[2, 1], [2, 0], [np.nan, np.nan]])
    with pytest.raises(MediaError, match="7: is of type int, expected a text"):
        TextTokens().fit_transform([7])


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"vocabulary": {"a": 1}}, "vocabulary gives 'a' a number below 2"),
        ({"vocabulary": {"a": 2.7}}, "vocabulary gives 'a' the number 2.7"),
        ({"vocabulary": {"a", "b"}}, "vocabulary of type set gives no numbers"),
        ({"vocabulary": "ab"}, "vocabulary of type str gives no numbers"),
        ({"vocabulary": ["a", "b", "a"]}, "vocabulary has a token twice, 'a'"),
        ({"vocabulary": ["a", "Rain"]}, "vocabulary has 'Rain', which lowercase=True never finds"),
        ({"token_pattern": "("}, "is no regular expression"),
        ({"token_pattern": "(a|b)"}, "has groups"),
        ({"n_tokens": 0}, "n_tokens=0 must be at least 1"),
    ],
)
def test_parameters_of_tokens_are_checked(parameters, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TextTokens(**parameters).fit(["a"])


def test_features_of_a_function_and_of_a_network(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    calls = []

    def lengths(texts):
        calls.append(len(texts))
        return [[len(text)] for text in texts]

    block = FrozenFeatures(function=lengths, batch_size=2).fit_transform(["a", "bb", "ccc"])
    assert_array_equal(block, [[1], [2], [3]])
    assert calls == [2, 1]
    paths = []
    for level in (10, 200):
        Image.fromarray(np.full((4, 4), level, np.uint8)).save(tmp_path / f"{level}.png")
        paths.append(tmp_path / f"{level}.png")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(16, 2))
    features = FrozenFeatures(
        function=network, n_features=2, reader=ImagePixels(size=(4, 4), color="gray"), device="cpu"
    ).fit_transform(paths)
    expected = network.eval()(torch.tensor([[10.0] * 16, [200.0] * 16])).detach().numpy()
    assert_allclose(features, expected, rtol=1e-5)


def test_the_column_of_a_reader_counts(tmp_path):
    table = pd.DataFrame({"a": ["x", "yy"], "b": ["zzz", "z"]})
    ones = FrozenFeatures(
        function=lambda tokens: (tokens != 0).sum(1, keepdim=True), reader=TextTokens("b", token_pattern=".")
    )
    assert_array_equal(ones.fit_transform(table), [[3], [1]])
    with pytest.raises(ValueError, match="column='a', but the reader has column='b'"):
        ones.set_params(column="a").fit(table)


def test_what_a_function_returns_is_checked():
    with pytest.raises(ValueError, match=r"returned shape \(2, 3\) for 2 values, but n_features=2"):
        FrozenFeatures(function=lambda texts: np.zeros((len(texts), 3)), n_features=2).fit_transform(["a", "b"])
    with pytest.raises(TypeError, match="returned str, expected an array"):
        FrozenFeatures(function=lambda texts: "text").fit_transform(["a"])
    with pytest.raises(ValueError, match="Linear is a network and needs a reader="):
        FrozenFeatures(function=torch.nn.Linear(1, 1)).fit(["a"])
    with pytest.raises(TypeError, match="function=None must be a function"):
        FrozenFeatures().fit(["a"])
