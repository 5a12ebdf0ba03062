"""Audio that the pretrained detector is trained on, and the split of the speakers."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile

from .._audio.corpus import AudioCorpus
from .synthesis import resynthesize, sentences, synthesizers

RATE = 16_000
# Utterances are cut into equal parts of about this length.
PART_SECONDS = 8.0
# The noises of Speech Commands. Those of audiomentations are left for the evaluation.
TRAINING_NOISES = "sc_*.flac"
# Sentences of each synthesizer, of which the later ones are left for the evaluation.
N_SENTENCES, N_TRAINING_SENTENCES = 60, 40


class TrainingAudio(NamedTuple):
    """Clean speech, synthetic speech and noises."""

    speech: AudioCorpus
    synthetic: AudioCorpus
    noises: list[str]


def prepare(data: Path, work: Path) -> TrainingAudio:
    """Write the training audio below a folder, unless it is there.

    Parameters
    ----------
    data : Path
        Folder with the folders ``speech`` and ``noise``, as described in the model card.
    work : Path
        Folder for the clips.

    Returns
    -------
    TrainingAudio
        The audio.
    """
    speech = rejoin_utterances(data / "speech", work / "speech", "train")
    synthetic = synthetic_speech(work / "synthetic")
    is_in_training = ~synthetic["is_held_out"] & (synthetic["number"] < N_TRAINING_SENTENCES)
    table = pd.concat([synthetic[is_in_training], _vocoded(speech, work / "vocoded")])
    return TrainingAudio(
        speech,
        AudioCorpus(table[["path", "speaker"]].reset_index(drop=True), sample_rate=RATE),
        sorted(map(str, (data / "noise").glob(TRAINING_NOISES))),
    )


def rejoin_utterances(
    speech: Path,
    folder: Path,
    split: str,
    *,
    min_seconds: float = 0.0,
    part_seconds: float = PART_SECONDS,
    n_speakers: int | None = None,
) -> AudioCorpus:
    """Join the pieces of the utterances of LibriSpeech again, and write them in equal parts.

    Parameters
    ----------
    speech : Path
        Folder with ``clips.csv`` and the pieces in ``audio``.
    folder : Path
        Folder to write to.
    split : {'train', 'val'}
        Half of the speakers.
    min_seconds : float, default=0.0
        Duration of the shortest utterance that is used.
    part_seconds : float, default=8.0
        Duration of a part, about.
    n_speakers : int or None, default=None
        Number of speakers, of whom there is one utterance each; all if None.

    Returns
    -------
    AudioCorpus
        The parts, with their speakers.
    """
    table = pd.read_csv(speech / "clips.csv", dtype={"speaker": str})
    utterances = [pieces.sort_values("piece") for _, pieces in table[table["split"] == split].groupby("utterance")]
    utterances = [pieces for pieces in utterances if pieces["duration_s"].sum() >= min_seconds]
    if n_speakers is not None:
        chosen = np.linspace(0, len(utterances) - 1, n_speakers).round().astype(int)
        utterances = [utterances[number] for number in chosen]
    rows = []
    (folder / split).mkdir(parents=True, exist_ok=True)
    for pieces in utterances:
        if not np.allclose(pieces["start_s"].iloc[1:], pieces["end_s"].iloc[:-1]):
            raise ValueError(f"{pieces['file'].iloc[0]}: there is a gap between the pieces of the utterance.")
        files = [soundfile.read(speech / "audio" / name, dtype="int16")[0] for name in pieces["file"]]
        utterance = np.concatenate(files)
        n_parts = max(1, round(len(utterance) / RATE / part_seconds))
        for number, part in enumerate(np.array_split(utterance, n_parts)):
            path = folder / split / f"{pieces['utterance'].iloc[0]}_{number}.wav"
            if not path.exists():
                write_complete(path, partial(_write_samples, part))
            rows.append({"path": str(path), "speaker": pieces["speaker"].iloc[0]})
    return AudioCorpus(pd.DataFrame(rows), sample_rate=RATE)


def synthetic_speech(folder: Path) -> pd.DataFrame:
    """Return the sentences of all synthesizers, which are written unless they are there.

    Parameters
    ----------
    folder : Path
        Folder to write to.

    Returns
    -------
    DataFrame
        Columns ``path``, ``speaker`` (the synthesizer), ``kind``, ``is_held_out`` and ``number``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for place, (name, synthesizer) in enumerate(synthesizers().items()):
        paths = [folder / f"{name.replace(' ', '_')}_{number:02}.wav" for number in range(N_SENTENCES)]
        # Some engines keep a state between sentences, so those of a voice are all written, or none.
        if not all(path.exists() for path in paths):
            for number, text in enumerate(sentences(N_SENTENCES, place)):
                write_complete(paths[number], partial(synthesizer.speak, text, 1000 * place + number))
        for number, path in enumerate(paths):
            rows.append({"path": str(path), "speaker": name, "number": number, **synthesizer._asdict()})
    return pd.DataFrame(rows).drop(columns="speak")


def _vocoded(speech: AudioCorpus, folder: Path) -> pd.DataFrame:
    """Return the first clip of each speaker, resynthesized by WORLD."""
    folder.mkdir(parents=True, exist_ok=True)
    assert speech.speakers is not None
    rows = []
    for speaker in dict.fromkeys(speech.speakers):
        path = folder / f"{speaker}.wav"
        if not path.exists():
            number = int(np.flatnonzero(speech.speakers == speaker)[0])
            write_complete(path, partial(_write_samples, resynthesize(speech[number], RATE)))
        rows.append({"path": str(path), "speaker": f"vocoded {speaker}"})
    return pd.DataFrame(rows)


def _write_samples(samples: np.ndarray, path: Path) -> None:
    soundfile.write(path, samples, RATE)


def write_complete(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file that other processes never see incomplete."""
    incomplete = path.with_suffix(f".{os.getpid()}.wav")
    write(incomplete)
    incomplete.rename(path)
