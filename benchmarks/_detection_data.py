"""Speech of speakers that no detector was trained on, edited in every way that a detector is asked about.

Everything is drawn by fixed seeds and made once for each folder of work: files of speech, and for each set of edited
clips their samples in 16 bits and their records. What is half made is made again.
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
import soundfile
from scipy.signal import fftconvolve, firwin

from mmestim.voice import LABELS, TAXONOMY, AudioCorpus, EditRecord, EditSimulator, OneOf
from mmestim.voice._training_data.window_set import window_start
from mmestim.voice._window_labels import frames_in, window_truth
from mmestim.voice.taxonomy import SPLICED_LABELS

RATE = 16_000
# Utterances that are shorter are left out, and the others cut into equal parts of about so many seconds.
SHORTEST, PART = 6.6, 8.0
# Of noises, those of Speech Commands are trained on, and those that come with audiomentations are new.
KNOWN_NOISES, NEW_NOISES = "sc_*.flac", "aum_*.flac"
# Of synthetic voices, two are trained on, and of all the last sentences are kept for tests.
KNOWN_VOICES, NEW_VOICES, LAST_TRAINED = ("flite-kal16", "flite-rms"), ("flite-awb", "espeak-en-us"), 12
BRICK_WALLS_HZ, N_TAPS = (3500, 5000, 6500, 7500), 1023
# What fills so much of a clip or a window is of all of it.
ALL = 0.95
# What `AudioCorpus` takes for silence, -80 dB, and a little more.
SILENT = 1.1e-4

Ranges = dict[str, Any]


class Variant(NamedTuple):
    """A way to make the edits, which differs from the one that is trained on in some labels."""

    about: str
    changes: Ranges
    is_new: bool = False  # whether noises, rooms and synthetic voices are

    def ranges(self, edits: Sequence[str], *, all_labels: bool) -> Ranges:
        """Of each label, or of those that differ, what its parameters are drawn from."""
        return {label: self.changes.get(label, "train") for label in edits if all_labels or label in self.changes}


def _named(name: str) -> Ranges:
    return {label: name for label in LABELS if getattr(TAXONOMY[label], name)}


VARIANTS = {
    "seen": Variant(
        "the ranges, engines, noises and synthetic voices that are trained on", dict.fromkeys(LABELS[1:], "train")
    ),
    "held out": Variant("values that training leaves out", _named("held_out")),
    "implementation": Variant(
        "other engines, encoders, filters, kinds of noise, and measured rooms", _named("implementation")
    ),
    "unseen": Variant(
        "noises, rooms and synthetic voices that were never heard",
        {"tts": "train", "reverb": {"kind": OneOf(("measured",))}, "background_noise": {"kind": OneOf(("file",))}},
        is_new=True,
    ),
}

# Speech --------------------------------------------------------------------------------------------


def rejoined(speech: Path, folder: Path, split: str, n_speakers: int | None) -> AudioCorpus:
    """Utterances of a split, their pieces put together again, in parts that are files below `folder`."""
    table = pd.read_csv(speech.parent / "clips.csv", dtype={"speaker": str})
    pieces = [own.sort_values("piece") for _, own in table[table["split"] == split].groupby("utterance")]
    pieces = [own for own in pieces if own["duration_s"].sum() >= SHORTEST]
    if n_speakers is not None:
        pieces = [pieces[number] for number in np.linspace(0, len(pieces) - 1, n_speakers).round().astype(int)]
    target, rows = folder / split, []
    target.mkdir(parents=True, exist_ok=True)
    for own in pieces:
        assert np.allclose(own["start_s"].iloc[1:], own["end_s"].iloc[:-1]), f"{own['file'].iloc[0]}: a gap"
        utterance = np.concatenate([soundfile.read(speech / name, dtype="int16")[0] for name in own["file"]])
        for number, part in enumerate(np.array_split(utterance, max(1, round(len(utterance) / RATE / PART)))):
            path = target / f"{own['utterance'].iloc[0]}_{number}.wav"
            soundfile.write(path, part, RATE)
            rows.append({"path": str(path), "speaker": own["speaker"].iloc[0]})
    return AudioCorpus(pd.DataFrame(rows), sample_rate=RATE)


def synthetic(folder: Path, systems: Sequence[str], *, trained: bool) -> AudioCorpus:
    """Sentences of some systems: those to train on, or the others."""
    table = pd.read_csv(folder / "clips.csv")
    number = table["file"].str.extract(r"_(\d+)\.flac$", expand=False).astype(int)
    chosen = table["system"].isin(systems) & ((number <= LAST_TRAINED) == trained)
    return AudioCorpus([str(folder / name) for name in table["file"][chosen]], sample_rate=RATE)


# Sets of edited clips ------------------------------------------------------------------------------


class WindowSet(NamedTuple):
    """One window of each clip of a set."""

    waveforms: list[np.ndarray]  # int16
    truth: np.ndarray  # (n_windows, n_labels) of 0, 1 and NaN, 'unaltered' first
    fills: np.ndarray  # of the same shape: whether the label is there all the time
    speakers: np.ndarray


@dataclass(frozen=True)
class ClipSet:
    """Edited clips.

    Parameters
    ----------
    name : str
        Seeds where windows are.
    samples : int16 ndarray
        Of one clip after the other, in a file.
    ends : int64 ndarray of shape (n_clips + 1,)
        Where each begins, and the end of the last.
    records : list of EditRecord
        What was done to each.
    speakers : ndarray of str of shape (n_clips,)
        Who speaks.
    """

    name: str
    samples: np.ndarray
    ends: np.ndarray
    records: list[EditRecord]
    speakers: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def clip(self, number: int) -> np.ndarray:
        """A clip in 16 bits."""
        return self.samples[self.ends[number] : self.ends[number + 1]]

    def windows(self, seconds: float, labels: Sequence[str]) -> WindowSet:
        """Of each clip one window as in training, half of them placed around some border; silent ones are left out."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), round(seconds * 1000)])
        waveforms, truth, fills, kept, n_samples = [], [], [], [], round(seconds * RATE)
        for number, record in enumerate(self.records):
            start = window_start(rng, record, n_samples, RATE)
            part = self.clip(number)[start : start + n_samples]
            if np.ptp(part.astype(np.int32)) / 2 < SILENT * 32768:
                continue
            n_frames = frames_in(len(part), RATE)
            targets, frames = window_truth(record, labels, start / RATE, len(part) / RATE, n_frames)
            known = np.where(targets > 1, np.nan, targets)
            unaltered = 0.0 if (known == 1).any() else np.nan if np.isnan(known).any() else 1.0
            waveforms.append(part)
            truth.append([unaltered, *known])
            fills.append([False, *((frames[len(SPLICED_LABELS) :] == 1).mean(axis=1) >= ALL)])
            kept.append(number)
        return WindowSet(waveforms, np.array(truth), np.array(fills), self.speakers[kept])


