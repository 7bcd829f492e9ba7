"""Desired configuration as the operator writes it: read, validate, publish, compare."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, WireError
from agent.fleet.link import Link
from agent.settings import leaves, load, merge, remote_keys
from agent.wire import DesiredConfig, ReportedConfig


@dataclass(frozen=True, slots=True)
class Target:
    """A level of desired configuration: all devices, a group, or one device."""

    level: str
    """``all``, ``groups.<name>`` or ``device``, as devices report it."""
    owner: str
    """Its place in the topic."""

    @classmethod
    def parse(cls, text: str) -> Target:
        """``all``, ``group:<name>``, or a device's id."""
        if text == "all":
            return cls("all", "_all")
        if text.startswith("group:"):
            name = text.removeprefix("group:")
            return cls(f"groups.{name}", f"_g_{name}")
        return cls("device", text)

    def seen(self, report: ReportedConfig) -> int:
        """The highest version of this level that a device has seen."""
        if self.level == "all":
            return report.seen.all
        return report.seen.device if self.level == "device" else report.seen.groups.get(self.level[7:], 0)


def get(link: Link, target: Target) -> DesiredConfig:
    """What is desired at a level now; version 0 where nothing is."""
    payload = link.desired.get(target.owner)
    try:
        return DesiredConfig.decode(payload) if payload else DesiredConfig(version=0, values={})
    except WireError:
        return DesiredConfig(version=0, values={})


def put(link: Link, target: Target, changes: Mapping[str, Any], *, replace: bool = False) -> DesiredConfig:
    """Merge changes into a level's desired configuration and publish it; returns what was published."""
    wanted = prepare(link, target, changes, replace=replace)
    publish(link, target, wanted)
    return wanted


def prepare(link: Link, target: Target, changes: Mapping[str, Any], *, replace: bool = False) -> DesiredConfig:
    """A level's next desired configuration: changes merged into what is desired there, or in its place; validated.

    Raises ConfigError for what no device would take.
    """
    present = get(link, target)
    values = dict(changes) if replace else merge(present.values, changes)
    check(link, target, values)
    return DesiredConfig(version=_newest(link, target, present.version) + 1, values=values)


def publish(link: Link, target: Target, wanted: DesiredConfig) -> None:
    link.publish(link.topics(target.owner).dn("config"), wanted.encode(), retain=True)


def check(link: Link, target: Target, values: Mapping[str, Any]) -> None:
    """Raise ConfigError where no device would take these values; a known device's own values are taken into account."""
    report = link.device(target.owner).config if target.level == "device" else None
    reported = _settable(report.values) if report else {}
    cameras = {**reported.get("cameras", {}), **_tables(values, "cameras")}
    if report:
        cameras = report.values.get("cameras", {})
    stand_ins = {name: {"name": name, "source": "0"} for name in cameras}
    load(Path(os.devnull), command_line={"cameras": stand_ins}, environ={}).with_desired(merge(reported, values))


def differences(link: Link, device: str) -> list[dict[str, Any]]:
    """Where a device does not do what is desired of it: rows of key, desired, reported."""
    report = link.device(device).config
    groups = [f"_g_{name}" for name in link.device(device).groups]
    levels = [Target("", owner) for owner in ("_all", *groups, device)]
    wanted = merge(*(get(link, target).values for target in levels))
    reported = dict(leaves(report.values)) if report else {}
    return [
        {"key": key, "desired": value, "reported": reported.get(key)}
        for key, value in leaves(wanted)
        if reported.get(key) != value
    ]


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """``["selection.budget=0.03", ...]`` as nested values; each value is JSON, or text where it is none."""
    changes: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise ConfigError(f"{text!r} is not of the form KEY=VALUE", remedy="write selection.budget=0.03")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        for key in reversed(path.split(".")):
            parsed = {key: parsed}
        changes = merge(changes, parsed)
    return changes


def _newest(link: Link, target: Target, retained: int) -> int:
    """Devices that refused a version want a higher one than they have seen."""
    devices = [link.device(target.owner)] if target.level == "device" else link.known()
    return max([retained, *(target.seen(device.config) for device in devices if device.config)])


def _settable(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of reported values that may be set from afar, by this side's knowledge."""
    kept: dict[str, Any] = {}
    for key in remote_keys():
        section, _, name = key.partition(".")
        table = _tables(values, section)
        if section == "cameras":
            for camera, own in table.items():
                if name in own:
                    kept.setdefault(section, {}).setdefault(camera, {})[name] = own[name]
        elif name in table:
            kept.setdefault(section, {})[name] = table[name]
    return kept


def _tables(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    found = values.get(section)
    return dict(found) if isinstance(found, Mapping) else {}
