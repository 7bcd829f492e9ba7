"""Which instances the model gets wrong in which frame: missed objects and wrong rows, each distinct one with an id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.records import Rows
from agent.selection.scores import overlap
from tests.bench.tailstream.cache import Stream

_MATCH = 0.5
_SAME_PLACE = 0.3
"""IoU in scene coordinates from which two wrong rows of one class are one instance."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a labeller would find in one frame; ids are unique over the stream."""

    errors: frozenset[int]
    tail_errors: frozenset[int]
    tail: frozenset[int]
    """Objects of tail classes that are to be seen."""
    objects: int
    """Boxes a labeller draws."""
    count: int
    """Errors in this frame, not only distinct ones: what the canary lane estimates."""


def judge(stream: Stream, tail: frozenset[int], serve: float) -> list[Verdict]:
    """The verdict on every frame."""
    places = _Places()
    return list(_verdicts(stream, tail, serve, places))


def _verdicts(stream: Stream, tail: frozenset[int], serve: float, places: _Places) -> Iterator[Verdict]:
    height, width = stream.images.shape[1:3]
    relative = np.array([width, height, width, height], np.float32)
    for index, rows in enumerate(stream.rows):
        truth = stream.truth[index]
        served = rows[rows[:, 4] >= serve]
        boxes = served[:, :4] / relative
        missed, wrong = _match(served, boxes, truth)
        judged = truth[truth[:, 6] == 0]
        errors = {int(t[0]): int(t[1]) for t in truth[missed]}
        for row in wrong:
            cls = int(served[row, 5])
            errors[places.of(int(stream.scenes[index]), stream.poses[index], cls, boxes[row], judged)] = cls
        rare = frozenset(int(t[0]) for t in judged if int(t[1]) in tail)
        tail_errors = frozenset(i for i, cls in errors.items() if cls in tail)
        yield Verdict(frozenset(errors), tail_errors, rare, len(judged), len(missed) + len(wrong))


def _match(served: Rows, boxes: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[list[int], list[int]]:
    """Indices of missed objects and of wrong rows: greedy by confidence, same class, IoU .5."""
    iou = overlap(boxes, truth[:, 2:6]) if len(served) and len(truth) else np.zeros((len(served), len(truth)))
    same = served[:, 5][:, None] == truth[:, 1][None, :]
    free, wrong = np.ones(len(truth), bool), []
    for row in np.argsort(-served[:, 4], kind="stable"):
        fit = np.where(same[row] & free, iou[row], 0.0)
        if len(fit) and fit.max() >= _MATCH:
            free[int(fit.argmax())] = False
        elif not ((iou[row] > 0.4) & (truth[:, 6] == 1)).any():
            wrong.append(int(row))
    return [int(i) for i in np.flatnonzero(free & (truth[:, 6] == 0))], wrong


@dataclass(slots=True)
class _Places:
    """Ids of wrong rows: on one object (a wrong name or box), else by class and place in the scene."""

    _on_object: dict[tuple[int, int], int] = field(default_factory=dict)
    _in_scene: dict[tuple[int, int], list[tuple[int, NDArray[np.float64]]]] = field(default_factory=dict)
    _next: int = -1

    def of(
        self, scene: int, pose: NDArray[np.float64], cls: int, box: NDArray[np.float32], judged: NDArray[np.float32]
    ) -> int:
        if len(judged):
            iou = overlap(box[None], judged[:, 2:6])[0]
            if iou.max() >= _SAME_PLACE:
                key = (int(judged[int(iou.argmax()), 0]), cls)
                return self._on_object.setdefault(key, self._new())
        left, top, width = pose
        height = width * 0.75 if width > 1 else 1.0
        place = box * np.array([width, height] * 2) + np.array([left, top] * 2)
        known = self._in_scene.setdefault((scene, cls), [])
        for index, other in known:
            if overlap(place[None], other[None])[0, 0] >= _SAME_PLACE:
                return index
        known.append((self._new(), place))
        return known[-1][0]

    def _new(self) -> int:
        self._next -= 1
        return self._next
