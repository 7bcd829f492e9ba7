"""Commands as a state machine: received, executing, then successful, failed, rejected or expired; each exactly once.

Whatever comes is answered. What a kill -9 interrupts is carried on at the next start in the way that makes the effect
happen once: most ops can simply run again because their effect is a state (pause, roll-out) or carries the command's id
(capture); a restart has happened; a purge goes on before anything new can have been collected.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from agent.clock import Clock
from agent.control.ledger import Entry, Ledger
from agent.control.ops import Arguments
from agent.errors import RejectError, RetryError, TailkeeperError, WireError
from agent.wire import Command, CommandState, CommandStatus, first_error

log = logging.getLogger(__name__)

Lane: TypeAlias = Literal["quick", "model"]
LANES: tuple[Lane, ...] = ("quick", "model")
PROGRESS_STEP = 0.05
"""Progress is told in steps of this size: a state is a message to the whole control side."""


@dataclass(frozen=True, slots=True)
class Call:
    """One carrying out of a command."""

    cmd_id: str
    arguments: Any
    """An instance of the op's `Arguments`."""
    tell: Callable[[str, float | None], None]
    """Report a step, and the share of it that is done."""
    resumed: bool
    """A kill interrupted it, before, during or just after its effect."""


@dataclass(frozen=True, slots=True)
class Op:
    """One thing that operators can ask for."""

    arguments: type[Arguments]
    run: Callable[[Call], dict[str, Any] | None]
    lane: Lane = "quick"
    check: Callable[[Any], None] | None = None
    """Raises RejectError for arguments that do not fit the present state; before anything is begun."""
    interrupted: Literal["again", "again before all else", "done"] = "again"
    """What a start does with one that was executing."""


