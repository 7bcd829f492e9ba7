"""The collector's service."""

from __future__ import annotations

import argparse

from agent.cli.shell import Commands, command, stop_on_signals
from agent.clock import SystemClock
from agent.settings import load


def add_commands(commands: Commands) -> None:
    """Add ``collect``."""
    command(commands, "collect", _collect, "the collector service", config=True)


def _collect(arguments: argparse.Namespace) -> int:
    from agent.collector import CollectorService
    from agent.health import Notifier, setup_logging

    loaded = load(arguments.config)
    loaded.require_collector()
    setup_logging(json=True, level="info")
    notifier, stop = Notifier(), stop_on_signals()
    CollectorService(loaded.settings, SystemClock()).run(stop, started=notifier.ready)
    return 0
