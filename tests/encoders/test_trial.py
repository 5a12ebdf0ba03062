"""Trials of a user's encoder: types of its input and output, and batches of one row."""

import dataclasses
import functools
import re
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier, load, save

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
GROUPS = {"text": slice(0, 4), "other": slice(4, 7)}
FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    """Four columns of word numbers below 20, which give the class away, and three columns of noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    words = rng.integers(0, 10, (80, 4)) + 10 * y[:, None]
    return np.hstack([words, rng.normal(size=(80, 3))]), y


class Words(nn.Module):
    """Encoder of word numbers that takes integers alone."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)

    def forward(self, x):
        return self.embedding(x).mean(1)


class IntegerWords(Words):
    input_dtype = torch.int64


class Linear(nn.Module):
    """Encoder whose weights have another type than float32."""

    def __init__(self, dtype, input_dtype=None):
        super().__init__()
        self.linear = nn.Linear(4, 6, dtype=dtype)
        self.input_dtype = input_dtype

    def forward(self, x):
        return self.linear(x)


class Function(nn.Module):
    """Encoder without weights of its own, given by a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def fit(encoder, data, classifier=LateFusionClassifier, **settings):
    return classifier(GROUPS, encoder={"text": encoder}, **FAST | settings).fit(*data)


@pytest.mark.parametrize(
    "encoder, remedy",
    [
        (Words, r"call x\.long\(\) in its forward, or set `input_dtype = torch\.int64`"),
        (nn.Sequential(nn.Embedding(20, 6), nn.Flatten()), r"takes torch\.int64"),
        (nn.EmbeddingBag(20, 6), r"takes torch\.int64"),
        (Function(lambda x: nn.functional.one_hot(x, 20).float().mean(1)), r"takes torch\.int64"),
        (Function(lambda x: torch.eye(20)[x].mean(1)), r"takes torch\.int64"),
        (functools.partial(Linear, torch.float64), r"call x\.double\(\) .* `input_dtype = torch\.float64`"),
        (functools.partial(Linear, torch.bfloat16), r"call x\.to\(torch\.bfloat16\)"),
    ],
)
def test_an_encoder_of_other_numbers_names_its_type(encoder, remedy, data):
    with pytest.raises(ValueError, match=rf"modality 'text' fails .*Encoders receive float32, but it .*{remedy}"):
        fit(encoder, data)


@pytest.mark.parametrize(
    "encoder, remedy",
    [
        (functools.partial(Linear, torch.float32, torch.int64), r"torch\.int64, but it takes torch\.float32"),
        (functools.partial(Linear, torch.float64, torch.float16), r"torch\.float16, but it takes torch\.float64"),
    ],
)
def test_a_wrong_input_dtype_names_the_right_one(encoder, remedy, data):
    with pytest.raises(ValueError, match=rf"modality 'text' fails .*It received its input_dtype, {remedy}"):
        fit(encoder, data)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize(
    "encoder",
    [
        IntegerWords,
        functools.partial(Linear, torch.float64, torch.float64),
        functools.partial(Linear, torch.bfloat16, torch.bfloat16),
    ],
    ids=["int64", "float64", "bfloat16"],
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_input_dtype_is_what_the_encoder_receives(encoder, classifier, precision, data):
    clf = fit(encoder, data, classifier, precision=precision)
    assert clf.transform(data[0]).dtype == clf.predict_proba(data[0]).dtype == np.float32
    assert np.isfinite(clf.predict_proba(data[0])).all()


def test_word_numbers_are_learnt_with_absent_rows_and_saved(data, tmp_path):
    X, y = data[0].copy(), data[1]
    X[::5, :4] = np.nan
    clf = fit(IntegerWords, (X, y), max_epochs=20, lr=0.5)
    assert (clf.predict_proba_per_modality(X)["text"].argmax(1) == y)[np.arange(80) % 5 > 0].all()
    save(clf, tmp_path / "model.mme")
    loaded = load(tmp_path / "model.mme", device="cpu", modules={"IntegerWords": IntegerWords})
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def test_large_numbers_reach_the_encoder_unchanged(data):
    class CyclicWords(IntegerWords):
        def forward(self, x):
            return super().forward(x % 20)

    near, far = data[0], data[0] + 16_000_000 * np.array([1, 1, 1, 1, 0, 0, 0])
    expected = fit(CyclicWords, data).predict_proba(near)
    np.testing.assert_array_equal(fit(CyclicWords, (far, data[1])).predict_proba(far), expected)


@pytest.mark.parametrize("value, shown", [(3.5, "3.5"), (2**24, "16777216.0"), (1e12, "1e12|99999")])
@pytest.mark.parametrize("at", ["fit", "predict"])
def test_values_that_integers_do_not_hold_are_refused(value, shown, at, data):
    X = data[0].copy()
    X[7, 2] = value
    clf = fit(IntegerWords, data)
    with pytest.raises(ValueError, match=rf"modality 'text' has the value ({shown}).*torch\.int64.*2\*\*24"):
        clf.predict(X) if at == "predict" else clf.fit(X, data[1])


@pytest.mark.parametrize("start", [2**24 - 10, 10**9])
def test_offsets_do_not_hide_numbers_that_are_too_large(start, data):
    X = data[0] + start * np.array([1, 1, 1, 1, 0, 0, 0])
    with pytest.raises(ValueError, match=rf"modality 'text' has the value ({str(start)[:6]}|{2**24}).*2\*\*24"):
        fit(IntegerWords, (X, data[1]))


def test_values_outside_a_small_type_are_refused(data):
    class Bytes(IntegerWords):
        input_dtype = torch.uint8

        def forward(self, x):
            return super().forward(x.long())

    X = data[0].copy()
    X[3, 0] = -1
    with pytest.raises(ValueError, match=r"has the value -1\.0.*torch\.uint8"):
        fit(Bytes, (X, data[1]))


def test_numbers_beyond_an_embedding_are_found_before_training(data):
    X = data[0].copy()
    X[-1, 3] = 20
    with pytest.raises(ValueError, match=r"modality 'text' fails in training mode on rows with values from 0 to 20"):
        fit(IntegerWords, (X, data[1]))


def test_input_dtype_must_be_a_type_of_torch(data):
    class Wrong(Words):
        input_dtype = "int64"

    with pytest.raises(TypeError, match=r"input_dtype='int64' .* modality 'text' must be a torch\.dtype"):
        fit(Wrong, data)


class ModelOutput(OrderedDict):
    """Output object in the manner of transformers: a dict whose keys are attributes too."""

    def __getattr__(self, name):
        return self[name]


@dataclasses.dataclass
class DataOutput:
    """Output object that is a data class."""

    sequence: torch.Tensor
    pooled: torch.Tensor


NamedOutput = namedtuple("NamedOutput", "sequence pooled")


def sequence(x):
    return x.unsqueeze(2).repeat(1, 1, 3)


@pytest.mark.parametrize(
    "function, content, example",
    [
        (
            lambda x: ModelOutput(last_hidden_state=sequence(x), pooler_output=x),
            "ModelOutput with .last_hidden_state of shape (2, 4, 3) and .pooler_output of shape (2, 4)",
            ".pooler_output",
        ),
        (lambda x: ModelOutput(last_hidden_state=sequence(x)), "ModelOutput", ".last_hidden_state.mean(1)"),
        (lambda x: DataOutput(sequence(x), x), "DataOutput", ".pooled"),
        (lambda x: NamedOutput(sequence(x), x), "NamedOutput", ".pooled"),
        (lambda x: (sequence(x), (x, x)), "tuple", "[0].mean(1)"),
        (lambda x: [x.unsqueeze(2).unsqueeze(3)], "list", "[0].flatten(1)"),
        (lambda x: {"values": x}, "dict with ['values'] of shape (2, 4)", "['values']"),
        (lambda x: {}, "dict", None),
        (lambda x: None, "NoneType", None),
        (lambda x: x.numpy(), "ndarray", None),
    ],
)
def test_output_objects_are_refused_with_the_tensor_to_return(function, content, example, data):
    with pytest.raises(ValueError, match="encoder for modality 'text' returns") as raised:
        fit(Function(function), data)
    message = str(raised.value)
    assert f"returns {content}" in message
    assert ("Pass Wrapped(module, output=" in message) == (example is not None)
    assert re.findall(r"`self\.encoder\(x\)(.*)`", message) == ([] if example is None else [example])


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: x[:, 0], r"returns \(2,\).*unsqueeze\(1\)"),
        (lambda x: x.T, r"returns \(4, 2\).*first axis must be that of the samples"),
        (lambda x: x.sum(), r"returns \(\).*first axis"),
        (sequence, r"returns \(2, 4, 3\).*nn\.Flatten\(\) or pooling"),
        (lambda x: x[:, :0], r"returns \(2, 0\).*at least one feature"),
        (lambda x: x.long(), r"returns features of type torch\.int64.*\.float\(\)"),
        (lambda x: x.to(torch.complex64), r"returns features of type torch\.complex64.*\.abs\(\)"),
    ],
)
def test_tensors_that_are_no_matrix_of_features_are_refused(function, message, data):
    with pytest.raises(ValueError, match=f"encoder for modality 'text' {message}"):
        fit(Function(function), data)


def test_an_encoder_is_tried_in_training_mode_too(data):
    class Auxiliary(nn.Linear):
        def forward(self, x):
            return (super().forward(x), x) if self.training else super().forward(x)

    with pytest.raises(ValueError, match=r"returns tuple in training mode with \[0\] of shape \(2, 6\)"):
        fit(Auxiliary(4, 6), data)


def test_every_encoder_is_tried_before_the_first_is_trained(data, monkeypatch):
    clf = LateFusionClassifier(GROUPS, encoder={"other": Function(lambda x: x[:, 0])}, **FAST)
    monkeypatch.setattr(LateFusionClassifier, "_fit_module", None)
    with pytest.raises(ValueError, match="modality 'other' returns"):
        clf.fit(*data)


def normed(n_columns, norm):
    return nn.Sequential(norm, nn.Linear(n_columns, 6))


ONE_ROW = r"modality 'text' cannot train on one row at a time, but batch_size={} and {} training row\(s\)"


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_batch_norm_with_batches_of_one_row_is_refused(classifier, data):
    with pytest.raises(ValueError, match=ONE_ROW.format(1, r"\d+") + r".*nn\.GroupNorm or nn\.LayerNorm"):
        fit(normed(4, nn.BatchNorm1d(4)), data, classifier, batch_size=1)


@pytest.mark.parametrize("by", ["absent rows", "folds", "weights"])
def test_batch_norm_with_one_training_row_is_refused(by, data):
    X, weight = data[0].copy(), None
    if by == "weights":
        weight = (np.arange(80) == 3).astype(float)
    else:
        X[2 if by == "folds" else 1 :, :4] = np.nan
    encoder = {"text": normed(4, nn.BatchNorm1d(4))}
    clf = LateFusionClassifier(GROUPS, encoder=encoder, cv=2 if by == "folds" else None, **FAST)
    with pytest.raises(ValueError, match=ONE_ROW.format(64, 1)):
        clf.fit(X, data[1], sample_weight=weight)


@pytest.mark.parametrize(
    "encoder",
    [
        normed(4, nn.LayerNorm(4)),
        normed(4, nn.GroupNorm(2, 4)),
        nn.Sequential(nn.Unflatten(1, (1, 4)), nn.BatchNorm1d(1), nn.Flatten()),  # Four values of one channel.
    ],
    ids=["LayerNorm", "GroupNorm", "BatchNorm over positions"],
)
def test_other_norms_train_on_one_row(encoder, data):
    clf = fit(encoder, data, batch_size=1, max_epochs=1)
    assert np.isfinite(clf.predict_proba(data[0])).all()
