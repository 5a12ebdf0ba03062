"""Audio in: what is accepted, that reading waits, and that one bad file is told and loses nothing else."""

import os
import pickle
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.model_selection import GroupKFold, train_test_split

from mmestim.voice import AudioCorpus, AudioError, Skipped, find_audio, trim_silence
from mmestim.voice._audio.reading import SequentialFile
from mmestim.voice._audio.streaming import AudioStream

RATE = 16000


def sine(seconds=1.0, rate=RATE, frequency=440.0, amplitude=0.5):
    """A sine from phase 0."""
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds=1.0, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def decibels(x):
    return 20 * np.log10(np.sqrt(np.mean(np.square(x, dtype=np.float64))) + 1e-12)


@pytest.fixture
def folder(tmp_path):
    """Three clips in two formats and a text, on two levels."""
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "b.wav", noise(0.2, 1), RATE)
    soundfile.write(tmp_path / "a.FLAC", noise(0.3, 2), RATE)
    soundfile.write(tmp_path / "deep" / "c.wav", noise(0.4, 3), RATE)
    soundfile.write(tmp_path / "._hidden.wav", noise(0.4, 3), RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that soundfile opens."""
    names = []

    class Counted(SequentialFile):
        def __init__(self, file, *args, **kwargs):
            names.append(os.path.basename(os.fsdecode(getattr(file, "name", file))))
            super().__init__(file, *args, **kwargs)

    monkeypatch.setattr("mmestim.voice._audio.reading.SequentialFile", Counted)
    return names


def mailabs(root, *, book="de_DE/by_book/female/eva_k/haus", names=("h_01", "h_02"), lines=None):
    wavs = root / book / "wavs"
    wavs.mkdir(parents=True)
    for number, name in enumerate(names):
        soundfile.write(wavs / f"{name}.wav", np.pad(noise(0.3, number), 800), RATE)
    lines = [f"{name}|Nr. {name}|Nummer {name}" for name in names] if lines is None else lines
    (root / book / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


# What X may be -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clip",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: np.round(x * 2**15).astype(np.int16),
        lambda x: np.round(x * 2.0**31).astype(np.int32),
        lambda x: np.round(x * 2**7).astype(np.int8),
        lambda x: np.round(x * 2**7 + 128).astype(np.uint8),
        lambda x: np.stack([x + 0.25, x - 0.25]),
        lambda x: np.stack([x, x, x]).astype(object),
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.tensor(x).to(torch.bfloat16),
        lambda x: x.tolist(),
    ],
    ids="float64 float16 int16 int32 int8 uint8 stereo object tensor bfloat16 list".split(),
)
def test_any_kind_of_waveform_becomes_mono_float32(clip):
    read = AudioCorpus([clip(sine())])[0]
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_allclose(read, sine(), atol=1 / 128)


def test_full_scale_of_integers():
    extremes = AudioCorpus([np.array([-(2**15), 2**15 - 1], dtype=np.int16), np.array([0, 255], dtype=np.uint8)])
    assert extremes[0].tolist() == [-1, 1 - 2**-15]
    assert extremes[1].tolist() == [-1, 1 - 2**-7]


def test_what_is_read_belongs_to_the_reader():
    clip = sine()
    clip.setflags(write=False)
    read = AudioCorpus([clip])[0]
    read[:] = 0
    assert clip.any()


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


# Folders -------------------------------------------------------------------------------------------


def test_a_folder_is_listed_on_all_levels_and_sorted(folder):
    corpus = AudioCorpus(folder)
    assert [len(clip) for clip in corpus] == [4800, 3200, 6400]
    assert corpus.speakers is None
    files = find_audio(folder)
    assert list(files.columns) == ["path"]
    assert files["path"].tolist() == [os.path.join(folder, name) for name in ("a.FLAC", "b.wav", "deep/c.wav")]


def test_links_are_followed_but_not_in_circles(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    soundfile.write(other / "z.wav", noise(0.1), RATE)
    (folder / "linked").symlink_to(other)
    (folder / "deep" / "up").symlink_to(folder)
    assert len(AudioCorpus(folder)) == 4


def test_folders_that_are_none(folder, tmp_path):
    with pytest.raises(ValueError, match=r"b.wav' is a file, not a folder. Pass the paths of files in a list"):
        AudioCorpus(folder / "b.wav")
    with pytest.raises(ValueError, match=r"'.*/depe' does not exist. Did you mean '.*/deep'\?"):
        AudioCorpus(folder / "depe")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' contains no audio files \(\.wav"):
        AudioCorpus(tmp_path / "empty")


def test_the_layout_of_mailabs(tmp_path):
    mailabs(tmp_path)
    mailabs(tmp_path, book="en_US/male/elliot/pirates", names=["p_01"])
    mailabs(tmp_path, book="es_ES/by_book/mix/quijote", names=["q_01"], lines=["q_01|Capítulo 1|"])
    files = find_audio(tmp_path)
    assert list(files.columns) == ["path", "language", "sex", "speaker", "book", "text"]
    assert files.drop(columns="path").to_numpy().tolist() == [
        ["de_DE", "female", "eva_k", "haus", "Nummer h_01"],
        ["de_DE", "female", "eva_k", "haus", "Nummer h_02"],
        ["en_US", "male", "elliot", "pirates", "Nummer p_01"],
        ["es_ES", "mix", None, "quijote", "Capítulo 1"],
    ]
    assert AudioCorpus(tmp_path).speakers.tolist() == files["speaker"].tolist()
    women = AudioCorpus(files[files["sex"] == "female"])
    assert women.frame["text"].tolist() == ["Nummer h_01", "Nummer h_02"]
    assert women[1:].speakers.tolist() == ["eva_k"]
    assert women[1:].frame.index.tolist() == [1]
    assert len(women[1]) == 6400


def test_any_level_of_mailabs_may_be_given(tmp_path, monkeypatch):
    mailabs(tmp_path)
    monkeypatch.chdir(tmp_path / "de_DE/by_book/female/eva_k/haus/wavs")
    files = find_audio(".")
    assert files["path"].tolist() == ["./h_01.wav", "./h_02.wav"]
    assert files.loc[0, ["language", "speaker", "text"]].tolist() == ["de_DE", "eva_k", "Nummer h_01"]


def test_metadata_and_files_that_do_not_agree(tmp_path):
    mailabs(tmp_path, lines=["h_01|eins", "gone|weg|weg", "no separator", ""])
    with pytest.warns(UserWarning, match="1 files of metadata.csv do not exist .* the first gone in .*; 1 files are"):
        files = find_audio(tmp_path)
    assert files["text"].tolist() == ["eins", None]


def test_only_the_table_needs_pandas(tmp_path, monkeypatch):
    mailabs(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "mmestim\[pandas\]"'):
        find_audio(tmp_path)
    corpus = AudioCorpus(tmp_path)
    assert corpus.speakers.tolist() == ["eva_k"] * 2
    assert len(corpus[0]) == 6400


# Files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, parameters, tolerance",
    [
        ("x.wav", {"subtype": "PCM_16"}, -80),
        ("x.wav", {"subtype": "PCM_24"}, -130),
        ("x.wav", {"subtype": "PCM_U8"}, -30),
        ("x.wav", {"subtype": "DOUBLE"}, -130),
        ("x.wav", {"subtype": "ULAW"}, -35),
        ("x.wav", {"format": "WAVEX"}, -80),
        ("x.flac", {}, -80),
        ("x.ogg", {}, -30),
        ("x.opus", {"format": "OGG", "subtype": "OPUS"}, -18),
        ("x.mp3", {}, -30),
        ("x.mp3", {"bitrate_mode": "CONSTANT"}, -30),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_formats(tmp_path, name, parameters, tolerance, n_channels):
    clip = sine(1.5) * np.linspace(0, 1, 24000, dtype=np.float32)
    shares = np.array([1.0, 0.5])[:n_channels]
    soundfile.write(tmp_path / name, clip[:, None] * shares, RATE, **parameters)
    read = AudioCorpus([tmp_path / name])[0]
    assert len(read) == 24000
    assert decibels(read - shares.mean() * clip) - decibels(clip) < tolerance


def test_a_long_mp3_is_decoded_as_a_whole(tmp_path):
    # Read in pieces it is garbled.
    soundfile.write(tmp_path / "x.mp3", np.concatenate([noise(10), 1e-3 * noise(10), noise(10)]), RATE)
    whole = soundfile.read(tmp_path / "x.mp3", dtype="float32")[0]
    np.testing.assert_allclose(AudioCorpus([tmp_path / "x.mp3"])[0], whole, atol=1e-6)


def test_an_mp3_behind_a_picture(tmp_path):
    soundfile.write(tmp_path / "x.mp3", noise(), RATE)
    picture = np.random.default_rng(0).bytes(200_000)
    size = bytes(len(picture) >> shift & 127 for shift in (21, 14, 7, 0))
    (tmp_path / "y.mp3").write_bytes(b"ID3\3\0\0" + size + picture + (tmp_path / "x.mp3").read_bytes())
    assert len(AudioCorpus([tmp_path / "y.mp3"])[0]) == RATE


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 44056])
@pytest.mark.parametrize("frequency", [100.0, 440.0, 3100.0])
def test_resampling_keeps_a_sine(rate, frequency):
    corpus = AudioCorpus([sine(1.0, rate, frequency)], source_rate=rate)
    read = corpus[0]
    assert len(read) == RATE
    assert read.dtype == np.float32
    np.testing.assert_array_equal(corpus[0], read)
    middle = slice(1000, -1000)
    assert decibels((read - sine(1.0, RATE, frequency))[middle]) - decibels(sine()) < -60


@pytest.mark.parametrize("frequency", [8900.0, 12000.0, 21000.0])
def test_resampling_lets_nothing_fold_back(frequency):
    loud, folded = sine(1.0, 44100), sine(1.0, 44100, frequency)
    both, alone = AudioCorpus([loud + folded, loud], source_rate=44100)
    assert decibels((both - alone)[1000:-1000]) - decibels(folded) < -80


@pytest.mark.parametrize("n_samples", [7, 441, 44099, 44101])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_length_after_resampling(n_samples, rate):
    assert len(AudioCorpus([sine(3.0)[:n_samples]], source_rate=rate)[0]) == round(n_samples * RATE / rate)


# Bad clips -----------------------------------------------------------------------------------------


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def make_bad(folder, kind):
    """A bad file, and what must be said of it."""
    path = folder / f"{kind}.wav"
    if kind == "missing":
        return folder / "b.waf", r"does not exist. Did you mean '.*b\.wav'\?"
    if kind == "nowhere":
        return folder / "nowhere" / "b.wav", "neither does the folder"
    if kind == "folder":
        return folder / "deep", "is a folder"
    if kind == "url":
        return "https://example.org/a.wav", "is a URL, and files must be local. Download"
    if kind == "null":
        return "a\0.wav", "cannot be opened: embedded null"
    if kind == "pipe":
        os.mkfifo(path)
        return path, "not a regular file"
    if kind == "zero":
        path.touch()
        return path, "empty file, of 0 bytes"
    if kind == "empty":
        soundfile.write(path, np.zeros(0), RATE)
        return path, "contains no samples"
    if kind == "text":
        path.write_text("This is no sound.\n" * 99)
        return path, "not audio.*Format not recognised.*Convert it"
    if kind == "bytes":
        path.write_bytes(np.random.default_rng(0).bytes(9999))
        return path, "not audio"
    if kind == "raw":
        path.with_suffix(".raw").write_bytes(b"01" * 999)
        return path.with_suffix(".raw"), "not audio"
    if kind == "silent":
        soundfile.write(path, 5e-5 * sine(), RATE, subtype="FLOAT")
        return path, "is silent: it stays within -80 dBFS of its mean. Leave it out"
    if kind == "constant":
        soundfile.write(path, np.full(RATE, 0.3), RATE)
        return path, "is silent"
    if kind == "opposite":
        soundfile.write(path, np.stack([sine(), -sine()], axis=1), RATE, subtype="FLOAT")
        return path, "is silent.* after averaging its 2 channels"
    if kind in ("nan", "inf"):
        clip = sine()
        clip[800] = float(kind)
        soundfile.write(path, clip, RATE, subtype="FLOAT")
        return path, r"NaN or infinite samples, the first at 0\.0500 s"
    if kind == "long":
        soundfile.write(path, sine(), RATE)
        head = bytearray(path.read_bytes()[:44])
        size = 10 * 3600 * 2 * RATE
        head[4:8], head[40:44] = struct.pack("<I", size + 36), struct.pack("<I", size)
        path.write_bytes(head)
        os.truncate(path, size + 44)  # a hole
        return path, r"lasts 36000\.0 s, above max_duration=3600\. Cut it"
    form, share = kind.split()
    path = folder / f"cut.{form}"
    parameters = {"format": "OGG", "subtype": "OPUS"} if form == "opus" else {}
    soundfile.write(path, noise(4), RATE, **parameters)
    cut(path, float(share))
    return path, "is truncated or damaged"


BAD = (
    "missing nowhere folder url null pipe zero empty text bytes raw silent constant opposite nan inf long".split()
    + [f"{form} {share}" for form in ("wav", "flac", "ogg", "opus") for share in (0.5, 0.999)]
    + ["mp3 0.5"]
)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_a_clear_error_and_a_listed_skip(folder, kind):
    path, message = make_bad(folder, kind)
    good = [folder / "b.wav", folder / "a.FLAC"]
    paths = [good[0], path, good[1]]
    with pytest.raises(AudioError, match=message) as caught:
        AudioCorpus(paths)[1]
    assert str(caught.value).startswith(f"{path}: ")
    corpus = AudioCorpus(paths, on_error="skip")
    assert [(index, len(clip)) for index, clip in corpus.read()] == [(0, 3200), (2, 4800)]
    assert corpus.skipped == [Skipped(1, str(path), caught.value.reason)]
    with pytest.raises(AudioError, match=message):
        list(AudioCorpus(paths).read())
    if kind != "long":
        with pytest.raises(AudioError) as streamed:
            list(AudioStream(path, RATE))
        assert (streamed.value.item, streamed.value.reason) == (str(path), caught.value.reason)


@pytest.mark.parametrize(
    "clip, message",
    [
        (np.zeros(0), "contains no samples"),
        (np.zeros((2, 0)), "contains no samples"),
        (np.zeros(100), "is silent"),
        (np.full(100, np.nan), r"NaN or infinite samples, the first at 0\.0000 s"),
        (np.array([0.1, 1e300]), "infinite"),
        (np.array([[np.inf, 0.1, 0.2], [-np.inf, 0.1, 0.2]]), "NaN or infinite"),
        (np.arange(9), "has dtype int64, whose full scale is undefined for audio. Convert it to int16 or float32"),
        (np.arange(9, dtype=np.uint16), "has dtype uint16"),
        (np.ones((8000, 2)), r"shape \(8000, 2\), more channels than samples. Transpose it"),
        (np.ones((2, 2, 2)), r"shape \(2, 2, 2\). Pass it as \(n_samples,\)"),
        (np.ones(9, dtype=complex), "ndarray, not a path or an array of real numbers"),
        ([[0.1, 0.2], [0.3]], "list, not a path"),
        (None, "is None"),
        (float("nan"), r"shape \(\)"),
    ],
)
def test_bad_waveforms(clip, message):
    corpus = AudioCorpus([sine(), clip])
    with pytest.raises(AudioError, match=f"clip 1: .*{message}"):
        corpus[1]
    with pytest.raises(AudioError, match="clip 1: "):  # its number in the whole
        corpus[1:][0]


def test_a_file_that_may_not_be_read(folder, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(AudioError, match=r"b.wav: cannot be opened: Permission denied\."):
        AudioCorpus([folder / "b.wav"])[0]


def test_a_long_file_is_not_decoded(folder):
    path, _ = make_bad(folder, "long")
    tracemalloc.start()
    with pytest.raises(AudioError, match="36000"):
        AudioCorpus([path])[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    with pytest.raises(AudioError, match=r"lasts 2\.0 s, above max_duration=1\.5"):
        AudioCorpus([noise(2)], max_duration=1.5)[0]


def test_a_wav_from_a_pipe_has_no_size_to_be_true_to(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(), RATE)
    whole = bytearray((tmp_path / "x.wav").read_bytes())
    whole[4:8] = whole[40:44] = b"\xff" * 4
    (tmp_path / "x.wav").write_bytes(whole)
    assert len(AudioCorpus([tmp_path / "x.wav"])[0]) == RATE


def test_a_flac_from_a_pipe_is_refused(tmp_path):
    soundfile.write(tmp_path / "x.flac", noise(), RATE)
    whole = bytearray((tmp_path / "x.flac").read_bytes())
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(whole)
    with pytest.raises(AudioError, match="has no length in its header"):
        AudioCorpus([tmp_path / "x.flac"])[0]


@pytest.mark.parametrize("loud_first", [True, False])
def test_an_mp3_that_does_not_count_its_frames(tmp_path, loud_first):
    # libsndfile takes the first frame's bit rate for that of all, and stops where the file would then end.
    parts = [noise(8), 1e-3 * noise(8)]
    soundfile.write(tmp_path / "x.mp3", np.concatenate(parts if loud_first else parts[::-1]), RATE)
    whole = (tmp_path / "x.mp3").read_bytes()
    (tmp_path / "x.mp3").write_bytes(whole[whole.index(whole[:2], 4) :])
    corpus = AudioCorpus([tmp_path / "x.mp3"])
    guess = soundfile.info(tmp_path / "x.mp3").duration
    if guess < 16:
        with pytest.raises(AudioError, match="without its length in the header"):
            corpus[0]
    else:
        assert abs(len(corpus[0]) / RATE - 16) < 0.2


def test_check_finds_all_before_any_work(folder):
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


# Laziness ------------------------------------------------------------------------------------------


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


def test_corpora_and_errors_cross_processes(folder):
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


# Silence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_outer_silence_is_trimmed_to_the_margin(rate):
    hum, hiss = sine(1.0, rate), np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32)
    clip = np.pad(hum, rate // 2) + 5e-4 * hiss + np.float32(0.05)
    trimmed, start = trim_silence(clip, rate)
    assert start == pytest.approx(0.45, abs=0.01)
    assert len(trimmed) / rate == pytest.approx(1.1, abs=0.02)
    first = round(start * rate)
    np.testing.assert_array_equal(trimmed, clip[first : first + len(trimmed)])
    assert trim_silence(clip, rate, margin=0)[1] == pytest.approx(0.5, abs=0.01)
    assert len(trim_silence(clip, rate, threshold_db=-80)[0]) == len(clip)


@pytest.mark.parametrize("clip", [np.zeros(5000), np.full(5000, 0.5), np.zeros(0), np.ones(1), noise(0.5)])
def test_trimming_leaves_what_has_no_outer_silence(clip):
    trimmed, start = trim_silence(clip, RATE)
    assert (len(trimmed), start) == (len(clip), 0.0)


def test_trimming_checks_its_parameters():
    with pytest.raises(ValueError, match="threshold_db=3 must be at least -inf and at most 0"):
        trim_silence(sine(), RATE, threshold_db=3)
    with pytest.raises(ValueError, match="margin=-1"):
        trim_silence(sine(), RATE, margin=-1)


# Real speech ---------------------------------------------------------------------------------------


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
