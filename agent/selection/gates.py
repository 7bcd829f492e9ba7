"""Frames that no human should see: black, blown out, blurred, frozen. The counts feed the camera's health."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from agent.records import Image
from agent.selection.scores import Floats

Gate = Literal["black", "blown_out", "blurred", "frozen"]
GATES: tuple[Gate, ...] = ("black", "blown_out", "blurred", "frozen")

SIZE = 24, 18
"""Width and height of the thumbnail that everything about the picture as a whole is read from."""

_BLACK = 10.0
"""Brightest cell of the thumbnail, of 255: a lens cap or a dead sensor; street lamps alone are brighter."""
_WHITE = 247.0
"""Darkest cell of the thumbnail."""
_STEP, _REACH = 1, 8
_SHARP = 0.2
"""Steepest step between neighbours over that of pixels 8 apart: 1/8 is a straight ramp, 1 an edge; an edge that is
blurred with a sigma of 8 pixels comes to .14. Usable pictures of COCO, clips and the street start at .33."""
_FLAT = 4.0
"""Steepest step of pixels 8 apart, in grey levels, below which there is nothing to be sharp."""
_FROZEN_FRAMES = 10
"""Bit-equal frames in a row before the view counts as frozen: sensors have noise, but codecs repeat a still frame."""


def thumbnail(image: Image) -> Floats:
    """Colours of the picture as a grid, (18, 24, 3) in 0..255.

    Sampled at a stride first: averaging all of 1080p costs ten times more.
    """
    height, width = image.shape[:2]
    step_y, step_x = max(1, height // (SIZE[1] * 4)), max(1, width // (SIZE[0] * 4))
    sample = np.ascontiguousarray(image[::step_y, ::step_x])
    return cv2.resize(sample, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)


def sharpness(image: Image) -> float:
    """How sharp the edges are, from 1/8 (blurred) to 1; 1 where there is no contrast to judge.

    Of the steepest step of each sampled line: a picture of few edges and smooth surfaces has as little fine contrast on
    average as a blurred one.
    """
    lines = image[:: max(1, image.shape[0] // 24), :, 1].astype(np.int16)
    if lines.shape[1] <= 2 * _REACH:
        return 1.0
    coarse = float(np.abs(lines[:, _REACH:] - lines[:, :-_REACH]).max(axis=1).mean())
    return float(np.abs(lines[:, _STEP:] - lines[:, :-_STEP]).max(axis=1).mean()) / coarse if coarse > _FLAT else 1.0


@dataclass(slots=True)
class Gates:
    """The gates of one camera: remembers only how long the picture has been the same."""

    passed: int = 0
    stopped: dict[Gate, int] = field(default_factory=lambda: dict.fromkeys(GATES, 0))
    _print: bytes = b""
    _repeats: int = 0

    def judge(self, image: Image, thumb: Floats) -> Gate | None:
        """The first gate that stops the frame, or None; counts either."""
        gate = self._judge(image, thumb)
        if gate is None:
            self.passed += 1
        else:
            self.stopped[gate] += 1
        return gate

    def _judge(self, image: Image, thumb: Floats) -> Gate | None:
        look = image[:: max(1, image.shape[0] // 32), :: max(1, image.shape[1] // 64)].tobytes()
        self._repeats = self._repeats + 1 if look == self._print else 0
        self._print = look
        if float(thumb.max()) < _BLACK:
            return "black"
        if float(thumb.min()) > _WHITE:
            return "blown_out"
        if self._repeats >= _FROZEN_FRAMES:
            return "frozen"
        return "blurred" if sharpness(image) < _SHARP else None
