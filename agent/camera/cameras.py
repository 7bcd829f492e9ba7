"""Several cameras as one stream of frames, in fair turns."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence

from agent.camera.camera import CLOSE_S, Camera, Stamper
from agent.camera.condition import Health
from agent.camera.opening import open_camera
from agent.clock import Clock
from agent.records import Frame
from agent.settings import CameraSettings


class Cameras:
    """The cameras of a device. A slow, hung or dead one takes nothing from the others."""

    def __init__(self, cameras: Sequence[Camera], ready: threading.Condition) -> None:
        """`ready` is the condition that all of `cameras` were opened with."""
        self._cameras = tuple(cameras)
        self._turn = 0
        self._ready = ready
        self._woken = False

    def __iter__(self) -> Iterator[Camera]:
        return iter(self._cameras)

    def next(self, timeout_s: float) -> Frame | None:
        """The next frame, of the cameras in turn.

        None after `timeout_s`, on `wake`, and as soon as the last recording ends.
        """
        for camera in self._cameras:
            camera.supervise()
        with self._ready:
            had_ended = self._all_ended()
            found = self._ready.wait_for(
                lambda: self._take() or self._woken or self._all_ended() != had_ended, timeout_s
            )
            self._woken = False
            return found if isinstance(found, Frame) else None

    def frames(self) -> Iterator[Frame]:
        """All frames until every recording has ended; a live camera never does."""
        while not self.ended:
            frame = self.next(1.0)
            if frame is not None:
                yield frame

    @property
    def ended(self) -> bool:
        """Whether all cameras are recordings and their last frames were taken."""
        with self._ready:
            return self._all_ended()

    def health(self) -> dict[str, Health]:
        """How each camera is doing, by name."""
        return {camera.name: camera.health() for camera in self._cameras}

    def wake(self) -> None:
        """Let a waiting `next` return now."""
        with self._ready:
            self._woken = True
            self._ready.notify_all()

    def close(self) -> None:
        """Stop all readers; takes a moment also when all of them hang."""
        for camera in self._cameras:
            camera.stop()
        for camera in self._cameras:
            camera.close(CLOSE_S / len(self._cameras))

    def _all_ended(self) -> bool:
        return all(camera.ended for camera in self._cameras)

    def _take(self) -> Frame | None:
        """A frame of the first camera that has one, counted from the one after whose turn it was last."""
        for i in range(self._turn, self._turn + len(self._cameras)):
            frame = self._cameras[i % len(self._cameras)].take()
            if frame is not None:
                self._turn = i % len(self._cameras) + 1
                return frame
        return None


def open_cameras(
    settings: Sequence[CameraSettings],
    clock: Clock,
    *,
    paced: bool = True,
    stamper: Stamper | None = None,
    rng: random.Random | None = None,
) -> Cameras:
    """Open all cameras; a live one that is not there yet is tried again for ever.

    `paced`: recordings with fps > 0 run at most in real time; else as fast as they are read, over the same frames.
    Raises ConfigError or CameraError for a recording that is missing or unreadable.
    """
    ready = threading.Condition()
    stamper = stamper or Stamper(clock)
    opened: list[Camera] = []
    try:
        for each in settings:
            opened.append(open_camera(each, clock, paced=paced, stamper=stamper, ready=ready, rng=rng))
    except BaseException:
        for camera in opened:
            camera.close()
        raise
    return Cameras(opened, ready)
