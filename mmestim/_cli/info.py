"""``mmestim info``: describe a model file without loading it."""

from __future__ import annotations

import argparse

from ..persistence import describe
from .console import print_escaped

HELP = "describe the contents of a model file without loading it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("path", help="file written by mmestim.save")


def run(options: argparse.Namespace) -> int:
    """Print the description and return the exit status."""
    print_escaped(describe(options.path))
    return 0
