"""Edits that audiomentations also implements, with the equivalent parameters of its transforms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

RATE = 16000


class Case(NamedTuple):
    """Edit that audiomentations also implements, with a function that builds the equivalent transform."""

    edit: str
    parameters: dict[str, Any]
    # The arguments are the package and a folder with noise.wav and response.wav.
    make_transform: Callable[[Any, Path], Any]
    engines: tuple[str, str]  # of mmestim and of audiomentations
    difference: str

    @property
    def has_same_engine(self) -> bool:
        """Whether both packages use the same engine."""
        return self.engines[0] == self.engines[1]


def frozen(transform: Any) -> Any:
    """Freeze a transform, so that it keeps the parameters that are set or that its first call draws."""
    transform.freeze_parameters()
    return transform


def steep_filter(name: str) -> Callable[[Any, Path], Any]:
    """Return a builder of a zero-phase filter with 24 dB per octave."""

    def make_transform(package: Any, folder: Path) -> Any:
        cutoff = 2000.0 if name == "LowPassFilter" else 500.0
        return frozen(getattr(package, name)(cutoff, cutoff, 24, 24, zero_phase=True, p=1.0))

    return make_transform


BANDS = {
    "kinds": ["low_shelf", *["peak"] * 5, "high_shelf"],
    "frequencies": [90.0, 180.0, 360.0, 720.0, 1440.0, 2880.0, 5760.0],
    "gains": [6.0, -8.0, 10.0, -6.0, 8.0, -10.0, 6.0],
    "qs": [0.7, 1.0, 1.5, 1.0, 1.5, 1.0, 0.7],
}


def equalizer(package: Any, folder: Path) -> Any:
    """Build an equalizer with the parameters in BANDS."""
    transform = package.SevenBandParametricEQ(p=1.0)
    filters = [transform.low_shelf_filter, *transform.peaking_filters, transform.high_shelf_filter]
    bands = zip(*(BANDS[key] for key in ("frequencies", "gains", "qs")), strict=True)
    for band_filter, (frequency, gain, q) in zip(filters, bands, strict=True):
        band_filter.parameters = {"should_apply": True, "center_freq": frequency, "gain_db": gain, "q_factor": q}
    transform.parameters = {"should_apply": True}
    return frozen(transform)


def repeated_segment(package: Any, folder: Path) -> Any:
    """Build a transform that pastes a segment of the clip."""
    transform = package.RepeatPart(crossfade_duration=0.005, p=1.0)
    start, length = round(0.5 * RATE), round(0.4 * RATE)
    transform.parameters = {"should_apply": True, "part_start_index": start, "part_num_samples": length, "repeats": 1}
    return frozen(transform)


ROOM = {"size": [6.0, 4.0, 3.0], "source": [2.0, 1.0, 1.5], "receiver": [2.0, 3.0, 1.5]}


def room(package: Any, folder: Path) -> Any:
    """Build a room simulator. It computes the response while it draws parameters, so it cannot be frozen."""
    fixed = {f"size_{axis}": value for axis, value in zip("xyz", ROOM["size"], strict=True)}
    fixed |= {f"source_{axis}": value for axis, value in zip("xyz", ROOM["source"], strict=True)}
    fixed |= {"mic_distance": 2.0, "mic_azimuth": 0.0, "mic_elevation": 0.0, "target_rt60": 0.5}
    limits = {f"{end}_{name}": value for name, value in fixed.items() for end in ("min", "max")}
    return package.RoomSimulator(**limits, calculation_mode="rt60", leave_length_unchanged=True, p=1.0)


CASES = [
    Case(
        "low_pass",
        {"cutoff": 2000.0, "slope": 24, "family": "butterworth"},
        steep_filter("LowPassFilter"),
        ("scipy", "scipy"),
        "mmestim keeps the slope up to half the sample rate",
    ),
    Case(
        "high_pass",
        {"cutoff": 500.0, "slope": 24, "family": "butterworth"},
        steep_filter("HighPassFilter"),
        ("scipy", "scipy"),
        "mmestim keeps the slope up to half the sample rate",
    ),
    Case("equalizer", BANDS, equalizer, ("scipy", "scipy"), "mmestim filters forwards and backwards, to avoid delay"),
    Case(
        "pitch_shift",
        {"semitones": 2.0, "engine": "signalsmith"},
        lambda package, _: frozen(package.PitchShift(2.0, 2.0, p=1.0)),
        ("Signalsmith", "Signalsmith"),
        "mmestim resamples, then stretches, and pads the ends; audiomentations transposes",
    ),
    Case(
        "pitch_shift",
        {"semitones": 2.0, "engine": "phase_vocoder"},
        lambda package, _: frozen(package.PitchShift(2.0, 2.0, "librosa_phase_vocoder", p=1.0)),
        ("own", "librosa"),
        "mmestim locks phases to peaks and preserves the positions of onsets",
    ),
    Case(
        "time_stretch",
        {"rate": 0.8, "engine": "signalsmith"},
        lambda package, _: frozen(package.TimeStretch(0.8, 0.8, leave_length_unchanged=False, p=1.0)),
        ("Signalsmith", "Signalsmith"),
        "mmestim uses shorter blocks, to preserve the positions of onsets, and pads the ends",
    ),
    Case(
        "time_stretch",
        {"rate": 0.8, "engine": "phase_vocoder"},
        lambda package, _: frozen(
            package.TimeStretch(0.8, 0.8, leave_length_unchanged=False, method="librosa_phase_vocoder", p=1.0)
        ),
        ("own", "librosa"),
        "mmestim locks phases to peaks and preserves the positions of onsets",
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
        "the row with soxr compares the same engine",
    ),
    Case(
        "distortion",
        {"kind": "tanh", "amount": 0.4},
        lambda package, _: frozen(package.TanhDistortion(0.4, 0.4, p=1.0)),
        ("NumPy", "NumPy"),
        "mmestim ignores pauses when it determines the threshold",
    ),
    Case(
        "distortion",
        {"kind": "clip", "percentile": 20.0},
        lambda package, _: frozen(package.ClippingDistortion(20, 20, p=1.0)),
        ("NumPy", "NumPy"),
        "mmestim ignores pauses when it determines the threshold",
    ),
    Case(
        "distortion",
        {"kind": "bit_crush", "bits": 8},
        lambda package, _: frozen(package.BitCrush(8, 8, p=1.0)),
        ("NumPy", "NumPy"),
        "mmestim derives the step from the peak of the clip",
    ),
    Case(
        "mp3",
        {"bitrate": 32, "mode": "constant", "engine": "soundfile"},
        lambda package, _: frozen(package.Mp3Compression(32, 32, quality=3, p=1.0)),
        ("LAME", "LAME"),
        "both use LAME 3.100 at quality 3, in different builds: mmestim that of libsndfile, audiomentations that of "
        "fast-mp3-augment, which decodes in a second thread",
    ),
    Case(
        "mp3",
        {"bitrate": 32, "mode": "constant", "engine": "av"},
        lambda package, _: frozen(package.Mp3Compression(32, 32, quality=3, p=1.0)),
        ("LAME", "LAME"),
        "both use LAME 3.100 at quality 3, in different builds: mmestim that of PyAV, audiomentations that of "
        "fast-mp3-augment, which decodes in a second thread",
    ),
    Case(
        "reverb",
        {"kind": "measured", "direct_ratio": 0.0},
        lambda package, folder: frozen(package.ApplyImpulseResponse(folder / "response.wav", p=1.0)),
        ("scipy", "scipy"),
        "mmestim also sets the ratio of direct sound",
    ),
    Case(
        "reverb",
        {"kind": "image_source", "direct_ratio": 0.0, "rt60": 0.5, **ROOM},
        room,
        ("own", "pyroomacoustics"),
        "mmestim replaces dense images by decaying noise; audiomentations traces rays",
    ),
    Case(
        "background_noise",
        {"kind": "white", "snr": 10.0},
        lambda package, _: package.AddGaussianSNR(10.0, 10.0, p=1.0),
        ("NumPy", "NumPy"),
        "mmestim measures the drawn noise, so that the SNR is exact",
    ),
    Case(
        "background_noise",
        {"kind": "pink", "snr": 10.0},
        lambda package, _: package.AddColorNoise(10.0, 10.0, -3.01, -3.01, p=1.0),
        ("scipy", "scipy"),
        "the slope of mmestim starts at 50 Hz, that of audiomentations at 125 Hz",
    ),
    Case(
        "background_noise",
        {"kind": "file", "snr": 10.0, "offset": 0.5},
        lambda package, folder: package.AddBackgroundNoise(folder / "noise.wav", 10.0, 10.0, p=1.0),
        ("libsndfile", "libsndfile"),
        "mmestim caches the most recent files; audiomentations reads only the part that it needs",
    ),
    Case(
        "paste",
        {"at": 0.9, "source": 0.5, "length": 0.4, "fade": 0.005, "origin": "clip"},
        repeated_segment,
        ("NumPy", "NumPy"),
        "mmestim also returns the time map",
    ),
]


def describe_parameters(case: Case) -> str:
    """Return the scalar parameters of a case, or its number of bands."""
    values = [f"{name}={value}" for name, value in case.parameters.items() if not isinstance(value, list)]
    return ", ".join(values) or f"{len(BANDS['kinds'])} bands"
