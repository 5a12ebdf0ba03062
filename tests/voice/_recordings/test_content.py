"""Recordings that cannot be judged: too short, silent, or without speech."""

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, chirp, fftconvolve, sosfilt

from mmestim.voice import AudioError
from mmestim.voice._audio.streaming import AudioStream
from mmestim.voice._recordings.content import SpeechDetector, why_not_judged

RATE = 16000
NO_SPEECH = "No speech was found in it. It sounds like noise, tones or music."


def why(waveform):
    return why_not_judged(np.array_split(np.asarray(waveform, np.float32), 7))


def time(seconds):
    return np.arange(round(seconds * RATE)) / RATE


def white(seconds, seed=0):
    return np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def melody(seconds, *intervals):
    """Notes with six harmonics and a decay, four a second, each with these intervals in semitones above it."""
    rng = np.random.default_rng(0)
    waveform = 1e-4 * white(seconds)
    t = time(0.5)
    for start in range(0, len(waveform) - len(t), RATE // 4):
        for interval in (0, *intervals):
            pitch = 220 * 2 ** ((rng.choice([0, 2, 4, 5, 7, 9, 11]) + interval) / 12)
            harmonics = sum(np.sin(2 * np.pi * k * pitch * t) / k**1.3 for k in range(1, 7))
            waveform[start : start + len(t)] += 0.1 * np.exp(-3 * t) * np.minimum(1, 100 * t) * harmonics
    return waveform


NOT_SPEECH = {
    "tone": lambda: 0.3 * np.sin(2 * np.pi * 200 * time(4)),
    "sawtooth": lambda: 0.3 * (150 * time(4) % 1 - 0.5),
    "chirp": lambda: 0.3 * chirp(time(5), 100, 5, 1000),
    "white noise": lambda: 0.1 * white(5),
    "pink noise": lambda: 0.1 * np.fft.irfft(np.fft.rfft(white(5)) / np.sqrt(1 + np.arange(40001))),
    "hum": lambda: sum(np.sin(2 * np.pi * 50 * k * time(4)) / k for k in range(1, 9)) + 1e-3 * white(4),
    "beeps": lambda: np.sin(2 * np.pi * 440 * time(6)) * (time(6) % 3 < 1) + 1e-4 * white(6),
    "melody": lambda: melody(8),
    "chords": lambda: melody(8, 4, 7),
    "ticks": lambda: 0.3 * white(6) * np.exp(-60 * (time(6) % 0.5)) + 1e-4 * white(6, 1),
}


@pytest.mark.parametrize("kind", NOT_SPEECH)
def test_tones_music_and_noise_are_not_speech(kind):
    assert why(NOT_SPEECH[kind]()) == NO_SPEECH


def test_most_real_noises_are_not_speech(data_folder):
    files = sorted((data_folder / "noise").glob("*.flac"))
    assert sum(why(soundfile.read(file)[0][: 20 * RATE]) is not None for file in files) >= 2 / 3 * len(files)


def rooms(data_folder):
    return [soundfile.read(file)[0] for file in sorted((data_folder / "rir").glob("*.flac"))]


CONDITIONS = {
    "plain": lambda x, responses: x,
    "1.5 s": lambda x, responses: x[len(x) // 3 : len(x) // 3 + RATE * 3 // 2],
    "telephone": lambda x, responses: sosfilt(butter(4, [300, 3400], "band", fs=RATE, output="sos"), x),
    "noise at 5 dB": lambda x, responses: x + 0.56 * x.std() * white(len(x) / RATE),
    "reverberation": lambda x, responses: fftconvolve(x, responses[len(x) % len(responses)]),
    "soft, with long pauses": lambda x, responses: 0.01 * np.pad(x, 5 * RATE) + 1e-5 * white(len(x) / RATE + 10),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_real_speech_is_speech(data_folder, condition):
    files = sorted((data_folder / "speech" / "audio" / "val").glob("*.flac"))
    files += sorted((data_folder / "tts_local" / "audio").glob("*.flac"))[::8]
    clips, responses = [soundfile.read(file)[0] for file in files[::3]], rooms(data_folder)
    reasons = [why(CONDITIONS[condition](clip, responses)) for clip in clips]
    assert sum(reason is not None for reason in reasons) <= 0.01 * len(reasons)


def test_a_recording_with_speech_anywhere_is_speech(voices):
    assert why(np.concatenate([0.02 * white(30), voices[0][: 2 * RATE], 0.02 * white(30)])) is None


def test_reading_ends_at_the_first_speech(voices):
    n_blocks = 0

    def blocks():
        nonlocal n_blocks
        for _ in range(100):
            n_blocks += 1
            yield voices[0]

    assert why_not_judged(blocks()) is None
    assert n_blocks == 1


def test_the_size_of_blocks_does_not_matter(voices):
    waveform = np.concatenate([voices[0][:5000], 1e-3 * white(1).astype(np.float32)])
    scores = set()
    for n_blocks in (1, 3, 50):
        detector = SpeechDetector()
        for block in np.array_split(waveform, n_blocks):
            detector.add(block)
        scores.add((detector.finish(), detector._best_score))
    assert len(scores) == 1


def test_short_and_silent_recordings_are_named(tmp_path, voices):
    assert why(voices[0][:4000]) == "It lasts 0.25 s. Recordings below 0.35 s are too short."
    assert why(np.full(RATE, 0.3)) == "It is silent."
    soundfile.write(tmp_path / "x.wav", 1e-5 * white(1), RATE, subtype="FLOAT")
    assert why_not_judged(AudioStream(tmp_path / "x.wav", RATE)) == "It is silent."
    soundfile.write(tmp_path / "y.wav", [0.1, np.nan] * 9000, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        why_not_judged(AudioStream(tmp_path / "y.wav", RATE))