class Commands:
    """Takes commands from the network to their final state. Control's thread calls `receive`, `resume` and `tick`."""

    def __init__(
        self,
        ledger: Ledger,
        ops: Mapping[str, Op],
        *,
        tell: Callable[[CommandState], None],
        clock: Clock,
        clock_wait_s: float,
    ) -> None:
        """`tell` publishes a state. `clock_wait_s`: how long a command waits for a clock that can tell its expiry."""
        self._ledger = ledger
        self._ops = ops
        self._tell = tell
        self._clock = clock
        self._clock_wait_ns = int(clock_wait_s * 1e9)
        self._held: dict[str, int] = {}
        self._queues: dict[Lane, queue.SimpleQueue[tuple[Entry, bool] | None]] = {
            lane: queue.SimpleQueue() for lane in LANES
        }
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"commands {lane}", daemon=True) for lane in LANES
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Let each lane finish what it does, within a limit; what is left is carried on at the next start."""
        self._stopping.set()
        for lane in LANES:
            self._queues[lane].put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout_s)

    def receive(self, cmd_id: str, payload: bytes) -> None:
        """A message on ``dn/cmd/<cmd_id>``; an empty one means that the requester took the command away."""
        known = self._ledger.get(cmd_id)
        if not payload:
            self._ledger.clear(cmd_id)
        elif known:
            self._tell(known.state)
        else:
            try:
                self._accept(*self._parse(cmd_id, payload))
            except (WireError, RejectError) as error:
                self._answer(cmd_id, "rejected", str(error))
            except OSError as error:
                self._answer(cmd_id, "rejected", f"the disk refuses it: {error.strerror}")

    def resume(self) -> None:
        """At a start, before the loops: carry on what was interrupted, and begin what was only received."""
        for entry in self._ledger.unfinished():
            op = self._ops.get(entry.command.op)
            if entry.state.status == "received":
                self._queue(entry)
            elif op is None or op.interrupted == "done":
                self._ledger.move(entry.command.cmd_id, "successful" if op else "rejected")
            elif op.interrupted == "again before all else":
                self._carry_out(entry, op, resumed=True)
            else:
                self._queues[op.lane].put((entry, True))

    def tick(self) -> None:
        """Look after commands that wait for the clock."""
        for cmd_id, deadline_ns in list(self._held.items()):
            entry = self._ledger.get(cmd_id)
            if entry and self._clock.synced():
                del self._held[cmd_id]
                self._queue(entry)
            elif self._clock.mono_ns() > deadline_ns:
                del self._held[cmd_id]
                self._end(
                    cmd_id, "rejected", reason="clock: not synchronised, so nobody can say whether it has expired"
                )

    def _parse(self, cmd_id: str, payload: bytes) -> tuple[Command, int]:
        """The command and its time of expiry in wall nanoseconds; raises WireError for what could never be done."""
        command = Command.decode(payload)
        if command.cmd_id != cmd_id:
            raise WireError(f"cmd_id {command.cmd_id!r} came on the topic of {cmd_id!r}")
        op = self._ops.get(command.op)
        if op is None:
            raise WireError(f"unknown op {command.op!r}", remedy=f"known are {', '.join(sorted(self._ops))}")
        try:
            op.arguments.model_validate(command.args)
            return command, _wall_ns(command.expires)
        except ValidationError as error:
            raise WireError(f"args: {first_error(error)}") from None
        except ValueError:
            raise WireError(f"expires: {command.expires[:40]!r} is no RFC 3339 time in UTC") from None

    def _accept(self, command: Command, expires_ns: int) -> None:
        synced, now_ns = self._clock.synced(), self._clock.wall_ns()
        if synced and now_ns > expires_ns:
            self._answer(command.cmd_id, "expired", f"its time was over at {command.expires}")
            return
        entry = self._ledger.add(command, expires_ns, now_ns if synced else 0)
        if entry is None:
            raise RejectError("too many commands are remembered", remedy="clear the retained ones that are final")
        self._tell(entry.state)
        self._queue(entry)

    def _queue(self, entry: Entry) -> None:
        op = self._ops.get(entry.command.op)
        if not self._clock.synced():
            self._held[entry.command.cmd_id] = self._clock.mono_ns() + self._clock_wait_ns
            self._tell(entry.state.model_copy(update={"step": "waiting for a synchronised clock"}))
        elif op is None:
            self._end(entry.command.cmd_id, "rejected", reason=f"unknown op {entry.command.op!r}")
        else:
            self._queues[op.lane].put((entry, False))

    # From here on: the lanes' threads.

    def _work(self, lane: Lane) -> None:
        while (job := self._queues[lane].get()) is not None and not self._stopping.is_set():
            entry, resumed = job
            self._carry_out(entry, self._ops[entry.command.op], resumed=resumed)

    def _carry_out(self, entry: Entry, op: Op, *, resumed: bool) -> None:
        cmd_id = entry.command.cmd_id
        try:
            arguments = op.arguments.model_validate(entry.command.args)
            if not resumed and self._clock.wall_ns() > entry.expires_ns:
                self._end(cmd_id, "expired", reason=f"its time was over at {entry.command.expires}")
                return
            if op.check and not resumed:
                op.check(arguments)
            self._tell(self._ledger.move(cmd_id, "executing").state)
            result = op.run(Call(cmd_id, arguments, self._steps(cmd_id), resumed))
            self._end(cmd_id, "successful", result=result or {})
        except RejectError as error:
            self._end(cmd_id, "rejected", reason=str(error))
        except RetryError as error:
            if not self._stopping.is_set():
                self._end(cmd_id, "failed", reason=str(error))
        except (TailkeeperError, OSError) as error:
            self._end(cmd_id, "failed", reason=str(error))
        except Exception as error:
            log.exception("command failed", extra={"op": entry.command.op, "cmd_id": cmd_id})
            self._end(cmd_id, "failed", reason=f"internal error: {type(error).__name__}: {error}")

    def _steps(self, cmd_id: str) -> Callable[[str, float | None], None]:
        """Reports steps as they are, progress in steps of `PROGRESS_STEP`."""
        told: tuple[str, float] = ("", 0.0)

        def tell(step: str, progress: float | None) -> None:
            nonlocal told
            share = progress or 0.0
            if step != told[0] or share - told[1] >= PROGRESS_STEP:
                told = (step, share)
                rounded = None if progress is None else round(progress, 3)
                self._tell(self._ledger.move(cmd_id, "executing", step=step, progress=rounded).state)

        return tell

    def _end(self, cmd_id: str, status: CommandStatus, **details: Any) -> None:
        before = self._ledger.get(cmd_id)
        details.setdefault("step", before.state.step if before else None)
        try:
            self._tell(self._ledger.move(cmd_id, status, **details).state)
        except OSError as error:
            log.warning("command's end not stored", extra={"cmd_id": cmd_id, "error": str(error)})
            self._tell(CommandState(cmd_id=cmd_id, status=status, **details))

    def _answer(self, cmd_id: str, status: CommandStatus, reason: str) -> None:
        self._tell(CommandState(cmd_id=cmd_id, status=status, reason=reason))


def _wall_ns(text: str) -> int:
    """RFC 3339 to nanoseconds since 1970; raises ValueError. Python 3.10 knows neither ``Z`` nor odd fractions."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return int(moment.astimezone(timezone.utc).timestamp() * 1e9)
