"""Augmentation: crops, flips and masks by their definition, in training alone, and reproducible fits."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.encoders import (
    Augmentation,
    Augmented,
    ConvEncoder,
    MaskSpectrogram,
    RandomCropFlip,
    ResNet18Encoder,
)
from mmestim.encoders.augmentation import behind_augmentations
from mmestim.encoders.standardize import input_statistics

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
FAST = {"cv": None, "max_epochs": 4, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    X = {"image": rng.normal(size=(40, 10, 9)) + y[:, None, None], "noise": rng.normal(size=(40, 3))}
    X["image"][::9] = np.nan
    return X, y


def variants(image, padding, flip):
    """Yield every image that padding, cropping and a flip make of one image."""
    height, width = image.shape[-2:]
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(padding, padding)] * 2, mode="edge")
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = padded[..., row : row + height, column : column + width]
            yield crop
            if flip:
                yield crop[..., ::-1]


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (2, 3, 5, 6)])
@pytest.mark.parametrize("padding, flip", [(0, True), (1, False), (2, True)])
def test_crops_and_flips_are_those_of_padded_images(shape, padding, flip):
    torch.manual_seed(0)
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    expected = {variant.tobytes() for variant in variants(image, padding, flip)}
    out = RandomCropFlip(padding, flip=flip)(torch.from_numpy(image).expand(2000, *shape))
    assert {row.tobytes() for row in out.numpy()} == expected


@pytest.mark.parametrize("shape", [(8, 12), (2, 8, 12)])
@pytest.mark.parametrize("time_axis", [-1, -2])
def test_masks_cover_whole_frames_and_bands_by_the_mean(shape, time_axis):
    torch.manual_seed(0)
    n_time, n_bands = (12, 8) if time_axis == -1 else (8, 12)
    x = torch.randn(500, *shape)
    out = MaskSpectrogram(time=5, frequency=3, time_axis=time_axis)(x)
    is_masked = (out != x).reshape(500, -1, 8, 12)
    torch.testing.assert_close(out, torch.where(out != x, x.flatten(1).mean(1).view(500, *[1] * len(shape)), x))
    assert (is_masked == is_masked[:, :1]).all()
    is_masked = is_masked[:, 0] if time_axis == -1 else is_masked[:, 0].mT
    frames, bands = is_masked.all(1), is_masked.all(2)
    assert torch.equal(is_masked, frames.unsqueeze(1) | bands.unsqueeze(2))
    for mask, longest, size in ((frames, 5, n_time), (bands, 3, n_bands)):
        widths = mask.sum(1)
        assert set(widths.tolist()) == set(range(longest + 1))
        assert (mask.int().diff(dim=1).clamp(min=0).sum(1) <= 1).all()  # One mask is in one piece,
        assert mask.any(0).tolist() == [True] * size  # which may be anywhere.
        counts = torch.bincount(widths) / 500
        assert counts.sub(1 / (longest + 1)).abs().max() < 0.08


def test_several_masks_and_one_axis():
    torch.manual_seed(0)
    x = torch.randn(200, 6, 40)
    is_masked = MaskSpectrogram(time=3, n_masks=4)(x) != x
    assert torch.equal(is_masked, is_masked[:, :1].expand_as(x))
    assert is_masked[:, 0].sum(1).max() > 6


@pytest.mark.parametrize("augmentation", [RandomCropFlip(), MaskSpectrogram(time=2, frequency=2)])
def test_rows_are_unchanged_in_eval_mode_and_the_batch_in_both(augmentation):
    x = torch.randn(4, 6, 7)
    before = x.clone()
    assert torch.equal(augmentation.eval()(x), before)
    assert not torch.equal(augmentation.train()(x), before)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: RandomCropFlip(-1), ValueError, "padding=-1 must be at least 0"),
        (lambda: RandomCropFlip(1.5), TypeError, r"padding=1\.5 must be an integer"),
        (lambda: RandomCropFlip(flip=1), TypeError, "flip=1 must be True or False"),
        (lambda: RandomCropFlip()(torch.zeros(2, 9)), ValueError, r"two or more axes, got \(9,\): set shapes"),
        (lambda: MaskSpectrogram(), ValueError, "masks nothing with time=0 and frequency=0"),
        (lambda: MaskSpectrogram(2, n_masks=0), ValueError, "n_masks=0 must be at least 1"),
        (lambda: MaskSpectrogram(2, time_axis=0), ValueError, "time_axis=0 is not supported"),
        (lambda: Augmented("conv2d"), TypeError, "got no augmentation"),
        (lambda: Augmented("conv2d", RandomCropFlip), TypeError, "instances of Augmentation"),
    ],
)
def test_bad_parameters_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_mask_that_exceeds_the_spectrogram_is_refused_before_training(data):
    encoder = {"image": Augmented("conv2d", MaskSpectrogram(time=10))}
    with pytest.raises(ValueError, match=r"modality 'image' fails in training mode .*time=10 .* exceeds the 9 places"):
        LateFusionClassifier(encoder=encoder, **FAST).fit(*data)


def test_the_encoder_behind_augmentations_tells_about_the_input():
    encoder = ConvEncoder((5, 6), 4, n_dims=2)
    crop, nested = (
        RandomCropFlip(),
        nn.Sequential(RandomCropFlip(), nn.Sequential(RandomCropFlip(), encoder, nn.ReLU())),
    )
    assert behind_augmentations(nested) is behind_augmentations(encoder) is encoder
    assert input_statistics(nested) is encoder.standardize
    plain = nn.Sequential(nn.Flatten(), encoder)
    assert behind_augmentations(plain) is plain
    assert isinstance(behind_augmentations(nn.Sequential(crop)), nn.Sequential)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("form", ["Augmented", "nn.Sequential"])
def test_fits_repeat_and_differ_from_plain_ones(classifier, form, data):
    X, y = data
    torch.manual_seed(3)
    augmented = Augmented("conv2d", RandomCropFlip(2), MaskSpectrogram(time=2))
    if form == "nn.Sequential":
        augmented = nn.Sequential(RandomCropFlip(2), MaskSpectrogram(time=2), ConvEncoder((10, 9), 64, n_dims=2))
    clf = classifier(encoder={"image": augmented}, **FAST)
    before = torch.get_rng_state()
    first, second = (clone(clf).fit(X, y) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    np.testing.assert_array_equal(first.predict_proba(X), first.predict_proba(X))
    plain = augmented.encoder if form == "Augmented" else augmented[-1]
    unaugmented = clone(clf).set_params(encoder={"image": plain}).fit(X, y)
    assert not np.array_equal(first.predict_proba(X), unaugmented.predict_proba(X))
    encoder = behind_augmentations(first.module_.branch("image").encoder)
    reference = behind_augmentations(unaugmented.module_.branch("image").encoder)
    for name in ("mean", "scale", "is_fitted"):
        assert torch.equal(getattr(encoder.standardize, name), getattr(reference.standardize, name))


def test_an_augmentation_without_effect_is_plain(data):
    X, y = data

    class Nothing(Augmentation):
        def augment(self, x):
            return x.clone()

    augmented = LateFusionClassifier(encoder={"image": Augmented("resnet18", Nothing())}, **FAST).fit(X, y)
    plain = LateFusionClassifier(encoder={"image": "resnet18"}, **FAST).fit(X, y)
    np.testing.assert_array_equal(augmented.predict_proba(X), plain.predict_proba(X))


def test_types_and_limits_of_input_reach_through(data):
    class Shuffle(Augmentation):
        def augment(self, x):
            return x[:, torch.randperm(x.shape[1], device=x.device)]

    X, y = {"text": np.random.default_rng(0).integers(0, 20, (40, 5))}, data[1]
    for cv in (None, 2):
        clf = LateFusionClassifier(encoder=Augmented("text", Shuffle()), **FAST | {"cv": cv}).fit(X, y)
        assert clf.module_.branch("text").input_dtype is torch.int64
        with pytest.raises(ValueError, match="has the value 99999, but its encoder takes values from 0 to 32767"):
            clf.predict({"text": np.full((1, 5), 99999)})


class Interrupt(Callback):
    """Callback that interrupts the training after an epoch, once."""

    def __init__(self, switch):
        self.switch = switch

    def on_epoch_begin(self, net, **kwargs):
        if self.switch.on and len(net.history) == 3:
            self.switch.on = False
            raise RuntimeError("interrupted")

    def __getstate__(self):
        return {}


@pytest.mark.parametrize("encoder", ["conv2d", ResNet18Encoder], ids=["conv2d", "resnet18"])
def test_an_interrupted_fit_resumes(encoder, data, tmp_path):
    X, y = data
    switch = SimpleNamespace(on=False)
    encoder = {"image": Augmented(encoder, RandomCropFlip(2))}
    settings = FAST | {"encoder": encoder, "callbacks": [Interrupt(switch)]}
    expected = JointClassifier(**settings).fit(X, y)
    switch.on = True
    with pytest.raises(RuntimeError, match="interrupted"):
        JointClassifier(**settings, checkpoint=tmp_path).fit(X, y)
    assert not switch.on
    resumed = JointClassifier(**settings, checkpoint=tmp_path).fit(X, y)
    np.testing.assert_array_equal(resumed.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(resumed)).predict_proba(X), expected.predict_proba(X))
