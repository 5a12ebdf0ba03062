"""Learning rates of single encoders and of the heads."""

import copy
import functools

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

import mmestim
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim._training.net import Net

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu", "cv": None}
RATES = {"audio": 0.3, "text": 0.01, "head": 0.05}
CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    return (rng.normal(size=(120, 12)) + 0.8 * y[:, None]).astype(np.float32), y


@pytest.fixture
def rates(monkeypatch):
    """List of the rates of each optimizer that is created, by part."""
    created, original = [], Net.initialize_optimizer

    def initialize_optimizer(self):
        original(self)
        created.append({group.get("part"): group["lr"] for group in self.optimizer_.param_groups})
        return self

    monkeypatch.setattr(Net, "initialize_optimizer", initialize_optimizer)
    return created


class Watch(Callback):
    """Batches of a training, and the network before and after it."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_begin(self, net, **kwargs):
        self.seen |= {"batches": [], "start": copy.deepcopy(net.module_)}

    def on_batch_begin(self, net, batch, training, **kwargs):
        if training:
            self.seen["batches"].append(batch)

    def on_train_end(self, net, **kwargs):
        self.seen["end"] = copy.deepcopy(net.module_)


@pytest.mark.parametrize(
    "optimizer, reference",
    [
        ("sgd", functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-4)),
        ("adamw", functools.partial(torch.optim.AdamW, weight_decay=1.0)),
        (torch.optim.RMSprop, functools.partial(torch.optim.RMSprop, weight_decay=1e-4)),
    ],
)
def test_steps_equal_a_loop_with_one_group_per_encoder(optimizer, reference, data):
    settings = FAST | {"optimizer": optimizer, "lr_schedule": "step", "early_stopping": False, "encoder": "mlp"}
    seen = {}
    JointClassifier(GROUPS, lr=RATES, callbacks=[Watch(seen)], **settings).fit(*data)
    network = seen["start"].train()
    audio, image, text = (network.branch(name).encoder for name in GROUPS)
    auto = 2e-3 if optimizer == "adamw" else 1e-2
    modules_and_rates = [(audio, 0.3), (image, auto), (text, 0.01), (network.fusion_head, 0.05)]
    loop = reference([{"params": [*module.parameters()], "lr": rate} for module, rate in modules_and_rates])
    for step, (x, y) in enumerate(seen["batches"]):
        if step == 2 * len(seen["batches"]) // 3:  # 70 % of three epochs
            for group in loop.param_groups:
                group["lr"] *= 0.1
        loop.zero_grad()
        nn.functional.cross_entropy(network(x)[0], y).backward()
        loop.step()
    for (name, expected), (_, trained) in zip(network.named_parameters(), seen["end"].named_parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_every_training_has_the_rates(classifier, cv, rates, data):
    options = {"fine_tune_epochs": 0} if classifier is ModalityGapClassifier else {}
    clf = classifier(GROUPS, lr=RATES, **FAST | {"cv": cv}, **options).fit(*data)
    expected = {"audio": 0.3, "image": 2e-3, "text": 0.01, "head": 0.05}
    assert rates
    for created in rates:
        assert "head" in created
        assert created.items() <= expected.items()
    assert set().union(*rates) == set(expected)
    assert clf.history_[0]["lr"] == 0.05  # that of the heads


@pytest.mark.parametrize("classifier", [JointClassifier, UDIClassifier])
@pytest.mark.parametrize("cv", [None, 2])
def test_equal_rates_equal_one_rate(classifier, cv, data):
    settings = FAST | {"cv": cv}
    one = classifier(GROUPS, lr=0.02, **settings).fit(*data)
    same = classifier(GROUPS, lr=dict.fromkeys([*GROUPS, "head"], 0.02), **settings).fit(*data)
    np.testing.assert_allclose(same.predict_proba(data[0]), one.predict_proba(data[0]), atol=1e-6)


def test_stacked_folds_step_by_the_rates_of_single_networks(data):
    def fit(**options):
        clf = LateFusionClassifier(GROUPS, lr=RATES, **FAST | {"cv": 2}, **options).fit(*data)
        return clf.predict_proba(data[0])

    np.testing.assert_allclose(fit(), fit(max_grad_norm=1e9), atol=1e-5)  # which trains fold by fold


def test_balancing_methods_train_by_the_rates(balancer, data):
    settings = FAST | {"optimizer": "sgd", "max_epochs": 5}
    one, same = (
        JointClassifier(GROUPS, balancer=clone(balancer), lr=lr, **settings).fit(*data)
        for lr in (0.02, dict.fromkeys([*GROUPS, "head"], 0.02))
    )
    np.testing.assert_allclose(same.predict_proba(data[0]), one.predict_proba(data[0]), atol=1e-5)


def test_fine_tuning_has_a_tenth_of_every_rate(rates, data):
    clf = ModalityGapClassifier(GROUPS, lr=RATES, fine_tune_epochs=2, **FAST).fit(*data)
    if any(row["stage"] == "fine-tuning" for row in clf.history_):
        assert rates[-1] == pytest.approx({"audio": 0.03, "image": 2e-4, "text": 1e-3, "head": 5e-3})
    else:
        pytest.fail("no fine-tuning took place")


def test_a_resumed_fit_has_the_weights_of_one_without_a_stop(tmp_path, monkeypatch, data):
    def build(checkpoint=None):
        return JointClassifier(GROUPS, lr=RATES, checkpoint=checkpoint, **FAST | {"max_epochs": 4})

    whole, original = build().fit(*data), Net.train_epoch

    def train_epoch(self, train, epoch):
        if len(self.history) == 3:
            raise KeyboardInterrupt
        return original(self, train, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Net, "train_epoch", train_epoch)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path).fit(*data)
    resumed = build(tmp_path).fit(*data)
    np.testing.assert_array_equal(resumed.predict_proba(data[0]), whole.predict_proba(data[0]))
    n_files = len(list(tmp_path.iterdir()))
    build(tmp_path).set_params(lr={**RATES, "audio": 0.2}).fit(*data)
    assert len(list(tmp_path.iterdir())) > n_files  # another fit


def test_search_clone_and_file_keep_the_dict(tmp_path, data):
    grid = {"lr": [RATES, {"text": "auto"}, "auto"]}
    search = GridSearchCV(JointClassifier(GROUPS, **FAST), grid, cv=2, error_score="raise").fit(*data)
    assert search.best_params_["lr"] in grid["lr"]
    clf = clone(JointClassifier(GROUPS, lr=RATES, **FAST)).fit(*data)
    assert clf.lr == RATES
    mmestim.save(clf, tmp_path / "model.mme")
    loaded = mmestim.load(tmp_path / "model.mme")
    assert loaded.lr == RATES
    np.testing.assert_array_equal(loaded.predict_proba(data[0]), clf.predict_proba(data[0]))


class Shared:
    """Factory that gives both modalities one encoder."""

    def __init__(self):
        self.encoder = nn.Linear(4, 3)

    def __call__(self):
        return self.encoder


@pytest.mark.parametrize(
    "lr, error, message",
    [
        ({"smell": 0.1}, ValueError, r"lr names \['smell'\], which are not modalities. Use \['audio', .*or 'head'"),
        ({"audio": "fast"}, ValueError, r"lr\['audio'\]='fast' is not supported. Use a number or 'auto'"),
        ({"audio": 0}, ValueError, r"lr\['audio'\]=0 must be above 0"),
        ({"head": -1.0}, ValueError, r"lr\['head'\]=-1.0 must be above 0"),
        ({"head": None}, TypeError, r"lr\['head'\]=None must be a number"),
        ("fast", ValueError, r"lr='fast' is not supported. Use a number or 'auto', or a dict"),
        ([0.1], TypeError, r"lr=\[0.1\] must be a number"),
    ],
)
def test_errors_name_the_key_and_the_value(lr, error, message, data):
    with pytest.raises(error, match=message):
        JointClassifier(GROUPS, lr=lr, **FAST).fit(*data)


def test_a_modality_named_head_is_ambiguous(data):
    groups = {"head": slice(0, 4), "text": slice(4, 12)}
    JointClassifier(groups, lr={"text": 0.1}, **FAST).fit(*data)
    with pytest.raises(ValueError, match=r"lr=\{'head': 0.1\} is ambiguous.*Rename the modality"):
        JointClassifier(groups, lr={"head": 0.1}, **FAST).fit(*data)


def test_encoders_that_share_parameters_need_one_rate(data):
    shared = Shared()
    clf = JointClassifier(GROUPS, encoder={"audio": shared, "image": shared}, lr={"audio": 0.1}, **FAST)
    with pytest.raises(ValueError, match="different rates for 'audio' and 'image', whose encoders share parameters"):
        clf.fit(*data)
    clf.set_params(lr={"audio": 0.1, "image": 0.1}).fit(*data)


def test_divergence_names_the_rates(data):
    with pytest.raises(ValueError, match=r"Lower lr \(now \{'audio': 1e\+30\}\)"):
        JointClassifier(GROUPS, lr={"audio": 1e30}, optimizer="sgd", encoder="linear", **FAST).fit(*data)
