"""Images with channels in the last axis, in every container, in fit and in predictions."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from mmestim import JointClassifier, LateFusionClassifier, load, save, stack_modalities
from mmestim._data.layouts import channels_first, resolve_layout

RNG = np.random.default_rng(0)
Y = np.arange(40) % 2
AUDIO = RNG.normal(size=(40, 3))
FAST = {"max_epochs": 1, "embedding_dim": 4, "device": "cpu", "random_state": 0}


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((8, 6, 3), (3, 8, 6)),
        ((8, 6, 1), (1, 8, 6)),
        ((8, 6, 4), (4, 8, 6)),
        ((5, 5, 4), (4, 5, 5)),
        ((8, 6, 2), (8, 6, 2)),
        ((8, 6, 5), (8, 6, 5)),
        ((3, 8, 6), (3, 8, 6)),
        ((2, 8, 3), (2, 8, 3)),
        ((8, 3, 3), (8, 3, 3)),
        ((64, 1, 1), (64, 1, 1)),
        ((3, 3, 3), (3, 3, 3)),
        ((8, 6), (8, 6)),
        ((5, 8, 6, 3), (5, 8, 6, 3)),
    ],
)
def test_images_are_recognised_by_three_axes_and_few_channels(shape, expected):
    assert channels_first(shape) == resolve_layout("image", shape) == expected


@pytest.mark.parametrize("shape", [(3, 8, 3), (1, 8, 1), (1, 8, 3), (4, 32, 3), (3, 8, 1)])
def test_ambiguous_shapes_follow_shapes_or_are_an_error(shape, fit, read):
    block = RNG.normal(size=(6, *shape)).astype(np.float32)
    X = {"image": block}
    with pytest.raises(ValueError, match=r"'image' has samples of shape .*first or the last axis.*shapes=.*shapes="):
        fit(X)
    last = (shape[2], *shape[:2])
    for given, expected in [(shape, block), (last, np.moveaxis(block, -1, 1))]:
        estimator = fit(X, shapes={"image": given})
        assert estimator.shapes_ == {"image": given}
        np.testing.assert_array_equal(read(estimator, X)["image"], expected)
        flat = {"image": block.reshape(6, -1)}
        np.testing.assert_array_equal(read(estimator, flat)["image"], expected)
    estimator = fit(block.reshape(6, -1), shapes={"x": shape})
    np.testing.assert_array_equal(read(estimator, block.reshape(6, -1))["x"], block)


def images(channels=3, dtype=np.float32):
    return (RNG.normal(size=(40, 8, 6, channels)) * 50 + 100).astype(dtype)


def containers(block):
    """Yield each container of the audio and these images, the modalities and the shapes for it."""
    flat = np.hstack([AUDIO, block.reshape(40, -1)])
    slices = {"x0": slice(0, 3), "x1": slice(3, None)}
    yield "dict", {"x0": AUDIO, "x1": block}, None, None
    yield "dict of lists", {"x0": AUDIO.tolist(), "x1": block.tolist()}, None, None
    yield "dict and shapes", {"x0": AUDIO, "x1": block}, None, {"x1": block.shape[1:]}
    yield "list", [AUDIO, block], None, None
    yield "TensorDataset", TensorDataset(torch.from_numpy(AUDIO), torch.from_numpy(block)), None, None
    yield "samples", list(zip(AUDIO, block, strict=True)), None, None
    yield "flat", flat, slices, {"x1": block.shape[1:]}
    yield "flat fortran", np.asfortranarray(flat), slices, {"x1": list(block.shape[1:])}
    yield "flat by numbers", flat, {"x0": [2, 0, 1], "x1": range(3, flat.shape[1])}, {"x1": block.shape[1:]}
    yield "flat block", {"x0": AUDIO, "x1": block.reshape(40, -1)}, None, {"x1": block.shape[1:]}
    yield "masked", {"x0": AUDIO, "x1": np.ma.masked_array(block)}, None, None


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_channels_are_moved_in_every_container(channels, dtype, fit, read):
    block = images(channels, dtype)
    for label, X, modalities, shapes in containers(block):
        estimator = fit(X, modalities, shapes, n_rows=40)
        assert estimator.shapes_ == {"x1": (channels, 8, 6)}, label
        arrays = read(estimator, X)
        np.testing.assert_array_equal(arrays["x1"], np.moveaxis(block, -1, 1).astype("f4"), label)


def test_blocks_of_either_layout_mix_between_fit_and_predict(fit, read):
    last = images()
    first = np.ascontiguousarray(np.moveaxis(last, -1, 1))
    for fitted_on in (last, first):
        estimator = fit({"x0": AUDIO, "x1": fitted_on}, n_rows=40)
        flat = stack_modalities(x0=AUDIO, x1=fitted_on)[0]
        for X in ({"x0": AUDIO, "x1": last}, [AUDIO, first], flat, {"x0": AUDIO, "x1": fitted_on.reshape(40, -1)}):
            np.testing.assert_array_equal(read(estimator, X)["x1"], first)
        with pytest.raises(ValueError, match=r"'x1' has rows of shape \(6, 8, 3\), expected \(3, 8, 6\)"):
            read(estimator, {"x0": AUDIO, "x1": last.swapaxes(1, 2)})
    with pytest.raises(ValueError, match=r"'x1' has rows of shape \(8, 6, 3\), expected \(3, 6, 8\)"):
        fit({"x0": AUDIO, "x1": last}, shapes={"x1": (3, 6, 8)}, n_rows=40)
    # The layout of the block counts, and not that of shapes, for columns that come later.
    estimator = fit({"x0": AUDIO, "x1": first}, shapes={"x1": (8, 6, 3)}, n_rows=40)
    np.testing.assert_array_equal(read(estimator, stack_modalities(x0=AUDIO, x1=first)[0])["x1"], first)


def test_stacked_blocks_keep_their_axes_and_estimators_move_them(fit, read):
    block = images()
    X, modalities, shapes = stack_modalities(x0=AUDIO, x1=block)
    assert shapes == {"x1": (8, 6, 3)}
    np.testing.assert_array_equal(X[:, 3:], block.reshape(40, -1))
    estimator = fit(X, modalities, shapes, n_rows=40)
    np.testing.assert_array_equal(read(estimator, X)["x1"], np.moveaxis(block, -1, 1))


@pytest.mark.parametrize("container", ["dict", "flat"])
def test_models_do_not_depend_on_the_layout_and_are_saved_with_it(container, tmp_path, capsys):
    last = images(dtype="u1")
    first = np.moveaxis(last, -1, 1)
    expected = JointClassifier(**FAST).fit({"x0": AUDIO, "x1": first}, Y).predict_proba({"x0": AUDIO, "x1": first})
    _, X, modalities, shapes = next(case for case in containers(last) if case[0] == container)
    clf = JointClassifier(modalities, shapes=shapes, verbose=2, **FAST).fit(X, Y)
    assert capsys.readouterr().out.count("x1: images (8, 6, 3) are moved to channels first, (3, 8, 6)") == 1
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert capsys.readouterr().out == ""
    save(clf, tmp_path / "clf.mme")
    loaded = load(tmp_path / "clf.mme", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    np.testing.assert_array_equal(loaded.predict_proba({"x0": AUDIO, "x1": first}), expected)
    silent = LateFusionClassifier(modalities, shapes=shapes, **FAST).fit(X, Y)
    assert silent.shapes_ == {"x1": (3, 8, 6)}
    assert capsys.readouterr().out == ""


def test_offsets_follow_the_moved_axes(fit, read):
    far = images(dtype="f8") + 1e9 * np.arange(1, 4)  # one offset per channel
    for label, X, modalities, shapes in containers(far):
        estimator = fit(X, modalities, shapes, n_rows=40)
        offsets = estimator.offsets_["x1"]
        assert offsets.shape == (3, 8, 6), label
        np.testing.assert_array_equal(read(estimator, X)["x1"], (np.moveaxis(far, -1, 1) - offsets).astype("f4"))
