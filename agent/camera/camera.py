"""One camera, read by a thread of its own.

A live camera's reader keeps only the newest considered frame; a recording's reader keeps every considered frame and
waits until it is taken. A read that hangs for ever cannot be stopped from outside: its thread is abandoned, another
one takes over, and the old one closes its source should the read ever return. (A child per camera could be killed, at
60 MB each; a thread costs nothing on a small board, and the number of abandoned ones is bounded.)
"""

from __future__ import annotations

import logging
import math
import random
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime

from agent.camera.condition import Health, Sight, State
from agent.camera.source import Sampler, Source
from agent.clock import Clock
from agent.errors import CameraError, TailkeeperError
from agent.records import Frame, Image
from agent.settings import CameraSettings, parse_schedule

log = logging.getLogger(__name__)

AHEAD = 2
"""Frames that a recording's reader decodes while the ones before are worked on."""
RETRY_MIN_S, RETRY_MAX_S = 0.25, 2.0
"""Back-off of reopening: short, since a camera that is back must be seen within seconds and a try costs little."""
STEADY_S = 5.0
"""A camera that went on for so long is reopened without delay; one that comes and goes is not."""
FROZEN_S = 10.0
"""A live camera that repeats one picture for so long is opened again: a dead pipeline may go on with its last one."""
HUNG_LIMIT = 3
"""Abandoned readers per camera. With so many it stays stalled, until the watchdog restarts the service."""
CLOSE_S = 1.0
"""How long a reader that may hang is waited for."""
_OFF_CHECK_S = 5.0


class Stamper:
    """Time stamps of frames, one object for all cameras of a device."""

    def __init__(self, clock: Clock, newest_ns: int = 0) -> None:
        """`newest_ns`: stamp of the newest frame of an earlier run, or 0.

        A clock that is synchronised already is believed instead: a stamp from a false future must not hold it back.
        """
        self._clock = clock
        self.newest_ns = 0 if clock.synced() else newest_ns
        self._lock = threading.Lock()

    def stamp(self) -> tuple[int, int]:
        """Wall time and monotonic time in ns.

        Wall time strictly increases, also while the clock was set back: then it all but stands still, and monotonic
        time and boot id say what happened.
        """
        with self._lock:
            self.newest_ns = max(self._clock.wall_ns(), self.newest_ns + 1)
            return self.newest_ns, self._clock.mono_ns()


