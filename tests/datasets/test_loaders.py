"""Loaders that read from the data folder."""

import os

import numpy as np
import pytest

from mmestim.datasets import load_av_digits, load_mfeat

needs_data = pytest.mark.skipif(
    not os.environ.get("MMESTIM_DATA"), reason="MMESTIM_DATA does not name the folder of data sets"
)


@needs_data
def test_av_digits_reads_audio_and_image(assert_is_container):
    bunch = load_av_digits()
    assert_is_container(bunch, ["audio", "image"])
    assert bunch.shapes == {"audio": (64, 32), "image": (28, 28)}
    image = bunch.data[:, bunch.modalities["image"]]
    assert image.min() == 0
    assert image.max() == 1
    assert set(np.unique(bunch.target)) == set(range(10))
    assert len(np.unique(bunch.speaker)) == 6
    # The name of a clip begins with its digit and its speaker.
    digit, speaker, _ = bunch.clip[1234].split("_")
    assert (int(digit), speaker) == (bunch.target[1234], bunch.speaker[1234])
    assert set(bunch.mnist_index[bunch.split == "train"]).isdisjoint(bunch.mnist_index[bunch.split == "test"])


@needs_data
def test_av_digits_noise_is_reproducible_and_on_the_image_only():
    clean, noisy = load_av_digits(), load_av_digits(image_noise=0.8)
    difference = noisy.data - clean.data
    assert not difference[:, clean.modalities["audio"]].any()
    assert difference[:, clean.modalities["image"]].std() == pytest.approx(0.8, rel=0.01)
    X, y = load_av_digits(image_noise=0.8, random_state=0, return_X_y=True)
    np.testing.assert_array_equal(X, noisy.data)
    np.testing.assert_array_equal(y, clean.target)


@needs_data
def test_mfeat_reads_six_views(assert_is_container):
    bunch = load_mfeat()
    assert_is_container(bunch, ["fac", "fou", "kar", "mor", "pix", "zer"])
    assert bunch.shapes == {}
    assert bunch.data.shape == (2000, 649)
    assert (np.bincount(bunch.target) == 200).all()
    assert (bunch.split == "train").sum() == 1400
    np.testing.assert_array_equal(load_mfeat(os.environ["MMESTIM_DATA"], return_X_y=True)[0], bunch.data)


@pytest.mark.parametrize("load, file", [(load_av_digits, "av_digits_3000.npz"), (load_mfeat, "mfeat_six_views.npz")])
def test_missing_files_are_reported_with_the_searched_folder(load, file, monkeypatch, tmp_path):
    monkeypatch.delenv("MMESTIM_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=f"MMESTIM_DATA is None.*folder that contains .*{file}"):
        load()
    monkeypatch.setenv("MMESTIM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"no file {tmp_path}.*{file}.*MMESTIM_DATA"):
        load()
    with pytest.raises(FileNotFoundError, match=r"no file elsewhere.*data_home='elsewhere'"):
        load("elsewhere")


def test_negative_image_noise_is_refused():
    with pytest.raises(ValueError, match="image_noise=-1 must be at least 0"):
        load_av_digits(image_noise=-1)


def test_loaders_take_the_folder_from_the_environment(assert_is_container, monkeypatch, tmp_path):
    (tmp_path / "mfeat").mkdir()
    views = {name: np.full((3, 2), i) for i, name in enumerate(["fac", "fou", "kar", "mor", "pix", "zer"])}
    np.savez(tmp_path / "mfeat" / "mfeat_six_views.npz", label=[3, 1, 2], split=["train", "train", "test"], **views)
    monkeypatch.setenv("MMESTIM_DATA", str(tmp_path))
    bunch = load_mfeat()
    assert_is_container(bunch, list(views))
    np.testing.assert_array_equal(bunch.data[0], np.repeat(np.arange(6), 2))
    np.testing.assert_array_equal(bunch.target, [3, 1, 2])
