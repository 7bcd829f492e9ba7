"""What the commands share: sub-commands with common flags, output, checked numbers, signals."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = Any
"""argparse keeps the type of its sub-parsers to itself."""


def group(commands: Commands, name: str, text: str) -> Commands:
    """A command that only has commands below it."""
    parser = commands.add_parser(name, help=text, description=text)
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str, **flags: bool
) -> argparse.ArgumentParser:
    """A sub-command with the flags that many share."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    if flags.get("config"):
        parser.add_argument("--config", type=Path, metavar="F", help="config file (default /etc/tailkeeper/agent.toml)")
    if flags.get("json"):
        parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def print_json(document: Any) -> None:
    """One JSON document on a line of standard output."""
    print(json.dumps(document, default=str, ensure_ascii=False))


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """One line of these columns per row."""
    for row in rows:
        print("  ".join(str(row[name]) for name in columns))


def log(text: str) -> None:
    """A line for a person, beside the result."""
    print(text, file=sys.stderr)


def progress(text: str) -> None:
    """One line that is written over and over on a terminal; nothing in a pipe."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _number(low: float, high: float, text: str, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def seconds(text: str) -> float:
    """Argument: a duration."""
    return _number(0.1, 1e9, text, "a number of seconds")


def share(text: str) -> float:
    """Argument: a share of the frames."""
    return _number(1e-9, 1.0, text, "a share above 0 and at most 1")


def part(text: str) -> float:
    """Argument: a part of a set."""
    return _number(0.0, 0.9, text, "a part from 0 to 0.9")


def rate(text: str) -> float:
    """Argument: frames per second."""
    return _number(0.0, 1000.0, text, "a rate from 0 to 1000 frames per second")


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
