"""Commands: answered always, carried out once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import rfc3339
from agent.control.commands import Call, Commands, Op
from agent.control.ledger import LIMIT, Ledger
from agent.control.ops import Arguments, NoArguments
from agent.errors import ModelError, RejectError
from agent.wire import Command, CommandState
from tests.fakes.clock import FakeClock


class Number(Arguments):
    number: int


class Desk:
    """Commands with an op of the test's own; what is told and done is written down."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.folder = folder
        self.clock = clock
        self.told: list[CommandState] = []
        self.done: list[Any] = []
        self.effect: Callable[[Call], dict[str, Any] | None] = lambda call: self.done.append(call.arguments.number)
        self.changed = threading.Condition()
        self.power = True
        self.start()

    def start(self, cut_at: str = "") -> None:
        """The agent's process starts (again); with `cut_at` it loses its power after that durable step."""
        self.power = True

        def trace(step: str) -> None:
            if step == cut_at or not self.power:
                self.power = False
                raise SystemExit

        def run(call: Call) -> dict[str, Any] | None:
            return self.effect(call)

        def prompt(call: Call) -> None:
            self.done.append("early" if call.resumed else "prompt")

        def check(arguments: Number) -> None:
            if arguments.number > 100:
                raise RejectError(f"{arguments.number} is too many")

        table = {
            "add": Op(Number, run, check=check),
            "long": Op(Number, run, lane="model"),
            "prompt": Op(NoArguments, prompt, interrupted="again before all else"),
            "once": Op(NoArguments, lambda _: self.done.append("once"), interrupted="done"),
        }
        self.commands = Commands(
            Ledger(self.folder, trace=trace), table, tell=self.tell, clock=self.clock, clock_wait_s=600
        )
        self.commands.resume()
        self.commands.start()

    def tell(self, state: CommandState) -> None:
        if self.power:
            with self.changed:
                self.told.append(state)
                self.changed.notify_all()

    def send(self, cmd_id: str, op: str = "add", *, expires_s: float = 60, **args: Any) -> None:
        expires = rfc3339(self.clock.wall_ns() + int(expires_s * 1e9))
        issued = rfc3339(self.clock.wall_ns())
        command = Command(cmd_id=cmd_id, op=op, args=args, issued=issued, expires=expires, by="test")
        self.commands.receive(cmd_id, command.encode())

    def end_of(self, cmd_id: str) -> CommandState:
        """The final state of a command, once it has one."""
        finals = ("successful", "failed", "rejected", "expired")
        with self.changed:
            assert self.changed.wait_for(
                lambda: any(state.cmd_id == cmd_id and state.status in finals for state in self.told), 20
            )
            return next(state for state in self.told if state.cmd_id == cmd_id and state.status in finals)

    def statuses(self, cmd_id: str) -> list[str]:
        return [state.status for state in self.told if state.cmd_id == cmd_id]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "commands", FakeClock())
    yield desk
    desk.commands.close()


def test_a_command_is_received_executed_and_its_end_told(desk: Desk) -> None:
    desk.send("c1", number=7)

    assert desk.end_of("c1").status == "successful"
    assert desk.statuses("c1") == ["received", "executing", "successful"]
    assert desk.done == [7]


def test_a_redelivery_gets_the_stored_result_and_does_nothing_also_after_a_restart(desk: Desk) -> None:

    def effect(call: Call) -> dict[str, Any]:
        desk.done.append(call.cmd_id)
        return {"answer": 42}

    desk.effect = effect
    desk.send("c1", number=7)
    first = desk.end_of("c1")
    for _ in range(3):
        desk.send("c1", number=7)
    desk.commands.close()
    desk.start()
    desk.send("c1", number=7)

    assert desk.told[-4:] == [first] * 4
    assert first.result == {"answer": 42}
    assert desk.done == ["c1"]


@pytest.mark.parametrize(
    ("op", "args", "complaint"),
    [
        ("explode", {}, "unknown op 'explode'; known are add, long, once, prompt"),
        ("add", {}, "args: number: Field required"),
        ("add", {"number": "many"}, "args: number"),
        ("add", {"number": 1, "force": True}, "args: force"),
        ("add", {"number": 101}, "101 is too many"),
    ],
)
def test_what_cannot_be_done_is_rejected_with_the_reason(
    desk: Desk, op: str, args: dict[str, Any], complaint: str
) -> None:
    desk.send("c1", op, **args)

    assert desk.end_of("c1").status == "rejected"
    assert complaint in str(desk.end_of("c1").reason)
    assert desk.done == []


@pytest.mark.parametrize(
    "payload",
    [b"{", b"null", b"\xff\xfe", b'{"v":1,"cmd_id":"c2","op":"add","issued":"","expires":"","by":""}', b"[" * 50_000],
)
def test_a_payload_that_is_no_command_is_answered_too(desk: Desk, payload: bytes) -> None:
    desk.commands.receive("c1", payload)

    assert desk.end_of("c1").status == "rejected"


