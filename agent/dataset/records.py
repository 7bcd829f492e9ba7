"""What travels between the store and a labelling tool: tasks out, human labels in.

A `Prediction` is a guess and a `Label` is a person's word. They are different types, and nothing turns one
into the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agent.records import Lane, Verdict

__all__ = ["Box", "Label", "Labels", "Prediction", "Problem", "Task", "Verdict"]


@dataclass(frozen=True, slots=True)
class Box:
    """An object of class `name`: x1 y1 x2 y2 in pixels of the stored image."""

    name: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model saw: a pre-annotation, never a label."""

    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class Task:
    """One stored candidate as work for a labeller."""

    cid: str
    image: Path
    """The stored JPEG."""
    width: int
    height: int
    device: str
    camera: str
    ts: str
    lane: Lane
    score: float
    probability: float | None
    model: str
    reasons: tuple[str, ...]
    priority: float
    """Higher first; within one export only the order counts."""
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says of one candidate. Verdict "nothing" and no boxes: an empty frame, a label like any other."""

    cid: str
    width: int
    """Size (pixels) of the image that was labelled; boxes are in its pixels."""
    height: int
    boxes: tuple[Box, ...]
    verdict: Verdict
    who: str
    when: str
    """RFC 3339."""
    tool: str
    partial: bool = False
    """The tool says that the work on this frame is not finished."""
    confirmed: bool = False
    """The tool's own file says that a person looked at this frame and accepted what was drawn before. Without it, boxes
    that are a pre-annotation's to the last digit are not taken for a person's word."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a tool's file that is not taken, and why: where, what, what would be right."""

    where: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What a tool's file holds: labels that can be taken, and problems that a person has to look at."""

    labels: tuple[Label, ...]
    problems: tuple[Problem, ...] = field(default=())
