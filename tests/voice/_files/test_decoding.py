"""Decoding of files of all kinds to their end, and around damage."""

import os
import struct

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from mmestim.voice import AudioCorpus, AudioError
from mmestim.voice._audio.streaming import AudioStream

RATE = 16000


def sweep(seconds, rate=RATE):
    """Sweep from 200 to 1000 Hz and back every second, so that each time sounds unlike those before and after."""
    t = np.arange(round(seconds * rate)) / rate
    frequency = 600 - 400 * np.cos(2 * np.pi * t)
    return (0.4 * np.sin(2 * np.pi * np.cumsum(frequency) / rate + t)).astype(np.float32)


def scan(path):
    stream = AudioStream(path, RATE)
    return np.concatenate(list(stream)), stream.facts


def relative_error(samples, expected):
    n_samples = min(len(samples), len(expected))
    error = samples[:n_samples] - expected[:n_samples]
    return np.sqrt(np.mean(error**2) / np.mean(expected[:n_samples] ** 2))


CONTAINERS = [  # name, container, codec, rate, and the name of the container in the facts
    ("x.m4a", None, "aac", 16000, "mov"),
    ("x.aac", "adts", "aac", 16000, "aac"),
    ("x.mp4", None, "aac", 44100, "mov"),
    ("x.mov", None, "pcm_s16le", 16000, "mov"),
    ("x.mkv", None, "libopus", 48000, "matroska"),
    ("x.webm", None, "libopus", 48000, "matroska"),
    ("x.wma", None, "wmav2", 44100, "asf"),
    ("x.avi", None, "libmp3lame", 16000, "avi"),
    ("x.ts", "mpegts", "aac", 16000, "mpegts"),
    ("x.amr", None, "libopencore_amrnb", 8000, "amr"),
    ("x.3gp", None, "libopencore_amrnb", 8000, "mov"),
    ("x.wv", None, "wavpack", 16000, "wv"),
]
# Samples of delay that the containers do not count, if it is more than that of a filter.
DELAYS = {"x.aac": 1024, "x.ts": 1024, "x.avi": 1105, "x.wma": -743}


@pytest.mark.parametrize("name, container, codec, rate, format_name", CONTAINERS, ids=[row[0] for row in CONTAINERS])
def test_sound_of_other_containers_is_read_and_aligned(
    tmp_path, write_sound, name, container, codec, rate, format_name
):
    path = tmp_path / name
    write_sound(
        path, [sweep(3, rate)], rate, codec=codec, container=container, bitrate=12_200 if rate == 8000 else 64_000
    )
    samples, facts = scan(path)
    np.testing.assert_allclose(samples, AudioCorpus([path])[0], rtol=0, atol=0 if rate == RATE else 1e-6)
    delay = DELAYS.get(name, 0)
    assert abs(len(samples) - 3 * RATE) <= 800 + 2 * abs(delay)
    correlation = np.correlate(samples[RATE : 2 * RATE + 4000], sweep(3)[RATE + 2000 : 2 * RATE])
    assert abs(correlation.argmax() - 2000 - delay) <= 96
    assert correlation.max() > 0.7 * np.sum(sweep(3)[RATE + 2000 : 2 * RATE] ** 2)
    assert (facts.sample_rate, facts.n_channels, facts.container, facts.gaps) == (rate, 1, format_name, ())
    assert facts.duration == pytest.approx(len(samples) / RATE, abs=1e-4)


@pytest.mark.parametrize("name", ["x.m4a", "x.opus", "x.ogg", "x.mp3"])
@pytest.mark.parametrize("n_samples", [3000, 24000, 50001])
def test_padding_of_encoders_is_cut(tmp_path, write_sound, name, n_samples):
    path, clip = tmp_path / name, sweep(4)[:n_samples]
    if name == "x.m4a":
        write_sound(path, [clip], codec="aac")
    else:
        soundfile.write(path, clip, RATE, **({"format": "OGG", "subtype": "OPUS"} if name == "x.opus" else {}))
    assert abs(len(scan(path)[0]) - n_samples) <= 16  # containers count in milliseconds


