"""How good a model is on the held-out streets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.detector import Detector
from agent.export.bundle import FLOOR
from agent.export.evaluate import average_precision, mean_ap, score
from agent.records import Rows
from agent.world.classes import HEAD, NAMES, TAIL
from agent.world.truth import Thing
from tests.bench.collapse.streets import Street, picture


def judge(model: Path, streets: Sequence[Street]) -> dict[str, Any]:
    """Average precision at IoU .5: head, tail, all and per class, with the number of objects."""
    scored = score(_frames(Detector(model, floor=FLOOR, threads=1), streets), len(NAMES))
    each = [average_precision(part) for part in scored]
    return {
        "head": mean_ap(each, HEAD),
        "tail": mean_ap(each, TAIL),
        "all": mean_ap(each, range(len(NAMES))),
        "classes": {name: None if math.isnan(ap) else ap for name, ap in zip(NAMES, each, strict=True)},
        "objects": {name: part.objects for name, part in zip(NAMES, scored, strict=True)},
    }


def _frames(detector: Detector, streets: Sequence[Street]) -> Iterator[tuple[Rows, list[Thing]]]:
    for street in streets:
        for name, things in street.truth().items():
            yield detector.detect(picture(street.folder / "frames" / name)), things
