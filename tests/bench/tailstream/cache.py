"""The model's rows for a stream, computed once and kept on disk, so that policies can be tried in seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.records import Frame, Image, Rows
from tests.bench.tailstream.shot import FPS, Plan

SMALL = 160, 120
"""Width and height of the pictures that policies get: enough for every signature, small enough to keep."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as policies see it (`frames`), and its truth, which they do not."""

    name: str
    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    """(frames, height, width, 3), small."""
    rows: tuple[Rows, ...]
    """In pixels of the small pictures."""
    truth: tuple[NDArray[np.float32], ...]
    """As `Shot.truth`."""
    scenes: NDArray[np.int64]
    poses: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def frames(self) -> Iterator[tuple[Frame, Rows]]:
        """What a policy is shown, in order."""
        for index, (image, rows) in enumerate(zip(self.images, self.rows, strict=True)):
            t = index / FPS
            yield Frame(self.name, image, index, t, int(t * 1e9), int(t * 1e9)), rows


def cached(folder: Path, plan: Plan, detect: Callable[[Image], Rows], classes: tuple[str, ...]) -> Stream:
    """The stream of this plan from the cache, or rendered, looked at by the model and put there."""
    path = folder / f"{plan.name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, allow_pickle=False, **_render(plan, detect))
        partial.rename(path)
    with np.load(path) as kept:
        cuts, truth_cuts = np.cumsum(kept["row_counts"])[:-1], np.cumsum(kept["truth_counts"])[:-1]
        rows = tuple(np.split(kept["rows"], cuts))
        truth = tuple(np.split(kept["truth"], truth_cuts))
        return Stream(plan.name, classes, kept["images"], rows, truth, kept["scenes"], kept["poses"])


def _render(plan: Plan, detect: Callable[[Image], Rows]) -> dict[str, NDArray[np.generic]]:
    images, rows, truth, scenes, poses = [], [], [], [], []
    for shot in plan.shots():
        height, width = shot.image.shape[:2]
        scale = np.array([SMALL[0] / width, SMALL[1] / height] * 2 + [1, 1], np.float32)
        images.append(cv2.resize(shot.image, SMALL, interpolation=cv2.INTER_AREA))
        rows.append(detect(shot.image) * scale)
        truth.append(shot.truth)
        scenes.append(shot.scene)
        poses.append(shot.pose)
    return {
        "images": np.stack(images),
        "rows": np.concatenate(rows),
        "row_counts": np.array([len(r) for r in rows]),
        "truth": np.concatenate(truth),
        "truth_counts": np.array([len(t) for t in truth]),
        "scenes": np.array(scenes),
        "poses": np.array(poses),
    }
