"""Commands of the collector's machine."""

from __future__ import annotations

import argparse

from agent.cli.shell import Commands, command, group, print_json, print_table, stop_on_signals
from agent.clock import SystemClock
from agent.settings import load


def add_commands(commands: Commands) -> None:
    """Add ``collect`` and ``dataset``."""
    command(commands, "collect", _collect, "the collector service", config=True)
    dataset = group(commands, "dataset", "the collector's store and what becomes of it")
    command(dataset, "ls", _dataset_ls, "stored candidates (JSON lines with --json)", config=True, json=True)


def _collect(arguments: argparse.Namespace) -> int:
    from agent.collector import CollectorService
    from agent.health import Notifier, setup_logging

    loaded = load(arguments.config)
    loaded.require_collector()
    setup_logging(json=True, level="info")
    notifier, stop = Notifier(), stop_on_signals()
    CollectorService(loaded.settings, SystemClock()).run(stop, started=notifier.ready)
    return 0


def _dataset_ls(arguments: argparse.Namespace) -> int:
    from agent.collector import listing

    loaded = load(arguments.config)
    rows = listing(loaded.require_store())
    if arguments.json:
        for row in rows:
            print_json(row)
    else:
        print_table(rows, ("cid", "device", "camera", "ts", "lane", "score", "bytes", "label"))
    return 0
