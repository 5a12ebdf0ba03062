"""Corpora: their containers, lazy reading, indexing, and skipped clips."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.model_selection import GroupKFold, train_test_split

from mmestim.voice import AudioCorpus, AudioError, Skipped, find_audio, trim_silence

RATE = 16000


@pytest.mark.parametrize(
    "X",
    [
        lambda rows: rows,
        lambda rows: list(rows),
        lambda rows: tuple(rows),
        lambda rows: rows[:, None],
        lambda rows: torch.tensor(rows),
        lambda rows: pd.Series(list(rows)),
        lambda rows: np.array(list(rows), dtype=object),
        lambda rows: AudioCorpus(rows),
    ],
    ids="2-D list tuple 3-D tensor series objects corpus".split(),
)
def test_containers_of_waveforms_are_accepted(X, noise):
    rows = np.stack([noise(0.1, seed) for seed in range(3)])
    corpus = AudioCorpus(X(rows))
    assert len(corpus) == 3
    np.testing.assert_array_equal(np.stack(list(corpus)), rows)


def test_waveforms_and_paths_can_be_combined(folder, noise):
    clips = np.empty(3, dtype=object)
    clips[:] = [noise(0.1), str(folder / "b.wav"), folder / "a.FLAC"]
    assert [len(clip) for clip in AudioCorpus(clips)] == [1600, 3200, 4800]


def test_memory_map_is_read_row_by_row(tmp_path):
    rows = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.int16, shape=(50, 16000))
    rows[:] = np.random.default_rng(0).integers(-9000, 9000, rows.shape)
    rows.flush()
    corpus = AudioCorpus(np.load(tmp_path / "x.npy", mmap_mode="r"))
    np.testing.assert_array_equal(corpus[7], rows[7] / np.float32(32768))
    assert len(pickle.dumps(corpus[[3]])) < 2 * rows[3].nbytes


@pytest.mark.parametrize(
    "X, error, message",
    [
        (np.zeros(100), ValueError, r"one waveform of 100 samples. Wrap it in a list"),
        ([0.5, 0.25], ValueError, "one waveform of 2 samples"),
        (torch.zeros(100), ValueError, "one waveform of 100 samples"),
        (np.zeros((2, 2, 2, 2)), ValueError, "4 dimensions"),
        ([], ValueError, "no clip"),
        (np.zeros((0, 100)), ValueError, "no clip"),
        (None, TypeError, "NoneType. Pass a folder"),
        ({"a": np.zeros(100)}, TypeError, "dict. Pass a folder"),
        (pd.DataFrame({"file": ["a.wav"]}), ValueError, r"no column 'path' among \['file'\]"),
        ("https://example.org/speech", ValueError, "URL"),
    ],
)
def test_invalid_x_is_reported(X, error, message):
    with pytest.raises(error, match=message):
        AudioCorpus(X)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"sample_rate": 0}, "sample_rate=0 must be at least 1"),
        ({"source_rate": -8000}, "source_rate=-8000"),
        ({"max_duration": 0}, "max_duration=0 must be above 0"),
        ({"on_error": "ignore"}, "on_error='ignore' is not supported. Use one of 'raise', 'skip'"),
    ],
)
def test_invalid_parameters_are_reported(parameters, message, sine):
    with pytest.raises(ValueError, match=message):
        AudioCorpus([sine()], **parameters)


def test_corpus_of_a_corpus_retains_the_source_rate(sine):
    clips = AudioCorpus([sine(0.5, 8000)], source_rate=8000)
    assert len(AudioCorpus(clips, sample_rate=24000)[0]) == 12000


def test_check_reports_all_bad_clips(make_bad_file, folder):
    bad_paths = [make_bad_file(folder, kind)[0] for kind in ("nan", "text", "zero")]
    paths = [bad_paths[0], folder / "b.wav", bad_paths[1], bad_paths[2], folder / "a.FLAC"]
    with pytest.raises(AudioError, match=r"(?s)3 of 5 clips: .*on_error='skip'.*nan.wav: .*text.wav: .*zero.wav: "):
        AudioCorpus(paths).check(n_jobs=2)
    corpus = AudioCorpus(pd.DataFrame({"path": paths, "speaker": list("vwxyz")}), on_error="skip")
    readable_corpus = corpus.check()
    assert [skip.index for skip in corpus.skipped] == [0, 2, 3]
    assert [len(clip) for clip in readable_corpus] == [3200, 4800]
    assert readable_corpus.speakers.tolist() == ["w", "z"]
    assert readable_corpus.check() is readable_corpus
    with pytest.raises(AudioError, match=r"2 of 2 clips: .*No clip is left"):
        AudioCorpus(bad_paths[:2], on_error="skip").check()


def test_files_are_opened_only_on_access(folder, opened_files):
    corpus = AudioCorpus(folder)
    subsets = corpus[:2], corpus[[2, 0]], corpus[np.array([True, False, True])], AudioCorpus(corpus), corpus[::-1]
    assert [len(subset) for subset in subsets] == [2, 2, 2, 3, 3]
    pickle.loads(pickle.dumps(corpus))
    assert opened_files == []
    corpus[-1]
    assert opened_files == ["c.wav"]
    next(iter(subsets[1].read()))
    assert opened_files == ["c.wav", "c.wav"]
    subsets[4][1]
    assert opened_files[2:] == ["b.wav"]


def test_reading_needs_the_memory_of_a_few_clips(tmp_path, noise):
    paths = [tmp_path / f"{number}.wav" for number in range(8)]
    for number, path in enumerate(paths):
        soundfile.write(path, noise(2, number), RATE)
    corpus = AudioCorpus(paths * 12)
    corpus[0]
    tracemalloc.start()
    n_samples = sum(len(clip) for _, clip in corpus.read())
    corpus.check()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_samples == 96 * 2 * RATE
    assert peak < 8 * 4 * 2 * RATE


def test_indices_are_integers_slices_and_arrays(noise):
    corpus = AudioCorpus([noise(0.01 * n, n) for n in range(1, 6)])
    assert len(corpus[np.int64(1)]) == len(corpus[np.array(1)]) == len(corpus[-4]) == 320
    assert [len(clip) for clip in corpus[1:4][::2]] == [320, 640]
    assert len(corpus[[]]) == 0
    for index in (5, -6, [0, 5], "a", np.zeros((2, 2), dtype=int), [True, False]):
        with pytest.raises(IndexError):
            corpus[index]
    assert repr(corpus) == "AudioCorpus(5 clips, sample_rate=16000)"


def test_scikit_learn_splits_corpora_tables_and_lists_of_paths(folder, opened_files):
    files = find_audio(folder).assign(speaker=["a", "b", "b"])
    corpus = AudioCorpus(files)
    train, test, y_train, _ = train_test_split(corpus, [0, 1, 2], test_size=1, random_state=0)
    assert isinstance(train, AudioCorpus)
    assert train.speakers.tolist() == [files["speaker"][row] for row in y_train]
    assert len(test) == 1
    assert opened_files == []
    for rows, _ in GroupKFold(2).split(corpus, groups=corpus.speakers):
        assert len(set(corpus[rows].speakers)) == 1
    for subset in train_test_split(files, test_size=1) + train_test_split(files["path"].tolist(), test_size=1):
        assert sum(len(clip) for clip in AudioCorpus(subset)) > 0


def test_corpora_and_errors_can_be_pickled(make_bad_file, folder):
    path, _ = make_bad_file(folder, "text")
    corpus = AudioCorpus([folder / "b.wav", path], on_error="skip")
    unpickled_corpus = pickle.loads(pickle.dumps(corpus))
    assert len(unpickled_corpus[0]) == 3200
    with pytest.raises(AudioError) as caught:
        unpickled_corpus[1]
    error = pickle.loads(pickle.dumps(caught.value))
    corpus.skip(1, error)
    assert corpus.skipped == [Skipped(1, str(path), caught.value.reason)]
    with pytest.raises(AudioError, match=r"text\.wav: is not audio"):
        AudioCorpus(corpus, on_error="raise").skip(1, error)


def test_corpus_of_real_speech_is_read_and_trimmed(data_folder):
    audio = data_folder / "speech" / "audio"
    table = pd.read_csv(data_folder / "speech" / "clips.csv", dtype={"speaker": str})
    table["path"] = [str(audio / name) for name in table["file"]]
    corpus = AudioCorpus(table, on_error="skip")
    assert len(corpus) == len(AudioCorpus(audio)) == 524
    assert len(set(corpus.speakers)) == 211
    sample = corpus[::20]
    durations = [len(clip) / RATE for _, clip in sample.read()]
    assert sample.skipped == []
    np.testing.assert_allclose(durations, sample.frame["duration_s"], atol=1e-3)
    starts = [trim_silence(clip, RATE)[1] for clip in sample]
    assert np.median(starts) < 0.1
    expected = soundfile.read(Path(sample.frame["path"].iloc[3]), dtype="float32")[0]
    np.testing.assert_array_equal(sample[3], expected)
