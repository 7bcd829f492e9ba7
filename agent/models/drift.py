"""Whether a model that went live behaves like the one before: latency, confidence, class mix, errors."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from agent.records import Record

MIN_FRAMES = 50
"""Frames of a model before anything is said about it: fewer than that and one passing bus is a change of class mix."""
SLOWER = 2.0
CONFIDENCE_SHIFT = 0.25
RATE_FACTOR = 8.0
"""Served detections per frame may change by this factor; day and night differ by about 3."""
MIX_DISTANCE = 0.8
"""Total variation distance between the class mixes: another time of day measures up to .5, a wrong class list 1."""
ERROR_SHARE = 0.02


class Pulse(Record):
    """What a running model has done since it went live; all sums only grow."""

    frames: int = 0
    errors: int = 0
    """Frames on which the model failed."""
    infer_s: float = 0.0
    served: dict[str, int] = Field(default_factory=dict)
    """Served detections per class name."""
    confidence: float = 0.0
    """Sum of the served detections' confidences."""


def judge(before: Pulse, after: Pulse) -> str | None:
    """Why the model of `after` is not fit to stay, compared with the one of `before`; None where it is."""
    tried = after.frames + after.errors
    if after.errors > max(2.0, ERROR_SHARE * tried):
        return f"it failed on {after.errors} of {tried} frames"
    if min(before.frames, after.frames) < MIN_FRAMES:
        return None
    was, now = before.infer_s / before.frames, after.infer_s / after.frames
    if now > SLOWER * was:
        return f"it takes {now * 1e3:.0f} ms a frame where the one before took {was * 1e3:.0f}"
    if sum(before.served.values()) < MIN_FRAMES:
        return None
    return _judge_detections(before, after)


def _judge_detections(before: Pulse, after: Pulse) -> str | None:
    objects, found = sum(before.served.values()), sum(after.served.values())
    rate = (found / after.frames) / (objects / before.frames)
    if not 1 / RATE_FACTOR <= rate <= RATE_FACTOR:
        return f"it finds {rate:.2g} times as many objects a frame as the one before"
    shift = after.confidence / found - before.confidence / objects
    if abs(shift) > CONFIDENCE_SHIFT:
        return f"its mean confidence differs by {shift:+.2f}"
    distance = mix_distance(before.served, after.served)
    return f"its class mix differs by {distance:.2f} of 1" if distance > MIX_DISTANCE else None


def mix_distance(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Total variation distance of two class mixes: 0 the same, 1 nothing in common."""
    total, total_other = max(sum(one.values()), 1), max(sum(other.values()), 1)
    names = one.keys() | other.keys()
    return sum(abs(one.get(name, 0) / total - other.get(name, 0) / total_other) for name in names) / 2
