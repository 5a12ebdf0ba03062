"""Check of the pretrained detector on synthetic speech of each synthesizer, also of those that it was not trained on.

The clips are those of unknown speakers, unedited or with synthetic speech of one synthesizer, throughout or in part.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile
import torch
from sklearn.metrics import roc_auc_score
from torchaudio.functional import griffinlim

from _detection import describe_call, prepared, runs_and_data
from _detection_data import FULL_COVERAGE, RATE, EvaluationData
from _detection_runs import END_METRIC, PRETRAINED, RunEvaluation, append_part, read_parts, rounded
from _detection_scores import IN_PART, THROUGHOUT, Line
from _simulation_tables import head, row
from mmestim.voice import AudioCorpus, EditRecord, EditSimulator
from mmestim.voice.metrics import bootstrap_interval
from mmestim.voice.pretrained.synthesis import resynthesize
from mmestim.voice.pretrained.training_audio import N_TRAINING_SENTENCES, synthetic_speech, write_complete

LABEL = "tts"
N_ROUNDS = 2
HELD_OUT = "is_held_out"
N_FFT = 512


class Source(NamedTuple):
    """Synthetic speech of one kind, and whether the detector was trained on others of its sentences."""

    kind: str
    is_held_out: bool
    corpus: AudioCorpus


class EditedClips(NamedTuple):
    """Clips with their records and speakers."""

    waveforms: list[np.ndarray]
    records: list[EditRecord]
    speakers: np.ndarray


def measure_synthesizers(options: argparse.Namespace, command: str) -> None:
    """Measure how well synthetic speech of each synthesizer is detected."""
    options.models = [PRETRAINED]
    with prepared(options) as work:
        results = options.out / "voice-synthesizers"
        (run,), data = runs_and_data(options, work, results)
        path, evaluation = results / run.file, RunEvaluation(run, data, options, work)
        unedited, stored = edited_clips(data, n_edits=0), read_parts(path)
        negatives = tts_scores(evaluation, unedited)
        sources = {**synthesizers(work / "synthetic"), **vocoders(data.val, work / "vocoded_unknown")}
        for name, source in sources.items():
            if name in stored:
                continue
            start = time.perf_counter()
            edited = edited_clips(data, edits=[LABEL], n_edits=1, sources={LABEL: source.corpus})
            lines = [
                Line(source.kind, HELD_OUT, float(source.is_held_out)),
                *extent_lines(evaluation, edited, negatives, unedited.speakers, options.n_resamples),
                Line("", END_METRIC, time.perf_counter() - start),
            ]
            append_part(path, name, list(map(rounded, lines)))
            print(f"{name}, {lines[-1].value:.0f} s", flush=True)
        setting = [*describe_call(command), *described(data, len(unedited.waveforms))]
        report = "\n".join(synthesizer_report(run.model, read_parts(path), setting))
        (options.out / "voice-synthesizers.md").write_text(report + "\n")
        print(report)


# Synthetic speech ------------------------------------------------------------------------------------


def synthesizers(folder: Path) -> dict[str, Source]:
    """Return the sentences of each synthesizer that no detector was trained on."""
    table = synthetic_speech(folder)
    table = table[table["number"] >= N_TRAINING_SENTENCES]
    return {
        str(name): Source(rows["kind"].iloc[0], bool(rows["is_held_out"].iloc[0]), corpus_of(rows))
        for name, rows in table.groupby("speaker", sort=False)
    }


def vocoders(val: AudioCorpus, folder: Path) -> dict[str, Source]:
    """Return clips of unknown speakers, resynthesized by the vocoder of training and by another one."""
    makers = {"WORLD": resynthesize, "Griffin-Lim": by_griffin_lim}
    sources = {}
    for name, make in makers.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        paths = []
        for number, waveform in val.read():
            path = folder / name / f"{number:03}.wav"
            if not path.exists():
                write_complete(path, partial(soundfile.write, data=make(waveform, RATE), samplerate=RATE))
            paths.append(str(path))
        frame = pd.DataFrame({"path": paths, "speaker": val.speakers})
        sources[name] = Source("vocoder", name != "WORLD", corpus_of(frame))
    return sources


def by_griffin_lim(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return speech with the magnitudes of a waveform, and phases found by the Griffin-Lim algorithm."""
    samples, window = torch.from_numpy(waveform), torch.hann_window(N_FFT)
    magnitudes = torch.stft(samples, N_FFT, window=window, return_complex=True).abs()
    return griffinlim(
        magnitudes,
        window,
        N_FFT,
        N_FFT // 4,
        N_FFT,
        power=1.0,
        n_iter=60,
        momentum=0.99,
        length=len(samples),
        rand_init=False,
    ).numpy()


