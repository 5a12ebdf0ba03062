"""Built-in encoders given by class, partial and with augmentations, which a file holds with their parameters."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, load, save, to_onnx
from mmestim.encoders import (
    Augmentation,
    Augmented,
    ConvEncoder,
    MaskSpectrogram,
    RandomCropFlip,
    ResNet18Encoder,
    TextEncoder,
)
from mmestim.persistence.description import describe


@pytest.fixture(scope="module")
def data():
    """Return frames, token ids and labels; some rows lack the frames."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 30)
    frames = rng.normal(size=(30, 2, 1, 8, 8)) + y[:, None, None, None, None]
    frames[::5] = np.nan
    return {"frames": frames, "text": rng.integers(0, 40, (30, 6)) + 50 * y[:, None]}, y


SMALL = functools.partial(TextEncoder, vocabulary_size=100)


@pytest.mark.parametrize("classifier", [JointClassifier, LateFusionClassifier])
@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize(
    "encoder",
    [
        {"frames": "resnet18", "text": "text"},
        {"frames": ResNet18Encoder, "text": SMALL},
        {"frames": Augmented(functools.partial(ResNet18Encoder, embedding_dim=512), RandomCropFlip(2)), "text": SMALL},
    ],
    ids=["name", "class and partial", "augmented"],
)
def test_files_need_no_modules(
    encoder, cv, classifier, data, save_and_load, fast_options, assert_same_predictions, path
):
    X, y = data
    clf = classifier(encoder=encoder, **fast_options | {"cv": cv}).fit(X, y)
    loaded = save_and_load(clf)
    assert_same_predictions(loaded, clf, X)
    assert repr(loaded.encoder) == repr(clf.encoder)
    again = loaded.fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    if not isinstance(encoder["text"], str):
        assert "TextEncoder({'vocabulary_size': 100})" in describe(path)


def test_one_encoder_for_all_and_its_description(digits, save_and_load, fast_options, assert_same_predictions, path):
    X, y, _ = digits
    encoder = Augmented(functools.partial(ConvEncoder, n_dims=2), MaskSpectrogram(2), RandomCropFlip(1))
    clf = LateFusionClassifier({"a": slice(0, 98)}, shapes={"a": (14, 7)}, encoder=encoder, **fast_options).fit(X, y)
    assert_same_predictions(save_and_load(clf), clf, X)
    shown = next(line for line in describe(path).splitlines() if line.startswith("  encoder "))
    assert shown.split()[1].startswith("Augmented(ConvEncoder({'n_dims':")
    assert repr(load(path).encoder) == repr(encoder)


class Noise(Augmentation):
    def augment(self, x):
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    "encoder, name",
    [
        (Augmented("resnet18", Noise()), "Augmented"),
        (Augmented(lambda input_shape: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), Noise()), "Augmented"),
        (nn.Sequential(RandomCropFlip(2), ConvEncoder((1, 8, 8), 4, n_dims=2)), "Sequential"),
    ],
)
def test_own_parts_are_passed_to_load(encoder, name, data, save_and_load, fast_options, assert_same_predictions, path):
    X, y = {"frames": data[0]["frames"][:, 0]}, data[1]
    X["text"] = data[0]["text"]
    clf = JointClassifier(encoder={"frames": encoder}, **fast_options).fit(X, y)
    assert_same_predictions(save_and_load(clf, modules={name: encoder}), clf, X)
    with pytest.raises(ValueError, match=rf"modules={{'{name}': \.\.\.}}"):
        load(path)


def test_the_path_of_weights_is_not_saved_nor_read(
    data, save_and_load, fast_options, tmp_path, assert_same_predictions, path
):
    X, y = data
    file = tmp_path / "weights_of_mine.pth"
    encoder = ResNet18Encoder((1, 8, 8), statistics=None)
    torch.save(encoder.state_dict(), file)
    partial = functools.partial(ResNet18Encoder, weights=file, freeze=True, statistics="rows")
    clf = LateFusionClassifier(encoder={"frames": partial, "text": "text"}, **fast_options).fit(X, y)
    save(clf, path)
    assert b"weights_of_mine" not in path.read_bytes()
    file.unlink()
    for modules in ({"ResNet18Encoder": partial}, {"ResNet18Encoder": ResNet18Encoder}):
        assert_same_predictions(load(path, device="cpu", modules=modules), clf, X)
    with pytest.raises(ValueError, match=r"modules={'ResNet18Encoder': \.\.\.}"):
        load(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"encoder": {"class": "ResNet18Encoder", "parameters": {"weights": "/etc/passwd"}}}, r"sets \['weights'\]"),
        ({"encoder": {"class": "Wrapped", "parameters": {}}}, "cannot be decoded"),
        ({"encoder": {"class": "TextEncoder", "parameters": {"vocabulary_size": 2**40}}}, "at most 16777216"),
        (
            {"encoder": {"class": "TextEncoder", "parameters": {"vocabulary_size": 2**23}}},
            "do not match its parameters",
        ),
        ({"augmented": {"encoder": "text", "augmentations": [{"class": "Noise", "parameters": {}}]}}, "decoded"),
        ({"augmented": {"encoder": "text", "augmentations": []}}, "no augmentation"),
    ],
)
def test_forged_encoders_are_refused(content, message, data, fast_options, path, forge):
    X, y = {"text": data[0]["text"]}, data[1]
    save(LateFusionClassifier(encoder=SMALL, **fast_options).fit(X, y), path)

    def change(parts):
        parts.fields["parameters"]["encoder"] = content

    path.write_bytes(forge(path.read_bytes(), change))
    with pytest.raises(ValueError, match=f"cannot be loaded.*{message}"):
        load(path)


def test_networks_are_exported_for_any_number_of_rows(data, fast_options):
    X, y = data
    X = X | {"frames": np.nan_to_num(X["frames"])}
    clf = JointClassifier(encoder={"frames": Augmented("resnet18", RandomCropFlip()), "text": SMALL}, **fast_options)
    clf.fit(X, y)
    blocks = {name: torch.tensor(block) for name, block in X.items()}
    n_rows = torch.export.Dim("n_rows")
    example = {name: block[:5] for name, block in blocks.items()}
    program = torch.export.export(clf.module_, (example,), dynamic_shapes=({name: {0: n_rows} for name in blocks},))
    with torch.no_grad():
        logits, _ = program.module()(blocks)
    np.testing.assert_allclose(torch.softmax(logits, 1), clf.predict_proba(X), atol=1e-5)


def test_onnx_files_give_nan_beyond_the_vocabulary(data, fast_options, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = data
    clf = LateFusionClassifier(encoder={"frames": "resnet18", "text": SMALL}, **fast_options).fit(X, y)
    to_onnx(clf, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    blocks = {name: block.astype(np.float32) for name, block in X.items()}
    [probabilities] = session.run(None, blocks)
    np.testing.assert_allclose(probabilities, clf.predict_proba(X), atol=1e-5)
    blocks["text"][3, 2] = 100
    [probabilities] = session.run(None, blocks)
    assert np.isnan(probabilities).any(1).tolist() == [row == 3 for row in range(30)]
