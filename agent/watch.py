"""Loop 1: frame -> rows -> candidate -> spool.

It never knows MQTT. What others want of it (a command, a new configuration) they post, and it is done between two
frames, in this loop's own thread: nothing here needs a lock.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent import durable
from agent.camera import Cameras
from agent.detector import Detector
from agent.errors import RejectError, SpoolFullError
from agent.health import Health
from agent.privacy import Privacy
from agent.records import Candidate, Frame
from agent.selection import Selector

log = logging.getLogger(__name__)

STATE_VERSION = 1


class Watch:
    """Looks at every considered frame and keeps what selection picks."""

    def __init__(
        self,
        *,
        cameras: Cameras,
        detector: Detector,
        selector: Selector,
        privacy: Privacy,
        keep: Callable[[Candidate], int],
        health: Health,
        state_file: Path | None = None,
    ) -> None:
        """`keep` stores a candidate durably and gives its bytes; `state_file` keeps the budgets over a restart."""
        self.cameras = cameras
        self.detector = detector
        self.selector = selector
        self._privacy = privacy
        self._keep = keep
        self._health = health
        self._state_file = state_file
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.paused = False
        self.ended = threading.Event()
        """Set when every source was a recording and all of it has been looked at."""

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then open windows are closed. Recordings that have ended end nothing else."""
        while not stop.is_set():
            self.step(1.0)
        self._obey()
        self.flush()

    def step(self, timeout_s: float) -> None:
        """Look at the next frame, if one comes in time; do what was posted meanwhile."""
        frame = self.cameras.next(timeout_s)
        self._obey()
        if frame is not None and not self.paused:
            self._look(frame)
        elif not self.ended.is_set() and self.cameras.ended:
            self.flush()
            self.ended.set()

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` done by this loop's thread between two frames. Any thread may call."""
        self._posted.put(action)
        self.cameras.wake()

    def flush(self) -> None:
        """End all open windows now."""
        self._spool(self.selector.close())

    def _obey(self) -> None:
        while not self._posted.empty():
            self._posted.get_nowait()()

    def _look(self, frame: Frame) -> None:
        """One frame through mask, model and selection; one that cannot be used is counted and gone."""
        try:
            frame = self._privacy.mask(frame)
            begun = time.perf_counter()
            rows = self.detector.detect(frame.image)
            self._health.inference.add(time.perf_counter() - begun)
        except RejectError as error:
            self._health.counters.add("frames_refused")
            log.warning("frame refused", extra={"camera": frame.camera, "error": str(error)})
            return
        self._health.counters.add("frames")
        self.selector.consider(frame, rows)
        self._spool(self.selector.due())

    def _spool(self, candidates: list[Candidate]) -> None:
        """Keep what was picked; only what is safe is charged to the budgets."""
        for candidate in candidates:
            self._health.counters.add("candidates")
            try:
                size = self._keep(candidate)
            except (RejectError, SpoolFullError) as error:
                self._health.counters.add("candidates_refused")
                log.warning("candidate refused", extra={"camera": candidate.frame.camera, "error": str(error)})
            else:
                self.selector.charge(candidate, size)
        if candidates and self._state_file:
            durable.save_state(self._state_file, STATE_VERSION, self.selector.state())
