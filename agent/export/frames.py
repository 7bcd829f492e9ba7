"""The training and held-out sets of the demo model: rendered in worker processes, kept between runs."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2

from agent.export.moments import moments
from agent.world import view
from agent.world.classes import NAMES
from agent.world.truth import Thing

TRAIN_SEEDS, HELD_OUT_SEEDS = 1000, 2000
"""First seed of each set. Seed 1, the street of the demo, is in neither."""
PER_SEED = 40
"""Moments of each street."""
_SEEN = 0.25
"""Things less visible than this are not labelled."""


def render_set(folder: Path, first_seed: int, seeds: int, workers: int) -> dict[str, int]:
    """Render `seeds` streets from `first_seed` into `folder`, half size, with labels in YOLO format.

    Streets already rendered are kept. Returns labelled objects per class name.
    """
    for part in ("images", "labels", "counts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    wanted = range(first_seed, first_seed + seeds)
    missing = [seed for seed in wanted if not (folder / "counts" / f"{seed}.json").exists()]
    # Not forked: OpenCV's threads would leave their locks behind in the child.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_render_street, [folder] * len(missing), missing))
    total: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
    for seed in wanted:
        total.update(json.loads((folder / "counts" / f"{seed}.json").read_text()))
    return dict(total)


def _render_street(folder: Path, seed: int) -> None:
    cv2.setNumThreads(1)
    counts: Counter[str] = Counter()
    for index, moment in enumerate(moments(seed, PER_SEED)):
        name = f"{seed}_{index:03d}"
        small = cv2.resize(moment.image, (view.WIDTH // 2, view.HEIGHT // 2), interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), small, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        seen = labelled(moment.things)
        counts.update(NAMES[thing.cls] for thing in seen)
        (folder / "labels" / f"{name}.txt").write_text("".join(yolo_line(thing) for thing in seen))
    (folder / "counts" / f"{seed}.json").write_text(json.dumps(counts))


def labelled(things: list[Thing]) -> list[Thing]:
    """The things a person would label: not too hidden, not a mere edge of the picture (px)."""
    return [
        thing
        for thing in things
        if thing.visibility >= _SEEN and thing.box[2] - thing.box[0] >= 8 and thing.box[3] - thing.box[1] >= 10
    ]


def yolo_line(thing: Thing) -> str:
    """A label in YOLO format: class, centre and size as shares of the picture."""
    x1, y1, x2, y2 = thing.box
    values = ((x1 + x2) / 2 / view.WIDTH, (y1 + y2) / 2 / view.HEIGHT, (x2 - x1) / view.WIDTH, (y2 - y1) / view.HEIGHT)
    return f"{thing.cls} " + " ".join(f"{value:.6f}" for value in values) + "\n"
