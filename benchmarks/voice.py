"""Benchmarks of voice edits: speed and memory of the simulator, shortcuts, and accuracy of the detector.

--simulate times the edits and the simulator, compares the edits with audiomentations, and measures memory over a
corpus. It uses one process and one thread unless a table states otherwise. In each round every contender runs once, and
a different one runs first. A time is the mean over clips of the median over rounds, after one warm-up call. Times
depend on the machine, so compare the ratios. Memory is read from /proc, which requires Linux.

--shortcuts measures whether features other than the edits separate edited from unedited clips.

--detect fits VoiceEditDetector and measures how well it detects and locates edits (_detection.py).

--field measures false alarms and recall of the same detectors on files of many rates, formats and codecs (_field.py).

--scan times scans of files, by default with the detector in the package (_scan_speed.py).

--synthesizers measures how well the detector in the package finds synthetic speech of each synthesizer
(_synthesizers.py); --work is then the folder of `make model`. --card writes the card of that detector from the figures
that are stored of it (_model_card.py).

Only this script uses audiomentations: pip install "mmestim[bench]". Without it, the comparison contains only the times
of mmestim.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from _audiomentations_cases import CASES
from _detection import add_options, detect
from _field import measure_field
from _model_card import write_card
from _scan_speed import measure_scans
from _shortcuts import measure_shortcuts
from _simulation_runs import simulate
from _synthesizers import measure_synthesizers

__all__ = ["CASES", "main"]

FOLDER_OPTIONS = ("--work", "--out", "--speech", "--weights")


def main(args: list[str] | None = None) -> None:
    """Run the benchmark that the arguments select; the default is the arguments of the command line."""
    args = sys.argv[1:] if args is None else args
    speech = Path(os.environ.get("MMESTIM_DATA", "")) / "speech" / "audio"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_mutually_exclusive_group(required=True)
    modes.add_argument(
        "--simulate", dest="mode", action="store_const", const=simulate, help="benchmark the edits and the simulator"
    )
    modes.add_argument(
        "--shortcuts", dest="mode", action="store_const", const=measure_shortcuts, help="check for shortcuts"
    )
    modes.add_argument("--detect", dest="mode", action="store_const", const=detect, help="evaluate the detector")
    modes.add_argument(
        "--field", dest="mode", action="store_const", const=measure_field, help="evaluate the detector on files"
    )
    modes.add_argument("--scan", dest="mode", action="store_const", const=measure_scans, help="time scans of files")
    modes.add_argument(
        "--synthesizers",
        dest="mode",
        action="store_const",
        const=measure_synthesizers,
        help="evaluate the pretrained detector on each synthesizer",
    )
    modes.add_argument(
        "--card", dest="mode", action="store_const", const=write_card, help="write the card of that detector"
    )
    parser.add_argument(
        "--speech", type=Path, default=speech, help="folder of speech (default: speech/audio in MMESTIM_DATA)"
    )
    parser.add_argument(
        "--clips",
        type=int,
        help="number of evenly spaced clips (default: 40, or 4 with --quick; all for --shortcuts); "
        "for --detect and --field, the size of each set (default: 1500)",
    )
    parser.add_argument(
        "--many", type=int, help="clips for the table of the whole set (default: 500, or as --clips with --quick)"
    )
    parser.add_argument("--rounds", type=int, help="timed rounds (default: 5, or 1 with --quick)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of processes (default: 1 2)")
    parser.add_argument("--quick", action="store_true", help="run on a few clips, once")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder for the tables (default: results)"
    )
    add_options(parser)
    options = parser.parse_args(args)
    if not options.speech.is_dir():
        parser.error(f"{options.speech} is not a folder: set MMESTIM_DATA, or name one with --speech.")
    options.mode(options, without_folders(args))


def without_folders(args: list[str]) -> str:
    """Return the arguments of a call without the folders, which differ between machines."""
    is_folder = [
        previous in FOLDER_OPTIONS or arg in FOLDER_OPTIONS for previous, arg in zip(["", *args], args, strict=False)
    ]
    return shlex.join(arg for arg, is_left_out in zip(args, is_folder, strict=True) if not is_left_out)


if __name__ == "__main__":
    main()
