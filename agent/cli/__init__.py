"""The commands: read settings once, hand them on, print what came out.

Standard output carries the result (with ``--json`` one document, or one per line), standard error everything else.
Exit status: 0 done, 1 the work failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from agent import __version__
from agent.cli import collector, dataset, device, fleet, model, trial
from agent.errors import TailkeeperError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except TailkeeperError as error:
        print(f"tailkeeper: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"tailkeeper: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tailkeeper",
        description="Keeps a detector's training set fed with the real frames it is worst at.",
    )
    parser.add_argument("--version", action="version", version=f"tailkeeper {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for each in (trial, device, collector, dataset, model, fleet):
        each.add_commands(commands)
    return parser
