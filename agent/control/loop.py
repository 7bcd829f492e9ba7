"""Loop 3: desired configuration and commands -> validated change -> reported.

One thread owns the configuration; commands run in lanes of their own, so that a model download does not keep a
configuration waiting. The broker's thread only puts messages into this loop's inbox.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from agent import durable
from agent.broker import Broker, Delivery, Down, Message, Up
from agent.clock import Clock
from agent.control.blocks import BlockFetcher
from agent.control.commands import Call, Commands, Op
from agent.control.desired import Desired
from agent.control.ledger import Ledger
from agent.control.needs import Needs
from agent.control.ops import Capture, LogLevel, NoArguments, Ops, Purge, Update, Which
from agent.control.probation import Probation, Vitals, vitals
from agent.errors import RejectError, RetryError, WireError
from agent.models import Rollout, Step
from agent.wire import CommandState, DesiredConfig, NeedMap, Topics

log = logging.getLogger(__name__)

TICK_S = 0.2
RESULT_LIMIT = 65_536
"""Bytes of a command's result on the wire: half of what the smallest broker takes."""
UNTOLD_LIMIT = 256
"""States of commands that wait for a connection at most."""


@dataclass(frozen=True, slots=True)
class Event:
    kind: Literal["up", "config", "need", "cmd"]
    level: str = ""
    """Level of a configuration or need map, id of a command."""
    payload: bytes = b""


