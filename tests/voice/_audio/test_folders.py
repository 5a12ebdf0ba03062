"""Search of folders for audio files, and the M-AILABS layout."""

import os
import sys

import numpy as np
import pytest
import soundfile

from mmestim.voice import AudioCorpus, find_audio
from mmestim.voice._audio.folders import files_in, left_out

RATE = 16000


def test_files_of_all_levels_are_listed_in_order(folder):
    corpus = AudioCorpus(folder)
    assert [len(clip) for clip in corpus] == [4800, 3200, 6400]
    assert corpus.speakers is None
    files = find_audio(folder)
    assert list(files.columns) == ["path"]
    assert files["path"].tolist() == [os.path.join(folder, name) for name in ("a.FLAC", "b.wav", "deep/c.wav")]


def test_links_are_followed_without_cycles(folder, tmp_path_factory, noise):
    linked_folder = tmp_path_factory.mktemp("linked_folder")
    soundfile.write(linked_folder / "z.wav", noise(0.1), RATE)
    (folder / "linked").symlink_to(linked_folder)
    (folder / "deep" / "up").symlink_to(folder)
    assert len(AudioCorpus(folder)) == 4


def test_invalid_folders_are_reported(folder, tmp_path):
    with pytest.raises(ValueError, match=r"b.wav' is a file, not a folder. Pass the paths of files in a list"):
        AudioCorpus(folder / "b.wav")
    with pytest.raises(ValueError, match=r"'.*/depe' does not exist. Did you mean '.*/deep'\?"):
        AudioCorpus(folder / "depe")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' contains no audio files \(\.wav"):
        AudioCorpus(tmp_path / "empty")


@pytest.fixture
def write_mailabs(noise):
    """Return a function that writes a folder of recordings in the layout of M-AILABS."""

    def write(root, *, book="de_DE/by_book/female/eva_k/haus", names=("h_01", "h_02"), lines=None):
        wavs = root / book / "wavs"
        wavs.mkdir(parents=True)
        for number, name in enumerate(names):
            soundfile.write(wavs / f"{name}.wav", np.pad(noise(0.3, number), 800), RATE)
        lines = [f"{name}|Nr. {name}|Nummer {name}" for name in names] if lines is None else lines
        (root / book / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    return write


def test_mailabs_paths_and_metadata_become_columns(tmp_path, write_mailabs):
    write_mailabs(tmp_path)
    write_mailabs(tmp_path, book="en_US/male/elliot/pirates", names=["p_01"])
    write_mailabs(tmp_path, book="es_ES/by_book/mix/quijote", names=["q_01"], lines=["q_01|Capítulo 1|"])
    files = find_audio(tmp_path)
    assert list(files.columns) == ["path", "language", "sex", "speaker", "book", "text"]
    assert files.drop(columns="path").to_numpy().tolist() == [
        ["de_DE", "female", "eva_k", "haus", "Nummer h_01"],
        ["de_DE", "female", "eva_k", "haus", "Nummer h_02"],
        ["en_US", "male", "elliot", "pirates", "Nummer p_01"],
        ["es_ES", "mix", None, "quijote", "Capítulo 1"],
    ]
    assert AudioCorpus(tmp_path).speakers.tolist() == files["speaker"].tolist()
    female_corpus = AudioCorpus(files[files["sex"] == "female"])
    assert female_corpus.frame["text"].tolist() == ["Nummer h_01", "Nummer h_02"]
    assert female_corpus[1:].speakers.tolist() == ["eva_k"]
    assert female_corpus[1:].frame.index.tolist() == [1]
    assert len(female_corpus[1]) == 6400


def test_mailabs_is_recognised_from_its_deepest_folder(tmp_path, monkeypatch, write_mailabs):
    write_mailabs(tmp_path)
    monkeypatch.chdir(tmp_path / "de_DE/by_book/female/eva_k/haus/wavs")
    files = find_audio(".")
    assert files["path"].tolist() == ["./h_01.wav", "./h_02.wav"]
    assert files.loc[0, ["language", "speaker", "text"]].tolist() == ["de_DE", "eva_k", "Nummer h_01"]


def test_mismatch_of_metadata_and_files_warns(tmp_path, write_mailabs):
    write_mailabs(tmp_path, lines=["h_01|eins", "gone|weg|weg", "no separator", ""])
    with pytest.warns(UserWarning, match="1 files of metadata.csv do not exist .* the first gone in .*; 1 files are"):
        files = find_audio(tmp_path)
    assert files["text"].tolist() == ["eins", None]


def test_only_find_audio_needs_pandas(tmp_path, monkeypatch, write_mailabs):
    write_mailabs(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "mmestim\[pandas\]"'):
        find_audio(tmp_path)
    corpus = AudioCorpus(tmp_path)
    assert corpus.speakers.tolist() == ["eva_k"] * 2
    assert len(corpus[0]) == 6400


def test_files_that_are_left_out_are_counted_by_suffix(folder):
    for name in ("deep/report.PDF", "more.txt", "README", ".git/config", "deep/video.MP4", "voice.m4a"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert left_out(str(folder)) == {"hidden": 2, ".txt": 2, ".pdf": 1, "no suffix": 1}
    names = [os.path.relpath(path, folder) for path in files_in(str(folder))]
    assert names == ["a.FLAC", "b.wav", "deep/c.wav", "deep/video.MP4", "voice.m4a"]
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").touch()
    assert left_out(str(folder / "texts")) == {".txt": 1}