@pytest.mark.parametrize("name, codec", [("x.mp4", "aac"), ("x.mkv", "libopus")])
def test_sound_of_a_video_is_its_default_track(tmp_path, write_sound, name, codec):
    clips = [sweep(1, 48000), 0.1 * sweep(1, 48000)]
    write_sound(tmp_path / name, clips[:1], 48000, codec=codec, with_pictures=True)
    one_track, facts = scan(tmp_path / name)
    assert facts.notes == ()
    write_sound(tmp_path / f"2{name}", clips, 48000, codec=codec, with_pictures=True)
    samples, facts = scan(tmp_path / f"2{name}")
    assert facts.notes == ("The file has 2 audio tracks. Only number 1, its default, was scanned.",)
    np.testing.assert_allclose(samples, one_track, atol=1e-3)
    write_sound(tmp_path / f"0{name}", [], codec=None, with_pictures=True)
    with pytest.raises(AudioError, match="contains no sound that can be decoded"):
        AudioStream(tmp_path / f"0{name}", RATE)


def join(path, *parts):
    path.write_bytes(b"".join(part if isinstance(part, bytes) else part.read_bytes() for part in parts))
    return path


def test_joined_mp3_files_are_read_to_the_end(tmp_path):
    first, second = tmp_path / "1.mp3", tmp_path / "2.mp3"
    soundfile.write(first, sweep(5), RATE)
    soundfile.write(second, sweep(4), RATE)
    picture = np.random.default_rng(0).bytes(90_000)
    size = bytes(len(picture) >> shift & 127 for shift in (21, 14, 7, 0))
    tags = b"TAG" + bytes(125), b"ID3\3\0\0" + size + picture
    for between in (), tags:
        samples, facts = scan(join(tmp_path / "joined.mp3", first, *between, second))
        assert len(samples) / RATE == pytest.approx(9, abs=0.25)  # the padding of both parts remains
        assert facts.gaps == ()
        start = len(samples) - round(3.5 * RATE)
        correlation = np.correlate(samples[start:], sweep(4)[RATE : 2 * RATE])
        assert np.abs(correlation).max() > 0.9 * np.sum(sweep(4)[RATE : 2 * RATE] ** 2)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_streams_are_read_to_the_end(tmp_path, subtype):
    def write(name, seconds, rate, n_channels):
        soundfile.write(
            tmp_path / name,
            np.repeat(sweep(seconds, rate)[:, None], n_channels, 1),
            rate,
            format="OGG",
            subtype=subtype,
        )
        return tmp_path / name

    first, alike = write("1.ogg", 3, RATE, 1), write("2.ogg", 2, RATE, 1)
    samples, facts = scan(join(tmp_path / "alike.ogg", first, alike, alike))
    assert (len(samples), facts.gaps, facts.notes) == (7 * RATE, (), ())
    assert relative_error(samples[5 * RATE :], samples[3 * RATE : 5 * RATE]) < 0.02
    other = [write("3.ogg", 2, 24000, 1), write("4.ogg", 2, RATE, 2)]
    samples, facts = scan(join(tmp_path / "other.ogg", first, *other))
    assert len(samples) == pytest.approx(7 * RATE, abs=32)
    assert relative_error(samples[3 * RATE :], np.tile(sweep(2), 2)) < 0.3
    assert "another sample rate or number of channels" in facts.notes[0]


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_wav_of_unknown_size_is_read_to_its_end(tmp_path, size, subtype):
    path = tmp_path / "pipe.wav"
    soundfile.write(path, sweep(1), RATE, subtype=subtype)
    content = bytearray(path.read_bytes())
    data = content.index(b"data")
    content[4:8] = content[data + 4 : data + 8] = struct.pack("<I", size)
    path.write_bytes(content)
    samples, facts = scan(path)
    np.testing.assert_allclose(samples, sweep(1), atol=1e-4)
    assert facts.gaps == ()


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    path = tmp_path / "pipe.flac"
    soundfile.write(path, sweep(1), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert AudioStream(path, RATE).facts.duration is None
    assert AudioStream(path, RATE).duration == 1
    assert len(AudioCorpus([path])[0]) == RATE


def test_mp3_without_a_frame_count_is_read_to_its_end(tmp_path, write_sound):
    path = tmp_path / "x.mp3"
    soundfile.write(path, np.concatenate([sweep(8), 1e-3 * sweep(8)]), RATE)  # the bitrate falls
    content = path.read_bytes()
    path.write_bytes(content[content.index(content[:2], 4) :])
    assert len(AudioCorpus([path])[0]) / RATE == pytest.approx(16, abs=0.2)


def test_mp3_within_wav_is_read(tmp_path):
    soundfile.write(tmp_path / "x.mp3", sweep(2), RATE, bitrate_mode="CONSTANT")
    mp3 = (tmp_path / "x.mp3").read_bytes()
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 8000, 1, 0, 12, 1, 2, 288, 1, 1393)
    chunks = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(mp3)) + mp3
    (tmp_path / "x.wav").write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    samples, facts = scan(tmp_path / "x.wav")
    assert (facts.container, facts.codec) == ("wav", "mp3")
    assert len(samples) / RATE == pytest.approx(2, abs=0.15)
    assert len(AudioCorpus([tmp_path / "x.wav"])[0]) == len(samples)


