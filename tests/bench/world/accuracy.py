"""How well a model sees the held-out streets: `python -m tests.bench.world.accuracy [--real ONNX]`.

The shipped model on all classes: mAP50 of head and tail, AP50 per class, calibration; on independent moments (as in
its model card) and on frames of running streets. A COCO model (`--real`, or the YOLO26n in the assets folder) on the
classes that COCO has too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from agent.detector import Detector
from agent.export.evaluate import Scored, average_precision, calibration_curve, mean_ap, score
from agent.export.frames import PER_SEED
from agent.export.moments import Moment, moments
from agent.records import Rows
from agent.world import World
from agent.world.classes import HEAD, NAMES, TAIL
from agent.world.truth import Thing, truth

SHIPPED = Path(__file__).resolve().parents[3] / "agent" / "world" / "model"
HELD_OUT = 2100
"""First of the streets that no model was trained on or calibrated with."""
COCO_NAMES = {
    "person": "person", "car": "car", "bicycle": "bicycle", "dog": "dog", "motorcycle": "motorcycle", "bus": "bus",
    "truck": "truck", "horse": "horse", "van": "truck",
}  # fmt: skip
"""What a COCO model may call the world's classes. COCO has no van: its labellers used truck, car and bus."""


def independent(streets: int) -> Iterator[Moment]:
    """Independent moments of the held-out streets."""
    for seed in range(HELD_OUT, HELD_OUT + streets):
        yield from moments(seed, PER_SEED)


def running(streets: int) -> Iterator[Moment]:
    """Frames of running streets, two seconds apart, day and night."""
    for seed in range(HELD_OUT, HELD_OUT + streets):
        world = World(f"street?seed={seed}&start={seed * 7 % 24}&rare=4")
        for index in range(0, 20 * PER_SEED, 20):
            yield Moment(world.render(index), truth(world, index))


def report(scored: Sequence[Scored], odds: float) -> dict[str, object]:
    """The figures of one set of frames."""
    precisions = [average_precision(part) for part in scored]
    return {
        "mAP50_head": round(mean_ap(precisions, HEAD), 4),
        "mAP50_tail": round(mean_ap(precisions, TAIL), 4),
        "mAP50_all": round(mean_ap(precisions, range(len(NAMES))), 4),
        "AP50": {
            name: None if math.isnan(value) else round(value, 4) for name, value in zip(NAMES, precisions, strict=True)
        },
        "objects": {name: part.objects for name, part in zip(NAMES, scored, strict=True)},
        "calibration": [[round(value, 4) for value in row] for row in calibration_curve(scored, odds)],
    }


def detections(detector: Detector, frames: Iterable[Moment]) -> Iterator[tuple[Rows, list[Thing]]]:
    """Rows and truth, frame by frame."""
    for moment in frames:
        yield detector.detect(moment.image), moment.things


def real(model: Path, streets: int) -> dict[str, object]:
    """Recall of a COCO model at confidence .25, per class of the world that COCO knows; vehicles pass as each other."""
    detector = Detector(model, floor=0.25)
    vehicles = {"car", "truck", "bus"}
    found, there = dict.fromkeys(COCO_NAMES, 0), dict.fromkeys(COCO_NAMES, 0)
    for rows, things in detections(detector, independent(streets)):
        named = [detector.classes[int(row[5])] for row in rows]
        for thing in things:
            name = NAMES[thing.cls]
            if name not in COCO_NAMES or thing.visibility < 0.5:
                continue
            wanted = vehicles if COCO_NAMES[name] in vehicles else {COCO_NAMES[name]}
            close = [row for row, label in zip(rows, named, strict=True) if label in wanted]
            there[name] += 1
            found[name] += bool(close) and _overlap(np.array(close), thing) > 0.5
    return {
        name: {"recall": round(found[name] / max(1, there[name]), 3), "objects": there[name]} for name in COCO_NAMES
    }


def _overlap(rows: Rows, thing: Thing) -> float:
    x1, y1, x2, y2 = thing.box
    width = np.clip(np.minimum(rows[:, 2], x2) - np.maximum(rows[:, 0], x1), 0, None)
    height = np.clip(np.minimum(rows[:, 3], y2) - np.maximum(rows[:, 1], y1), 0, None)
    inner = width * height
    area = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1]) + (x2 - x1) * (y2 - y1)
    return float((inner / (area - inner)).max())


def main() -> None:
    """Print the figures as JSON."""
    assets = Path(os.environ.get("TAILKEEPER_ASSETS", SHIPPED.parents[3] / "shared"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="bundle or ONNX of the world's classes")
    parser.add_argument("--real", type=Path, default=assets / "models" / "yolo26n.onnx", help="a COCO model")
    parser.add_argument("--streets", type=int, default=80, help="held-out streets, 40 frames each")
    options = parser.parse_args()
    detector = Detector(options.model, floor=0.02)
    result: dict[str, object] = {
        "moments": report(score(detections(detector, independent(options.streets)), len(NAMES)), detector.odds),
        "running": report(score(detections(detector, running(options.streets)), len(NAMES)), detector.odds),
    }
    if options.real.exists():
        result["real_model"] = real(options.real, max(1, options.streets // 10))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