@pytest.mark.parametrize("expires", ["", "tomorrow", "2027-01-15", "2027-01-15T08:00:00"])
def test_a_time_that_nobody_can_read_is_rejected(desk: Desk, expires: str) -> None:
    command = Command(cmd_id="c1", op="add", args={"number": 1}, issued="", expires=expires, by="test")
    desk.commands.receive("c1", command.encode())

    assert "expires" in str(desk.end_of("c1").reason)


def test_a_command_whose_time_is_over_is_expired(desk: Desk) -> None:
    desk.send("c1", number=1, expires_s=-1)

    assert desk.end_of("c1").status == "expired"
    assert desk.done == []


def test_without_a_synchronised_clock_a_command_waits_for_one(desk: Desk) -> None:
    desk.clock.is_synced = False
    desk.send("c1", number=1, expires_s=-1000)
    desk.send("c2", number=2)
    desk.clock.advance(100)
    desk.commands.tick()
    assert desk.done == []
    assert desk.told[-1].step == "waiting for a synchronised clock"

    desk.clock.jump(-120)
    desk.clock.is_synced = True
    desk.commands.tick()
    assert desk.end_of("c1").status == "expired"
    assert desk.end_of("c2").status == "successful"


def test_a_clock_that_never_comes_rejects_the_command_after_the_stated_wait(desk: Desk) -> None:
    desk.clock.is_synced = False
    desk.send("c1", number=1)
    desk.clock.advance(601)
    desk.commands.tick()

    assert desk.end_of("c1").status == "rejected"
    assert "clock" in str(desk.end_of("c1").reason)


def test_an_error_in_an_op_is_a_failed_command_and_the_next_one_works(desk: Desk) -> None:
    effects: list[Exception] = [ModelError("no such model"), OSError(28, "No space left"), ValueError("a bug")]

    def effect(call: Call) -> None:
        if effects:
            raise effects.pop(0)

    desk.effect = effect
    for number in range(4):
        desk.send(f"c{number}", number=number)

    assert [desk.end_of(f"c{number}").status for number in range(4)] == ["failed", "failed", "failed", "successful"]
    assert "internal error: ValueError: a bug" in str(desk.end_of("c2").reason)


def test_a_long_command_does_not_keep_a_short_one_waiting(desk: Desk) -> None:
    release = threading.Event()

    def effect(call: Call) -> None:
        if call.cmd_id == "slow":
            call.tell("downloading", 0.5)
            assert release.wait(20)

    desk.effect = effect
    desk.send("slow", "long", number=1)
    desk.send("fast", number=1)
    assert desk.end_of("fast").status == "successful"
    release.set()
    assert desk.end_of("slow").step == "downloading"


@pytest.mark.parametrize("cut_at", ["command.received", "command.executing", "command.successful"])
def test_a_power_cut_after_any_durable_step_leaves_an_effect_of_exactly_one(tmp_path: Path, cut_at: str) -> None:
    desk = Desk(tmp_path / "commands", FakeClock())
    desk.effect = lambda call: desk.done.append(call.cmd_id) if call.cmd_id not in desk.done else None
    desk.commands.close()
    desk.start(cut_at)
    with contextlib.suppress(SystemExit):
        desk.send("c1", number=1)
    desk.commands.close()
    desk.told.clear()

    desk.start()
    desk.send("c1", number=1)
    assert desk.end_of("c1").status == "successful"
    assert desk.done == ["c1"]
    desk.commands.close()


def test_what_was_interrupted_is_carried_on_by_its_ops_own_rule(tmp_path: Path) -> None:
    clock = FakeClock()
    ledger = Ledger(tmp_path / "commands")
    for op in ("prompt", "once", "add"):
        times = {"issued": rfc3339(clock.wall_ns()), "expires": rfc3339(clock.wall_ns())}
        args = {"number": 5} if op == "add" else {}
        ledger.add(Command(cmd_id=op, op=op, args=args, by="test", **times), clock.wall_ns(), 0)
        ledger.move(op, "executing")

    clock.advance(3600)
    desk = Desk(tmp_path / "commands", clock)
    assert desk.end_of("add").status == "successful"
    assert desk.done == ["early", 5]
    ended = Ledger(tmp_path / "commands").get("once")
    assert ended
    assert ended.state.status == "successful"
    desk.commands.close()


def test_the_ledger_refuses_rather_than_forgets_what_could_come_again(desk: Desk) -> None:
    for number in range(LIMIT):
        desk.send(f"c{number}", number=1)
    desk.send("one-more", number=1)
    assert "too many" in str(desk.end_of("one-more").reason)

    desk.end_of(f"c{LIMIT - 1}")
    desk.commands.receive("c7", b"")
    desk.send("another", number=1)
    assert desk.end_of("another").status == "successful"
    desk.clock.advance(61)
    desk.send("and-another", number=1)
    assert desk.end_of("and-another").status == "successful"


def test_a_damaged_entry_is_set_aside(desk: Desk, tmp_path: Path) -> None:
    desk.send("c1", number=1)
    desk.end_of("c1")
    desk.commands.close()
    (tmp_path / "commands/c1.json").write_bytes(b"{")

    assert Ledger(tmp_path / "commands").get("c1") is None
    assert (tmp_path / "commands/c1.json.bad").exists()
