"""What must not be seen: regions masked before inference, objects of chosen classes made unrecognisable before storage.

Everything fails closed: where a mask or a redaction cannot be applied there is no image. Redaction can only cover what
the model finds above the selection floor; where nobody may ever be recognisable, mask the region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from agent.errors import ConfigError, PrivacyError
from agent.records import Frame, Image, Rows
from agent.settings import CameraSettings

FILL = (114, 114, 114)
"""Of masks: the grey around a letterboxed image, which the model ignores and no brightness gate mistakes for night."""
MASK = "mask"
"""Names a mask among what was redacted."""
CELLS = 6
"""Of a pixelated object along its longer side: a person's head is smaller than one."""
MARGIN = 0.1
"""Of a box's width and height that is redacted around it, since boxes are seldom exact."""

Polygons = Sequence[Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class _Policy:
    masks: Polygons
    classes: dict[int, str]
    """Class index to name of what is redacted."""


class Privacy:
    """Masks and redaction of a device's cameras."""

    def __init__(self, cameras: Sequence[CameraSettings], classes: Sequence[str]) -> None:
        """`classes`: the model's. Raises ConfigError for a class to redact that the model does not know."""
        self._policies = {camera.name: _policy(camera, classes) for camera in cameras}

    def mask(self, frame: Frame) -> Frame:
        """The frame with its camera's masks filled, for everything that follows; raises PrivacyError."""
        masks = self._of(frame).masks
        return replace(frame, image=fill(frame.image, masks)) if masks else frame

    def redact(self, frame: Frame, rows: Rows) -> tuple[Image, tuple[str, ...]]:
        """The image to store of a frame, and what was redacted in it; raises PrivacyError.

        `rows` are all rows above the floor, served or not. Masks are filled once more: a frame that waited in a window
        may have been masked before an operator added one.
        """
        policy = self._of(frame)
        image, names = (fill(frame.image, policy.masks), (MASK,)) if policy.masks else (frame.image, ())
        if not policy.classes:
            return image, names
        chosen = rows[np.isin(rows[:, 5], list(policy.classes))]
        present = (name for c, name in policy.classes.items() if (chosen[:, 5] == c).any())
        return pixelate(image, chosen[:, :4]), (*names, *present)

    def _of(self, frame: Frame) -> _Policy:
        try:
            return self._policies[frame.camera]
        except KeyError:
            raise PrivacyError(f"camera {frame.camera} has no privacy policy") from None


def _policy(camera: CameraSettings, classes: Sequence[str]) -> _Policy:
    unknown = [name for name in camera.redact if name not in classes]
    if unknown:
        known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise ConfigError(
            f"camera {camera.name} is to redact {unknown[0]!r}, which the model does not know",
            remedy=f"the model knows: {known}",
        )
    return _Policy(camera.masks, {list(classes).index(name): name for name in camera.redact})


def fill(image: Image, polygons: Polygons) -> Image:
    """A copy with the polygons filled, one pixel beyond their edges; corners are shares (x, y) of width and height."""
    _check(image)
    height, width = image.shape[:2]
    masked: Image = image.copy()
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64)
        if corners.ndim != 2 or corners.shape[0] < 3 or corners.shape[1] != 2 or not np.isfinite(corners).all():
            raise PrivacyError("a mask is no polygon", remedy="give at least three corners [x, y] from 0 to 1")
        points = np.floor(corners * (width, height)).astype(np.int32)
        cv2.fillPoly(masked, [points], FILL)
        cv2.polylines(masked, [points], isClosed=True, color=FILL, thickness=3)
    return masked


def pixelate(image: Image, boxes: Rows) -> Image:
    """A copy in which boxes (n, 4) x1 y1 x2 y2, with a margin, show a few cells of their mean colour."""
    _check(image)
    if not np.isfinite(boxes).all():
        raise PrivacyError("an object to redact has no finite box")
    height, width = image.shape[:2]
    redacted: Image = image.copy()
    grow = MARGIN * (boxes[:, 2:] - boxes[:, :2]) + 1
    low = np.floor(np.clip(boxes[:, :2] - grow, 0, (width - 1, height - 1))).astype(int)
    high = np.ceil(np.clip(boxes[:, 2:] + grow, low + 1, (width, height))).astype(int)
    for (x1, y1), (x2, y2) in zip(low, high, strict=True):
        region = redacted[y1:y2, x1:x2]
        cell = max(x2 - x1, y2 - y1) / CELLS
        cells = max(1, round((x2 - x1) / cell)), max(1, round((y2 - y1) / cell))
        coarse = cv2.resize(region, cells, interpolation=cv2.INTER_AREA)
        redacted[y1:y2, x1:x2] = cv2.resize(coarse, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)
    return redacted


def _check(image: Image) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise PrivacyError(f"nothing can be hidden in an image of shape {image.shape} and type {image.dtype}")