def write_whole(write_sound, path):
    clip = sweep(20) + np.random.default_rng(1).normal(scale=0.05, size=20 * RATE).astype(np.float32)
    if path.suffix == ".opus":
        soundfile.write(path, clip, RATE, format="OGG", subtype="OPUS")
    elif path.suffix in (".flac", ".ogg"):
        soundfile.write(path, clip, RATE)
    else:
        codec = {".mp3": "libmp3lame", ".mkv": "libopus"}.get(path.suffix, "aac")
        rate = 48000 if codec == "libopus" else RATE
        write_sound(path, [resample_poly(clip, rate, RATE)], rate, codec=codec, bitrate=48000)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".opus", ".m4a", ".mkv", ".ts"])
@pytest.mark.parametrize("share", [0.003, 0.1])
def test_sound_around_damage_is_read_in_its_place(tmp_path, write_sound, capfd, suffix, share):
    path = tmp_path / f"x{suffix}"
    write_whole(write_sound, path)
    whole, facts = scan(path)
    assert facts.gaps == ()
    content = bytearray(path.read_bytes())
    start, end = len(content) // 2, round((0.5 + share) * len(content))
    content[start:end] = np.random.default_rng(0).bytes(end - start)
    path.write_bytes(content)
    samples, facts = scan(path)
    assert abs(len(samples) - len(whole)) <= 0.08 * RATE
    (gap_start, gap_end), *others = facts.gaps
    assert others == []
    assert gap_start < 10 + 0.5
    assert 10 + 20 * share - 0.5 < gap_end
    assert 20 * share - 0.1 < gap_end - gap_start < 20 * share + 6  # whole frames, pages or clusters are lost
    assert (samples[round(gap_start * RATE) + 400 : round(gap_end * RATE) - 400] == 0).all()
    assert facts.notes == (
        f"No sound could be decoded from {gap_start:.2f} to {gap_end:.2f} s, because the file is damaged there.",
    )
    # The sound before and after is where it was; MP3 has no timestamps, so that a frame more or less may be missing.
    before, after = round((gap_start - 0.2) * RATE), round((gap_end + 0.3) * RATE)
    np.testing.assert_allclose(samples[:before], whole[:before], atol=1e-6)
    expected = whole[after : after + RATE]
    correlation = np.correlate(samples[after - 1300 : after + RATE + 1300], expected)
    assert correlation.max() > 0.95 * np.sum(expected**2)
    assert abs(correlation.argmax() - 1300) <= (1152 if suffix == ".mp3" else 16)
    with pytest.raises(AudioError, match=f"damaged: nothing can be decoded from {gap_start:.2f} to {gap_end:.2f} s"):
        AudioCorpus([path])[0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.aiff", "x.mp3"])
def test_a_missing_end_is_a_gap(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, sweep(10), RATE)
    os.truncate(path, round(0.6 * path.stat().st_size))
    samples, facts = scan(path)
    duration = len(samples) / RATE
    assert facts.duration == pytest.approx(duration, abs=1e-4)
    assert facts.gaps == (pytest.approx((duration, 10), abs=2e-3),)
    assert 5 < duration < 7


def test_a_missing_mark_of_the_end_is_a_note(tmp_path):
    soundfile.write(tmp_path / "x.ogg", 0.1 * np.random.default_rng(0).standard_normal(10 * RATE), RATE)
    os.truncate(tmp_path / "x.ogg", round(0.6 * (tmp_path / "x.ogg").stat().st_size))
    samples, facts = scan(tmp_path / "x.ogg")
    assert facts.notes == (
        f"The mark of the end is missing: the recording may go on after {len(samples) / RATE:.2f} s.",
    )


def test_files_without_any_sound_that_can_be_decoded_are_damaged(tmp_path, write_sound):
    path = tmp_path / "x.m4a"
    write_sound(path, [sweep(2)], codec="aac")
    content = bytearray(path.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    with pytest.raises(AudioError, match="is damaged: no sound can be decoded"):
        AudioStream(path, RATE)


def test_lists_of_other_files_are_not_followed(tmp_path):
    soundfile.write(tmp_path / "x.mp3", sweep(1), RATE)
    for name, text in {
        "x.m3u8": "#EXTM3U\n#EXTINF:1,\nx.mp3\n",
        "x.ffconcat": "ffconcat version 1.0\nfile x.mp3\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError, match="not audio in a supported format"):
            AudioStream(tmp_path / name, RATE)


def test_the_advice_is_a_command_that_can_be_copied(tmp_path):
    path = tmp_path / "an interview.qdm"
    path.write_bytes(b"QDM2" * 999)
    with pytest.raises(AudioError) as caught:
        AudioStream(path, RATE)
    assert caught.value.reason.endswith(f"convert it to WAV or FLAC: ffmpeg -i '{path}' -vn out.wav")


@pytest.mark.parametrize("name", [b"a:b.wav", b"-x.wav", b"pipe:0", b"\xff\xfe.wav", "日本.wav".encode()])
def test_files_of_any_name_are_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    try:
        with open(name, "wb") as file:
            soundfile.write(file, sweep(1), RATE, format="WAV")
    except OSError:
        pytest.skip("the file system does not allow this name")
    assert len(AudioCorpus([os.fsdecode(name)])[0]) == RATE


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".m4a", ".mkv", ".flv", ".wav", ".avi"])
def test_files_with_any_damage_are_scanned_or_reported(tmp_path, write_sound, capfd, suffix):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"x{suffix}"
    if suffix in (".mp3", ".flac", ".ogg", ".wav"):
        soundfile.write(whole, sweep(2), RATE)
    else:
        codec = {".mkv": "libopus", ".flv": "aac", ".avi": "libmp3lame"}.get(suffix, "aac")
        write_sound(whole, [sweep(2, 48000)], 48000, codec=codec)
    rng = np.random.default_rng(0)
    for _ in range(40):
        content = bytearray(whole.read_bytes())
        for _ in range(3):
            start = rng.integers(rng.choice([200, len(content)]))
            size = rng.choice([1, 4, 50, 1000])
            content[start : start + size] = rng.choice([b"", bytes(size), rng.bytes(size)])
        path.write_bytes(content)
        try:
            _, facts = scan(path)
        except AudioError:
            continue
        assert all(0 <= start < end for start, end in facts.gaps)
    assert capfd.readouterr() == ("", "")
