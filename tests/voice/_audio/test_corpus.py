"""Corpora as sequences that read their clips only when needed."""

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


def sine(seconds=1.0, rate=RATE, frequency=440.0, amplitude=0.5):
    """A sine from phase 0."""
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds=1.0, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


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
def test_containers_of_waveforms(X):
    rows = np.stack([noise(0.1, seed) for seed in range(3)])
    corpus = AudioCorpus(X(rows))
    assert len(corpus) == 3
    np.testing.assert_array_equal(np.stack(list(corpus)), rows)


def test_ragged_waveforms_and_paths_may_be_together(folder):
    ragged = np.empty(3, dtype=object)
    ragged[:] = [noise(0.1), str(folder / "b.wav"), folder / "a.FLAC"]
    assert [len(clip) for clip in AudioCorpus(ragged)] == [1600, 3200, 4800]


def test_a_memory_map_is_read_row_by_row(tmp_path):
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
def test_x_that_holds_no_clips(X, error, message):
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
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        AudioCorpus([sine()], **parameters)


def test_a_corpus_of_a_corpus_keeps_the_rate_of_its_waveforms():
    clips = AudioCorpus([sine(0.5, 8000)], source_rate=8000)
    assert len(AudioCorpus(clips, sample_rate=24000)[0]) == 12000


def test_check_finds_all_before_any_work(make_bad, folder):
    bad = [make_bad(folder, kind)[0] for kind in ("nan", "text", "zero")]
    paths = [bad[0], folder / "b.wav", bad[1], bad[2], folder / "a.FLAC"]
    with pytest.raises(AudioError, match=r"(?s)3 of 5 clips: .*on_error='skip'.*nan.wav: .*text.wav: .*zero.wav: "):
        AudioCorpus(paths).check(n_jobs=2)
    corpus = AudioCorpus(pd.DataFrame({"path": paths, "speaker": list("vwxyz")}), on_error="skip")
    usable = corpus.check()
    assert [skip.index for skip in corpus.skipped] == [0, 2, 3]
    assert [len(clip) for clip in usable] == [3200, 4800]
    assert usable.speakers.tolist() == ["w", "z"]
    assert usable.check() is usable
    with pytest.raises(AudioError, match=r"2 of 2 clips: .*No clip is left"):
        AudioCorpus(bad[:2], on_error="skip").check()


def test_nothing_is_read_before_it_is_asked_for(folder, opened):
    corpus = AudioCorpus(folder)
    parts = corpus[:2], corpus[[2, 0]], corpus[np.array([True, False, True])], AudioCorpus(corpus), corpus[::-1]
    assert [len(part) for part in parts] == [2, 2, 2, 3, 3]
    pickle.loads(pickle.dumps(corpus))
    assert opened == []
    corpus[-1]
    assert opened == ["c.wav"]
    next(iter(parts[1].read()))
    assert opened == ["c.wav", "c.wav"]
    parts[4][1]
    assert opened[2:] == ["b.wav"]


def test_memory_is_that_of_a_few_clips(tmp_path):
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


def test_indices_are_those_of_a_sequence(folder):
    corpus = AudioCorpus([noise(0.01 * n, n) for n in range(1, 6)])
    assert len(corpus[np.int64(1)]) == len(corpus[np.array(1)]) == len(corpus[-4]) == 320
    assert [len(clip) for clip in corpus[1:4][::2]] == [320, 640]
    assert len(corpus[[]]) == 0
    for wrong in (5, -6, [0, 5], "a", np.zeros((2, 2), dtype=int), [True, False]):
        with pytest.raises(IndexError):
            corpus[wrong]
    assert repr(corpus) == "AudioCorpus(5 clips, sample_rate=16000)"


def test_scikit_learn_splits_corpora_tables_and_lists(folder, opened):
    files = find_audio(folder).assign(speaker=["a", "b", "b"])
    corpus = AudioCorpus(files)
    train, test, y_train, _ = train_test_split(corpus, [0, 1, 2], test_size=1, random_state=0)
    assert isinstance(train, AudioCorpus)
    assert train.speakers.tolist() == [files["speaker"][row] for row in y_train]
    assert len(test) == 1
    assert opened == []
    for rows, _ in GroupKFold(2).split(corpus, groups=corpus.speakers):
        assert len(set(corpus[rows].speakers)) == 1
    for part in train_test_split(files, test_size=1) + train_test_split(files["path"].tolist(), test_size=1):
        assert sum(len(clip) for clip in AudioCorpus(part)) > 0


def test_corpora_and_errors_cross_processes(make_bad, folder):
    path, _ = make_bad(folder, "text")
    corpus = AudioCorpus([folder / "b.wav", path], on_error="skip")
    elsewhere = pickle.loads(pickle.dumps(corpus))
    assert len(elsewhere[0]) == 3200
    with pytest.raises(AudioError) as caught:
        elsewhere[1]
    error = pickle.loads(pickle.dumps(caught.value))
    corpus.skip(1, error)
    assert corpus.skipped == [Skipped(1, str(path), caught.value.reason)]
    with pytest.raises(AudioError, match=r"text\.wav: is not audio"):
        AudioCorpus(corpus, on_error="raise").skip(1, error)


def test_real_speech_end_to_end(data_folder):
    audio = data_folder / "speech" / "audio"
    table = pd.read_csv(data_folder / "speech" / "clips.csv", dtype={"speaker": str})
    table["path"] = [str(audio / name) for name in table["file"]]
    corpus = AudioCorpus(table, on_error="skip")
    assert len(corpus) == len(AudioCorpus(audio)) == 524
    assert len(set(corpus.speakers)) == 211
    few = corpus[::20]
    durations = [len(clip) / RATE for _, clip in few.read()]
    assert few.skipped == []
    np.testing.assert_allclose(durations, few.frame["duration_s"], atol=1e-3)
    starts = [trim_silence(clip, RATE)[1] for clip in few]
    assert np.median(starts) < 0.1
    whole = soundfile.read(Path(few.frame["path"].iloc[3]), dtype="float32")[0]
    np.testing.assert_array_equal(few[3], whole)
