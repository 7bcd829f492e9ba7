"""Recordings: a video file, a folder of images, the rendered world. Their time is media time."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from agent.camera.capture import open_capture
from agent.errors import CameraError, ConfigError
from agent.records import Image

if TYPE_CHECKING:
    from agent.world import World

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
DEFAULT_FPS = 25.0
"""Of a video that does not say."""


class VideoFile:
    """A video; frames are timed by their own time stamps, so variable frame rates come out right."""

    name = ""

    def __init__(self, path: Path) -> None:
        """Raises CameraError when the file holds no video that can be decoded."""
        self._capture = open_capture(str(path))
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.spacing = 1 / fps if math.isfinite(fps) and 0.01 <= fps <= 1000 else 1 / DEFAULT_FPS
        self.skipped = 0
        self._t = -self.spacing

    def advance(self) -> float | None:
        if not self._capture.grab():
            return None
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        earliest = self._t + self.spacing / 1000
        # Some containers have no usable stamps, or start again from 0: then frames are counted on.
        self._t = stamp if math.isfinite(stamp) and stamp > earliest else self._t + self.spacing
        return self._t

    def image(self) -> Image | None:
        decoded, image = self._capture.retrieve()
        self.skipped += not decoded
        return np.asarray(image, np.uint8) if decoded else None

    def close(self) -> None:
        self._capture.release()


class Folder:
    """Images sorted by name, which is their order in time; `fps` is their spacing (0 counts as one second)."""

    def __init__(self, paths: Sequence[Path], fps: float) -> None:
        self._paths = paths
        self._at = -1
        self._image: Image | None = None
        self.spacing = 1 / fps if fps else 1.0
        self.skipped = 0
        self.name = ""

    def advance(self) -> float | None:
        """To the next image that can be read; the others are skipped, counted and logged."""
        while self._at + 1 < len(self._paths):
            self._at += 1
            path = self._paths[self._at]
            self._image = _read_image(path)
            if self._image is not None:
                self.name = path.name
                return self._at * self.spacing
            self.skipped += 1
            log.warning("image skipped", extra={"path": str(path), "error": "it cannot be decoded"})
        return None

    def image(self) -> Image | None:
        return self._image

    def close(self) -> None:
        self._image = None


class Rendered:
    """The rendered world: endless, and free of cameras."""

    name = ""
    skipped = 0

    def __init__(self, world: World) -> None:
        self._world = world
        self._index = -1
        self.spacing = 1 / world.fps

    def advance(self) -> float | None:
        self._index += 1
        return self._index * self.spacing

    def image(self) -> Image | None:
        return self._world.render(self._index)

    def close(self) -> None:
        """Nothing is held."""


def images_in(folder: Path) -> list[Path]:
    """Images of a folder sorted by name; raises ConfigError when there is none."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise ConfigError(f"folder {folder} cannot be read: {error.strerror}", remedy="check its permissions") from None
    if not paths:
        raise ConfigError(f"folder {folder} holds no images", remedy=f"one of {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def _read_image(path: Path) -> Image | None:
    try:
        content = np.fromfile(path, np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def check_first(source: VideoFile | Folder, where: str) -> None:
    """Raise CameraError unless the recording has at least one picture that can be decoded; closes it."""
    try:
        while source.advance() is not None:
            if source.image() is not None:
                return
    finally:
        source.close()
    raise CameraError(f"{where} has no picture that can be decoded", remedy="give a video or images that OpenCV reads")
