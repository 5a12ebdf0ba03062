"""Errors about folders that all listings share."""

import sys

import pytest

from mmestim.datasets import (
    load_ave,
    load_crema_d,
    load_kinetics_sounds,
    load_mailabs,
    load_ravdess,
    load_ucf101,
)

LOADERS = [load_ave, load_crema_d, load_kinetics_sounds, load_ravdess, load_ucf101]


@pytest.mark.parametrize("load", LOADERS)
def test_a_folder_that_does_not_exist(load, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder=.*gone.* is not a folder. Pass the one that contains "):
        load(tmp_path / "gone")


@pytest.mark.parametrize("load", [*LOADERS, load_mailabs])
def test_a_folder_in_another_layout(load, tmp_path):
    for name in ("a.wav", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).touch()
    expected = (
        "is not in .*sex/speaker/book/wavs" if load is load_mailabs else "Expected .*; found a.wav, b.txt, c.txt and 1"
    )
    with pytest.raises(ValueError, match=f"is not in the expected layout: .*{expected}"):
        load(tmp_path)


def test_pandas_is_named(write, monkeypatch):
    folder = write("03-01-06-01-02-01-12.wav")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'load_ravdess returns a DataFrame .* "mmestim\[pandas\]"'):
        load_ravdess(folder)


def test_missing_files_are_an_error_or_a_warning(write):
    names = [f"10{number:02}_DFA_ANG_XX" for number in range(1, 7)]
    folder = write("VideoFlash/1006_DFA_ANG_XX.flv", *(f"AudioWAV/{name}.wav" for name in names))
    with pytest.raises(
        FileNotFoundError,
        match=r"5 of 6 rows lack a file: .*1001_DFA_ANG_XX.flv, .* and 2 more. Pass on_m",
    ):
        load_crema_d(folder)
    with pytest.warns(UserWarning, match=r"load_crema_d: 5 of 6 rows lack a file: .* They are left out."):
        clips = load_crema_d(folder, on_missing="skip")
    assert clips.frame["clip"].tolist() == names[-1:]
    (folder / "VideoFlash" / "1006_DFA_ANG_XX.flv").unlink()
    with pytest.raises(FileNotFoundError, match=r"6 of 6 rows lack a file: .* No row is left"):
        load_crema_d(folder, on_missing="skip")
    with pytest.raises(ValueError, match="on_missing='ignore' is not supported"):
        load_crema_d(folder, on_missing="ignore")