def corpus_of(rows: pd.DataFrame) -> AudioCorpus:
    """Return a corpus of the paths in a table."""
    return AudioCorpus(rows[["path", "speaker"]].reset_index(drop=True), sample_rate=RATE)


# Scores ----------------------------------------------------------------------------------------------


def edited_clips(data: EvaluationData, **settings: object) -> EditedClips:
    """Return several versions of the clips of unknown speakers, edited and acquired at random."""
    assert data.val.speakers is not None
    pairs = [
        pair
        for seed in range(N_ROUNDS)
        for pair in EditSimulator(random_state=seed, **settings).iterate(data.val, data.n_jobs)
    ]
    waveforms, records = map(list, zip(*pairs, strict=True))
    return EditedClips(waveforms, records, data.val.speakers[[record.clip for record in records]])


def tts_scores(evaluation: RunEvaluation, clips: EditedClips) -> np.ndarray:
    """Return the probability of synthetic speech in each clip."""
    return evaluation.detector.predict_proba(clips.waveforms)[:, evaluation.labels.index(LABEL)]


def extent_lines(
    evaluation: RunEvaluation,
    edited: EditedClips,
    negatives: np.ndarray,
    negative_speakers: np.ndarray,
    n_resamples: int,
) -> list[Line]:
    """Return the ROC-AUC and the recall on clips that are synthetic throughout, and on those that are in part."""
    scores, threshold = tts_scores(evaluation, edited), evaluation.detector.thresholds_[evaluation.labels.index(LABEL)]
    is_edited = np.array([LABEL in record.labels for record in edited.records])
    is_part = np.array(list(map(covers_part, edited.records)))

    def figures(is_synthetic: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if is_synthetic.all() or not is_synthetic.any():
            return np.full(2, np.nan)
        return np.array([roc_auc_score(is_synthetic, scores), (scores[is_synthetic] >= threshold).mean()])

    lines = []
    for extent, has_extent in ((THROUGHOUT, ~is_part), (IN_PART, is_part)):
        rows = is_edited & has_extent
        is_synthetic = np.r_[np.zeros(len(negatives), bool), np.ones(rows.sum(), bool)]
        values = np.r_[negatives, scores[rows]]
        speakers = np.r_[negative_speakers, edited.speakers[rows]]
        low, high = bootstrap_interval(figures, speakers, is_synthetic, values, n_resamples=n_resamples, random_state=0)
        lines.append(Line(LABEL, f"n_positive{extent}", float(rows.sum())))
        for name, *row_values in zip(("roc_auc", "recall"), figures(is_synthetic, values), low, high, strict=True):
            lines.append(Line(LABEL, name + extent, *map(float, row_values)))
    return lines


def covers_part(record: EditRecord) -> bool:
    """Return whether synthetic speech is only in a part of the clip."""
    return any(end - start < FULL_COVERAGE * record.duration for start, end in record.intervals.get(LABEL, []))


# Report ----------------------------------------------------------------------------------------------


def described(data: EvaluationData, n_unedited: int) -> list[str]:
    """Return paragraphs about the clips."""
    return [
        f"{N_ROUNDS} versions of {len(data.val)} clips by {len(set(data.val.speakers))} speakers that no detector was "
        f"trained or calibrated on, with a random acquisition each: {n_unedited} unedited ones, and as many with "
        "speech of each synthesizer, of the whole clip or of a part of 0.3 to 3 s. Scores of whole clips of about 8 s.",
        "Trained: the detector was trained on other sentences of the synthesizer, or on the same vocoder with other "
        "speakers. Recall: at the threshold of the detector. Brackets contain 95 % intervals, bootstrapped over "
        "speakers.",
    ]


def synthesizer_report(model: str, parts: dict[str, list[Line]], setting: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# Synthetic speech by synthesizer\n"
    for paragraph in setting:
        yield f"{paragraph}\n"
    yield f"## Detection: {model}\n"
    yield from synthesizer_table(parts)


def synthesizer_table(parts: dict[str, list[Line]]) -> Iterator[str]:
    """Yield the table of all synthesizers."""
    yield from head("speech by", "kind", "trained", "ROC-AUC, whole clips", "recall", "ROC-AUC, parts", "recall, parts")
    for name, lines in parts.items():
        figures = {line.metric: line for line in lines}
        shown = [figures[metric + extent] for extent in (THROUGHOUT, IN_PART) for metric in ("roc_auc", "recall")]
        held_out = figures[HELD_OUT]
        yield row(name, held_out.label, "no" if held_out.value else "yes", *map(with_interval, shown))


def with_interval(line: Line) -> str:
    """Format a figure and its interval."""
    return f"{line.value:.2f} ({line.low:.2f}-{line.high:.2f})"
