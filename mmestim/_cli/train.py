"""``mmestim train``: train an edit detector on a folder of clean speech."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .console import print_escaped
from .scan import check_writable

_LOGGER = logging.getLogger("mmestim")

HELP = "train an edit detector on a folder of clean speech"
_DESCRIPTION = """\
Train an edit detector on a folder of clean speech and write it to a model file for mmestim scan. The edits are
simulated. Speakers are identified by folders in the layout of M-AILABS (language/by_book/sex/speaker/book/wavs);
without it, each file counts as a speaker. Unreadable files are skipped and listed. Without a terminal, standard error
gets a line for each stage.
"""
# Options for folders of edited speech, which become entries of the parameter `sources` of VoiceEditDetector.
_SOURCES = {
    "tts": "text-to-speech recordings, for the edit 'tts'",
    "vc": "voice-conversion recordings, for the edit 'vc'",
}
# Options for folders of other audio, with the parameter of VoiceEditDetector.
_AUDIO = {
    "noises": ("noises", "background noises"),
    "rooms": ("impulse_responses", "room impulse responses"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _DESCRIPTION
    parser.add_argument("folder", metavar="CLEAN_DIR", help="audio or video files of unedited speech")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL", help="model file to write, such as model.mme")
    parser.add_argument(
        "--window",
        type=float,
        nargs="+",
        metavar="SECONDS",
        default=[4.05],
        help="length of the analysis windows, one or several (default: 4.05)",
    )
    parser.add_argument(
        "--model", default="hybrid", help="hybrid, features (trains in minutes on a CPU), lcnn, ... (default: hybrid)"
    )
    parser.add_argument("--weights", metavar="FILE", help="wav2vec 2.0, HuBERT or WavLM weights for --model ssl")
    parser.add_argument("--edits", nargs="+", metavar="LABEL", help="edits to learn (default: all available)")
    parser.add_argument(
        "--n-clips", type=int, metavar="N", help="number of clips to edit (default: 5000 for features, 10000 otherwise)"
    )
    for name, content in _SOURCES.items():
        parser.add_argument(f"--{name}", metavar="DIR", help=f"folder of {content}")
    for name, (_, content) in _AUDIO.items():
        parser.add_argument(f"--{name}", metavar="DIR", help=f"folder of {content}")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of processes; -1 uses all cores")
    parser.add_argument("--device", default="auto", help="training device: auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--seed", type=int, help="random seed; the same seed reproduces the model")


def run(options: argparse.Namespace) -> int:
    """Train and save a detector, and return the exit status."""
    check_writable("--output", options.output)
    from ..persistence import save
    from ..voice import AudioCorpus, VoiceEditDetector
    from ..voice._detection.parameters import check_parameters

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
        **_audio_folders(options),
    )
    check_parameters(detector)  # before reading all files
    with _stage_lines():
        corpus = AudioCorpus(options.folder, on_error="skip")
        _LOGGER.info(f"reading {len(corpus)} files in {options.folder!r}")
        usable = corpus.check(options.jobs)
        if corpus.skipped:
            print(f"{len(corpus.skipped)} of {len(corpus)} files cannot be used:", file=sys.stderr)
            for item in corpus.skipped:
                print(f"  {item.item}: {item.reason}", file=sys.stderr)
        detector.fit(usable)
        _LOGGER.info(f"writing {options.output!r}")
        save(detector, options.output)
    print_escaped("\n".join(_summary(detector, options.output, has_speakers=usable.speakers is not None)))
    return 0


@contextmanager
def _stage_lines() -> Iterator[None]:
    """Log a line for each stage of the training to standard error, unless a terminal shows progress bars."""
    if sys.stderr.isatty():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = _LOGGER.level
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(level)


def _audio_folders(options: argparse.Namespace) -> dict[str, Any]:
    """Return the folders of further audio as parameters of the detector."""
    sources = {name: getattr(options, name) for name in _SOURCES if getattr(options, name)}
    audio = {parameter: getattr(options, name) for name, (parameter, _) in _AUDIO.items() if getattr(options, name)}
    return audio | ({"sources": sources} if sources else {})


def _summary(detector: Any, path: str, *, has_speakers: bool) -> Iterator[str]:
    from ..voice._reporting.model_facts import tested_labels, training_figures
    from ..voice.taxonomy import LABELS

    report = detector.training_report_
    speakers = f"of {report['n_speakers']} speakers" if has_speakers else "each counted as a separate speaker"
    yield f"Trained on {report['n_clips']} clips, {speakers}. On held-out speakers, which set the thresholds:"
    for name, entry in report.items():
        if isinstance(entry, dict):
            yield f"  {name} s: {training_figures(entry)}"
            for label, figures in entry["labels"].items():
                yield (
                    f"    {label:<16} average precision {figures['average_precision']:.2f}, "
                    f"ROC-AUC {figures['roc_auc']:.2f}"
                )
    tested = tested_labels(detector)
    if untested := [label for label in LABELS[1:] if label not in tested]:
        yield f"It does not test for {', '.join(untested)}."
    yield f"Written to {path!r}."
