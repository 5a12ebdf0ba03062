"""Edits that audiomentations has too, with the parameters of its transforms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

RATE = 16000


class Case(NamedTuple):
    """An edit that audiomentations has too, and how to ask it for the same."""

    edit: str
    parameters: dict[str, Any]
    # From the package and a folder with noise.wav and response.wav to a transform.
    theirs: Callable[[Any, Path], Any]
    engines: tuple[str, str]  # ours and theirs
    differs: str

    @property
    def same_engine(self) -> bool:
        return self.engines[0] == self.engines[1]


def frozen(transform: Any) -> Any:
    """A transform whose parameters are drawn by its first call, from ranges of one value, and never again."""
    transform.freeze_parameters()
    return transform


def steep(name: str) -> Callable[[Any, Path], Any]:
    """A filter without delay, of 24 dB per octave."""

    def theirs(package, folder):
        cutoff = 2000.0 if name == "LowPassFilter" else 500.0
        return frozen(getattr(package, name)(cutoff, cutoff, 24, 24, zero_phase=True, p=1.0))

    return theirs


BANDS = {
    "kinds": ["low_shelf", *["peak"] * 5, "high_shelf"],
    "frequencies": [90.0, 180.0, 360.0, 720.0, 1440.0, 2880.0, 5760.0],
    "gains": [6.0, -8.0, 10.0, -6.0, 8.0, -10.0, 6.0],
    "qs": [0.7, 1.0, 1.5, 1.0, 1.5, 1.0, 0.7],
}


def equalizer(package: Any, folder: Path) -> Any:
    transform = package.SevenBandParametricEQ(p=1.0)
    filters = [transform.low_shelf_filter, *transform.peaking_filters, transform.high_shelf_filter]
    bands = zip(*(BANDS[key] for key in ("frequencies", "gains", "qs")), strict=True)
    for part, (frequency, gain, q) in zip(filters, bands, strict=True):
        part.parameters = {"should_apply": True, "center_freq": frequency, "gain_db": gain, "q_factor": q}
    transform.parameters = {"should_apply": True}
    return frozen(transform)


def repeated(package: Any, folder: Path) -> Any:
    transform = package.RepeatPart(crossfade_duration=0.005, p=1.0)
    start, length = round(0.5 * RATE), round(0.4 * RATE)
    transform.parameters = {"should_apply": True, "part_start_index": start, "part_num_samples": length, "repeats": 1}
    return frozen(transform)


ROOM = {"size": [6.0, 4.0, 3.0], "source": [2.0, 1.0, 1.5], "receiver": [2.0, 3.0, 1.5]}


def room(package: Any, folder: Path) -> Any:
    """It makes the response while it draws, so it cannot be frozen."""
    fixed = {f"size_{axis}": value for axis, value in zip("xyz", ROOM["size"], strict=True)}
    fixed |= {f"source_{axis}": value for axis, value in zip("xyz", ROOM["source"], strict=True)}
    fixed |= {"mic_distance": 2.0, "mic_azimuth": 0.0, "mic_elevation": 0.0, "target_rt60": 0.5}
    limits = {f"{end}_{name}": value for name, value in fixed.items() for end in ("min", "max")}
    return package.RoomSimulator(**limits, calculation_mode="rt60", leave_length_unchanged=True, p=1.0)


CASES = [
    Case(
        "low_pass",
        {"cutoff": 2000.0, "slope": 24, "family": "butterworth"},
        steep("LowPassFilter"),
        ("scipy", "scipy"),
        "ours keeps its slope up to half the sample rate",
    ),
    Case(
        "high_pass",
        {"cutoff": 500.0, "slope": 24, "family": "butterworth"},
        steep("HighPassFilter"),
        ("scipy", "scipy"),
        "ours keeps its slope up to half the sample rate",
    ),
    Case("equalizer", BANDS, equalizer, ("scipy", "scipy"), "ours filters forwards and backwards, for no delay"),
    Case(
        "pitch_shift",
        {"semitones": 2.0, "engine": "signalsmith"},
        lambda package, _: frozen(package.PitchShift(2.0, 2.0, p=1.0)),
        ("Signalsmith", "Signalsmith"),
        "ours resamples and then stretches, theirs transposes; ours pads the ends",
    ),
    Case(
        "pitch_shift",
        {"semitones": 2.0, "engine": "phase_vocoder"},
        lambda package, _: frozen(package.PitchShift(2.0, 2.0, "librosa_phase_vocoder", p=1.0)),
        ("our own", "librosa"),
        "ours locks phases to peaks and moves onsets to their place",
    ),
    Case(
        "time_stretch",
        {"rate": 0.8, "engine": "signalsmith"},
        lambda package, _: frozen(package.TimeStretch(0.8, 0.8, leave_length_unchanged=False, p=1.0)),
        ("Signalsmith", "Signalsmith"),
        "ours has shorter blocks, for onsets in their place, and pads the ends",
    ),
    Case(
        "time_stretch",
        {"rate": 0.8, "engine": "phase_vocoder"},
        lambda package, _: frozen(
            package.TimeStretch(0.8, 0.8, leave_length_unchanged=False, method="librosa_phase_vocoder", p=1.0)
        ),
        ("our own", "librosa"),
        "ours locks phases to peaks and moves onsets to their place",
    ),
    Case(
        "speed_change",
        {"rate": 0.8, "engine": "soxr"},
        lambda package, _: frozen(package.Resample(20000, 20000, p=1.0)),
        ("soxr", "soxr"),
        "",
    ),
    Case(
        "speed_change",
        {"rate": 0.8, "engine": "polyphase"},
        lambda package, _: frozen(package.Resample(20000, 20000, p=1.0)),
        ("scipy", "soxr"),
        "our other engine is the same as theirs, in the row of soxr",
    ),
    Case(
        "distortion",
        {"kind": "tanh", "amount": 0.4},
        lambda package, _: frozen(package.TanhDistortion(0.4, 0.4, p=1.0)),
        ("NumPy", "NumPy"),
        "ours leaves pauses out when it looks for the threshold",
    ),
    Case(
        "distortion",
        {"kind": "clip", "percentile": 20.0},
        lambda package, _: frozen(package.ClippingDistortion(20, 20, p=1.0)),
        ("NumPy", "NumPy"),
        "ours leaves pauses out when it looks for the threshold",
    ),
    Case(
        "distortion",
        {"kind": "bit_crush", "bits": 8},
        lambda package, _: frozen(package.BitCrush(8, 8, p=1.0)),
        ("NumPy", "NumPy"),
        "ours takes its step from the peak of the clip",
    ),
    Case(
        "mp3",
        {"bitrate": 32, "mode": "constant", "engine": "soundfile"},
        lambda package, _: frozen(package.Mp3Compression(32, 32, quality=3, p=1.0)),
        ("LAME", "LAME"),
        "LAME 3.100 at quality 3 in both, in two builds: libsndfile's and fast-mp3-augment's, which decodes in a "
        "second thread",
    ),
    Case(
        "mp3",
        {"bitrate": 32, "mode": "constant", "engine": "av"},
        lambda package, _: frozen(package.Mp3Compression(32, 32, quality=3, p=1.0)),
        ("LAME", "LAME"),
        "LAME 3.100 at quality 3 in both, in two builds: PyAV's and fast-mp3-augment's, which decodes in a "
        "second thread",
    ),
    Case(
        "reverb",
        {"kind": "measured", "direct_ratio": 0.0},
        lambda package, folder: frozen(package.ApplyImpulseResponse(folder / "response.wav", p=1.0)),
        ("scipy", "scipy"),
        "ours sets the ratio of direct sound",
    ),
    Case(
        "reverb",
        {"kind": "image_source", "direct_ratio": 0.0, "rt60": 0.5, **ROOM},
        room,
        ("our own", "pyroomacoustics"),
        "ours goes on with noise where images become dense, theirs traces rays",
    ),
    Case(
        "background_noise",
        {"kind": "white", "snr": 10.0},
        lambda package, _: package.AddGaussianSNR(10.0, 10.0, p=1.0),
        ("NumPy", "NumPy"),
        "ours measures the noise that it drew, so that the SNR is exact",
    ),
    Case(
        "background_noise",
        {"kind": "pink", "snr": 10.0},
        lambda package, _: package.AddColorNoise(10.0, 10.0, -3.01, -3.01, p=1.0),
        ("scipy", "scipy"),
        "ours has its slope from 50 Hz on, theirs from 125 Hz",
    ),
    Case(
        "background_noise",
        {"kind": "file", "snr": 10.0, "offset": 0.5},
        lambda package, folder: package.AddBackgroundNoise(folder / "noise.wav", 10.0, 10.0, p=1.0),
        ("libsndfile", "libsndfile"),
        "ours keeps all of the latest files, theirs reads the part that it needs",
    ),
    Case(
        "paste",
        {"at": 0.9, "source": 0.5, "length": 0.4, "fade": 0.005, "origin": "clip"},
        repeated,
        ("NumPy", "NumPy"),
        "ours makes the time map too",
    ),
]


def described(case: Case) -> str:
    """Those of the parameters that are one value."""
    values = [f"{name}={value}" for name, value in case.parameters.items() if not isinstance(value, list)]
    return ", ".join(values) or f"{len(BANDS['kinds'])} bands"
