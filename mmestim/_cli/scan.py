"""``mmestim scan``: which edits recordings went through, for people and for scripts."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .console import give, say

if TYPE_CHECKING:
    from ..voice._reporting.scan import ScannedFile

HELP = "say which edits recordings went through, and where"
_DESCRIPTION = """\
Say which edits recordings went through, and where: one line for each file, with tabs between its path, the verdict
and what was found. Files that cannot be read are listed at the end and stop nothing.

exit status:
  0  every file was read, and no edit found
  1  edits were found
  2  nothing was scanned: the command, the model or all files are at fault
  3  no edit was found, but some files could not be read
  130, 141  it was interrupted, or what reads its output went away: not all was scanned
"""
_NOTHING, _EDITED, _FAILED, _SOME_BAD = range(4)
# Formats, and what their files end with; those of one recording go into a folder.
_SUFFIXES = {"json": ".json", "csv": ".csv", "rttm": ".rttm", "textgrid": ".TextGrid", "audacity": ".txt"}
_OF_ONE = ("textgrid", "audacity")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _DESCRIPTION
    parser.add_argument("paths", nargs="+", metavar="PATH", help="an audio file, or a folder of them on all levels")
    parser.add_argument("--model", required=True, help="what mmestim train, or mmestim.save, wrote")
    parser.add_argument("--report", metavar="FILE.html", help="write a page with pictures and sound, too")
    parser.add_argument("--format", choices=_SUFFIXES, help="write where the edits are, for other programs")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="where --format writes: a file, by default standard output in place of the lines; of textgrid and "
        "audacity a folder, which gets a file for each recording",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="files at a time; -1: one for each core")
    parser.add_argument("--device", default="auto", help="where networks are: auto, cpu, cuda, ... (default: auto)")


def run(options: argparse.Namespace) -> int:
    """Scan, and return the exit status."""
    _check(options)
    from ..persistence import load
    from ..voice import Skipped, VoiceEditDetector
    from ..voice._reporting.printable import printable
    from ..voice._reporting.report import write_report
    from ..voice._reporting.scan import audio_files, scan_files

    detector = load(options.model, device=options.device)
    if not isinstance(detector, VoiceEditDetector) or not isinstance(detector.classes_, list):
        raise ValueError(f"--model {options.model!r} holds no detector of edits. mmestim train makes one.")
    files = audio_files(options.paths)
    shows_lines = options.format is None or options.output is not None
    results: list[Any] = []
    # disable=None: no bar where standard error is no terminal.
    with tqdm(total=len(files), unit="file", file=sys.stderr, disable=None) as bar:
        for result in scan_files(detector, files, n_jobs=options.jobs):
            results.append(result)
            if shows_lines and not isinstance(result, Skipped):
                line = f"{printable(result.path)}\t{result.verdict}\t{result.summary}"
                with tqdm.external_write_mode(file=sys.stdout):
                    say(line)
            bar.update()
    scanned = [result for result in results if not isinstance(result, Skipped)]
    bad = [result for result in results if isinstance(result, Skipped)]
    if options.format:
        _write_segments(scanned, options)
    if options.report:
        write_report(results, options.report, detector, model=options.model, n_jobs=options.jobs)
    if bad:
        print(f"{len(bad)} of {len(results)} files could not be read:", file=sys.stderr)
        for item in bad:
            print(f"  {printable(item.item)}: {printable(item.reason)}", file=sys.stderr)
    if any(file.is_edited for file in scanned):
        return _EDITED
    return (_SOME_BAD if scanned else _FAILED) if bad else _NOTHING


def _check(options: argparse.Namespace) -> None:
    """Find now what would be found when hours of scanning are to be written."""
    if options.output and not options.format:
        raise ValueError("--output is where --format writes: give that too.")
    if options.format in _OF_ONE:
        if not options.output:
            raise ValueError(f"--format {options.format} holds one recording: give --output, a folder for its files.")
        os.makedirs(options.output, exist_ok=True)
    check_writable("--output", None if options.format in _OF_ONE else options.output)
    check_writable("--report", options.report)


def check_writable(option: str, path: str | None) -> None:
    """Raise if there can be no file of this path."""
    if path is None:
        return
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise ValueError(f"{option} {path!r} is a folder: name a file.")
    if not os.path.isdir(folder):
        raise ValueError(f"{option} {path!r}: the folder {folder!r} does not exist.")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{option} {path!r}: the folder {folder!r} cannot be written to.")


def _write_segments(files: Sequence[ScannedFile], options: argparse.Namespace) -> None:
    from ..voice.formats import write_segments

    if options.format not in _OF_ONE:
        segments = {file.path: file.segments for file in files}
        if options.output:
            write_segments(segments, options.output, options.format)
        else:
            write_segments(segments, text := io.StringIO(), options.format)
            give(text.getvalue())
        return
    for file, name in zip(files, _names([file.path for file in files], _SUFFIXES[options.format]), strict=True):
        target = os.path.join(options.output, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        duration = file.duration if options.format == "textgrid" else None
        write_segments(list(file.segments), target, options.format, duration=duration)


def _names(paths: Sequence[str], suffix: str) -> list[str]:
    """Names of files for recordings, in folders as theirs; two of one name keep their own suffixes too."""
    if not paths:
        return []
    whole = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in whole])
    names = [os.path.relpath(path, root) for path in whole]
    stems = [os.path.splitext(name)[0] for name in names]
    return [
        (stem if stems.count(stem) == 1 and stem not in names else name) + suffix
        for name, stem in zip(names, stems, strict=True)
    ]
