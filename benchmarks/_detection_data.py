"""Training data of the evaluated detectors, and sets of edited clips of other speakers to evaluate them on.

All random draws have fixed seeds. Files of speech, and the 16-bit samples and records of each set of edited clips, are
written once per work folder. An incomplete set is written again.
"""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.signal import fftconvolve, firwin

from mmestim.voice import LABELS, TAXONOMY, AudioCorpus, EditRecord, EditSimulator, OneOf
from mmestim.voice._training_data.window_set import window_start
from mmestim.voice._window_labels import frames_in, window_truth
from mmestim.voice.pretrained.training_audio import PART_SECONDS, TRAINING_NOISES, rejoin_utterances
from mmestim.voice.taxonomy import SPLICED_LABELS

RATE = 16_000
# Shorter utterances are left out.
MIN_UTTERANCE_SECONDS = 6.6
# Longer than any utterance.
UTTERANCE_SECONDS = 60.0
NEW_NOISES = "aum_*.flac"  # audiomentations ships them
# Training uses the first sentences of two synthetic voices. The evaluation uses the later sentences of all voices.
TRAINING_VOICES, NEW_VOICES = ("flite-kal16", "flite-rms"), ("flite-awb", "espeak-en-us")
N_TRAINING_SENTENCES = 12
BRICK_WALLS_HZ, N_TAPS = (3500, 5000, 6500, 7500), 1023
# An edit that covers at least this fraction of a clip or a window counts as covering all of it.
FULL_COVERAGE = 0.95
# Half the peak-to-peak range of a silent window; slightly above -80 dB, the limit of `AudioCorpus`.
SILENCE_LIMIT = 1.1e-4

Ranges = dict[str, Any]


class Variant(NamedTuple):
    """Parameter ranges and audio of a set of clips, which differ from those of training for some labels."""

    description: str
    changes: Ranges
    has_new_audio: bool = False  # whether the noises, rooms and synthetic voices are unseen

    def ranges(self, edits: Sequence[str], *, all_labels: bool) -> Ranges:
        """Return the parameter ranges of each label, or only of the labels that differ."""
        return {label: self.changes.get(label, "train") for label in edits if all_labels or label in self.changes}


def _labels_with_variant(name: str) -> Ranges:
    """Map each label whose taxonomy entry has the variant to the name of the variant."""
    return {label: name for label in LABELS if getattr(TAXONOMY[label], name)}


VARIANTS = {
    "seen": Variant("the ranges, engines, noises and synthetic voices of training", dict.fromkeys(LABELS[1:], "train")),
    "held out": Variant("parameter values that training leaves out", _labels_with_variant("held_out")),
    "implementation": Variant(
        "other engines, encoders, filters, kinds of noise, and measured rooms", _labels_with_variant("implementation")
    ),
    "unseen": Variant(
        "noises, rooms and synthetic voices that training does not contain",
        {"tts": "train", "reverb": {"kind": OneOf(("measured",))}, "background_noise": {"kind": OneOf(("file",))}},
        has_new_audio=True,
    ),
}

# Speech --------------------------------------------------------------------------------------------


def synthetic_speech(folder: Path, systems: Sequence[str], *, for_training: bool) -> AudioCorpus:
    """Return the training sentences of some speech synthesizers, or the later sentences."""
    table = pd.read_csv(folder / "clips.csv")
    number = table["file"].str.extract(r"_(\d+)\.flac$", expand=False).astype(int)
    chosen = table["system"].isin(systems) & ((number <= N_TRAINING_SENTENCES) == for_training)
    paths = [str(folder / name) for name in table["file"][chosen]]
    return AudioCorpus(pd.DataFrame({"path": paths, "speaker": table["system"][chosen].to_numpy()}), sample_rate=RATE)


# Sets of edited clips ------------------------------------------------------------------------------


class WindowSet(NamedTuple):
    """Windows of a set of clips, at most one per clip."""

    waveforms: list[np.ndarray]  # int16
    truth: np.ndarray  # (n_windows, n_labels) of 0, 1 and NaN for undecided, 'unaltered' first
    covers_window: np.ndarray  # (n_windows, n_labels) of bool: whether the edit covers the whole window
    speakers: np.ndarray