class Control:
    """One device's side of the fleet."""

    def __init__(
        self,
        *,
        desired: Desired,
        broker: Broker,
        device: str,
        ops: Ops,
        rollout: Rollout | None,
        folder: Path,
        clock: Clock,
        rng: random.Random,
        trace: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Subscribes at the broker, so it is made before the broker starts. `folder`: ``<state_dir>/control``.

        Without a `rollout` the device runs the model it has and takes no other.
        """
        self._desired = desired
        self._broker = broker
        self._topics = Topics(broker.settings.prefix, device)
        self._ops = ops
        self._rollout = rollout
        self._clock = clock
        self._rng = rng
        self._paused_file = folder / "paused.json"
        self._needs = Needs(folder / "need.json")
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.blocks = BlockFetcher(self._ask_block)
        self._probation = Probation(clock, self._vitals)
        self._untold: dict[str, CommandState] = {}
        self._table = self._ops_table()
        self.commands = Commands(
            Ledger(folder / "commands", trace=trace),
            self._table,
            tell=self._tell,
            clock=clock,
            clock_wait_s=desired.loaded.settings.control.clock_wait_s,
        )
        self.errors = 0
        """Messages that were dropped because of an error of ours."""
        self._subscribe()

    @property
    def ops(self) -> tuple[str, ...]:
        """What this device can be asked, for its birth certificate."""
        return tuple(sorted(self._table))

    def restore(self) -> None:
        """At a start, before the other loops: stored pause and need map, interrupted commands, an unfinished trial."""
        for what in (durable.load_state(self._paused_file, 1) or {}).get("what", ()):
            self._ops.pause(what)
        if self._needs.weights:
            self._ops.need(self._needs.weights)
        if self._desired.trial:
            self._probation.begin(self._trial_s, None)
        self.commands.resume()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        self.commands.start()
        stats_ns = self._clock.mono_ns()
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                self.handle(self._inbox.get(timeout=TICK_S))
            self.commands.tick()
            if self._probation.over():
                self._end_probation()
            if self._clock.mono_ns() >= stats_ns and self._broker.connected:
                stats_ns = self._clock.mono_ns() + int(self._stats_s() * 1e9)
                self._publish_stats()
        if self._rollout:
            self._rollout.close()
        self.commands.close()

    def _subscribe(self) -> None:
        """Exact topics where there are such: some brokers deliver no retained messages to wildcards."""
        self._broker.watch(self._link_changed)
        self._on(self._topics.dn("cmd", "+"), lambda m: Event("cmd", m.topic.rpartition("/")[2], m.payload))
        self._broker.subscribe(self._topics.dn("blk"), lambda m: self.blocks.arrived(m.payload))
        groups = self._desired.loaded.settings.device.groups
        owners = {"all": "_all", "device": self._topics.device, **{f"groups.{g}": f"_g_{g}" for g in groups}}
        for level, owner in owners.items():
            topics = Topics(self._topics.prefix, owner)
            self._on(topics.dn("config"), lambda m, level=level: Event("config", level, m.payload))  # type: ignore[misc]
            self._on(topics.dn("need"), lambda m, level=level: Event("need", level, m.payload))  # type: ignore[misc]

    def _on(self, topic_filter: str, event: Callable[[Message], Event]) -> None:
        self._broker.subscribe(topic_filter, lambda message: self._inbox.put(event(message)))

    def _link_changed(self, link: Up | Down) -> None:
        if isinstance(link, Up):
            self._inbox.put(Event("up"))

    def handle(self, event: Event) -> None:
        """Deal with one event, in the loop's own thread; whatever is wrong with it ends here."""
        try:
            match event.kind:
                case "up":
                    self._publish_info()
                    self._publish_config()
                    for state in list(self._untold.values()):
                        self._tell(state)
                case "config":
                    self._take_config(event.level, event.payload)
                case "need":
                    self._take_need(event.level, event.payload)
                case "cmd":
                    self.commands.receive(event.level, event.payload)
        except Exception:
            self.errors += 1
            log.exception("control message dropped", extra={"kind": event.kind, "level": event.level[:80]})

    # Configuration

    def _take_config(self, level: str, payload: bytes) -> None:
        """Validate, store, swap, report. An empty payload says nothing: versions never go back to none."""
        if not payload:
            return
        before, well = self._desired.report(), self._vitals()
        try:
            changed = self._desired.offer(level, DesiredConfig.decode(payload))
        except WireError as error:
            changed = False
            self._desired.refuse(level, 0, str(error))
        if changed:
            self._apply(well)
        if self._desired.report() != before:
            self._publish_config()

    def _apply(self, well: Vitals) -> None:
        try:
            self._ops.apply(self._desired.loaded)
        except Exception as error:  # noqa: BLE001 - whatever it was, the configuration before has to be in force
            self._go_back(str(error) or type(error).__name__)
        else:
            log.info("desired configuration applied")
            self._probation.begin(self._trial_s, well)

    def _end_probation(self) -> None:
        """Keep the configuration, or go back where it stopped frames or the connection."""
        reason = self._probation.verdict()
        if reason:
            self._go_back(reason)
            self._publish_config()
        else:
            self._desired.settle()
            self._probation.end()

    def _go_back(self, reason: str) -> None:
        log.warning("desired configuration rolled back", extra={"reason": reason})
        self._probation.end()
        self._desired.roll_back(reason)
        try:
            self._ops.apply(self._desired.loaded)
        except Exception:
            log.exception("the configuration before does not apply either; it is in force at the next start")

    def _vitals(self) -> Vitals:
        return vitals(self._ops.frames(), self._desired.loaded.settings, connected=self._broker.connected)

    @property
    def _trial_s(self) -> float:
        return self._desired.loaded.settings.control.config_trial_s

    # Need maps

    def _take_need(self, level: str, payload: bytes) -> None:
        try:
            changed = bool(payload) and self._needs.offer(level, NeedMap.decode(payload))
        except WireError as error:
            log.warning("need map refused", extra={"level": level, "reason": str(error)})
            return
        if changed:
            self._ops.need(self._needs.weights)

    # Commands

    def _ops_table(self) -> dict[str, Op]:
        ops = self._ops
        table = {
            "capture": Op(Capture, lambda call: {"cids": ops.capture(call.arguments.camera, call.cmd_id)}),
            "pause": Op(Which, lambda call: self._pause(call.arguments.what, pause=True)),
            "resume": Op(Which, lambda call: self._pause(call.arguments.what, pause=False)),
            "flush": Op(NoArguments, lambda _: ops.flush()),
            "restart": Op(NoArguments, lambda _: ops.restart(), interrupted="done"),
            "purge": Op(Purge, self._purge, check=self._check_purge, interrupted="again before all else"),
            "diag": Op(NoArguments, lambda _: bounded(ops.diag(), RESULT_LIMIT)),
            "log_level": Op(LogLevel, lambda call: ops.log_level(call.arguments.level, call.arguments.for_s)),
        }
        if self._rollout:
            table["model_update"] = Op(Update, partial(self._update_model, self._rollout), lane="model")
            table["model_rollback"] = Op(NoArguments, partial(self._recall_model, self._rollout))
        return table

    def _pause(self, what: str, *, pause: bool) -> None:
        """Pauses outlast a restart: who paused a camera that shows something private would not forgive less."""
        paused = set((durable.load_state(self._paused_file, 1) or {}).get("what", ()))
        chosen = {"collect", "upload"} if what == "all" else {what}
        paused = paused | chosen if pause else paused - chosen
        durable.save_state(self._paused_file, 1, {"what": sorted(paused)})
        for each in sorted(chosen):
            (self._ops.pause if pause else self._ops.resume)(each)  # type: ignore[arg-type]

    def _check_purge(self, arguments: Purge) -> None:
        items = self._ops.stats().spool.items
        if items != arguments.expect:
            raise RejectError(
                f"a purge deletes {items} items", remedy=f"send expect={items} when that is what you want"
            )

    def _purge(self, call: Call) -> dict[str, Any]:
        """A purge that was interrupted goes on with what is left of the number that was agreed to."""
        return {"purged": self._ops.purge(None if call.resumed else call.arguments.expect)}

    def _update_model(self, rollout: Rollout, call: Call) -> dict[str, Any]:
        def report(step: Step, progress: float | None) -> None:
            call.tell(step, progress)
            if step in ("active", "rolled_back") and progress is None:
                self._publish_info()

        return rollout.run(call.cmd_id, call.arguments, self.blocks.fetch(call.arguments), report)

    def _recall_model(self, rollout: Rollout, call: Call) -> dict[str, Any]:
        result = rollout.recall(call.cmd_id)
        self._publish_info()
        return result

    def _ask_block(self, payload: bytes) -> None:
        if not self._broker.connected:
            raise RetryError("no connection to the broker")
        self._broker.publish(self._topics.up("blk"), payload)

    def _tell(self, state: CommandState) -> None:
        """Publish a command's state; what gets lost is told again at the next connection, unless a newer one is."""
        self._untold[state.cmd_id] = state
        done = self._broker.publish(self._topics.up("cmd", state.cmd_id), state.encode())
        done.add_done_callback(lambda done: self._told(state, done.result()))

    def _told(self, state: CommandState, delivery: Delivery) -> None:
        if delivery.fate != "lost" and self._untold.get(state.cmd_id) is state:
            self._untold.pop(state.cmd_id, None)
        for oldest in list(self._untold)[: max(len(self._untold) - UNTOLD_LIMIT, 0)]:
            self._untold.pop(oldest, None)

    # Reports

    def _publish_info(self) -> None:
        self._broker.publish(self._topics.up("info"), self._ops.info(self.ops).encode(), retain=True)

    def _publish_config(self) -> None:
        self._broker.publish(self._topics.up("config"), self._desired.report().encode(), retain=True)

    def _publish_stats(self) -> None:
        try:
            self._broker.publish(self._topics.up("stats"), self._ops.stats().encode(), qos=0)
        except Exception:
            self.errors += 1
            log.exception("no stats")

    def _stats_s(self) -> float:
        return self._desired.loaded.settings.health.stats_s * self._rng.uniform(0.9, 1.1)


def bounded(result: dict[str, Any], limit: int) -> dict[str, Any]:
    """The result without its largest entries, where it is larger than `limit` bytes as JSON; `left_out` names them."""
    sizes = {
        key: len(CommandState(cmd_id="x", status="successful", result={key: value}).encode())
        for key, value in result.items()
    }
    left_out: list[str] = []
    while sizes and sum(sizes.values()) > limit:
        largest = max(sizes, key=lambda key: sizes[key])
        left_out.append(largest)
        del sizes[largest]
    kept = {key: result[key] for key in result if key in sizes}
    return {**kept, "left_out": left_out} if left_out else kept
