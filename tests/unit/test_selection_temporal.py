"""What three frames in a row tell of the middle one."""

from __future__ import annotations

import numpy as np
import pytest

from agent.selection.scores import Evidence, weigh
from agent.selection.temporal import events


def seen(*objects: tuple[int, float, float]) -> Evidence:
    """Objects as (class, left edge, confidence), 20 x 20 pixels in a frame of 100 x 100."""
    rows = np.array([(x, 10, x + 20, 30, confidence, cls) for cls, x, confidence in objects], np.float32)
    return weigh(rows.reshape(-1, 6), 100, 100, serve=0.25, odds=2.2, weights=np.ones(3))


DOG, CAT = 0, 1


@pytest.mark.parametrize(
    ("before", "now", "after", "kind"),
    [
        (seen((DOG, 10, 0.9)), seen(), seen((DOG, 14, 0.9)), "lost"),
        (seen((DOG, 10, 0.9)), seen((DOG, 12, 0.1)), seen((DOG, 14, 0.9)), "lost"),
        (seen(), seen((DOG, 10, 0.4)), seen(), "isolated"),
        (seen((DOG, 10, 0.2)), seen((DOG, 10, 0.3)), seen((DOG, 10, 0.2)), "flicker"),
        (seen((CAT, 10, 0.9)), seen((DOG, 10, 0.4)), seen((CAT, 10, 0.9)), "flip"),
    ],
)
def test_each_inconsistency_is_counted_once_and_as_itself(
    before: Evidence, now: Evidence, after: Evidence, kind: str
) -> None:
    counted = events(before, now, after, 0.25)
    assert {name: n for name, n in counted.items() if n} == {kind: 1}


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [
        (seen(), seen(), seen()),
        (seen((DOG, 10, 0.9)), seen((DOG, 12, 0.9)), seen((DOG, 14, 0.9))),
        (seen(), seen((DOG, 10, 0.9)), seen((DOG, 12, 0.9))),
        (seen((DOG, 10, 0.9)), seen(), seen()),
    ],
)
def test_what_comes_stays_or_goes_is_consistent(before: Evidence, now: Evidence, after: Evidence) -> None:
    assert events(before, now, after, 0.25).total() == 0
