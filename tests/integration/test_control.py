"""Loop 3 over a real broker: presence, configuration, commands, need maps, model blocks; in both protocol versions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import pytest

from agent.errors import ConfigError, ModelError
from agent.fleet import Link, Target, differences, get, put, send
from agent.fleet.blocks import BlockServer
from agent.fleet.command import order
from agent.models import keygen
from agent.settings import BrokerSettings
from agent.wire import Command, CommandState, DesiredConfig, NeedMap, Status
from tests.fakes.bundles import a_bundle, an_update
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import broker_settings, wait_until
from tests.integration.fleet import Controlled, operator

WAIT_S = 20.0
GATE = "gate-north"


@pytest.fixture
def broker(mosquitto: Mosquitto) -> BrokerSettings:
    return broker_settings(mosquitto.port, will_delay_s=0)


@pytest.fixture(params=[5, 4], ids=["MQTT 5", "MQTT 3.1.1"])
def protocol(request: pytest.FixtureRequest) -> Literal[4, 5]:
    return cast("Literal[4, 5]", request.param)


@pytest.fixture
def device(tmp_path: Path, broker: BrokerSettings, protocol: Literal[4, 5]) -> Iterator[Controlled]:
    with Controlled(tmp_path / "device", broker, protocol=protocol) as controlled:
        yield controlled


@pytest.fixture
def link(broker: BrokerSettings) -> Iterator[Link]:
    with operator(broker) as link:
        yield link


def ask(link: Link, op: str, **args: Any) -> CommandState:
    """Send a command and wait for its end."""
    state = send(link, GATE, order(link, op, args, by="test"), wait_s=WAIT_S)
    assert state, f"no end of {op}"
    return state


def reported(link: Link, version: int) -> None:
    """Wait until the device has seen a version of its own level."""

    def seen() -> bool:
        report = link.device(GATE).config
        return report is not None and report.seen.device >= version

    assert link.wait(seen, WAIT_S)


def test_a_device_that_connects_says_who_it_is_and_what_it_runs(device: Controlled, link: Link) -> None:
    gate = link.device(GATE)
    assert link.wait(lambda: bool(gate.status and gate.info and gate.config and gate.stats), WAIT_S)
    assert gate.status
    assert gate.info
    assert gate.status.state == "online"
    assert {"capture", "pause", "resume", "restart", "flush", "purge", "diag", "log_level"} <= set(gate.info.ops)
    row = gate.row()
    assert (row["model"], row["fps"], row["spool"], row["frame_age_s"], row["drift"]) == (
        "configured",
        5.0,
        3,
        0.1,
        0.1,
    )


def test_a_valid_configuration_is_live_and_reported(device: Controlled, link: Link) -> None:
    assert link.wait(lambda: link.device(GATE).config is not None, WAIT_S)
    wanted = put(link, Target.parse(GATE), {"cameras": {"gate": {"fps": 2.0}}})
    reported(link, wanted.version)

    assert device.agent.applied[-1].settings.cameras[0].fps == 2.0
    report = link.device(GATE).config
    assert report
    assert (report.version, report.errors) == (1, ())
    assert differences(link, GATE) == []


def test_levels_reach_a_device_through_the_fleets_and_the_groups_topic(device: Controlled, link: Link) -> None:
    put(link, Target.parse("all"), {"selection": {"budget": 0.1, "window_s": 30.0}})
    put(link, Target.parse("group:north"), {"selection": {"budget": 0.2}})
    put(link, Target.parse("group:south"), {"selection": {"budget": 0.9}})

    def merged() -> bool:
        report = link.device(GATE).config
        selection = report.values["selection"] if report else {}
        return (selection.get("budget"), selection.get("window_s")) == (0.2, 30.0)

    assert link.wait(merged, WAIT_S)


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (DesiredConfig(version=1, values={"selection": {"budget": "a lot"}}).encode(), "selection.budget"),
        (DesiredConfig(version=1, values={"selection": {"budgt": 1}}).encode(), "selection.budgt"),
        (DesiredConfig(version=1, values={"selection": {"budget": 7}}).encode(), "selection.budget"),
        (DesiredConfig(version=1, values={"broker": {"host": "elsewhere"}}).encode(), "broker.host"),
        (b"{", "DesiredConfig"),
        (os.urandom(1_000_000), "bytes"),
        (b'{"v":1,"values":{}}', "version"),
    ],
    ids=["wrong type", "unknown key", "impossible value", "not settable", "no JSON", "1 MB of garbage", "no version"],
)
def test_an_invalid_configuration_changes_nothing_and_is_reported(
    device: Controlled, link: Link, payload: bytes, complaint: str
) -> None:
    link.publish(link.topics(GATE).dn("config"), payload, retain=True)

    def complained() -> bool:
        report = link.device(GATE).config
        return report is not None and any(complaint in f"{e.path} {e.msg}" for e in report.errors)

    assert link.wait(complained, WAIT_S)
    assert device.agent.applied == []


def test_an_older_configuration_is_not_taken(device: Controlled, link: Link) -> None:
    topic = link.topics(GATE).dn("config")
    link.publish(topic, DesiredConfig(version=5, values={"selection": {"budget": 0.5}}).encode(), retain=True)
    reported(link, 5)
    link.publish(topic, DesiredConfig(version=4, values={"selection": {"budget": 0.4}}).encode(), retain=True)

    def complained() -> bool:
        report = link.device(GATE).config
        return report is not None and any(e.path == "version" for e in report.errors)

    assert link.wait(complained, WAIT_S)
    assert device.desired.loaded.settings.selection.budget == 0.5
    assert put(link, Target.parse(GATE), {"selection": {"budget": 0.3}}).version == 6


def test_what_the_operator_gets_wrong_is_refused_before_it_is_sent(device: Controlled, link: Link) -> None:
    assert link.wait(lambda: link.device(GATE).config is not None, WAIT_S)
    for values in (
        {"selection": {"budgt": 0.1}},
        {"cameras": {"yard": {"fps": 1}}},
        {"model": {"select_floor": 0.5}},
        {"broker": {"host": "elsewhere"}},
    ):
        with pytest.raises(ConfigError):
            put(link, Target.parse(GATE), values)
    assert get(link, Target.parse(GATE)).version == 0


def test_a_configuration_that_stops_frames_is_rolled_back_by_the_device_itself(device: Controlled, link: Link) -> None:
    assert link.wait(lambda: link.device(GATE).config is not None, WAIT_S)
    device.agent.ages_after_apply = {"gate": 60.0}
    put(link, Target.parse(GATE), {"cameras": {"gate": {"fps": 3.0}}})

    def rolled_back() -> bool:
        report = link.device(GATE).config
        return report is not None and any("no frames of gate" in e.msg for e in report.errors)

    assert link.wait(rolled_back, WAIT_S)
    assert device.agent.applied[-1].settings.cameras[0].fps == 5.0


def test_a_configuration_that_the_agent_refuses_is_reported(device: Controlled, link: Link) -> None:
    device.agent.refusal = ConfigError("cameras.gate.redact: the model has no class 'face'")
    put(link, Target.parse(GATE), {"cameras": {"gate": {"redact": ["face"]}}})

    def complained() -> bool:
        report = link.device(GATE).config
        return report is not None and any("no class 'face'" in e.msg for e in report.errors)

    assert link.wait(complained, WAIT_S)
    assert device.desired.loaded.settings.cameras[0].redact == ()


def test_a_change_that_the_agent_refuses_takes_an_earlier_one_on_trial_back_with_it(
    tmp_path: Path, broker: BrokerSettings, link: Link
) -> None:
    with Controlled(tmp_path / "device", broker, trial_s=600) as device:
        put(link, Target.parse(GATE), {"selection": {"budget": 0.5}})
        reported(link, 1)
        device.agent.refusal = TimeoutError()
        put(link, Target.parse(GATE), {"selection": {"budget": 0.6}})
        reported(link, 2)
        assert device.agent.applied[-1].settings.selection.budget == 0.02
        assert device.desired.loaded.settings.selection.budget == 0.02


def test_each_op_is_carried_out_and_answered(device: Controlled, link: Link) -> None:
    assert ask(link, "capture", camera="gate").result == {"cids": ["c" * 32]}
    assert ask(link, "pause", what="upload").status == "successful"
    assert ask(link, "resume").status == "successful"
    assert ask(link, "flush").status == "successful"
    assert ask(link, "log_level", level="debug", for_s=5).status == "successful"
    assert ask(link, "restart").status == "successful"
    assert ask(link, "diag").result == {"agent": "test", "left_out": ["log"]}
    assert [call[0] for call in device.agent.calls] == [
        "capture", "pause", "resume", "resume", "flush", "log_level", "restart",
    ]  # fmt: skip


def test_what_cannot_be_done_is_answered_too(device: Controlled, link: Link) -> None:
    assert "no camera" in str(ask(link, "capture", camera="yard").reason)
    assert "args: level" in str(ask(link, "log_level", level="loud").reason)
    unknown = order(link, "diag", {}, by="test").model_copy(update={"op": "explode"})
    link.publish(link.topics(GATE).dn("cmd", unknown.cmd_id), unknown.encode())
    assert link.wait(lambda: link.device(GATE).command(unknown.cmd_id) is not None, WAIT_S)
    expired = order(link, "flush", {}, by="test", expires_s=-5)
    state = send(link, GATE, expired, wait_s=WAIT_S)
    assert state
    assert state.status == "expired"


def test_a_purge_needs_the_number_of_items_it_will_delete(device: Controlled, link: Link) -> None:
    for args in ({}, {"expect": 2}):
        refused = ask(link, "purge", **args)
        assert (refused.status, device.agent.items) == ("rejected", 3)
        assert "a purge deletes 3 items; send expect=3" in str(refused.reason)
    assert ask(link, "purge", expect=3).result == {"purged": 3}


def test_a_retained_command_that_comes_again_gets_the_stored_result(
    tmp_path: Path, broker: BrokerSettings, link: Link
) -> None:
    command = order(link, "capture", {}, by="test")
    topic = link.topics(GATE).dn("cmd", command.cmd_id)
    calls = []
    for _ in range(3):
        with Controlled(tmp_path / "device", broker) as device:
            link.publish(topic, command.encode(), retain=True)
            link.publish(topic, command.encode(), retain=True)
            assert link.wait(lambda: final(link, command), WAIT_S)
            calls += device.agent.calls
        link.device(GATE).raw.clear()

    assert [call[0] for call in calls] == ["capture"]


def final(link: Link, command: Command) -> bool:
    state = link.device(GATE).command(command.cmd_id)
    return state is not None and state.status == "successful"


def test_a_pause_outlasts_a_restart(tmp_path: Path, broker: BrokerSettings, link: Link) -> None:
    with Controlled(tmp_path / "device", broker):
        ask(link, "pause", what="collect")
    with Controlled(tmp_path / "device", broker) as device:
        assert device.agent.calls == [("pause", "collect")]


def test_the_need_map_of_a_group_goes_over_everybodys(device: Controlled, link: Link) -> None:
    everybody = link.topics("_all").dn("need")
    assert link.wait(lambda: link.device(GATE).info is not None, WAIT_S)
    link.publish(link.topics("_g_north").dn("need"), NeedMap(version=1, weights={"cat": 9.0}).encode(), retain=True)
    link.publish(everybody, NeedMap(version=1, weights={"cat": 2.0, "dog": 3.0}).encode(), retain=True)
    link.publish(everybody, b"nonsense", retain=True)

    wait_until(lambda: ("need", {"cat": 9.0, "dog": 3.0}) in device.agent.calls, "merged need map")


def test_a_clean_end_says_draining_then_offline_stopped(tmp_path: Path, broker: BrokerSettings) -> None:
    heard: list[str | None] = []

    def listen(_: str, levels: tuple[str, ...], payload: bytes) -> None:
        if levels == ("up", "status"):
            status = Status.decode(payload)
            heard.append(status.reason or status.state)

    other = operator(broker)
    other.listen(listen)
    with other:
        with Controlled(tmp_path / "device", broker):
            assert other.wait(lambda: other.device(GATE).info is not None, WAIT_S)
        wait_until(
            lambda: heard[-3:] == ["online", "draining", "stopped"], "draining, then offline with reason stopped"
        )


DEVICE = """
import sys, threading
from pathlib import Path
from tests.integration.delivery import broker_settings
from tests.integration.fleet import Controlled
with Controlled(Path(sys.argv[1]), broker_settings(int(sys.argv[2]), will_delay_s=0), protocol=int(sys.argv[3])):
    threading.Event().wait()
