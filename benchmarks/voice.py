"""Voice edits: hours of speech edited per minute, the same edits beside audiomentations, memory over a corpus.

One process and one thread unless a table says otherwise. Each round runs every contender, the first one
changing; times are per clip, the mean over clips of the median over rounds, after one call that does not
count. They are this machine's; the ratios are what to read. Needs Linux's /proc.

--shortcuts asks whether anything but the edits tells edited clips from unedited ones.

--detect fits VoiceEditDetector and says how well it does, in _detection.py.

audiomentations is for this script only: pip install "mmestim[bench]". Without it, ours of the edits that both have
are timed alone.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from _audiomentations_cases import CASES
from _detection import add_options, detect
from _shortcuts import closed
from _simulation_runs import simulate

__all__ = ["CASES", "main"]


def main(args: list[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    speech = Path(os.environ.get("MMESTIM_DATA", "")) / "speech" / "audio"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_mutually_exclusive_group(required=True)
    modes.add_argument(
        "--simulate", dest="mode", action="store_const", const=simulate, help="the edits and the simulator"
    )
    modes.add_argument("--shortcuts", dest="mode", action="store_const", const=closed, help="what gives edits away")
    modes.add_argument("--detect", dest="mode", action="store_const", const=detect, help="how well edits are detected")
    parser.add_argument(
        "--speech", type=Path, default=speech, help="folder of speech (default: speech of MMESTIM_DATA)"
    )
    parser.add_argument(
        "--clips",
        type=int,
        help="clips of it, spread evenly (default: 40, or 4 if quick); of each set (default: 1500) to detect",
    )
    parser.add_argument("--many", type=int, help="clips for the whole set (default: 500, or as --clips if quick)")
    parser.add_argument("--rounds", type=int, help="rounds that count (default: 5, or 1 if quick)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of processes (default: 1 2)")
    parser.add_argument("--quick", action="store_true", help="a few clips, once")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where the table goes")
    add_options(parser)
    options = parser.parse_args(args)
    if not options.speech.is_dir():
        parser.error(f"{options.speech} is no folder: set MMESTIM_DATA, or name one with --speech.")
    options.mode(options, shlex.join(args))


if __name__ == "__main__":
    main()
