"""Modules that return output objects, dicts or tuples, as encoders."""

import dataclasses
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, load, save
from mmestim.encoders import Wrapped

FAST = {"cv": None, "max_epochs": 2, "random_state": 0, "device": "cpu"}


class ModelOutput(OrderedDict):
    """Output object in the manner of transformers: a dict with attributes and positions."""

    def __getattr__(self, name):
        return self[name]

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


@dataclasses.dataclass
class DataOutput:
    """Output object that is a data class."""

    last_hidden_state: torch.Tensor
    pooler_output: torch.Tensor


KINDS = {
    "ModelOutput": lambda hidden, pooled: ModelOutput(last_hidden_state=hidden, pooler_output=pooled),
    "dataclass": DataOutput,
    "dict": lambda hidden, pooled: {"last_hidden_state": hidden, "pooler_output": pooled},
    "tuple": lambda hidden, pooled: (hidden, pooled),
}


class Bert(nn.Module):
    """Network of tokens in the manner of transformers, which attends to the tokens of a mask."""

    def __init__(self, kind="ModelOutput"):
        super().__init__()
        self.kind = kind
        self.embeddings = nn.Embedding(100, 6)
        self.register_buffer("position_ids", torch.arange(9), persistent=False)

    def forward(self, input_ids=None, attention_mask=None):
        hidden = self.embeddings(input_ids) + 0.01 * self.position_ids[: input_ids.shape[1], None]
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return KINDS[self.kind](hidden, (hidden * mask.unsqueeze(2)).sum(1))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 50)
    ids = rng.integers(1, 50, (50, 9)) + 50 * y[:, None]
    ids[:, 6:] = 0
    return {"text": ids, "noise": rng.normal(size=(50, 3))}, y


IDS = torch.tensor([[3, 4, 0], [5, 0, 0]])


@pytest.mark.parametrize(
    "kind, output",
    [
        ("ModelOutput", "pooler_output"),
        ("ModelOutput", 1),
        ("dataclass", "pooler_output"),
        ("dict", "pooler_output"),
        ("tuple", 1),
        ("tuple", -1),
    ],
)
def test_a_tensor_is_read_from_every_kind_of_output(kind, output):
    module = Bert(kind)
    hidden = module.embeddings(IDS) + 0.01 * torch.arange(3)[:, None]
    torch.testing.assert_close(Wrapped(module, output)(IDS), hidden.sum(1))


def test_input_and_mask_are_passed_by_name():
    module = Bert()
    wrapped = Wrapped(module, "pooler_output", input_name="input_ids", mask_name="attention_mask")
    expected = torch.stack([module(IDS[:1, :2]).pooler_output[0], module(IDS[1:, :1]).pooler_output[0]])
    torch.testing.assert_close(wrapped(IDS), expected)


def test_pooling():
    module = Bert()
    hidden = module(IDS).last_hidden_state
    torch.testing.assert_close(Wrapped(module, "last_hidden_state", pooling="mean")(IDS), hidden.mean(1))
    torch.testing.assert_close(Wrapped(module, "last_hidden_state", pooling="flatten")(IDS), hidden.flatten(1))
    masked = Wrapped(module, "last_hidden_state", mask_name="attention_mask", pooling="mean")
    torch.testing.assert_close(masked(IDS), torch.stack([hidden[0, :2].mean(0), hidden[1, 0]]))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Wrapped(Bert, "pooler_output"), TypeError, "module=.* must be a torch.nn.Module"),
        (lambda: Wrapped(Bert(), None), TypeError, "output=None must be the name"),
        (lambda: Wrapped(Bert(), 0, pooling="max"), ValueError, "pooling='max' is not supported"),
        (lambda: Wrapped(Bert(), "logits")(IDS), ValueError, "'logits' .*has last_hidden_state, pooler_output"),
        (
            lambda: Wrapped(Bert("tuple"), 2)(IDS),
            ValueError,
            r"output=2 .*tuple that Bert returns\. It has \[0\], \[1\]",
        ),
        (lambda: Wrapped(Bert("dict"), 0)(IDS), ValueError, "output=0 is no tensor in the dict"),
        (lambda: Wrapped(nn.Embedding(9, 2), 0)(IDS), ValueError, "Embedding returns one tensor: pass it .*itself"),
    ],
)
def test_errors_name_the_way_out(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_error_without_it_names_it(data):
    class Tokens(Bert):
        input_dtype = torch.int64

    with pytest.raises(
        ValueError, match=r"Pass Wrapped\(module, output='pooler_output'\) of mmestim\.encoders, or an nn"
    ):
        LateFusionClassifier(encoder={"text": Tokens()}, **FAST).fit(*data)


@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("classifier", [JointClassifier, LateFusionClassifier])
def test_a_wrapped_module_is_copied_trained_saved_and_pickled(classifier, cv, data, tmp_path):
    X, y = data
    module = Bert()
    before = module.embeddings.weight.clone()
    encoder = Wrapped(
        module, "pooler_output", input_name="input_ids", mask_name="attention_mask", input_dtype=torch.int64
    )
    clf = classifier(encoder={"text": encoder}, **FAST | {"cv": cv, "lr": 0.01}).fit(X, y)
    trained = clf.module_.branch("text").encoder.state_dict()
    assert all(not torch.equal(weight, before) for weight in trained.values())
    assert torch.equal(module.embeddings.weight, before)
    save(clf, tmp_path / "model.mme")
    again = Wrapped(Bert(), "pooler_output", mask_name="attention_mask", input_dtype=torch.int64)
    loaded = load(tmp_path / "model.mme", device="cpu", modules={"Wrapped": again})
    for copy in (loaded, pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))


def test_input_dtype_is_that_of_the_module_by_default():
    module = Bert()
    assert Wrapped(module, 0).input_dtype is None
    module.input_dtype = torch.int32
    assert Wrapped(module, 0).input_dtype is torch.int32
