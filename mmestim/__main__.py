"""Command line ``mmestim`` (or ``python -m mmestim``) with the commands ``demo``, ``info``, ``scan`` and ``train``."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from ._cli import demo, info, scan, train
from ._cli.console import discard_output

# The last two are the exit statuses of shells for SIGINT and SIGPIPE.
_FAILED, _INTERRUPTED, _PIPE_CLOSED = 2, 130, 141

# For each command: its help, and the functions that add its arguments and run it.
_Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
_COMMANDS: dict[str, _Command] = {
    "demo": (demo.HELP, demo.add_arguments, demo.run),
    "info": (info.HELP, info.add_arguments, info.run),
    "scan": (scan.HELP, scan.add_arguments, scan.run),
    "train": (train.HELP, train.add_arguments, train.run),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Arguments after ``mmestim``; `None` takes those of this process.

    Returns
    -------
    int
        Exit status: 0 for success, 2 after an error that is printed to standard error, 130 after an interrupt, 141
        after a closed output pipe. ``scan`` returns the sum of several numbers, which its help lists. argparse exits
        with 2 if the arguments are invalid.
    """
    parser = argparse.ArgumentParser(prog="mmestim", description="Tools for model files and voice edits.")
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
    except BrokenPipeError:  # As in `mmestim scan ... | head`.
        discard_output()
        return _PIPE_CLOSED
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
    except Exception:  # The exit status of Python, 1, would mean that changed content was found.
        traceback.print_exc()
    return _FAILED


if __name__ == "__main__":
    sys.exit(main())