def brick_wall(waveform: np.ndarray, cutoff: float) -> np.ndarray:
    """A waveform in 16 bits without what is above a frequency, by a filter that is not the one of training."""
    taps = firwin(N_TAPS, cutoff, window=("kaiser", 8.0), fs=RATE)
    return np.round(fftconvolve(waveform, taps, mode="same")).clip(-32768, 32767).astype(np.int16)


def stored_set(name: str, folder: Path, make: Callable[[], Iterator[tuple[np.ndarray, EditRecord, str]]]) -> ClipSet:
    """A set from its files, which are made where they are not there."""
    if not folder.is_dir():
        fresh = folder.with_name(folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        ends, lines = [0], []
        with (fresh / "samples.i16").open("wb") as file:
            for waveform, record, speaker in make():
                file.write(np.round(waveform * 32768).clip(-32768, 32767).astype(np.int16).tobytes())
                ends.append(ends[-1] + len(waveform))
                lines.append(json.dumps([speaker, record.to_json()]))
        np.save(fresh / "ends.npy", np.array(ends))
        (fresh / "records.jsonl").write_text("\n".join(lines))
        fresh.rename(folder)
    pairs = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    samples = np.memmap(folder / "samples.i16", np.int16, "r")
    records = [EditRecord.from_json(text) for _, text in pairs]
    return ClipSet(name, samples, np.load(folder / "ends.npy"), records, np.array([speaker for speaker, _ in pairs]))


def edited(
    corpus: AudioCorpus, n_clips: int, seed: int, n_jobs: int, **settings: Any
) -> Iterator[tuple[np.ndarray, EditRecord, str]]:
    """So many clips of a corpus, which is gone through as often as it takes, in another order each time."""
    assert corpus.speakers is not None
    for turn in range(-(-n_clips // len(corpus))):
        # All of it, also where some are left out at the end: passages are pasted from others of the speaker.
        part = corpus[np.random.default_rng(seed + turn).permutation(len(corpus))]
        simulator = EditSimulator(**settings, sample_rate=RATE, random_state=seed + turn)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\d+ of \d+ clips got fewer", UserWarning)
            for waveform, record in itertools.islice(simulator.iterate(part, n_jobs), n_clips - turn * len(corpus)):
                yield waveform, record, str(part.speakers[record.clip])


class Data:
    """All that detectors are trained on and asked about.

    Parameters
    ----------
    speech : Path
        Folder of speech, with clips.csv beside it, and the folders noise, rir and tts_local beside that.
    work : Path
        Folder for what is made.
    edits : list of str
        Labels.
    n_clips : int
        Clips of each set; a third as many are not edited.
    n_speakers : int or None
        Of each side; all if None.
    n_jobs : int
        Processes.
    """

    def __init__(
        self, speech: Path, work: Path, edits: list[str], n_clips: int, n_speakers: int | None, n_jobs: int
    ) -> None:
        root = speech.parent.parent
        self.work, self.edits, self.n_clips, self.n_jobs = work, edits, n_clips, n_jobs
        self.train, self.val = (rejoined(speech, work / "speech", split, n_speakers) for split in ("train", "val"))
        assert not set(self.train.speakers) & set(self.val.speakers), "a speaker is on both sides"
        self.noises, new_noises = (sorted(map(str, (root / "noise").glob(p))) for p in (KNOWN_NOISES, NEW_NOISES))
        rooms, tts = sorted(map(str, (root / "rir").glob("*.flac"))), root / "tts_local"
        self.voices = synthetic(tts, KNOWN_VOICES, trained=True)
        heard = {"sources": {"tts": synthetic(tts, KNOWN_VOICES, trained=False)}, "noises": self.noises}
        new = {"sources": {"tts": synthetic(tts, NEW_VOICES, trained=False)}, "noises": new_noises}
        self._audio = {False: heard | {"impulse_responses": None}, True: new | {"impulse_responses": rooms}}
        self._rooms = rooms

    def set(self, variant: str, kind: str) -> ClipSet:
        """Clips with compositions of no to three edits, or single ones of the labels that the variant changes."""
        own = VARIANTS[variant]
        settings = {
            "edits": own.ranges(self.edits, all_labels=kind == "composed"),
            "n_edits": (0, 3) if kind == "composed" else 1,
            **self._audio[own.is_new],
        }
        if variant == "implementation":
            settings["impulse_responses"] = self._rooms
        return self._stored(f"{variant}, {kind}", self.n_clips, settings)

    def unedited(self) -> ClipSet:
        """Clips that are not edited."""
        return self._stored("unedited", max(1, self.n_clips // 3), {"n_edits": 0})

    def described(self) -> list[str]:
        """What it is, in sentences."""
        noises, new_noises = (
            ", ".join(Path(name).stem for name in own) for own in (self.noises, self._audio[True]["noises"])
        )
        return [
            f"Speech: LibriSpeech, the pieces of an utterance put together again, those below {SHORTEST} s left out, "
            f"the others cut into equal parts of about {PART:g} s. {len(self.train)} parts of "
            f"{len(set(self.train.speakers))} speakers train, {len(self.val)} parts of {len(set(self.val.speakers))} "
            "other speakers are asked about. Thresholds, calibration and all else are the detector's, from speakers "
            "to train on; nothing is chosen by what follows.",
            f"Each set has {self.n_clips} edited clips, of each of which a window is asked about: half of them are "
            "placed around some border, as in training. What is in a window is told by the same rule as in training, "
            "and a label of which too little is in it counts neither way. Single edits are held against "
            f"{max(1, self.n_clips // 3)} unedited clips, compositions of none to three against each other.",
            *(f"{name.capitalize()}: {variant.about}." for name, variant in VARIANTS.items()),
            f"Noises to train on: {noises}. New ones: {new_noises}. No measured room is trained on; {len(self._rooms)} "
            f"are asked about. Synthetic voices to train on: {', '.join(KNOWN_VOICES)}, {LAST_TRAINED} sentences; new "
            f"ones: {', '.join(NEW_VOICES)}; all are asked about by other sentences. There is no converted voice, so "
            "'vc' is left out.",
        ]

    def _stored(self, name, n_clips, settings):
        folder = self.work / "sets" / name.replace(", ", "-").replace(" ", "-")
        seed = zlib.crc32(name.encode()) % 2**30
        return stored_set(name, folder, lambda: edited(self.val, n_clips, seed, self.n_jobs, **settings))
