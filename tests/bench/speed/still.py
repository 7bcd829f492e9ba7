"""A clip in which nothing moves: one frame of another clip under the noise of a sensor, compressed anew."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

NOISE = 2.5
"""Grey levels: an ordinary camera by day."""


def still_clip(source: Path, path: Path, *, frames: int = 150, fps: float = 5.0) -> Path:
    """Made of the first frame of `source`; `fps` is that of a camera whose every frame is considered."""
    there, view = cv2.VideoCapture(str(source)).read()
    assert there, source
    height, width = view.shape[:2]
    rng = np.random.default_rng(1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for _ in range(frames):
        noisy = view + rng.normal(0, NOISE, view.shape)
        writer.write(np.clip(noisy, 0, 255).astype(np.uint8))
    writer.release()
    return path
