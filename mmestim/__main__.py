"""The command line: ``mmestim info``, ``mmestim train``, ``mmestim scan``; also ``python -m mmestim``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from ._cli import scan as _scan_command
from ._cli import train as _train_command
from ._cli.console import say
from .persistence import describe

_FAILED, _INTERRUPTED, _NOT_READ = 2, 130, 141  # the latter two as shells have them


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="a file that mmestim.save wrote")


def _info(options: argparse.Namespace) -> int:
    say(describe(options.path))
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
        the words; 130 if interrupted, 141 if nobody reads standard output any more. ``scan`` also has 1, edits were
        found, and 3, some files could not be read.
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
        return _NOT_READ
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
    except Exception:  # Python's own status would say that edits were found
        traceback.print_exc()
    return _FAILED


if __name__ == "__main__":
    sys.exit(main())
