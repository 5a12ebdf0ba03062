"""``mmestim scan``: detect edits in recordings and report them to people and scripts."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from tqdm import tqdm

from .._utils.segment_formats import SEGMENT_FORMATS
from .console import print_escaped, write_utf8

HELP = "detect and locate edits in recordings"
_DESCRIPTION = """\
Detect and locate edits in recordings. The output has one line per recording: path, verdict, detected edits, and notes
on how it was read, separated by tabs. The verdict is "changed content", "processing only" (how it was recorded or
sent), "cannot tell" (too short, silent, or no speech) or "no edit found". Unreadable files are skipped and listed at
the end, with the number of files in folders that are neither audio nor video.

exit status, the sum of what applies:
  0   all files were read, and no edit was found
  1   changed content was found
  2   an error: in the command or the model, or an output that could not be written
  4   processing was found in recordings without changed content
  8   some files could not be read
  16  some recordings allow no verdict
  130, 141  the scan was interrupted, or its output pipe was closed, before all files were scanned
"""
_STANDARD_INPUT = "-"
FAILED, UNREAD = 2, 8
_STATUSES = {"changed content": 1, "processing only": 4, "cannot tell": 16, "no edit found": 0}
# Formats of all results, beside which the others hold segments alone.
_RESULT_FORMATS = ("json", "csv")
# Formats that hold one recording, so they write to a folder.
_SINGLE_RECORDING_FORMATS = [name for name, info in SEGMENT_FORMATS.items() if not info.holds_many]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _DESCRIPTION
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="audio or video file, folder that is searched recursively, or - for standard input",
    )
    parser.add_argument(
        "--model",
        help="model file written by mmestim train or mmestim.save (default: the detector that comes with mmestim)",
    )
    parser.add_argument("--report", metavar="FILE.html", help="also write an HTML report with spectrograms and sound")
    parser.add_argument(
        "--format",
        choices=SEGMENT_FORMATS,
        help="also write all results (json, csv) or the detected segments (rttm, textgrid, audacity)",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="output file of --format; by default, it goes to standard output instead of the lines. For "
        "textgrid and audacity: output folder, which gets one file per recording",
    )
    parser.add_argument(
        "--channels",
        choices=("mix", "each"),
        default="mix",
        help="average the channels of a file, or scan each alone; channels that cancel each other or carry different "
        "speech are always scanned alone (default: mix)",
    )
    parser.add_argument(
        "--prior",
        type=float,
        metavar="P",
        help="probability that a recording is unedited before the scan, above 0 and below 1, for the probability that "
        "nothing was edited (default: the fraction of unedited clips in the calibration of the model)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="files to scan in parallel; -1 uses all cores",
    )
    parser.add_argument(
        "--hop",
        type=float,
        metavar="SECONDS",
        help="seconds between the starts of windows, at most a window; shorter hops take more time (default: nine "
        "tenths of a window)",
    )
    parser.add_argument("--device", default="auto", help="device for networks: auto, cpu, cuda, ... (default: auto)")


def run(options: argparse.Namespace) -> int:
    """Scan the files and return the exit status."""
    _check_options(options)
    from ..voice._files.standard_input import spool
    from ..voice.pretrained import pretrained_file

    with ExitStack() as stack:
        if options.model is None:
            options.model = str(stack.enter_context(pretrained_file()))
            print(f"model: the detector that comes with mmestim {version('mmestim')}", file=sys.stderr)
        detector = _load_detector(options)
        spooled = stack.enter_context(spool(sys.stdin.buffer)) if _STANDARD_INPUT in options.paths else ""
        return _scan(options, detector, spooled)


def _load_detector(options: argparse.Namespace) -> Any:
    """Return the detector in the file of the model."""
    from ..persistence import load
    from ..voice import VoiceEditDetector

    detector = load(options.model, device=options.device)
    if not isinstance(detector, VoiceEditDetector) or not detector.finds_edits_:
        raise ValueError(f"--model {options.model!r} does not contain an edit detector. Create one with mmestim train.")
    return detector if options.hop is None else detector.set_params(hop=options.hop)


def _scan(options: argparse.Namespace, detector: Any, spooled: str) -> int:
    """Scan the files, one of which may hold the content of standard input; return the exit status."""
    from ..voice import Skipped
    from ..voice._files.standard_input import STANDARD_INPUT
    from ..voice._reporting.printable import printable
    from ..voice._reporting.report import write_report
    from ..voice._reporting.scan import audio_files, scan_files

    files = audio_files([spooled if path == _STANDARD_INPUT else path for path in options.paths])
    prints_lines = options.format is None or options.output is not None
    results: list[Any] = []
    finished: set[str] = set()
    # disable=None hides the bar unless standard error is a terminal.
    with tqdm(total=len(files), unit="file", file=sys.stderr, disable=None) as bar:
        for result in scan_files(detector, files, channels=options.channels, prior=options.prior, n_jobs=options.jobs):
            if isinstance(result, Skipped):
                finished.add(result.item)
                result = replace(result, item=STANDARD_INPUT) if result.item == spooled else result
            else:
                finished.add(result.path)
                result = replace(result, path=STANDARD_INPUT, source=spooled) if result.path == spooled else result
            results.append(result)
            if prints_lines and not isinstance(result, Skipped):
                fields = [printable(result.name), result.verdict, result.summary, printable(" ".join(result.notes))]
                with tqdm.external_write_mode(file=sys.stdout):
                    print_escaped("\t".join(fields))
            bar.update(len(finished) - bar.n)
    status = 0
    for result in results:
        status |= UNREAD if isinstance(result, Skipped) else _STATUSES[result.verdict]
    outputs: list[Callable[[], None]] = []
    if options.format:
        outputs.append(lambda: _write_output(results, options))
    if options.report:
        page, model, n_jobs = options.report, options.model, options.jobs
        outputs.append(lambda: write_report(results, page, detector, model=model, n_jobs=n_jobs))
    failures = [failure for write in outputs if (failure := _failure(write))]
    skipped = [result for result in results if isinstance(result, Skipped)]
    if skipped:
        print(f"{len(skipped)} of {len(finished)} files could not be read:", file=sys.stderr)
        for item in skipped:
            print(f"  {printable(item.item)}: {printable(item.reason)}", file=sys.stderr)
    _report_left_out(options.paths)
    for failure in failures:
        print(f"mmestim: {failure}", file=sys.stderr)
    return status | (FAILED if failures else 0)


def _report_left_out(paths: Sequence[str]) -> None:
    """Print how many files in the folders were not scanned, by suffix."""
    from ..voice._audio.folders import left_out
    from ..voice._reporting.printable import printable

    counts = sum((Counter(left_out(path)) for path in paths if os.path.isdir(path)), Counter[str]())
    if counts:
        by_suffix = ", ".join(f"{count} {printable(suffix)}" for suffix, count in counts.most_common())
        print(f"left out, because their suffix is not one of audio or video: {by_suffix}", file=sys.stderr)


def _failure(write: Callable[[], None]) -> str:
    """Write an output; return why that was impossible, so that the other outputs are written nevertheless."""
    try:
        write()
    except BrokenPipeError:
        raise
    except OSError as error:
        return f"{error.filename!r} could not be written or read: {error.strerror}."
    return ""


def _check_options(options: argparse.Namespace) -> None:
    """Raise before the scan if its results could not be written."""
    if options.output and not options.format:
        raise ValueError("--output requires --format.")
    if options.format in _SINGLE_RECORDING_FORMATS:
        if not options.output:
            raise ValueError(f"--format {options.format} writes one file per recording: pass a folder as --output.")
        os.makedirs(options.output, exist_ok=True)
    check_writable("--output", None if options.format in _SINGLE_RECORDING_FORMATS else options.output)
    check_writable("--report", options.report)


def check_writable(option: str, path: str | None) -> None:
    """Raise ValueError if no file can be written to the path of an option."""
    if path is None:
        return
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise ValueError(f"{option} {path!r} is a folder; pass the path of a file.")
    if not os.path.isdir(folder):
        raise ValueError(f"{option} {path!r}: the folder {folder!r} does not exist.")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{option} {path!r}: the folder {folder!r} is not writable.")


def _write_output(results: Sequence[Any], options: argparse.Namespace) -> None:
    from ..voice import ScannedFile, write_results
    from ..voice._reporting.result_files import format_results
    from ..voice.formats import write_segments

    # A recording without a verdict must not look like one without edits.
    files = [result for result in results if isinstance(result, ScannedFile) and not result.analysis.cannot_tell]
    segments = {file.name: file.analysis.segments for file in files}
    if options.format in _SINGLE_RECORDING_FORMATS:
        suffix = SEGMENT_FORMATS[options.format].suffix
        for file, name in zip(files, file_names(list(segments), suffix), strict=True):
            target = os.path.join(options.output, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            duration = file.analysis.duration if options.format == "textgrid" else None
            write_segments(segments[file.name], target, options.format, duration=duration)
    elif options.format in _RESULT_FORMATS and options.output:
        write_results(results, options.output, options.format, model=options.model)
    elif options.format in _RESULT_FORMATS:
        write_utf8(format_results(results, options.format, options.model))
    elif options.output:
        write_segments(segments, options.output, options.format)
    else:
        write_segments(segments, text := io.StringIO(), options.format)
        write_utf8(text.getvalue())


def file_names(paths: Sequence[str], suffix: str) -> list[str]:
    """Return relative paths of output files in the same subfolders; the old suffix is kept where names would clash."""
    if not paths:
        return []
    absolute_paths = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute_paths])
    names = [os.path.relpath(path, root) for path in absolute_paths]
    stems = [os.path.splitext(name)[0] for name in names]
    return [
        (stem if stems.count(stem) == 1 and stem not in names else name) + suffix
        for name, stem in zip(names, stems, strict=True)
    ]
