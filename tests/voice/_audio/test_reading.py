"""Reading of waveforms and files, and the errors of those that are refused."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from mmestim.voice import AudioCorpus, AudioError, Skipped
from mmestim.voice._audio.streaming import AudioStream

RATE = 16000


def sine(seconds=1.0, rate=RATE, frequency=440.0, amplitude=0.5):
    """A sine from phase 0."""
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds=1.0, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def decibels(x):
    return 20 * np.log10(np.sqrt(np.mean(np.square(x, dtype=np.float64))) + 1e-12)


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


BAD = (
    "missing nowhere folder url null pipe zero empty text bytes raw silent constant opposite nan inf long".split()
    + [f"{form} {share}" for form in ("wav", "flac", "ogg", "opus") for share in (0.5, 0.999)]
    + ["mp3 0.5"]
)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_a_clear_error_and_a_listed_skip(make_bad, folder, kind):
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


def test_a_long_file_is_not_decoded(make_bad, folder):
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
