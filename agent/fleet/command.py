"""A command to one device: published, followed to its end, cleared."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Mapping
from typing import Any

from agent.clock import rfc3339
from agent.errors import RejectError, WireError
from agent.fleet.link import Link
from agent.wire import Command, CommandState

FINAL = ("successful", "failed", "rejected", "expired")
EXPIRES_S = 600.0


def order(link: Link, op: str, args: Mapping[str, Any], *, by: str, expires_s: float = EXPIRES_S) -> Command:
    """A new command with an id of its own; `expires_s` after now a device will not begin it any more."""
    now = link.clock.wall_ns()
    return Command(
        cmd_id=f"{now // 1_000_000_000:x}-{link.rng.randrange(16**8):08x}",
        op=op,
        args=dict(args),
        issued=rfc3339(now),
        expires=rfc3339(now + int(expires_s * 1e9)),
        by=by,
    )


def issue(link: Link, device: str, command: Command) -> None:
    """Publish a command, retained: a device that is away gets it when it comes back."""
    link.publish(link.topics(device).dn("cmd", command.cmd_id), command.encode(), retain=True)


def clear(link: Link, device: str, cmd_id: str) -> None:
    """Take a command away from the broker; a device that has it finishes it."""
    link.publish(link.topics(device).dn("cmd", cmd_id), b"", retain=True)


def send(
    link: Link,
    device: str,
    command: Command,
    *,
    wait_s: float,
    told: Callable[[CommandState], None] = lambda _: None,
) -> CommandState | None:
    """Issue a command and wait for its final state, which is returned; `told` hears each state before.

    None where no final state came in `wait_s`: the command then stays at the broker until it expires. Raises
    RejectError for an op that the device says it does not know.
    """
    info = link.device(device).info
    if info and command.op not in info.ops:
        raise RejectError(f"{device} knows no op {command.op!r}", remedy=f"it knows {', '.join(info.ops)}")
    states: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def heard(name: str, levels: tuple[str, ...], payload: bytes) -> None:
        if (name, *levels) == (device, "up", "cmd", command.cmd_id):
            states.put(payload)

    def final() -> CommandState | None:
        while not states.empty():
            with contextlib.suppress(WireError):
                told(CommandState.decode(states.get()))
        state = link.device(device).command(command.cmd_id)
        return state if state and state.status in FINAL else None

    link.listen(heard)
    issue(link, device, command)
    if not link.wait(lambda: final() is not None, wait_s):
        return None
    clear(link, device, command.cmd_id)
    return final()
