"""Carries a plan out: stage by stage, watching, and stopping by itself when too many devices fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.errors import ConfigError
from agent.fleet import command as commands
from agent.fleet import config
from agent.fleet.link import Link
from agent.fleet.plan import Outcome, Plan, Stage
from agent.wire import Command, DesiredConfig

LOOK_S = 0.5
EXPIRES_S = 86_400.0


class Rollout:
    """One roll-out. Whatever happens is in the file before the next step is taken, so it can be resumed."""

    def __init__(
        self,
        link: Link,
        plan: Plan,
        file: Path,
        *,
        by: str,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`told` hears one line per event."""
        self._link = link
        self.plan = plan
        self._file = file
        self._by = by
        self._told = told
        self._sent_at: dict[str, float] = {}

    def run(self) -> Plan:
        """Go on until all stages are done or too many devices failed; returns the plan with what has become of it."""
        self._note(state="running", reason="")
        for stage in self.plan.stages:
            if not self._run_stage(stage):
                return self.plan
        self._note(state="done")
        return self.plan

    def _run_stage(self, stage: Stage) -> bool:
        """Roll out to one stage and watch it; False where it had to stop."""
        if self.plan.counts(stage)["ok"] == len(stage.devices):
            return True
        self._told(f"stage {stage.name}: {len(stage.devices)} devices")
        well_since: float | None = None
        while True:
            self._send_some(stage)
            self._look_at(stage)
            counts = self.plan.counts(stage)
            if counts["failed"] / len(stage.devices) >= self.plan.limits.failures:
                self._stop(stage, counts["failed"])
                return False
            settled = not counts["waiting"] and not self._unanswered(stage)
            well_since = (well_since or time.monotonic()) if settled else None
            if well_since is not None and time.monotonic() - well_since >= self._soak_s():
                self._finish(stage)
                return True
            self._link.wait(lambda: False, LOOK_S)

    def _send_some(self, stage: Stage) -> None:
        """Send to those that wait, as many as may be under way; take up those that an earlier run sent to."""
        for name in stage.devices:
            outcome = self.plan.outcomes.get(name)
            if outcome and outcome.fate == "sent" and name not in self._sent_at:
                self._sent_at[name] = time.monotonic()
                if outcome.cmd_id:
                    commands.issue(self._link, name, self._order(outcome.cmd_id))
        room = max(self.plan.limits.at_once - len(self._unanswered(stage)), 0)
        waiting = [name for name in stage.devices if name not in self.plan.outcomes][:room]
        (self._send_model if self.plan.update else self._send_config)(waiting)
        self._sent_at.update(dict.fromkeys(waiting, time.monotonic()))

    def _send_model(self, names: Sequence[str]) -> None:
        orders = {name: self._order() for name in names}
        self._set({name: Outcome(fate="sent", cmd_id=order.cmd_id) for name, order in orders.items()})
        for name, order in orders.items():
            commands.issue(self._link, name, order)

    def _send_config(self, names: Sequence[str]) -> None:
        wanted: dict[str, DesiredConfig] = {}
        outcomes: dict[str, Outcome] = {}
        for name in names:
            try:
                wanted[name] = config.prepare(self._link, config.Target("device", name), self.plan.values or {})
                outcomes[name] = Outcome(fate="sent", version=wanted[name].version)
            except ConfigError as error:
                outcomes[name] = Outcome(fate="failed", reason=str(error))
        self._set(outcomes)
        for name, new in wanted.items():
            config.publish(self._link, config.Target("device", name), new)

    def _order(self, cmd_id: str = "") -> Command:
        args = self.plan.update.model_dump(mode="json") if self.plan.update else {}
        order = commands.order(self._link, "model_update", args, by=self._by, expires_s=EXPIRES_S)
        return order.model_copy(update={"cmd_id": cmd_id}) if cmd_id else order

    def _look_at(self, stage: Stage) -> None:
        failed = {}
        for name in stage.devices:
            outcome = self.plan.outcomes.get(name)
            reason = self._failure(name, outcome) if outcome and outcome.fate == "sent" else None
            if outcome and reason:
                failed[name] = outcome.model_copy(update={"fate": "failed", "reason": reason})
                self._told(f"{name}: {reason}")
        self._set(failed)

    def _failure(self, name: str, outcome: Outcome) -> str | None:
        """Why a device that was sent something counts as failed; None where it does not (yet)."""
        device, limits = self._link.device(name), self.plan.limits
        drift = device.drift
        if limits.drift is not None and drift is not None and drift > limits.drift:
            return f"drift {drift:.2f} above {limits.drift:g}"
        if self._answered(name, outcome):
            return self._complaint(name, outcome)
        if time.monotonic() - self._sent_at.get(name, time.monotonic()) > limits.answer_s:
            state = device.status.state if device.status else "never heard of"
            return f"no answer in {limits.answer_s:g} s; it is {state}"
        return None

    def _complaint(self, name: str, outcome: Outcome) -> str | None:
        device = self._link.device(name)
        if outcome.cmd_id:
            state = device.command(outcome.cmd_id)
            return (
                f"{state.status}: {state.reason}" if state and state.status not in ("successful", "executing") else None
            )
        report = device.config
        wrong = [p for p in report.errors if p.level == "device" and p.version == outcome.version] if report else []
        return f"{wrong[0].path or 'config'}: {wrong[0].msg}" if wrong else None

    def _answered(self, name: str, outcome: Outcome) -> bool:
        """Whether a device has said what it makes of it: a model's final state, a configuration seen."""
        device = self._link.device(name)
        if outcome.cmd_id:
            state = device.command(outcome.cmd_id)
            return state is not None and state.status in commands.FINAL
        report = device.config
        return report is not None and report.seen.device >= outcome.version

    def _unanswered(self, stage: Stage) -> list[str]:
        sent = ((name, self.plan.outcomes.get(name)) for name in stage.devices)
        return [name for name, out in sent if out and out.fate == "sent" and not self._answered(name, out)]

    def _soak_s(self) -> float:
        """A model's final state comes after the device's own drift window: only a configuration has to soak."""
        return 0.0 if self.plan.update else self.plan.limits.soak_s

    def _finish(self, stage: Stage) -> None:
        outcomes = {name: self.plan.outcomes[name] for name in stage.devices}
        self._set({name: out.model_copy(update={"fate": "ok"}) for name, out in outcomes.items() if out.fate == "sent"})
        self._clear(stage)
        self._told(f"stage {stage.name}: done, {self.plan.counts(stage)}")

    def _stop(self, stage: Stage, failed: int) -> None:
        """Take back what no device has begun; say why."""
        self._clear(stage)
        reason = f"{failed} of {len(stage.devices)} devices failed in stage {stage.name}"
        self._note(state="stopped", reason=reason)
        self._told(f"stopped: {reason}")

    def _clear(self, stage: Stage) -> None:
        """Take the commands away from the broker; what a device has begun it finishes."""
        for name in stage.devices:
            outcome = self.plan.outcomes.get(name)
            if outcome and outcome.cmd_id:
                commands.clear(self._link, name, outcome.cmd_id)

    def _set(self, outcomes: Mapping[str, Outcome]) -> None:
        if outcomes:
            self._note(outcomes={**self.plan.outcomes, **outcomes})

    def _note(self, **changes: object) -> None:
        self.plan = self.plan.model_copy(update=changes)
        self.plan.save(self._file)
