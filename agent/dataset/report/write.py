"""Gather, draw, write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agent import durable
from agent.clock import Clock
from agent.collector import LabelStore
from agent.dataset.report.accuracy import considered, error_rate
from agent.dataset.report.facts import gather
from agent.dataset.report.page import page
from agent.errors import ConfigError

TILES = 8
"""Pictures of each lane: about 100 kB."""


def report(store: LabelStore, out: Path, trained: Mapping[str, int] | None, clock: Clock) -> dict[str, Any]:
    """Write the report on a store to the file `out`; `trained` are objects by class in the training set, if known.

    Returns its main numbers. Raises ConfigError where the file cannot be written.
    """
    facts = gather(store, TILES)
    now = datetime.fromtimestamp(clock.wall_ns() / 1e9, timezone.utc)
    text = page(facts, store.folder, trained, now).encode()
    try:
        durable.write(out.absolute(), text, mode=0o644)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}", remedy="name a file that may be written with --out") from None
    errors = error_rate(facts.canaries) if facts else None
    return {
        "out": str(out),
        "bytes": len(text),
        "candidates": facts.candidates if facts else 0,
        "frames": round(considered(facts.canaries)) if facts else 0,
        "errors_per_frame": {"mean": errors.mean, "low": errors.low, "high": errors.high} if errors else None,
        "labelled_canaries": sum(canary.errors is not None for canary in facts.canaries) if facts else 0,
    }
