"""Networks of fitted classifiers as torch modules: tensors in, logits and features out, and their export."""

import numpy as np
import pytest
import torch

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.balancers import MLA, QMF, AMCo, MMCosine

# Networks of folds and single ones, and fusion heads of all kinds.
NETWORKS = {
    "UDI": (UDIClassifier, {}),
    "late fusion": (LateFusionClassifier, {"cv": None}),
    "gap": (ModalityGapClassifier, {"cv": 2}),
    "joint": (JointClassifier, {}),
    "gated": (JointClassifier, {"cv": None, "fusion": "gated"}),
    "film": (JointClassifier, {"cv": None, "fusion": "film"}),
    "AMCo": (JointClassifier, {"cv": 2, "balancer": AMCo()}),
    "MLA": (JointClassifier, {"cv": 2, "balancer": MLA()}),
    "MMCosine": (JointClassifier, {"cv": 2, "balancer": MMCosine()}),
    "QMF": (JointClassifier, {"cv": 2, "balancer": QMF()}),
}
SETTINGS = {"shapes": {"image": (6, 6)}, "max_epochs": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    return rng.normal(size=(60, 41)) + y[:, None], y


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def fitted(request, data):
    classifier, settings = request.param
    return classifier({"audio": slice(0, 5), "image": slice(5, None)}, **SETTINGS | settings).fit(*data)


@pytest.fixture(scope="module")
def blocks(data):
    X = torch.tensor(data[0])
    return {"image": X[:, 5:].reshape(60, 6, 6), "audio": X[:, :5]}


def test_the_network_maps_a_dict_of_tensors_to_logits_and_features(fitted, blocks, data):
    with torch.no_grad():
        logits, features = fitted.module_(blocks)
    np.testing.assert_allclose(torch.softmax(logits, 1), fitted.predict_proba(data[0]), atol=1e-6)
    concatenated = torch.cat([features["audio"], features["image"]], 1)
    np.testing.assert_allclose(concatenated, fitted.transform(data[0]), atol=1e-5)


def test_an_exported_network_takes_any_number_of_rows(fitted, blocks, data):
    n_rows = torch.export.Dim("n_rows")
    example = {name: block[:7] for name, block in blocks.items()}
    shapes = {name: {0: n_rows} for name in blocks}
    program = torch.export.export(fitted.module_, (example,), dynamic_shapes=(shapes,))
    with torch.no_grad():
        logits, _ = program.module()(blocks)
    np.testing.assert_allclose(torch.softmax(logits, 1), fitted.predict_proba(data[0]), atol=1e-5)


@pytest.mark.parametrize(
    "value, shown",
    [(torch.zeros(2, 41), "Tensor"), ({"audio": torch.zeros(2, 5)}, r"\['audio'\]"), ([torch.zeros(2, 5)], "list")],
)
def test_the_network_names_the_modalities_that_it_takes(value, shown, fitted):
    with pytest.raises(TypeError, match=rf"one tensor for each of \['audio', 'image'\], got {shown}"):
        fitted.module_(value)
