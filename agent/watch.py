"""Loop 1: frame -> rows -> candidate -> spool.

The detector looks at the next frames in threads of its own while this loop judges the ones before, one after the
other in the order in which they came: how fast the model is changes nothing in what is picked.

The loop never knows MQTT. What others want of it (a command, a new configuration, another model) they post, and it is
done between two frames in this loop's own thread: nothing here needs a lock.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from agent import durable
from agent.camera import Cameras
from agent.clock import Clock
from agent.detector import Detector, Seen
from agent.errors import ModelError, RejectError, RetryError, SpoolFullError
from agent.health import Health, Pulse
from agent.models import Pulse as ModelPulse
from agent.privacy import Privacy
from agent.records import Candidate, Frame, Item, Rows, Vector
from agent.seal import Seal
from agent.selection import Selector

log = logging.getLogger(__name__)

STATE_VERSION = 2
STAMP = "stamp_ns"
"""Beside the budgets in the state: the newest frame's time stamp."""
POSTED_S = 20.0
"""How long who posted something waits for it at most: the longest inference by far."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a frame goes through; exchanged whole between two frames."""

    detector: Detector
    selector: Selector
    privacy: Privacy
    seal: Seal


@dataclass(slots=True)
class Capture:
    """An operator's wish for a frame of one camera that was taken after it was voiced."""

    camera: str
    key: str
    asked_ns: int
    cid: Future[str] = field(default_factory=Future)

    @property
    def reason(self) -> str:
        return f"command {self.key}"


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A frame that has not been judged yet."""

    frame: Frame
    seen: Future[Seen] | None
    """What the model sees in it; None where nothing has moved."""

    @property
    def ready(self) -> bool:
        return self.seen is None or self.seen.done()


class Watch:
    """Looks at every considered frame and keeps what selection picks."""

    def __init__(
        self,
        cameras: Cameras,
        parts: Parts,
        *,
        keep: Callable[[Candidate, Item], object],
        health: Health,
        clock: Clock,
        state_file: Path | None = None,
        newest_stamp: Callable[[], int] = lambda: 0,
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """`keep` stores an item durably or raises.

        `state_file` keeps the budgets over a restart, and the `newest_stamp` that a frame has got. `share`: of the time
        that the model may be busy now; the loop rests in between, and live cameras go on with their newest frame.
        """
        self._cameras = cameras
        self.parts = parts
        self._keep = keep
        self._health = health
        self._clock = clock
        self._state_file = state_file
        self._newest_stamp = newest_stamp
        self._share = share
        self._wanted = threading.Event()
        """Set when something has been posted: a rest is over."""
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._captures: list[Capture] = []
        self._under_way: deque[UnderWay] = deque()
        self._rest_until = self._took_s = 0.0
        """Monotonic seconds at which the model's share allows the next inference; how long the latest one took."""
        self._tally = _Tally(len(parts.detector.classes))
        self.paused = False
        self.pulse = Pulse(clock)
        """Beats with every frame that went all the way through."""
        self.newest: dict[str, int] = {}
        """Per camera, monotonic ns of the newest frame that went all the way through."""
        self.ended = threading.Event()
        """Set when every source was a recording and all of it has been looked at."""

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then open windows are closed. Recordings that have ended end nothing else."""
        while not stop.is_set():
            self.step(1.0)
        self._obey()
        self.flush()

    def step(self, timeout_s: float) -> None:
        """Have the model look at the next frame, if one comes in time, and judge those that it has looked at.

        Between the two, what was posted meanwhile is done.
        """
        frame = self._cameras.next(timeout_s)
        self._obey()
        if frame is not None and (self._captures or not self.paused):
            self._begin(frame)
        elif not self.ended.is_set() and self._cameras.ended:
            self.flush()
            self.ended.set()
        self._finish(2 * self.parts.detector.concurrency - 1)  # as many again wait, so that no thread ever does
        self._rest()

    # What other threads may ask for

    def post(self, action: Callable[[], _T]) -> Future[_T]:
        """Have `action` done by this loop's thread between two frames."""
        done: Future[_T] = Future()

        def act() -> None:
            try:
                done.set_result(action())
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                done.set_exception(error)

        self._posted.put(act)
        self._wanted.set()
        self._cameras.wake()
        return done

    def exchange(self, make: Callable[[Parts], Parts]) -> None:
        """Go on with what `make` makes of the present parts, from the next frame on; windows are closed before.

        What `make` raises is raised here, and the parts stay.
        """
        self.post(lambda: self._exchange(make)).result(POSTED_S)

    def capture(self, cameras: list[str], key: str) -> list[str]:
        """Frames of these cameras taken from now on, in the spool: their cids. Raises RetryError when none comes."""
        wishes = [Capture(camera, key, self._clock.mono_ns()) for camera in cameras]
        self.post(lambda: self._captures.extend(wishes)).result(POSTED_S)
        try:
            return [wish.cid.result(POSTED_S) for wish in wishes]
        except TimeoutError:
            raise RetryError(
                f"no frame within {POSTED_S:.0f} s", remedy="see what `check` says of the camera"
            ) from None
        finally:
            self.post(lambda: self._give_up(wishes))

    def model_pulse(self) -> ModelPulse:
        """What the running model has done since it went live."""
        return self._tally.pulse(self.parts.detector.classes)

    # This loop's own thread

    def flush(self) -> None:
        """End all open windows now."""
        self._finish(0)
        self._spool(self.parts.selector.close())
        self._save_state()

    def _exchange(self, make: Callable[[Parts], Parts]) -> None:
        self.flush()
        parts = make(self.parts)
        if parts.detector is not self.parts.detector:
            self._tally = _Tally(len(parts.detector.classes))
        self.parts = parts

    def _give_up(self, wishes: list[Capture]) -> None:
        self._captures = [wish for wish in self._captures if wish not in wishes]

    def _obey(self) -> None:
        self._wanted.clear()
        while not self._posted.empty():
            self._finish(0)
            self._posted.get_nowait()()

    def _begin(self, frame: Frame) -> None:
        """Mask a frame and have the model look at it, where anything has moved."""
        try:
            frame = self.parts.privacy.mask(frame)
        except RejectError as error:
            self._refuse(frame, error)
        else:
            self._under_way.append(UnderWay(frame, self._ask(frame) if self.moves(frame) else None))

    def _ask(self, frame: Frame) -> Future[Seen]:
        """Begin an inference; with less than the whole share, the next one comes later than the threads are free."""
        if (share := self._share()) < 1.0:
            self._rest_until = self._now() + self._took_s / (share * self.parts.detector.concurrency)
        seen = self.parts.detector.begin(frame.image)
        seen.add_done_callback(lambda _: self._cameras.wake())
        return seen

    def _finish(self, most: int) -> None:
        """Judge the frames that the model has looked at, and wait for it until at most so many are under way."""
        while self._under_way and (len(self._under_way) > most or self._under_way[0].ready):
            self._judge(self._under_way.popleft())

    def _judge(self, each: UnderWay) -> None:
        """One frame through selection; one that cannot be used is counted and gone."""
        frame = each.frame
        try:
            if self.pass_over(frame):
                self._health.counters.add("frames_still")
            else:
                seen = (each.seen or self._ask(frame)).result()
                self._account(seen)
                self.consider(frame, seen.rows, seen.embedding)
        except (RejectError, ModelError) as error:
            self._refuse(frame, error)
            return
        self._health.counters.add("frames")
        self.newest[frame.camera] = frame.mono_ns
        self.pulse.beat()

    def _refuse(self, frame: Frame, error: Exception) -> None:
        self._tally.errors += 1
        self._health.counters.add("frames_refused")
        log.warning("frame refused", extra={"camera": frame.camera, "error": str(error)})

    def _account(self, seen: Seen) -> None:
        self._took_s = seen.seconds
        self._health.inference.add(seen.seconds)
        self._tally.add(seen, self.parts.seal.thresholds.serve)

    def _rest(self) -> None:
        """Until the model may be busy again, or something is posted."""
        if (left := self._rest_until - self._now()) > 0:
            self._wanted.wait(left)

    def _now(self) -> float:
        return self._clock.mono_ns() / 1e9

    def moves(self, frame: Frame) -> bool:
        """Whether the model must look at a frame; asked once for each, in the order in which they came."""
        return any(wish.camera == frame.camera for wish in self._captures) or self.parts.selector.moves(frame)

    def pass_over(self, frame: Frame) -> bool:
        """Have selection count a frame in which nothing has moved; False where it must be considered."""
        if not self.parts.selector.pass_over(frame):
            return False
        self._spool(self.parts.selector.due())
        return True

    def consider(self, frame: Frame, rows: Rows, embedding: Vector | None) -> None:
        """Have selection judge a frame that the model has looked at, and keep what it picks."""
        for wish in self._captures:
            if wish.camera == frame.camera and frame.mono_ns > wish.asked_ns:
                self.parts.selector.manual(frame.camera, wish.reason)
        self.parts.selector.consider(frame, rows, embedding)
        self._spool(self.parts.selector.due())

    def _spool(self, candidates: list[Candidate]) -> None:
        """Keep what was picked; only what is safe is charged to the budgets."""
        for candidate in candidates:
            self._health.counters.add("candidates")
            try:
                item = self.parts.seal(candidate)
                self._keep(candidate, item)
            except (RejectError, SpoolFullError) as error:
                self._health.counters.add("candidates_refused")
                log.warning("candidate refused", extra={"camera": candidate.frame.camera, "error": str(error)})
                continue
            self.parts.selector.charge(candidate, len(item.image))
            self._grant(candidate, item)
        if candidates:
            self._save_state()

    def _grant(self, candidate: Candidate, item: Item) -> None:
        for wish in [wish for wish in self._captures if wish.reason in candidate.reasons]:
            if wish.camera == candidate.frame.camera:
                self._captures.remove(wish)
                wish.cid.set_result(item.cid)

    def _save_state(self) -> None:
        """Keep budgets and stamp. Where the disk refuses, the loop goes on: it may spend a little twice and says so."""
        if self._state_file is None:
            return
        try:
            state = {**self.parts.selector.state(), STAMP: self._newest_stamp()}
            durable.save_state(self._state_file, STATE_VERSION, state)
        except OSError as error:
            self._health.counters.add("state_not_saved")
            log.warning("budgets not saved", extra={"error": str(error)})


class _Tally:
    """Sums over what one model has done."""

    def __init__(self, classes: int) -> None:
        self.frames = self.errors = 0
        self.seconds = self.confidence = 0.0
        self.served = np.zeros(classes, np.int64)

    def add(self, seen: Seen, serve: float) -> None:
        served = seen.rows[seen.rows[:, 4] >= serve]
        self.frames += 1
        self.seconds += seen.seconds
        self.confidence += float(served[:, 4].sum())
        self.served += np.bincount(served[:, 5].astype(np.int64), minlength=len(self.served))

    def pulse(self, classes: tuple[str, ...]) -> ModelPulse:
        served = {name: int(n) for name, n in zip(classes, self.served, strict=True) if n}
        return ModelPulse(
            frames=self.frames, errors=self.errors, infer_s=self.seconds, served=served, confidence=self.confidence
        )
