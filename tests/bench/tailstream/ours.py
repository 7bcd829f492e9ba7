"""Tailkeeper's own policy on a stream: the very `Selector` of the agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.records import Candidate
from agent.selection import Selector
from agent.settings import SelectionSettings
from tests.bench.tailstream.cache import Stream

UNLIMITED = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


def candidates(
    stream: Stream, counts: Sequence[int], odds: float, budget: float, seed: int, **policy: Any
) -> list[Candidate]:
    """What the agent would upload of this stream with its defaults and this budget."""
    settings = SelectionSettings(budget=budget, **{**UNLIMITED, **policy})
    selector = Selector(settings, serve=0.25, floor=0.02, classes=stream.classes, counts=counts, odds=odds, seed=seed)
    taken = []
    for frame, rows in stream.frames():
        selector.consider(frame, rows)
        taken += _charged(selector, selector.due())
    return taken + _charged(selector, selector.close())


def _charged(selector: Selector, due: list[Candidate]) -> list[Candidate]:
    for candidate in due:
        selector.charge(candidate, 100_000)
    return due
