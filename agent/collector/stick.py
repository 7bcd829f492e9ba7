"""Candidates that came on a stick (``spool export``) instead of over the broker: the same checks, the same store."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.clock import Clock
from agent.collector.arrival import Incoming
from agent.collector.ingest import Ingest
from agent.collector.service import BATCH, open_staging
from agent.collector.store import Store
from agent.errors import ConfigError, TailkeeperError
from agent.records import Meta, make_item
from agent.settings import CollectorSettings
from agent.wire import encode_item


@dataclass(slots=True)
class Brought:
    """What a stick held: how many were stored, duplicate, rejected or damaged, and why."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)
    """By file or id."""


def bring(folder: Path, settings: CollectorSettings, store_folder: Path, clock: Clock) -> Brought:
    """Store what ``spool export`` put into `folder`; beside a running collector, and again without harm.

    Raises ConfigError where it is no such folder, OSError, StoreError.
    """
    if not (folder / "meta").is_dir():
        remedy = "name the folder with images/ and meta/"
        raise ConfigError(f"{folder}: nothing that `spool export` wrote", remedy=remedy)
    store = Store(store_folder, clock)
    staging = open_staging(settings, store_folder)
    ingest = Ingest(store, staging, clock, settings.max_image_bytes)
    brought = Brought()
    try:
        messages = _messages(folder, brought)
        while batch := list(itertools.islice(messages, BATCH)):
            for acks in ingest.candidates(batch).acks.values():
                brought.counts.update(ack.st for ack in acks.values())
                brought.problems.update({ack.cid: ack.why for ack in acks.values() if ack.why})
    finally:
        ingest.close()
        staging.close()
        store.close()
    return brought


def _messages(folder: Path, brought: Brought) -> Iterator[Incoming]:
    """Each candidate as its device would have sent it; what is damaged becomes a problem."""
    for path in sorted((folder / "meta").glob("*.json")):
        try:
            record: Mapping[str, object] = json.loads(path.read_bytes())
            meta = Meta.model_validate(record["meta"])
            item = make_item((folder / "images" / f"{path.stem}.jpg").read_bytes(), meta)
            if item.cid != path.stem or item.sha256 != record["sha256"]:
                raise ValueError("picture and metadata do not belong together")
        except (OSError, ValueError, KeyError, TypeError, TailkeeperError) as error:
            brought.problems[path.name] = f"damaged: {error}".splitlines()[0]
            brought.counts["damaged"] += 1
        else:
            yield Incoming(meta.device, encode_item(item))
