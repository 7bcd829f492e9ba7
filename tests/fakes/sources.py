"""Camera sources that do what a test tells them to."""

from __future__ import annotations

import itertools
import queue
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from agent.camera import Camera, Stamper
from agent.camera.source import Source
from agent.clock import Clock
from agent.records import Image
from agent.settings import CameraSettings


def a_picture(value: int = 100, size: tuple[int, int] = (48, 64)) -> Image:
    """A picture of one grey value, (height, width)."""
    return np.full((*size, 3), value, np.uint8)


_ticks = itertools.count(1)


class Scripted:
    """A source that gives what is put into it; a read hangs until there is something.

    Time goes on from one to the next, as a camera's does.
    """

    name = ""
    spacing = 0.1
    skipped = 0

    def __init__(self) -> None:
        self.script: queue.Queue[Image | Exception | None] = queue.Queue()
        self.closed = threading.Event()
        self._image: Image | None = None

    def give(self, *items: Image | Exception | None) -> Scripted:
        """Pictures, errors, or None for the end of a recording."""
        for item in items:
            self.script.put(item)
        return self

    def advance(self) -> float | None:
        item = self.script.get()
        if isinstance(item, Exception):
            raise item
        self._image = item
        return None if item is None else next(_ticks) * self.spacing

    def image(self) -> Image | None:
        return self._image

    def close(self) -> None:
        self.closed.set()


@contextmanager
def a_camera(
    open_source: Callable[[], Source],
    clock: Clock,
    *,
    name: str = "gate",
    live: bool = True,
    paced: bool = False,
    fps: float = 1000.0,
    schedule: str = "",
    ready: threading.Condition | None = None,
) -> Iterator[Camera]:
    """A running camera over a source of the test's own."""
    camera = Camera(
        CameraSettings(name=name, source="0", fps=fps, schedule=schedule),
        open_source,
        live=live,
        paced=paced,
        clock=clock,
        stamper=Stamper(clock),
        ready=ready or threading.Condition(),
        rng=random.Random(0),
    )
    try:
        yield camera
    finally:
        camera.close()
