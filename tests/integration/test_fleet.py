"""The operator's side, against simulated devices on a real broker."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import BrokerError, ConfigError
from agent.fleet import Link, Plan, Rollout, Target, put
from agent.fleet.config import parse_changes
from agent.fleet.plan import Limits, stages
from agent.settings import BrokerSettings
from tests.fakes.bundles import a_bundle, an_update
from tests.fakes.devices import SimulatedFleet, names
from tests.fakes.mosquitto import Mosquitto, free_port
from tests.integration.delivery import broker_settings, wait_until
from tests.integration.fleet import operator

DEVICES = names(20)
QUICK = Limits(failures=0.05, answer_s=5.0, soak_s=0.2)


@pytest.fixture
def fleet(mosquitto: Mosquitto) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(mosquitto.port, DEVICES) as fleet:
        wait_until(lambda: fleet.up == len(DEVICES), "all devices")
        yield fleet


@pytest.fixture
def link(mosquitto: Mosquitto, fleet: SimulatedFleet) -> Iterator[Link]:
    with operator(broker_settings(mosquitto.port)) as link:
        yield link


def budget_plan(**changes: object) -> Plan:
    values = {"selection": {"budget": 0.5}}
    return Plan(values=values, stages=stages(DEVICES, DEVICES[:4], [50]), limits=QUICK).model_copy(update=changes)


def test_the_table_of_the_fleet_is_there_at_once(link: Link) -> None:
    rows = [device.row() for device in link.known()]

    assert [row["device"] for row in rows] == DEVICES
    assert {row["state"] for row in rows} == {"online"}
    assert json.dumps(rows)


def test_a_staged_roll_out_reaches_every_device_canaries_first(link: Link, tmp_path: Path) -> None:
    told: list[str] = []
    plan = Rollout(link, budget_plan(), tmp_path / "plan.json", by="test", told=told.append).run()

    assert plan.state == "done"
    assert {outcome.fate for outcome in plan.outcomes.values()} == {"ok"}
    assert [line.split(":")[0] for line in told if "devices" in line] == ["stage canaries", "stage 50 %", "stage 100 %"]


def test_a_roll_out_stops_by_itself_when_canaries_refuse(fleet: SimulatedFleet, link: Link, tmp_path: Path) -> None:
    fleet.refusal = lambda name: "the model has no class 'face'" if name == DEVICES[2] else None
    plan = Rollout(link, budget_plan(), tmp_path / "plan.json", by="test").run()

    assert (plan.state, plan.reason) == ("stopped", "1 of 4 devices failed in stage canaries")
    assert "no class 'face'" in plan.outcomes[DEVICES[2]].reason
    assert set(plan.outcomes) == set(DEVICES[:4])
    assert all(fleet.devices[name].version == 0 for name in DEVICES[4:])


def test_a_device_that_says_nothing_counts_as_failed(link: Link, tmp_path: Path) -> None:
    absent = Plan(
        values={"selection": {"budget": 0.5}},
        stages=stages(["never-seen"], [], []),
        limits=Limits(answer_s=0.3, soak_s=0),
    )
    plan = Rollout(link, absent, tmp_path / "plan.json", by="test").run()

    assert plan.state == "stopped"
    assert "never heard of" in plan.outcomes["never-seen"].reason


def test_drift_above_the_limit_stops_a_roll_out(fleet: SimulatedFleet, link: Link, tmp_path: Path) -> None:
    fleet.drift = lambda _: 0.9
    fleet.devices[DEVICES[0]].say_stats()
    assert link.wait(lambda: link.device(DEVICES[0]).drift == 0.9, 10)
    limits = QUICK.model_copy(update={"drift": 0.5})
    plan = Rollout(link, budget_plan(limits=limits), tmp_path / "plan.json", by="test").run()

    assert plan.state == "stopped"
    assert "drift 0.90 above 0.5" in plan.outcomes[DEVICES[0]].reason


def test_a_roll_out_that_was_cut_goes_on_where_it_was(fleet: SimulatedFleet, link: Link, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"

    class CutError(Exception):
        pass

    def cut(line: str) -> None:
        if line.startswith("stage canaries: done"):
            raise CutError

    with pytest.raises(CutError):
        Rollout(link, budget_plan(), file, by="test", told=cut).run()
    before = {name: fleet.devices[name].version for name in DEVICES[:4]}
    plan = Rollout(link, Plan.load(file), file, by="test").run()

    assert plan.state == "done"
    assert {name: fleet.devices[name].version for name in DEVICES[:4]} == before
    assert Plan.load(file) == plan


def test_a_model_is_rolled_out_by_commands_that_are_cleared_when_they_are_done(
    fleet: SimulatedFleet, link: Link, tmp_path: Path
) -> None:
    update = an_update(a_bundle(tmp_path / "bundle"), url="https://models.example/tiny")
    plan = Rollout(
        link, Plan(update=update, stages=stages(DEVICES, DEVICES[:2], []), limits=QUICK), tmp_path / "plan", by="test"
    ).run()

    assert plan.state == "done"
    assert all(device.commands == {plan.outcomes[name].cmd_id: 1} for name, device in fleet.devices.items())
    with SimulatedFleet(link.settings.port, ["latecomer"]) as late, operator(link.settings) as other:
        wait_until(lambda: late.up == 1, "latecomer")
        assert not [topic for topic in other.desired if "cmd" in topic]


def test_a_resumed_model_roll_out_asks_again_with_the_same_command(
    fleet: SimulatedFleet, link: Link, tmp_path: Path
) -> None:
    update = an_update(a_bundle(tmp_path / "bundle"), url="https://models.example/tiny")
    file = tmp_path / "plan.json"
    plan = Plan(update=update, stages=stages(DEVICES, DEVICES[:2], []), limits=QUICK)
    first = Rollout(link, plan, file, by="test")
    first._send_some(plan.stages[0])
    with operator(link.settings) as other:
        done = Rollout(other, Plan.load(file), file, by="test").run()

    assert done.state == "done"
    assert len(fleet.devices[DEVICES[0]].commands) == 1


def test_one_change_for_all_reaches_all(fleet: SimulatedFleet, link: Link) -> None:
    put(link, Target.parse("all"), {"selection": {"budget": 0.25}})

    wait_until(
        lambda: all(d.loaded.settings.selection.budget == 0.25 for d in fleet.devices.values()), "all have the budget"
    )


def test_changes_are_written_as_keys_and_values() -> None:
    assert parse_changes(["selection.budget=0.03", "cameras.gate.schedule=Mon-Fri 06:00-20:00"]) == {
        "selection": {"budget": 0.03},
        "cameras": {"gate": {"schedule": "Mon-Fri 06:00-20:00"}},
    }
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_changes(["selection.budget"])


def test_stages_are_canaries_then_percents_then_the_rest() -> None:
    made = stages(names(1000), ["cam-0001", "cam-0002"], [10, 50])

    assert [(stage.name, len(stage.devices)) for stage in made] == [
        ("canaries", 2), ("10 %", 98), ("50 %", 400), ("100 %", 500),
    ]  # fmt: skip
    assert len({name for stage in made for name in stage.devices}) == 1000
    with pytest.raises(ConfigError, match="no such device"):
        stages(["a"], ["b"], [])


def test_a_broker_that_is_not_there_is_named() -> None:
    settings = BrokerSettings(host="127.0.0.1", port=free_port(), tls=False)
    with pytest.raises(BrokerError, match="no connection to the broker"):
        Link(settings, SystemClock(), random.Random(1), connect_s=0.3).__enter__()
