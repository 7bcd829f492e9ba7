"""A thousand devices in one process: real MQTT connections and the real protocol, nothing behind them.

One thread drives a paho client per device; a device takes configuration through the very merging and validation that a
real one has, and answers commands. What it refuses, and what a model update does to it, a test decides.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.errors import ConfigError, WireError
from agent.settings import Loaded, load
from agent.wire import (
    CameraStats,
    Command,
    CommandState,
    ConfigProblem,
    DesiredConfig,
    InferStats,
    Info,
    ReportedConfig,
    SpoolStats,
    Stats,
    Status,
    Topics,
    Versions,
)

TS = "2027-01-15T08:00:00.000Z"
LIVE = CameraStats(state="live", fps=5, frame_age_s=0.2, reconnects=0, dropped=0)
BASE = load(
    Path("/dev/null"),
    command_line={"device": {"id": "simulated"}, "cameras": {"gate": {"name": "gate", "source": "0"}}},
    environ={},
)


class SimulatedDevice:
    """One device: a connection, a configuration, and what it says."""

    def __init__(self, name: str, fleet: SimulatedFleet) -> None:
        self.topics = Topics("tk/v1", name)
        self.name = name
        self.loaded: Loaded = BASE
        self.version = 0
        self.commands: dict[str, int] = {}
        self.up = False
        self._fleet = fleet
        self.client = Client(
            CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
        )
        self.client.will_set(self.topics.status, self._status("offline"), qos=1, retain=True)
        self.client.on_connect = lambda *_: self._connected()
        self.client.on_message = lambda _c, _u, message: self._arrived(message)

    def _status(self, state: Any) -> bytes:
        return Status(state=state, boot="0" * 32, conn=1, ts=TS).encode()

    def _say(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        self.client.publish(self.topics.up(*topic.split("/")), payload, qos, retain)

    def _connected(self) -> None:
        self.client.subscribe([(self.topics.dn("#"), 1), ("tk/v1/_all/dn/#", 1)])
        self._say("status", self._status("online"), retain=True)
        info = Info(
            device=self.name, agent="simulated", hardware={}, cameras=("gate",), model=None, classes=("car",),
            ops=("diag", "model_update"), limits={}, boot="0" * 32, ts=TS,
        )  # fmt: skip
        self._say("info", info.encode(), retain=True)
        self._report(())
        self.say_stats()
        self.up = True

    def say_stats(self) -> None:
        stats = Stats(
            ts=TS, uptime_s=1, cameras={"gate": LIVE},
            infer_ms=InferStats(p50=40, p95=50), cpu=0.5, rss_mb=200, temp_c=50, throttled=False, clock_synced=True,
            disk_free_mb=1000, spool=SpoolStats(items=0, bytes=0, oldest_s=None, sent=0, quarantined=0, evicted={}),
            budget={}, drift={"gate": {"classes": self._fleet.drift(self.name)}}, counters={},
        )  # fmt: skip
        self._say("stats", stats.encode(), qos=0)

    def _report(self, errors: tuple[ConfigProblem, ...], seen: int = 0) -> None:
        versions = Versions(device=self.version)
        values = {"selection": {"budget": self.loaded.settings.selection.budget}, "cameras": {"gate": {"fps": 5.0}}}
        report = ReportedConfig(
            version=self.version, versions=versions, hash="0" * 16, values=values, errors=errors,
            seen=Versions(device=max(seen, self.version)),
        )  # fmt: skip
        self._say("config", report.encode(), retain=True)

    def _arrived(self, message: MQTTMessage) -> None:
        levels = message.topic.split("/")
        try:
            if levels[-1] == "config" and message.payload:
                self._take_config(DesiredConfig.decode(bytes(message.payload)))
            elif levels[-2] == "cmd" and message.payload:
                self._take_command(Command.decode(bytes(message.payload)))
        except WireError:
            self._fleet.garbage += 1

    def _take_config(self, wanted: DesiredConfig) -> None:
        if wanted.version <= self.version:
            return
        try:
            reason = self._fleet.refusal(self.name)
            if reason:
                raise ConfigError(reason, problems=(("selection.budget", reason),))
            self.loaded = BASE.with_desired(wanted.values)
        except ConfigError as error:
            path, text = error.problems[0]
            self._report((ConfigProblem(level="device", version=wanted.version, path=path, msg=text),), wanted.version)
            return
        self.version = wanted.version
        self._report(())

    def _take_command(self, command: Command) -> None:
        self.commands[command.cmd_id] = self.commands.get(command.cmd_id, 0) + 1
        reason = self._fleet.refusal(self.name)
        for state in (
            CommandState(cmd_id=command.cmd_id, status="received"),
            CommandState(cmd_id=command.cmd_id, status="executing", step="downloading"),
            CommandState(cmd_id=command.cmd_id, status="failed" if reason else "successful", reason=reason),
        ):
            self._say(f"cmd/{command.cmd_id}", state.encode())


class SimulatedFleet:
    """Many devices and the thread that drives them."""

    def __init__(self, port: int, names: list[str]) -> None:
        self.refusal: Callable[[str], str | None] = lambda _: None
        """Why a device refuses a configuration, or fails to run a model."""
        self.drift: Callable[[str], float] = lambda _: 0.1
        self.garbage = 0
        self.devices = {name: SimulatedDevice(name, self) for name in names}
        self._port = port
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="simulated fleet")

    def __enter__(self) -> SimulatedFleet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def up(self) -> int:
        return sum(device.up for device in self.devices.values())

    def _run(self) -> None:
        waiting = list(self.devices.values())
        sockets: dict[socket.socket, SimulatedDevice] = {}
        while not self._stop.is_set():
            for device in waiting[:20]:  # a few at a time: the listen queue is short
                device.client.connect("127.0.0.1", self._port, keepalive=300)
                sock = device.client.socket()
                assert isinstance(sock, socket.socket)
                sockets[sock] = device
                self._selector.register(sock, selectors.EVENT_READ, device)
            waiting = waiting[20:]
            for key, _ in self._selector.select(0.02 if not waiting else 0):
                key.data.client.loop_read()
            for device in sockets.values():
                if device.client.want_write():
                    device.client.loop_write()
        for sock, device in sockets.items():
            self._selector.unregister(sock)
            device.client.disconnect()
            device.client.loop_write()
        self._selector.close()


def names(count: int) -> list[str]:
    return [f"cam-{number:04d}" for number in range(count)]