"""


def test_a_device_that_is_killed_leaves_its_will_and_a_late_will_is_ignored(
    tmp_path: Path, mosquitto: Mosquitto, link: Link, protocol: Literal[4, 5]
) -> None:
    gate = link.device(GATE)
    command = [sys.executable, "-c", DEVICE, str(tmp_path / "device"), str(mosquitto.port), str(protocol)]
    with subprocess.Popen(command) as child:
        try:
            assert link.wait(lambda: gate.status is not None and gate.status.state == "online", WAIT_S)
            earlier = gate.status
        finally:
            child.send_signal(signal.SIGKILL)
    assert earlier
    assert link.wait(lambda: gate.status is not None and gate.status.state == "offline", WAIT_S)
    assert gate.status
    assert gate.status.reason == "connection lost"

    with Controlled(tmp_path / "device", link.settings, protocol=protocol):
        assert link.wait(lambda: gate.status is not None and gate.status.state == "online", WAIT_S)
        late = Status(state="offline", reason="connection lost", boot=earlier.boot, conn=earlier.conn, ts=earlier.ts)
        gate.take("status", late.encode())
        assert gate.status.state == "online"


def test_a_model_goes_live_over_the_broker_alone_block_by_block(
    tmp_path: Path, broker: BrokerSettings, protocol: Literal[4, 5]
) -> None:
    public = keygen(tmp_path / "key.pem")
    configured = a_bundle(tmp_path / "configured", counter=1)
    bundle = a_bundle(tmp_path / "bundle", counter=2, key=tmp_path / "key.pem")
    link = operator(broker)
    server = BlockServer(link, bundle)
    facts: dict[str, Any] = {"trusted_keys": (public,), "configured": configured, "protocol": protocol}
    device = Controlled(tmp_path / "device", broker, **facts)
    steps: list[str | None] = []
    with link, server, device:
        assert link.wait(lambda: link.device(GATE).info is not None, WAIT_S)
        update = order(link, "model_update", an_update(bundle).model_dump(mode="json"), by="test")
        state = send(link, GATE, update, wait_s=WAIT_S, told=lambda state: steps.append(state.step))
        assert state
        assert (state.status, state.reason) == ("successful", None)
        assert [*dict.fromkeys(filter(None, steps))] == ["downloading", "verified", "staged", "warmed", "active"]
        assert device.running.name == "2-tiny"
        assert link.wait(lambda: link.device(GATE).row()["model"] == "2-tiny", WAIT_S)

        assert ask(link, "model_rollback").status == "successful"
        assert device.running == configured


def test_a_model_that_fails_leaves_the_old_one_and_says_why(
    tmp_path: Path, broker: BrokerSettings, protocol: Literal[4, 5]
) -> None:
    public = keygen(tmp_path / "key.pem")
    configured = a_bundle(tmp_path / "configured", counter=1)
    bundle = a_bundle(tmp_path / "bundle", counter=2, key=tmp_path / "key.pem")

    def refuse(*_: Path) -> None:
        raise ModelError("it ended its trial process with SIGSEGV")

    link = operator(broker)
    server = BlockServer(link, bundle)
    facts: dict[str, Any] = {"trusted_keys": (public,), "configured": configured, "protocol": protocol}
    device = Controlled(tmp_path / "device", broker, rehearse=refuse, **facts)
    with link, server, device:
        assert link.wait(lambda: link.device(GATE).info is not None, WAIT_S)
        state = ask(link, "model_update", **an_update(bundle).model_dump(mode="json"))
        assert state.status == "failed"
        assert "SIGSEGV" in str(state.reason)
        assert device.running == configured


class Flaky(BaseHTTPRequestHandler):
    """Serves one file in ranges; every other answer is an error."""

    content = b""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        wanted = str(self.headers["Range"])
        self.asked.append(wanted)
        if len(self.asked) % 2:
            self.send_error(503)
            return
        first, last = wanted.removeprefix("bytes=").split("-")
        piece = self.content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        pass


def test_a_model_is_fetched_over_http_from_a_server_that_fails_now_and_then(
    tmp_path: Path, broker: BrokerSettings, link: Link
) -> None:
    public = keygen(tmp_path / "key.pem")
    configured = a_bundle(tmp_path / "configured", counter=1)
    bundle = a_bundle(tmp_path / "bundle", counter=2, key=tmp_path / "key.pem")
    Flaky.content = (bundle / "model.onnx").read_bytes()
    Flaky.asked.clear()
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as http,
        Controlled(tmp_path / "device", broker, trusted_keys=(public,), configured=configured) as device,
    ):
        serving = threading.Thread(target=http.serve_forever, args=(0.02,))
        serving.start()
        update = an_update(bundle, url=f"http://127.0.0.1:{http.server_port}/model.onnx")
        state = ask(link, "model_update", **update.model_dump(mode="json"))
        http.shutdown()
        serving.join()
        assert (state.status, state.reason) == ("successful", None)
        assert device.running.name == "2-tiny"
    assert len(Flaky.asked) == 2


def test_a_model_update_that_a_restart_cuts_goes_on_and_ends(tmp_path: Path, broker: BrokerSettings) -> None:
    public = keygen(tmp_path / "key.pem")
    bundle = a_bundle(tmp_path / "bundle", counter=2, key=tmp_path / "key.pem")
    facts: dict[str, Any] = {
        "trusted_keys": (public,),
        "configured": a_bundle(tmp_path / "configured", counter=1),
    }
    link = operator(broker)
    server = BlockServer(link, bundle)
    with link, server:
        update = order(link, "model_update", an_update(bundle).model_dump(mode="json"), by="test")

        def step(name: str) -> bool:
            state = link.device(GATE).command(update.cmd_id)
            return state is not None and name in (state.step, state.status)

        with Controlled(tmp_path / "device", broker, trial_s=600, **facts):
            link.publish(link.topics(GATE).dn("cmd", update.cmd_id), update.encode(), retain=True)
            assert link.wait(lambda: step("active"), WAIT_S)
        with Controlled(tmp_path / "device", broker, trial_s=0.3, **facts) as device:
            assert device.running.name == "2-tiny"
            assert link.wait(lambda: step("successful"), WAIT_S)
