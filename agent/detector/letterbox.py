"""Fit an image into the model's input as Ultralytics does (8.4, ``LetterBox`` and ``scale_boxes``), and boxes back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.records import Image

cv2.setNumThreads(1)
"""Every picture is in a thread of its own already: OpenCV's threads would wait for cores that inferences keep busy, and
a resize of .2 ms took 1.1."""

Blob: TypeAlias = NDArray[np.floating]
"""The input tensor: RGB / 255, shape (1, 3, height, width), float32 or float16."""

PADDING = 114
"""Grey value around the image."""
_SCALE = np.float32(1 / 255)


@dataclass(frozen=True, slots=True)
class Fit:
    """Where an image lies in the model's input; all in pixels."""

    size: tuple[int, int]
    """Height and width of the input."""
    inner: tuple[int, int]
    """Height and width of the resized image in it."""
    top: int
    left: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the input that hold the image."""
        height, width = self.inner
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@lru_cache(maxsize=64)
def fit(image: tuple[int, int], largest: tuple[int, int], stride: int = 0) -> Fit:
    """Fit an image of (height, width) into an input of at most `largest` (height, width).

    With a stride the input shrinks to the smallest multiples of it around the image (Ultralytics' `rect`, which it uses
    for models with dynamic shapes). Python's round-half-even and the 0.1 are Ultralytics' own: boxes depend on both.
    """
    ratio = min(largest[0] / image[0], largest[1] / image[1])
    inner = (max(round(image[0] * ratio), 1), max(round(image[1] * ratio), 1))
    spare = [limit - side for limit, side in zip(largest, inner, strict=True)]
    if stride:
        spare = [gap % stride for gap in spare]
    before = [round(gap / 2 - 0.1) for gap in spare]
    after = [round(gap / 2 + 0.1) for gap in spare]
    return Fit(
        size=(inner[0] + before[0] + after[0], inner[1] + before[1] + after[1]),
        inner=inner,
        top=before[0],
        left=before[1],
    )


class Letterbox:
    """Turns images into the model's input tensor, in buffers that are kept from frame to frame.

    Only the image's part of the tensor is written, plane by plane: a third of the time that turning the whole canvas
    around takes (.36 instead of .66 ms for 768x432 into 640x640 on one x86 core), and bit for bit the same.
    """

    def __init__(self, largest: tuple[int, int], *, stride: int = 0, half: bool = False) -> None:
        """`largest`: height and width of the input; `stride`: 0 for a fixed shape; `half`: float16, not float32."""
        self._largest = largest
        self._stride = stride
        self._type = np.float16 if half else np.float32
        self._fit: Fit | None = None
        self._inner: Image = np.empty((0, 0, 3), np.uint8)
        self._planes: list[NDArray[np.uint8]] = []
        self._blob: Blob = np.empty((1, 3, 0, 0), self._type)

    def blob(self, image: Image) -> tuple[Blob, Fit]:
        """RGB / 255 as (1, 3, height, width), valid until the next call, and where the image lies in it."""
        place = fit(image.shape[:2], self._largest, self._stride)
        if place != self._fit:
            self._fit = place
            self._inner = np.empty((*place.inner, 3), np.uint8)
            self._planes = [np.empty(place.inner, np.uint8) for _ in range(3)]
            self._blob = np.full((1, 3, *place.size), np.float32(PADDING) * _SCALE, self._type)
        if image.shape[:2] != place.inner:
            cv2.resize(image, place.inner[::-1], dst=self._inner, interpolation=cv2.INTER_LINEAR)
            image = self._inner
        cv2.split(image, self._planes)
        for plane, out in zip(reversed(self._planes), self._blob[0], strict=True):
            np.multiply(plane, _SCALE, out=out[place.window], dtype=np.float32, casting="same_kind")
        return self._blob, place


def unfit(boxes: NDArray[np.float32], place: Fit, image: tuple[int, int]) -> None:
    """Move boxes (n, 4) x1 y1 x2 y2 in place from pixels of the input to pixels of the image, clipped to it."""
    height, width = image
    boxes -= np.array((place.left, place.top) * 2, np.float32)
    boxes /= np.array((place.inner[1] / width, place.inner[0] / height) * 2, np.float32)
    np.clip(boxes, 0, np.array((width, height) * 2, np.float32), out=boxes)
