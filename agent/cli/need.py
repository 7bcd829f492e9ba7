"""``tailkeeper dataset need``: what the training set still needs, for people and for the fleet."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from agent.cli.shell import Commands, command, print_json
from agent.clock import SystemClock
from agent.errors import ConfigError
from agent.settings import Settings, load


def add_command(dataset: Commands) -> None:
    """Add it to the group ``dataset``."""
    text = "class weights from a version's training set, verdicts per camera; --publish tells the fleet"
    parser = command(dataset, "need", _need, text, config=True, json=True)
    parser.add_argument("version", type=Path, metavar="VERSION", help="a folder that `dataset build` made")
    parser.add_argument("--publish", action="store_true", help="retained on the broker of [broker]")
    parser.add_argument("--to", default="all", metavar="WHOM", help="all (default) or group:NAME")


def _need(arguments: argparse.Namespace) -> int:
    from agent.dataset.need import weights
    from agent.dataset.versions.record import read_version

    settings = load(arguments.config).settings
    version = read_version(arguments.version)
    document: dict[str, Any] = {
        "version": version.card.version,
        "weights": weights(version),
        "verdicts": _verdicts(settings),
    }
    published = _publish(settings, arguments.to, document) if arguments.publish else None
    if arguments.json:
        print_json({**document, "to": arguments.to, "published": published})
        return 0
    for name, weight in sorted(document["weights"].items(), key=lambda item: -item[1]):
        print(f"{weight:.3f}  {name} ({version.card.classes[name].get('train', 0)} in train)")
    for camera, numbers in document["verdicts"].items():
        print(f"{camera}: {', '.join(f'{verdict} {n}' for verdict, n in numbers.items())}")
    if published is not None:
        print(f"published to {arguments.to} as need map {published}")
    return 0


def _verdicts(settings: Settings) -> dict[str, dict[str, int]]:
    """Of the store, where there is one."""
    from agent.collector import LabelStore
    from agent.dataset.need import verdicts

    if settings.collector.store is None:
        return {}
    with LabelStore(settings.collector.store, SystemClock()) as store:
        return verdicts(store)


def _publish(settings: Settings, to: str, document: dict[str, Any]) -> int:
    """The number of the published map."""
    from agent.fleet import Link
    from agent.fleet.config import Target
    from agent.fleet.need import TOPICS, publish

    if not settings.broker.host:
        raise ConfigError("broker.host: not set", remedy="say which broker in the config file")
    with Link(settings.broker, SystemClock(), random.Random(), topics=TOPICS) as link:
        return publish(link, Target.parse(to), document["weights"], document["verdicts"]).version