class Camera:
    """One camera. Its reader runs from construction until `close`."""

    def __init__(
        self,
        settings: CameraSettings,
        open_source: Callable[[], Source],
        *,
        live: bool,
        paced: bool,
        clock: Clock,
        stamper: Stamper,
        ready: threading.Condition,
        rng: random.Random,
    ) -> None:
        """`live`: newest frame only, opened again for ever; else a recording, `paced` to at most real time.

        `ready` guards the frames of all cameras that are merged; it is notified when there is one to take.
        """
        self.name = settings.name
        self.live = live
        self._open = open_source
        self._paced = paced and not live and settings.fps > 0
        self._clock, self._stamper, self._ready, self._rng = clock, stamper, ready, rng
        self._sampler = Sampler(settings.fps)
        self._schedule = parse_schedule(settings.schedule) if live else ()
        self._hang_s = 4 * settings.timeout_s + 5  # asking, opening, probing and reading may each take the time-out
        self._frames: deque[Frame] = deque()
        self._sight = Sight()
        self._due = self._due_t = -math.inf
        self._ended = self._off = False
        self._error = ""
        self._index = self._dropped = self._reconnects = self._tries = 0
        self._skipped = self._skipped_before = 0
        self._hung: list[threading.Thread] = []
        self._start()

    def take(self) -> Frame | None:
        """The next frame, None when there is none now. The caller holds `ready`."""
        if not self._frames:
            return None
        self._ready.notify_all()
        return self._frames.popleft()

    @property
    def ended(self) -> bool:
        """Whether this was a recording and its last frame was taken. The caller holds `ready`."""
        return self._ended and not self._frames

    def set_fps(self, fps: float) -> None:
        """Consider another number of frames per second from now on."""
        self._sampler.restart(fps)

    def set_schedule(self, schedule: str) -> None:
        """Follow another schedule from now on; recordings have none."""
        self._schedule = parse_schedule(schedule) if self.live else ()

    def health(self) -> Health:
        """How the camera is doing now."""
        now = self._now()
        newest = self._sight.newest
        return Health(
            state=self._state(),
            fps=self._sight.fps(now),
            frame_age_s=None if newest is None else now - newest,
            reconnects=self._reconnects,
            dropped=self._dropped,
            skipped=self._skipped_before + self._skipped,
            error=self._error,
        )

    def supervise(self) -> None:
        """Replace the reader when its read hangs. Called about every second by whoever takes frames."""
        if not self.live or self._now() - self._alive_at < self._hang_s:
            return
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) >= HUNG_LIMIT:
            return
        self._halt.set()
        self._hung.append(self._reader)
        self._lose(CameraError("a read hangs"))
        self._start()

    def stop(self) -> None:
        """Tell the reader to end."""
        self._halt.set()
        with self._ready:
            self._frames.clear()
            self._ready.notify_all()

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Stop reading; waits a moment for the reader, and not for one that hangs."""
        self.stop()
        self._reader.join(wait_s)

    def _now(self) -> float:
        return self._clock.mono_ns() / 1e9

    def _state(self) -> State:
        if self._ended:
            return "ended"
        if self._off:
            return "off"
        if self._error:
            return "stalled"
        if self._sight.newest is None:
            return "starting"
        if self.live and self._now() - self._alive_at > self._hang_s / 2:
            return "stalled"
        return "frozen" if self.live and self._sight.frozen else "dark" if self._sight.dark else "live"

    # What follows runs in the reader's thread. `halt` is that thread's own: once set, it touches nothing any more.

    def _start(self) -> None:
        self._alive_at = self._now()
        self._halt = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._halt,), name=f"camera {self.name}", daemon=True)
        self._reader.start()

    def _read(self, halt: threading.Event) -> None:
        """Keep frames coming until the recording ends or the camera is closed."""
        while not halt.is_set():
            self._off = not self._scheduled()
            try:
                if not self._off:
                    self._follow(halt)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises, the camera is tried again
                if not halt.is_set():
                    self._lose(error)
            if not self.live or halt.is_set():
                break
            self._rest(halt)
        if not halt.is_set():
            with self._ready:
                self._ended = True
                self._ready.notify_all()

    def _follow(self, halt: threading.Event) -> None:
        """Open the source and offer its considered frames until it ends, fails, or its schedule does."""
        opened = seen = self._alive_at = self._now()
        source = self._open()
        try:
            while not halt.is_set() and self._scheduled():
                self._alive_at = self._now()
                t = source.advance()
                if t is None:
                    return
                if not halt.is_set() and self._sampler.considers(t):
                    image = source.image()
                    self._skipped = source.skipped
                    if image is not None:
                        self._offer(image, t, source.name, halt)
                        self._judge(opened)
                        seen = self._now()
                    elif self.live and self._now() - seen > FROZEN_S:
                        raise CameraError("its pictures cannot be decoded")
        finally:
            if not halt.is_set():
                self._skipped_before += source.skipped
                self._skipped = 0
            source.close()

    def _offer(self, image: Image, t: float, name: str, halt: threading.Event) -> None:
        """Stamp a considered frame and put it where it can be taken."""
        if self._paced:
            self._pace(t, halt)
        ts_ns, mono_ns = self._stamper.stamp()
        self._sight.see(image, mono_ns / 1e9)
        with self._ready:
            if self.live and self._frames:
                self._frames.popleft()
                self._dropped += 1
            self._ready.wait_for(lambda: halt.is_set() or len(self._frames) < AHEAD)
            if halt.is_set():
                return
            self._frames.append(Frame(self.name, image, self._index, t, ts_ns, mono_ns, name))
            self._index += 1
            self._ready.notify_all()
        if (self._error or self._index == 1) and not self._sight.frozen:
            self._regain()

    def _pace(self, t: float, halt: threading.Event) -> None:
        """Wait until `t` media seconds may be seen; time lost to a slow consumer is not caught up."""
        due = max(self._now(), self._due + (t - self._due_t)) if self._due_t > -math.inf else self._now()
        halt.wait(due - self._now())
        self._due, self._due_t = due, t

    def _judge(self, opened: float) -> None:
        """Trust a live camera that has kept going since it was `opened`; give up one that repeats itself."""
        now = self._now()
        if now - opened > STEADY_S:
            self._tries = 0
        if self.live and self._sight.frozen and now - max(opened, self._sight.newest or opened) > FROZEN_S:
            raise CameraError("it repeats the same picture")

    def _scheduled(self) -> bool:
        if not self._schedule:
            return True
        local = datetime.fromtimestamp(self._clock.wall_ns() / 1e9)  # a schedule is in the device's local time
        return any(span.covers(local.weekday(), local.hour * 60 + local.minute) for span in self._schedule)

    def _rest(self, halt: threading.Event) -> None:
        """Wait before the source is opened again: a capped, jittered back-off."""
        self._alive_at = math.inf
        if self._off:
            halt.wait(_OFF_CHECK_S)
        else:
            limit = min(RETRY_MAX_S, RETRY_MIN_S * 2**self._tries)
            halt.wait(limit * self._rng.uniform(0.5, 1))
            self._tries = min(self._tries + 1, 10)

    def _lose(self, error: Exception) -> None:
        known = isinstance(error, TailkeeperError)
        reason = str(error) if known else type(error).__name__  # foreign texts may hold a password
        if not self._error:
            log.warning("camera lost", extra={"camera": self.name, "error": reason})
        self._error = reason

    def _regain(self) -> None:
        log.info("camera live", extra={"camera": self.name})
        self._error = ""
        self._reconnects += self._index > 1  # the first frame of all is no return
