"""Tests of the codecs: bitrates, alignment, cut-off frequencies and thread safety."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from scipy.signal import welch

from mmestim.voice import TAXONOMY
from mmestim.voice.edits import EDITS, AudioPool
from mmestim.voice.edits._engines import codecs

RATES = (8000, 16000, 44100)
SETTINGS = [
    ("mp3", {"bitrate": 8}),
    ("mp3", {"bitrate": 64}),
    ("mp3", {"bitrate": 16, "mode": "constant"}),
    ("mp3", {"bitrate": 64, "mode": "constant"}),
    ("mp3", {"bitrate": 96, "mode": "constant"}),
    ("mp3", {"bitrate": 8, "mode": "constant", "engine": "av"}),
    ("mp3", {"bitrate": 64, "engine": "av"}),
    ("opus", {"bitrate": 6.0}),
    ("opus", {"bitrate": 9.0, "complexity": 5}),
    ("opus", {"bitrate": 48.0}),
    ("opus", {"bitrate": 6.0, "engine": "soundfile"}),
    ("opus", {"bitrate": 9.0, "engine": "soundfile"}),
    ("opus", {"bitrate": 32.0, "engine": "soundfile"}),
    ("vorbis_aac", {"codec": "vorbis", "level": 0.5}),
    ("vorbis_aac", {"codec": "vorbis", "level": 0.99}),
    ("vorbis_aac", {"codec": "vorbis", "level": 0.5, "engine": "av"}),
    ("vorbis_aac", {"codec": "vorbis", "level": 0.95, "engine": "av"}),
    ("vorbis_aac", {"codec": "aac", "bitrate": 16, "engine": "av"}),
    ("vorbis_aac", {"codec": "aac", "bitrate": 48, "engine": "av"}),
    *[("telephone", {"codec": codec}) for codec in ("alaw", "mulaw", "gsm", "g721")],
    *[("telephone", {"codec": codec}) for codec in ("amr_nb_4.75", "amr_nb_12.2", "g726_16", "g726_40")],
]


def name_of(label, parameters):
    return "-".join([label, *map(str, parameters.values())])


every_setting = pytest.mark.parametrize(
    "label, parameters",
    [pytest.param(*setting, id=name_of(*setting)) for setting in SETTINGS],
)


def apply(label, waveform, rate=16000, **parameters):
    return EDITS[label].apply(waveform, rate, AudioPool(), **parameters).waveform


@pytest.fixture(scope="module")
def voice(make_voice):
    """Return a function that makes a voice which must not be modified."""

    def read_only_voice(seconds, rate=16000):
        waveform = make_voice(seconds, rate=rate)
        waveform.flags.writeable = False
        return waveform

    return read_only_voice


@pytest.fixture(scope="module")
def clips(voice):
    """Return a clip of 1.2 s at each sample rate."""
    return {rate: voice(1.2, rate) for rate in RATES}


@pytest.fixture(scope="module")
def long_clip(voice):
    """Return a clip of 8 s."""
    return voice(8.0)


def lag(after, before):
    """Return the delay of the slopes in samples; the filters of some codecs shift the phase of the waveform itself."""
    after, before = np.diff(after), np.diff(before)
    size = 2 * len(before)
    likeness = np.fft.irfft(np.fft.rfft(after, size) * np.fft.rfft(before, size).conj(), size)
    return (int(likeness.argmax()) + size // 2) % size - size // 2


def kbps(label, waveform, rate, **parameters):
    codec, stream_rate = EDITS[label]._codec(rate, **parameters)
    stream = codecs.resample(waveform, rate, stream_rate)
    return codec(stream, stream_rate).n_bytes * 8 / 1000 / (len(waveform) / rate)


def power_above(waveform, frequency, rate=16000):
    frequencies, power = welch(waveform, rate, nperseg=1024)
    return power[frequencies > frequency].sum()


@every_setting
@pytest.mark.parametrize("rate", RATES)
def test_codecs_have_no_delay(label, parameters, rate, clips):
    after = apply(label, clips[rate], rate, **parameters)
    assert after.dtype == np.float32
    assert after.shape == clips[rate].shape
    assert after.flags.c_contiguous
    assert lag(after, clips[rate]) == 0
    assert np.corrcoef(after, clips[rate])[0, 1] > 0.5


@every_setting
def test_codecs_have_no_delay_on_real_speech(label, parameters, data_folder):
    for path in sorted((data_folder / "speech" / "audio" / "train").glob("*.flac"))[:300:150]:
        speech, rate = soundfile.read(path, start=8000, frames=24000, dtype="float32")
        assert lag(apply(label, speech, rate, **parameters), speech) == 0


@every_setting
def test_silent_short_and_loud_clips_are_coded(label, parameters, voice):
    for rate in RATES:
        n_samples = round(0.05 * rate)
        silence = apply(label, np.zeros(n_samples, np.float32), rate, **parameters)
        assert silence.shape == (n_samples,)
        assert np.abs(silence).max() < 1e-3
        for waveform in (voice(0.4, rate)[-n_samples:], voice(0.1234, rate)):
            after = apply(label, waveform, rate, **parameters)
            assert after.shape == waveform.shape
            assert np.isfinite(after).all()


@pytest.mark.parametrize("label, parameters", [("telephone", {"codec": "mulaw"}), ("mp3", {"bitrate": 64})])
def test_peaks_above_1_are_not_clipped(label, parameters, clips):
    full = clips[8000] / np.abs(clips[8000]).max()
    loud = apply(label, 8 * full, 8000, **parameters)
    np.testing.assert_allclose(loud, 8 * apply(label, full, 8000, **parameters), atol=1e-4)
    assert np.abs(loud).max() > 6


@pytest.mark.parametrize("engine", ["soundfile", "av"])
@pytest.mark.parametrize("bitrate", [8, 32, 64, 96])
def test_mp3_has_its_bitrate(engine, bitrate, long_clip):
    assert kbps("mp3", long_clip, 16000, bitrate=bitrate, mode="constant", engine=engine) == pytest.approx(
        bitrate, rel=0.03
    )
    assert -5 <= kbps("mp3", long_clip, 16000, bitrate=bitrate, mode="average", engine=engine) - bitrate <= 5


def test_mp3_has_its_bitrate_at_every_sample_rate(voice):
    for rate, bitrate in [(8000, 64), (8000, 96), (11025, 16), (22050, 160), (44100, 8), (44100, 32), (48000, 320)]:
        real = kbps("mp3", voice(2.0, rate), rate, bitrate=bitrate, mode="constant")
        # A header and the encoder's look-ahead add up to four frames of 72 ms.
        assert 0.99 * bitrate < real < bitrate * (1 + 4 * 0.072 / 2)


@pytest.mark.parametrize("engine", ["soundfile", "av"])
@pytest.mark.parametrize("bitrate", [6.0, 12.5, 32.0])
def test_opus_is_near_its_bitrate(engine, bitrate, long_clip):
    header = 1 if engine == "soundfile" else 0  # The pages of an Ogg file add 1 kbps to 8 s.
    assert kbps("opus", long_clip, 16000, bitrate=bitrate, engine=engine) - header == pytest.approx(bitrate, rel=0.2)


def test_other_codecs_have_their_bitrates(long_clip):
    for bitrate in (16, 24, 48):
        real = kbps("vorbis_aac", long_clip, 16000, codec="aac", bitrate=bitrate, engine="av")
        assert real == pytest.approx(bitrate, rel=0.12)
    for codec, bitrate in [("amr_nb_4.75", 4.75), ("amr_nb_12.2", 12.2), ("g726_16", 16), ("g726_40", 40)]:
        # An AMR frame is padded to whole bytes, plus one byte for its type.
        real = kbps("telephone", long_clip, 16000, codec=codec)
        assert real == pytest.approx(bitrate, abs=0.8)
    for codec, bitrate in [("alaw", 64), ("mulaw", 64), ("gsm", 13), ("g721", 32)]:
        assert kbps("telephone", long_clip, 16000, codec=codec) == pytest.approx(bitrate, rel=0.02)


@pytest.mark.parametrize(
    "label, parameters, cut_off, suppression",
    [
        *[("telephone", {"codec": codec}, 4150, 1e-7) for codec in ("alaw", "gsm")],
        ("telephone", {"codec": "amr_nb_7.4"}, 4150, 1e-7),
        ("opus", {"bitrate": 8.5}, 4150, 1e-7),
        ("mp3", {"bitrate": 8}, 3300, 1e-4),
        ("mp3", {"bitrate": 16}, 6000, 1e-4),
        ("mp3", {"bitrate": 32}, 7500, 1e-4),
    ],
)
def test_frequencies_above_the_cut_off_are_removed(label, parameters, cut_off, suppression):
    noise = np.random.default_rng(0).normal(scale=0.1, size=48000).astype(np.float32)
    after = apply(label, noise, **parameters)
    assert power_above(after, cut_off) < suppression * power_above(noise, cut_off)
    assert power_above(after, 0.7 * cut_off) > 0.02 * power_above(noise, 0.7 * cut_off)


@pytest.mark.parametrize(
    "label, rate, parameters",
    [("opus", 8000, {"bitrate": 24, "engine": "soundfile"}), ("vorbis_aac", 16000, {"codec": "vorbis", "level": 0.9})],
)
def test_long_clips_are_coded_in_blocks_without_splices(label, rate, parameters, voice, monkeypatch):
    clip = np.tile(voice(5.0, rate), 5)
    after = apply(label, clip, rate, **parameters)
    assert after.shape == clip.shape
    assert lag(after, clip) == 0
    monkeypatch.setattr(codecs, "_BLOCK", len(clip))
    at_once = apply(label, clip, rate, **parameters)
    # libvorbis extrapolates the samples before the start from the whole first block.
    np.testing.assert_array_equal(after[rate:], at_once[rate:])
    np.testing.assert_allclose(after[:rate], at_once[:rate], atol=0.05)


@pytest.mark.parametrize("engine", ["soundfile", "av"])
def test_codecs_are_thread_safe(engine, clips):
    jobs = [job for job in SETTINGS if job[1].get("engine", "soundfile") == engine][::2]

    def work(job):
        return apply(job[0], clips[8000], 8000, **job[1])

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(work, jobs + jobs))
    for job, first, second in zip(jobs, results, results[len(jobs) :], strict=False):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, work(job))


@pytest.mark.parametrize(
    "label, parameters",
    [("mp3", {"bitrate": 32}), ("opus", {"bitrate": 16}), ("vorbis_aac", {"codec": "vorbis", "level": 0.7})],
)
def test_engines_differ(label, parameters, clips):
    info = TAXONOMY[label]
    assert {*info.ranges["engine"].values, *info.implementation["engine"].values} == {"soundfile", "av"}
    from_soundfile, from_av = (
        apply(label, clips[16000], **parameters, engine=engine) for engine in ("soundfile", "av")
    )
    assert np.sum((from_soundfile - from_av) ** 2) > 1e-5 * np.sum(from_soundfile**2)


def draws(label, variant):
    ranges = TAXONOMY[label].variant(variant)
    return [EDITS[label].draw(np.random.default_rng(seed), 4.0, 16000, ranges, AudioPool()) for seed in range(20)]


def test_only_parameters_of_the_codec_are_drawn():
    drawn = draws("vorbis_aac", "train")
    kinds = {tuple(parameters) for parameters in drawn}
    assert kinds == {("codec", "level", "engine", "stream_rate"), ("codec", "bitrate", "stream_rate")}
    assert all(("level" in parameters) == (parameters["codec"] == "vorbis") for parameters in drawn)
    assert {parameters["complexity"] for parameters in draws("opus", "train")} == {5, 10}
    assert not any("complexity" in parameters for parameters in draws("opus", "implementation"))


def test_complexity_changes_the_stream_but_not_the_bitrate(long_clip):
    at_0, at_10, by_default = (
        apply("opus", long_clip, bitrate=16.0, **parameters)
        for parameters in ({"complexity": 0}, {"complexity": 10}, {})
    )
    np.testing.assert_array_equal(at_10, by_default)
    assert np.sum((at_0 - at_10) ** 2) > 1e-4 * np.sum(at_10**2)
    assert kbps("opus", long_clip, 16000, bitrate=16.0, complexity=0) == pytest.approx(16, rel=0.2)


@pytest.mark.parametrize(
    "label, parameters", [("mp3", {"bitrate": 32}), ("vorbis_aac", {"codec": "aac", "bitrate": 32})]
)
def test_files_are_coded_at_their_own_rate(label, parameters, clips):
    at_16_khz, at_48_khz = (apply(label, clips[16000], **parameters, stream_rate=rate) for rate in (16000, 48000))
    assert len(at_48_khz) == len(clips[16000])
    # At 48 kHz, the same bits are spread over a band three times as wide.
    errors = [np.sum((coded - clips[16000]) ** 2) for coded in (at_16_khz, at_48_khz)]
    assert errors[0] < errors[1] < 0.5 * np.sum(clips[16000] ** 2)


def test_no_files_are_written(tmp_path, monkeypatch, clips):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for label, parameters in SETTINGS[::4]:
        if "engine" not in parameters:
            apply(label, clips[8000], 8000, **parameters)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "label, parameters, message",
    [
        ("mp3", {"bitrate": 20}, r"bitrate=20 kbps .* one of 8, 16"),
        ("mp3", {"bitrate": 8, "mode": "vbr"}, "mode='vbr' is not supported. Use one of 'average', 'constant'"),
        ("mp3", {"bitrate": 8, "engine": "shine"}, "engine='shine' is not supported. Use one of 'soundfile', 'av'"),
        ("opus", {"bitrate": 5.0}, "bitrate=5.0 must be at least 6 and at most 256"),
        ("vorbis_aac", {"codec": "vorbis", "level": 1.5}, "level=1.5 must be"),
        ("vorbis_aac", {"codec": "vorbis"}, "level=nan must be"),
        ("vorbis_aac", {"codec": "aac", "engine": "soundfile"}, "engine='soundfile' is not supported. Use one of"),
        ("opus", {"bitrate": 16, "complexity": 11}, "complexity=11 must be at least 0 and at most 10"),
        (
            "opus",
            {"bitrate": 16, "complexity": 5, "engine": "soundfile"},
            "complexity=5 is not supported. .* None with",
        ),
        ("opus", {"bitrate": 16, "stream_rate": 0}, "stream_rate=0 must be at least 8000 and at most 48000"),
        ("telephone", {"codec": "evs"}, "codec='evs' is not supported. Use one of 'alaw'"),
    ],
)
def test_invalid_settings_are_reported(label, parameters, message, clips):
    with pytest.raises(ValueError, match=message):
        apply(label, clips[8000], 8000, **parameters)
