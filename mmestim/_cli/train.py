"""``mmestim train``: a detector of edits from a folder of clean speech."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from .console import say
from .scan import check_writable

HELP = "train a detector of edits on a folder of clean speech"
_DESCRIPTION = """\
Train a detector of edits on a folder of clean speech, which it edits itself, and write it to a file for mmestim scan.
Speakers are told by folders in the layout of M-AILABS (language/by_book/sex/speaker/book/wavs); otherwise each file
counts as one. Files that cannot be read are left out, and listed.
"""
# Synthetic speech, and what else is recorded, not made: the option, and the parameter of VoiceEditDetector.
_SOURCES = {"tts": "synthetic speech from text, for the edit 'tts'", "vc": "converted voices, for the edit 'vc'"}
_AUDIO = {"noises": ("noises", "noises to put behind speech"), "rooms": ("impulse_responses", "responses of rooms")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _DESCRIPTION
    parser.add_argument("folder", metavar="CLEAN_DIR", help="unedited speech: .wav .flac .ogg .oga .opus .mp3")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL", help="file to write; .mme is ours")
    parser.add_argument(
        "--window",
        type=float,
        nargs="+",
        metavar="SECONDS",
        default=[4.05],
        help="length of the windows that recordings are looked at through, one or several (default: 4.05)",
    )
    parser.add_argument(
        "--model", default="hybrid", help="hybrid, features (minutes on a CPU), lcnn, ... (default: hybrid)"
    )
    parser.add_argument("--weights", metavar="FILE", help="for --model ssl: a wav2vec 2.0, HuBERT or WavLM model")
    parser.add_argument("--edits", nargs="+", metavar="LABEL", help="edits to learn (default: all that can be made)")
    parser.add_argument(
        "--n-clips", type=int, metavar="N", help="clips to edit (default: 5000 for features, else 10000)"
    )
    for name, says in _SOURCES.items():
        parser.add_argument(f"--{name}", metavar="DIR", help=f"folder of {says}")
    for name, (_, says) in _AUDIO.items():
        parser.add_argument(f"--{name}", metavar="DIR", help=f"folder of {says}")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; -1: one for each core")
    parser.add_argument("--device", default="auto", help="where networks are trained: auto, cpu, cuda, ...")
    parser.add_argument("--seed", type=int, help="of all that is drawn, for the same model again")


def run(options: argparse.Namespace) -> int:
    """Train and save, and return the exit status."""
    check_writable("--output", options.output)
    from ..persistence import save
    from ..voice import AudioCorpus, VoiceEditDetector

    detector = VoiceEditDetector(
        options.edits or "all",
        window=options.window,
        model=options.model,
        weights=options.weights,
        n_clips=options.n_clips,
        n_jobs=options.jobs,
        device=options.device,
        random_state=options.seed,
        verbose=int(sys.stderr.isatty()),
        **_given(options),
    )
    detector._check_parameters()  # before all files are read
    corpus = AudioCorpus(options.folder, on_error="skip")
    usable = corpus.check(options.jobs)
    if corpus.skipped:
        print(f"{len(corpus.skipped)} of {len(corpus)} files cannot be used:", file=sys.stderr)
        for item in corpus.skipped:
            print(f"  {item.item}: {item.reason}", file=sys.stderr)
    detector.fit(usable)
    save(detector, options.output)
    say("\n".join(_summary(detector, options.output, knows_speakers=usable.speakers is not None)))
    return 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Folders of audio by the parameter that each is for."""
    sources = {name: getattr(options, name) for name in _SOURCES if getattr(options, name)}
    audio = {parameter: getattr(options, name) for name, (parameter, _) in _AUDIO.items() if getattr(options, name)}
    return audio | ({"sources": sources} if sources else {})


def _summary(detector: Any, path: str, *, knows_speakers: bool) -> Iterator[str]:
    from ..voice._reporting.model_facts import tested_labels, training_figures
    from ..voice.taxonomy import LABELS

    report = detector.training_report_
    whose = f"of {report['n_speakers']} speakers" if knows_speakers else "each taken for a speaker of its own"
    yield f"Trained on {report['n_clips']} clips, {whose}. On speakers kept from its models, which set its thresholds:"
    for name, own in report.items():
        if isinstance(own, dict):
            yield f"  {name} s: {training_figures(own)}"
            for label, figures in own["labels"].items():
                yield (
                    f"    {label:<16} average precision {figures['average_precision']:.2f}, "
                    f"ROC-AUC {figures['roc_auc']:.2f}"
                )
    tested = tested_labels(detector)
    if absent := [label for label in LABELS[1:] if label not in tested]:
        yield f"It does not look for {', '.join(absent)}."
    yield f"Written to {path!r}."
