"""``tailkeeper dataset``: from the collector's store to labelling tools and back, then to a training set."""

from __future__ import annotations

import argparse

from agent.cli.shell import Commands, command, group, print_json, print_table
from agent.settings import load


def add_commands(commands: Commands) -> None:
    """Add ``dataset``."""
    dataset = group(commands, "dataset", "the collector's store and what becomes of it")
    command(dataset, "ls", _ls, "stored candidates (JSON lines with --json)", config=True, json=True)


def _ls(arguments: argparse.Namespace) -> int:
    from agent.collector import listing

    rows = listing(load(arguments.config).require_store())
    if arguments.json:
        for row in rows:
            print_json(row)
    else:
        print_table(rows, ("cid", "device", "camera", "ts", "lane", "score", "bytes", "label"))
    return 0
