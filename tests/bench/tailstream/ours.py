"""Tailkeeper's own policy on a stream: the very `Selector` of the agent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

from agent.records import Candidate, Vector
from agent.selection import Selector
from agent.settings import SelectionSettings
from tests.bench.tailstream.cache import Stream

UNLIMITED = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


def candidates(
    stream: Stream,
    counts: Sequence[int],
    odds: float,
    budget: float,
    seed: int,
    embeddings: Sequence[Vector] = (),
    **policy: Any,
) -> list[Candidate]:
    """What the agent would upload of this stream with its defaults and this budget; `embeddings` are of its frames."""
    settings = SelectionSettings(budget=budget, **{**UNLIMITED, **policy})
    selector = Selector(
        settings,
        serve=0.25,
        floor=0.02,
        classes=stream.classes,
        counts=counts,
        odds=odds,
        seed=seed,
        embedding=len(embeddings[0]) if embeddings else 0,
    )
    taken = []
    for (frame, rows), embedding in zip(stream.frames(), embeddings or repeat(None)):  # noqa: B905 - repeat is endless
        if selector.moves(frame) or not selector.pass_over(frame):
            selector.consider(frame, rows, embedding)
        taken += _charged(selector, selector.due())
    return taken + _charged(selector, selector.close())


def _charged(selector: Selector, due: list[Candidate]) -> list[Candidate]:
    for candidate in due:
        selector.charge(candidate, 100_000)
    return due
