"""The command line: ``python -m mmestim info model.mme``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .persistence import describe


def _info(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], str]:
    parser.add_argument("path", help="a file that mmestim.save wrote")
    return lambda options: describe(options.path)


# Each command: its help, and what adds its arguments and returns what makes its output of them.
_COMMANDS = {
    "info": ("say what is in the file of a model, without loading it", _info),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        The words after ``python -m mmestim``; `None` for those of this process.

    Returns
    -------
    int
        0, or 1 after an error that standard error tells; argparse leaves with 2 if it cannot read the words.
    """
    parser = argparse.ArgumentParser(prog="python -m mmestim", description="Tools of mmestim.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (help_text, prepare) in _COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.set_defaults(run=prepare(command))
    options = parser.parse_args(arguments)
    try:
        _print(options.run(options))
    except BrokenPipeError:  # Who reads has seen enough, such as head; what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


def _print(text: str) -> None:
    """Print at once, with escapes for what standard output cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


if __name__ == "__main__":
    sys.exit(main())
