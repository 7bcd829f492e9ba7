"""A real mosquitto of a test's own: loopback, a free port, its own configuration; it can die and come back."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mosquitto_path() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """Started with lines of mosquitto.conf beyond port and access; `kill` is kill -9."""

    def __init__(self, folder: Path, *lines: str, persistence: bool = False, port: int = 0) -> None:
        self.port = port or free_port()
        self.log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        keep = [f"persistence_location {folder}/", "autosave_interval 1"] if persistence else []
        access = [] if any(line.startswith("allow_anonymous") for line in lines) else ["allow_anonymous true"]
        text = [
            f"listener {self.port} 127.0.0.1",
            f"persistence {str(persistence).lower()}",
            f"user {getpass.getuser()}",  # as root it would become a user who cannot read the test's folder
            *(*keep, *access, *lines),
        ]
        self._config.write_text("\n".join(text) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Mosquitto:
        path = mosquitto_path()
        assert path is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([path, "-c", str(self._config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, self.log.read_text()
                time.sleep(0.01)
            else:
                return self
        raise AssertionError(self.log.read_text())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def freeze(self) -> None:
        """Go on living without doing anything: the link is dead and nobody says so."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """SIGHUP reads the ACL again."""
        assert self._process is not None
        self._process.send_signal(number)
