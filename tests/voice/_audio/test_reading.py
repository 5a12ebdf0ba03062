"""Reading of waveforms and files, and the errors for invalid ones."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from mmestim.voice import AudioCorpus, AudioError, Skipped
from mmestim.voice._audio.streaming import AudioStream
from mmestim.voice._files.paths import path_suggestion

RATE = 16000


@pytest.mark.parametrize(
    "convert",
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
def test_waveforms_of_any_type_become_mono_float32(convert, sine):
    samples = AudioCorpus([convert(sine())])[0]
    assert samples.dtype == np.float32
    assert samples.flags.c_contiguous
    np.testing.assert_allclose(samples, sine(), atol=1 / 128)


def test_integers_are_scaled_by_their_full_scale():
    int16_clip, uint8_clip = AudioCorpus(
        [np.array([-(2**15), 2**15 - 1], dtype=np.int16), np.array([0, 255], dtype=np.uint8)]
    )
    assert int16_clip.tolist() == [-1, 1 - 2**-15]
    assert uint8_clip.tolist() == [-1, 1 - 2**-7]


def test_returned_clips_are_copies(sine):
    clip = sine()
    clip.setflags(write=False)
    returned_clip = AudioCorpus([clip])[0]
    returned_clip[:] = 0
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
def test_files_of_all_formats_are_read(tmp_path, name, parameters, tolerance, n_channels, sine, decibels):
    clip = sine(1.5) * np.linspace(0, 1, 24000, dtype=np.float32)
    channel_gains = np.array([1.0, 0.5])[:n_channels]
    soundfile.write(tmp_path / name, clip[:, None] * channel_gains, RATE, **parameters)
    samples = AudioCorpus([tmp_path / name])[0]
    assert len(samples) == 24000
    assert decibels(samples - channel_gains.mean() * clip) - decibels(clip) < tolerance


def test_mp3_is_decoded_as_by_another_decoder(tmp_path, noise):
    soundfile.write(tmp_path / "x.mp3", np.concatenate([noise(10), 1e-3 * noise(10), noise(10)]), RATE)
    expected = soundfile.read(tmp_path / "x.mp3", dtype="float32")[0]
    np.testing.assert_allclose(AudioCorpus([tmp_path / "x.mp3"])[0], expected, atol=1e-5)


def test_mp3_after_an_embedded_picture_is_read(tmp_path, noise):
    soundfile.write(tmp_path / "x.mp3", noise(), RATE)
    picture = np.random.default_rng(0).bytes(200_000)
    size = bytes(len(picture) >> shift & 127 for shift in (21, 14, 7, 0))
    (tmp_path / "y.mp3").write_bytes(b"ID3\3\0\0" + size + picture + (tmp_path / "x.mp3").read_bytes())
    assert len(AudioCorpus([tmp_path / "y.mp3"])[0]) == RATE


BAD_KINDS = (
    "missing nowhere folder url null pipe zero empty text bytes raw silent constant opposite nan inf long".split()
    + [f"{form} {share}" for form in ("wav", "flac", "ogg", "opus") for share in (0.5, 0.999)]
    + ["mp3 0.5"]
)


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_bad_files_are_reported_and_skipped(make_bad_file, folder, kind):
    path, message = make_bad_file(folder, kind)
    paths = [folder / "b.wav", path, folder / "a.FLAC"]
    with pytest.raises(AudioError, match=message) as caught:
        AudioCorpus(paths)[1]
    assert str(caught.value).startswith(f"{path}: ")
    corpus = AudioCorpus(paths, on_error="skip")
    assert [(index, len(clip)) for index, clip in corpus.read()] == [(0, 3200), (2, 4800)]
    assert corpus.skipped == [Skipped(1, str(path), caught.value.reason)]
    with pytest.raises(AudioError, match=message):
        list(AudioCorpus(paths).read())
    if kind != "long" and "truncated" not in message:  # neither is an error when scanning
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
def test_bad_waveforms_are_reported(clip, message, sine):
    corpus = AudioCorpus([sine(), clip])
    with pytest.raises(AudioError, match=f"clip 1: .*{message}"):
        corpus[1]
    with pytest.raises(AudioError, match="clip 1: "):  # the number in the original corpus
        corpus[1:][0]


def test_unreadable_files_are_reported(folder, monkeypatch):
    def deny(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    with pytest.raises(AudioError, match=r"b.wav: cannot be opened: Permission denied\."):
        AudioCorpus([folder / "b.wav"])[0]


def test_files_above_the_maximum_duration_are_not_decoded(make_bad_file, folder, noise):
    path, _ = make_bad_file(folder, "long")
    tracemalloc.start()
    with pytest.raises(AudioError, match="36000"):
        AudioCorpus([path])[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    with pytest.raises(AudioError, match=r"lasts 2\.0 s, above max_duration=1\.5"):
        AudioCorpus([noise(2)], max_duration=1.5)[0]


def test_a_suggested_path_is_another_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.wav").symlink_to("moved.wav")
    (tmp_path / "M\u0075\u0308ller.wav").write_bytes(b"")  # the umlaut as two characters
    (tmp_path / "file.mp3").write_bytes(b"")
    assert path_suggestion("link.wav") == ": it is a link to 'moved.wav'. Correct the link."
    assert path_suggestion("M\u00fcller.wav") == r". Did you mean 'Mu\u0308ller.wav'?"
    assert path_suggestion("file.mp3/") == ". Did you mean 'file.mp3'?"
    assert path_suggestion("file.mp3").startswith(". Correct the path; it is relative to ")  # made after the failure
