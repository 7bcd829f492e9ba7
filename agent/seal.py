"""From a picked frame to an item: redact, scale, encode, describe. The one place where pixels become a JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import ValidationError

from agent import __version__, wire
from agent.clock import Clock, rfc3339
from agent.errors import FrameError
from agent.privacy import Privacy
from agent.records import (
    Candidate,
    Detection,
    Frame,
    Image,
    ImageInfo,
    Item,
    Meta,
    ModelRef,
    Picture,
    Rows,
    Thresholds,
    make_item,
)
from agent.settings import ImageSettings

STEP_NS = 1_000_000_000
"""By how much wall time may run away from monotonic time before the clock counts as set."""


@dataclass(frozen=True, slots=True)
class Seal:
    """Everything that an item's metadata says beside what the candidate knows."""

    device: str
    model: ModelRef
    classes: Sequence[str]
    thresholds: Thresholds
    image: ImageSettings
    privacy: Privacy
    clock: Clock

    def __call__(self, candidate: Candidate) -> Item:
        """Raises FrameError, or PrivacyError where something cannot be redacted: then nothing is kept."""
        picture = candidate.picture or self.picture(candidate.frame, candidate.rows)
        try:
            return make_item(picture.jpeg, wire.fit_meta(self._describe(candidate, picture)))
        except ValidationError as error:
            raise FrameError(f"camera {candidate.frame.camera}: {wire.first_error(error)}") from None

    def picture(self, frame: Frame, rows: Rows) -> Picture:
        """What would be stored of a frame; raises as the call itself does."""
        redacted, names = self.privacy.redact(frame, rows)
        image, scale = _within(redacted, self.image.max_side)
        encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.image.quality])
        if not encoded:
            raise FrameError(f"camera {frame.camera}: a frame of shape {image.shape} cannot be encoded")
        height, width = image.shape[:2]
        return Picture(jpeg.tobytes(), ImageInfo(w=width, h=height, quality=self.image.quality, redacted=names), scale)

    def _describe(self, candidate: Candidate, picture: Picture) -> Meta:
        frame = candidate.frame
        return Meta(
            device=self.device,
            camera=frame.camera,
            ts=rfc3339(frame.ts_ns),
            ts_ns=frame.ts_ns,
            mono_ns=frame.mono_ns,
            boot=self.clock.boot(),
            clock_synced=self._stamp_is_right(frame),
            model=self.model,
            thresholds=self.thresholds,
            lane=candidate.lane,
            score=candidate.score,
            probability=candidate.probability,
            reasons=candidate.reasons,
            detections=self._detections(candidate.rows, picture.scale),
            image=picture.info,
            agent=__version__,
        )

    def _stamp_is_right(self, frame: Frame) -> bool:
        """Whether the clock is synchronised and was not set since the frame was taken, which may be a window ago."""
        age_ns = self.clock.mono_ns() - frame.mono_ns
        return self.clock.synced() and abs(self.clock.wall_ns() - frame.ts_ns - age_ns) < STEP_NS

    def _detections(self, rows: Rows, scale: float) -> tuple[Detection, ...]:
        boxes = np.round(rows[:, :4].astype(np.float64) * scale, 2).tolist()
        return tuple(
            Detection(
                c=int(c), name=self.classes[int(c)], conf=round(conf, 4), xyxy=box, served=conf >= self.thresholds.serve
            )
            for box, conf, c in zip(boxes, rows[:, 4].tolist(), rows[:, 5].tolist(), strict=True)
        )


def _within(image: Image, max_side: int) -> tuple[Image, float]:
    """The image with its longer side at most `max_side` pixels, and the factor by which it was scaled."""
    scale = min(1.0, max_side / max(image.shape[:2]))
    if scale == 1.0:
        return image, 1.0
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8), scale
