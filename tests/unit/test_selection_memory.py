"""Selection remembers a bounded amount, whatever a camera shows for however long."""

from __future__ import annotations

import gc
import sys
from types import FunctionType, ModuleType

import numpy as np
import pytest

from agent.records import Frame, Rows
from agent.selection import Selector
from agent.settings import RuleSettings, SelectionSettings
from agent.settings.sections import Shares

CLASSES = tuple(f"class {i}" for i in range(80))
FILLED = 2_500
"""Frames after which everything that selection keeps has been filled."""
POLICY = SelectionSettings(
    budget=0.2,
    window_frames=50,
    shares=Shares(uncertain=0.3, rare=0.3, canary=0.2, temporal=0.2),
    frames_per_day=0,
    bytes_per_day=0,
    labels_per_day=0,
    rules=(
        RuleSettings(name="often", probability=0.05, before=5, after=5),
        RuleSettings(name="crowd", count=(5, 100), cooldown_s=2, per_day=1000),
    ),
)


def size(root: object) -> int:
    """Bytes of everything that can be reached from `root`, code left out; what is shared counts once."""
    seen: set[int] = set()
    queue, total = [root], 0
    while queue:
        each = queue.pop()
        if id(each) in seen or isinstance(each, (type, ModuleType, FunctionType)):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        queue += gc.get_referents(each)
        if isinstance(each, np.ndarray) and each.base is not None:
            queue.append(each.base)
    return total


def novelty(rng: np.random.Generator, count: int) -> tuple[list[np.ndarray], list[Rows]]:
    """Pictures of places that have nothing in common, and detections of any class anywhere."""
    pictures = [rng.integers(20, 235, (36, 48, 3), dtype=np.uint8) for _ in range(count)]
    rows = []
    for _ in range(count):
        n = int(rng.integers(1, 12))
        corners = rng.uniform(0, 30, (n, 2))
        boxes = np.hstack([corners, corners + rng.uniform(3, 18, (n, 2))])
        rows.append(np.column_stack([boxes, rng.uniform(0.02, 1, n), rng.integers(0, 80, n)]).astype(np.float32))
    return pictures, rows


def sizes(frames: int, every: int) -> list[int]:
    """What the selector of one camera holds after each `every` of so many new frames, five a second."""
    rng = np.random.default_rng(1)
    selector = Selector(POLICY, serve=0.25, floor=0.02, classes=CLASSES, counts=None, odds=2.2, seed=1)
    held, picked = [], 0
    pictures, rows = novelty(rng, 997)
    for i in range(frames):
        shown = np.roll(pictures[i % 997], i // 997, axis=1)
        selector.consider(Frame("gate", shown, i, i / 5, i, i), rows[(i * 7) % 997])
        for candidate in selector.due():
            selector.charge(candidate, 50_000)
            picked += 1
        if (i + 1) % every == 0:
            held.append(size(selector))
    assert picked > 0.1 * frames
    return held


def test_what_selection_remembers_stops_growing() -> None:
    first, *later = sizes(3 * FILLED, FILLED)
    assert max(later) < 1.1 * first


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_new_frames_take_no_more_memory_than_the_first_few_thousand() -> None:
    first, *later = sizes(100_000, FILLED)
    assert max(later) < 1.1 * first