@dataclass(frozen=True)
class ClipSet:
    """Set of edited clips.

    Parameters
    ----------
    name : str
        Name of the set, which seeds the positions of windows.
    samples : int16 ndarray of shape (n_samples,)
        Samples of all clips, one clip after the other; a memory map.
    boundaries : int64 ndarray of shape (n_clips + 1,)
        First sample of each clip, and the number of samples.
    records : list of EditRecord
        Edits of each clip.
    speakers : ndarray of str of shape (n_clips,)
        Speaker of each clip.
    """

    name: str
    samples: np.ndarray
    boundaries: np.ndarray
    records: list[EditRecord]
    speakers: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def clip(self, number: int) -> np.ndarray:
        """Return the 16-bit samples of a clip."""
        return self.samples[self.boundaries[number] : self.boundaries[number + 1]]

    def windows(self, seconds: float, labels: Sequence[str]) -> WindowSet:
        """Return one window per clip, at a position drawn as in training; silent windows are left out.

        Half of the windows are placed around a boundary of an edit.
        """
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), round(seconds * 1000)])
        waveforms, truth, covers_window, clip_numbers = [], [], [], []
        n_samples = round(seconds * RATE)
        for number, record in enumerate(self.records):
            start = window_start(rng, record, n_samples, RATE)
            window = self.clip(number)[start : start + n_samples]
            if np.ptp(window.astype(np.int32)) / 2 < SILENCE_LIMIT * 32768:
                continue
            n_frames = frames_in(len(window), RATE)
            targets, frames = window_truth(record, labels, start / RATE, len(window) / RATE, n_frames)
            edit_truth = np.where(targets > 1, np.nan, targets)
            unaltered = 0.0 if (edit_truth == 1).any() else np.nan if np.isnan(edit_truth).any() else 1.0
            coverage = (frames[len(SPLICED_LABELS) :] == 1).mean(axis=1)
            waveforms.append(window)
            truth.append([unaltered, *edit_truth])
            covers_window.append([False, *(coverage >= FULL_COVERAGE)])
            clip_numbers.append(number)
        return WindowSet(waveforms, np.array(truth), np.array(covers_window), self.speakers[clip_numbers])


def brick_wall(waveform: np.ndarray, cutoff: float) -> np.ndarray:
    """Remove the frequencies above a cut-off in Hz from a 16-bit waveform, by another filter than in training."""
    taps = firwin(N_TAPS, cutoff, window=("kaiser", 8.0), fs=RATE)
    return np.round(fftconvolve(waveform, taps, mode="same")).clip(-32768, 32767).astype(np.int16)


def stored_set(name: str, folder: Path, make: Callable[[], Iterator[tuple[np.ndarray, EditRecord, str]]]) -> ClipSet:
    """Return a set from its files in `folder`; write them first if they are missing."""
    if not folder.is_dir():
        incomplete = folder.with_name(folder.name + ".new")
        shutil.rmtree(incomplete, ignore_errors=True)
        incomplete.mkdir(parents=True)
        boundaries, lines = [0], []
        with (incomplete / "samples.i16").open("wb") as file:
            for waveform, record, speaker in make():
                file.write(np.round(waveform * 32768).clip(-32768, 32767).astype(np.int16).tobytes())
                boundaries.append(boundaries[-1] + len(waveform))
                lines.append(json.dumps([speaker, record.to_json()]))
        np.save(incomplete / "ends.npy", np.array(boundaries))
        (incomplete / "records.jsonl").write_text("\n".join(lines))
        incomplete.rename(folder)
    pairs = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    samples = np.memmap(folder / "samples.i16", np.int16, "r")
    records = [EditRecord.from_json(text) for _, text in pairs]
    return ClipSet(name, samples, np.load(folder / "ends.npy"), records, np.array([speaker for speaker, _ in pairs]))


