"""The command line: ``mmestim info``, ``mmestim train``, ``mmestim scan``; also ``python -m mmestim``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from . import _scan_command, _train_command
from .persistence import describe

_FAILED, _INTERRUPTED = 2, 130


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="a file that mmestim.save wrote")


def _info(options: argparse.Namespace) -> int:
    _print(describe(options.path))
    return 0


# Each command: its help, what adds its arguments, and what runs it and returns the exit status.
_Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
_COMMANDS: dict[str, _Command] = {
    "info": ("say what is in the file of a model, without loading it", _info_arguments, _info),
    "scan": (_scan_command.HELP, _scan_command.add_arguments, _scan_command.run),
    "train": (_train_command.HELP, _train_command.add_arguments, _train_command.run),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        The words after ``mmestim``; `None` for those of this process.

    Returns
    -------
    int
        The exit status: 0; or 2 after an error that standard error tells, as argparse leaves with if it cannot read
        the words; 130 if interrupted. ``scan`` also has 1, edits were found, and 3, some files could not be read.
    """
    parser = argparse.ArgumentParser(prog="mmestim", description="Tools of mmestim.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (help_text, add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        add_arguments(command)
        command.set_defaults(run=run)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # as in `mmestim scan ... | head`; Python would complain of it once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
    return _FAILED


def _print(text: str) -> None:
    """Print at once, with escapes for what standard output cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


if __name__ == "__main__":
    sys.exit(main())
