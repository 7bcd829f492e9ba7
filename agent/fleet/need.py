"""The fleet's need map as the operator publishes it: retained, for all devices or a group."""

from __future__ import annotations

from collections.abc import Mapping

from agent.errors import ConfigError, WireError
from agent.fleet.config import Target
from agent.fleet.link import Link
from agent.wire import NeedMap

TOPICS = ("dn/need",)
"""What a link has to listen to: the map that is there says which version the next one has."""


def publish(
    link: Link, target: Target, weights: Mapping[str, float], verdicts: Mapping[str, Mapping[str, int]]
) -> NeedMap:
    """Publish the next need map of a level; raises ConfigError for a single device, BrokerError."""
    if target.level == "device":
        raise ConfigError(f"{target.owner} is a device", remedy="a need map is for all or for group:NAME")
    wanted = NeedMap(version=_retained(link, target) + 1, weights=dict(weights), verdicts=dict(verdicts))
    link.publish(link.topics(target.owner).dn("need"), wanted.encode(), retain=True)
    return wanted


def _retained(link: Link, target: Target) -> int:
    payload = link.desired.get(target.owner)
    try:
        return NeedMap.decode(payload).version if payload else 0
    except WireError:
        return 0
