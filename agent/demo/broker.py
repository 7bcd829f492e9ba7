"""An MQTT broker for the demo: a child process on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.errors import BrokerError, ConfigError

LOOPBACK = "127.0.0.1"
AMQTT_CONFIG = """\
listeners:
  default:
    type: tcp
    bind: {bind}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


@contextlib.contextmanager
def embedded_broker(folder: Path, port: int = 0) -> Iterator[dict[str, Any]]:
    """An MQTT broker of our own on loopback, gone at the end: mosquitto where it is installed, else amqtt.

    Yields the `[broker]` settings to reach it with; port 0 asks for a free one. Raises ConfigError where the port is
    taken or no broker is installed, and BrokerError where the broker ends at once.
    """
    folder.mkdir(parents=True)
    port = _free_port(port)
    log = folder / "broker.log"
    command, protocol = _broker_command(folder, port)
    with log.open("wb") as output:
        broker = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_for_port(broker, port, log)
        yield {"host": LOOPBACK, "port": port, "protocol": protocol}
    finally:
        broker.terminate()
        broker.wait()


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ConfigError(f"port {port}: {error.strerror}", remedy="name a free one with --port") from None
        return int(probe.getsockname()[1])


def _broker_command(folder: Path, port: int) -> tuple[list[str], str]:
    """The command, and the newest protocol that the broker speaks."""
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if mosquitto:
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {port} {LOOPBACK}\nallow_anonymous true\npersistence false\n", "utf-8")
        return [mosquitto, "-c", str(config)], "5"
    if importlib.util.find_spec("amqtt"):
        config = folder / "amqtt.yaml"
        config.write_text(AMQTT_CONFIG.format(bind=f"{LOOPBACK}:{port}"), "utf-8")
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)], "3.1.1"
    raise ConfigError("no MQTT broker found", remedy="install mosquitto, or pip install 'tailkeeper[demo]'")


def _wait_for_port(broker: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the broker answers; it has ended where it cannot."""
    deadline = time.monotonic() + 20
    while broker.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(0.02)
    last = (log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
    raise BrokerError(f"the embedded broker did not start: {last}", remedy=f"its log is {log}")