def edited_clips(
    corpus: AudioCorpus, n_clips: int, seed: int, n_jobs: int, **settings: Any
) -> Iterator[tuple[np.ndarray, EditRecord, str]]:
    """Yield `n_clips` edited clips: passes over the corpus, each in another order, until there are enough."""
    assert corpus.speakers is not None
    for number in range(-(-n_clips // len(corpus))):
        # A pass gets the whole corpus, even if some clips are not needed: pasted segments come from other clips of
        # the same speaker.
        shuffled = corpus[np.random.default_rng(seed + number).permutation(len(corpus))]
        simulator = EditSimulator(**settings, sample_rate=RATE, random_state=seed + number)
        n_missing = n_clips - number * len(corpus)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\d+ of \d+ clips got fewer", UserWarning)
            for waveform, record in itertools.islice(simulator.iterate(shuffled, n_jobs), n_missing):
                yield waveform, record, str(shuffled.speakers[record.clip])


class EvaluationData:
    """Training data of the detectors, and the sets of clips to evaluate them on.

    Parameters
    ----------
    speech : Path
        Folder of speech, with clips.csv beside it. The folders noise, rir and tts_local are beside its parent.
    work : Path
        Folder for generated files.
    edits : list of str
        Labels.
    n_clips : int
        Edited clips of each set; the number of unedited clips is a third of it.
    n_speakers : int or None
        Speakers for training and for evaluation, each; all if None.
    n_jobs : int
        Processes.
    """

    def __init__(
        self, speech: Path, work: Path, edits: list[str], n_clips: int, n_speakers: int | None, n_jobs: int
    ) -> None:
        root, self._speech = speech.parent.parent, speech.parent
        self.work, self.edits, self.n_clips, self.n_jobs = work, edits, n_clips, n_jobs
        self.train, self.val = (
            rejoin_utterances(
                speech.parent, work / "speech", split, min_seconds=MIN_UTTERANCE_SECONDS, n_speakers=n_speakers
            )
            for split in ("train", "val")
        )
        assert not set(self.train.speakers) & set(self.val.speakers), "a speaker is in both splits"
        self.noises, self._new_noises = (
            sorted(map(str, (root / "noise").glob(pattern))) for pattern in (TRAINING_NOISES, NEW_NOISES)
        )
        self._rooms, tts = sorted(map(str, (root / "rir").glob("*.flac"))), root / "tts_local"
        self.voices = synthetic_speech(tts, TRAINING_VOICES, for_training=True)
        self._training_audio = {
            "sources": {"tts": synthetic_speech(tts, TRAINING_VOICES, for_training=False)},
            "noises": self.noises,
            "impulse_responses": None,
        }
        self._new_audio = {
            "sources": {"tts": synthetic_speech(tts, NEW_VOICES, for_training=False)},
            "noises": self._new_noises,
            "impulse_responses": self._rooms,
        }

    def edited(self, variant: str, kind: str) -> ClipSet:
        """Return clips with zero to three edits ("composed"), or with one edit of a changed label ("single")."""
        clip_variant = VARIANTS[variant]
        settings = {
            "edits": clip_variant.ranges(self.edits, all_labels=kind == "composed"),
            "n_edits": (0, 3) if kind == "composed" else 1,
            **(self._new_audio if clip_variant.has_new_audio else self._training_audio),
        }
        if variant == "implementation":
            settings["impulse_responses"] = self._rooms
        return self._stored(f"{variant}, {kind}", self.n_clips, settings)

    def edited_before_acquisition(self, n_clips: int) -> ClipSet:
        """Return clips with one edit each, all recorded and stored alike."""
        settings = {
            "edits": VARIANTS["seen"].ranges(self.edits, all_labels=True),
            "n_edits": 1,
            "acquisition": False,
            **self._training_audio,
        }
        return self._stored("single, before acquisition", n_clips, settings)

    def edited_utterances(self, n_clips: int) -> ClipSet:
        """Return whole utterances with zero to three edits, which have several windows each."""
        folder = self.work / "utterances"
        corpus = rejoin_utterances(
            self._speech, folder, "val", min_seconds=MIN_UTTERANCE_SECONDS, part_seconds=UTTERANCE_SECONDS
        )
        settings = {
            "edits": VARIANTS["seen"].ranges(self.edits, all_labels=True),
            "n_edits": (0, 3),
            **self._training_audio,
        }
        return self._stored(f"utterances {n_clips}", n_clips, settings, corpus)

    def unedited(self) -> ClipSet:
        """Return unedited clips."""
        return self._stored("unedited", max(1, self.n_clips // 3), {"n_edits": 0})

    def described(self) -> list[str]:
        """Return the paragraphs of the report that describe the data."""
        noises, new_noises = (", ".join(Path(name).stem for name in names) for names in (self.noises, self._new_noises))
        return [
            "Speech: LibriSpeech. The pieces of each utterance are concatenated, utterances below "
            f"{MIN_UTTERANCE_SECONDS} s are left out, and the others are cut into equal parts of about "
            f"{PART_SECONDS:g} s. Training uses {len(self.train)} parts of {len(set(self.train.speakers))} speakers, "
            f"the evaluation {len(self.val)} parts of {len(set(self.val.speakers))} other speakers. The detector "
            "chooses thresholds and calibration on training speakers; nothing is chosen by the figures below. The "
            "training of the pretrained detector, on all utterances of these speakers and on more synthetic voices, is "
            "described in its card.",
            f"Each set has {self.n_clips} edited clips and contributes one window per clip. Half of the windows are "
            "placed around a boundary of an edit, as in training. Windows are labelled by the same rule as in "
            "training; a label is not scored in a window that contains too little of the edit. Single edits are "
            f"compared with {max(1, self.n_clips // 3)} unedited clips, compositions of zero to three edits with each "
            "other.",
            *(f"{name.capitalize()}: {variant.description}." for name, variant in VARIANTS.items()),
            f"Noises of training: {noises}. New noises: {new_noises}. Training uses no measured room; the evaluation "
            f"uses {len(self._rooms)}. Synthetic voices of training: {', '.join(TRAINING_VOICES)}, "
            f"{N_TRAINING_SENTENCES} sentences. New voices: {', '.join(NEW_VOICES)}, of which the pretrained detector "
            "was trained on the latter. The evaluation uses other sentences of all voices. 'vc' is left out because "
            "there is no converted speech.",
        ]

    def _stored(self, name: str, n_clips: int, settings: dict[str, Any], corpus: AudioCorpus | None = None) -> ClipSet:
        """Return a set of clips, simulated by a seed from its name unless it is stored."""
        folder = self.work / "sets" / name.replace(", ", "-").replace(" ", "-")
        seed = zlib.crc32(name.encode()) % 2**30
        return stored_set(
            name, folder, lambda: edited_clips(corpus or self.val, n_clips, seed, self.n_jobs, **settings)
        )
