"""Whatever the device says, to whomever: no password and no key is in it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import pytest

from agent.clock import SystemClock
from agent.doctor import run_checks
from agent.service import Device
from agent.settings import BrokerSettings, load
from tests.e2e.conftest import Tailkeeper
from tests.e2e.test_service import events, eventually, service, spooled
from tests.fakes.mjpeg import MjpegCamera, NetworkCamera, playing
from tests.integration.conftest import StartMosquitto
from tests.integration.delivery import Spy, wait_until
from tests.integration.test_tls import Authority

BROKER, CAMERA, INLINE, TOKEN = "br0ker/p@ss", "c@mera: hush", "written-down", "t0ken-in-query"

Site: TypeAlias = tuple[NetworkCamera, BrokerSettings]


@pytest.fixture
def site(tmp_path: Path, model: Path, start_mosquitto: StartMosquitto) -> Iterator[Site]:
    """A device with every secret that it can have, its camera, and how an operator reaches the broker."""
    authority, users = Authority(tmp_path / "ca", "authority"), tmp_path / "users"
    certificate, key = authority.issue("broker")
    users.touch(mode=0o600)
    for name in ("pole-1", "operator"):
        subprocess.run(["mosquitto_passwd", "-b", users, name, BROKER], check=True)
    mosquitto = start_mosquitto(
        *(f"cafile {authority.file}", f"certfile {certificate}", f"keyfile {key}"),
        *(f"password_file {users}", "allow_anonymous false"),
    )
    certificate, key = authority.issue("pole-1")
    credentials = tmp_path / "agent.credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "client_key").write_bytes(key.read_bytes())
    (credentials / "broker_password").write_text(BROKER + "\n")
    (credentials / "camera_gate_password").write_text(CAMERA + "\n")
    with playing(MjpegCamera()) as camera:
        camera.login = f"filmer:{CAMERA}"
        address = camera.url.partition("//")[2]
        (tmp_path / "agent.toml").write_text(
            f'[device]\nid = "pole-1"\nstate_dir = "{tmp_path}/state"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {mosquitto.port}\nusername = "pole-1"\n'
            f'ca_file = "{authority.file}"\ncert_file = "{certificate}"\n'
            f'[[cameras]]\nname = "gate"\nsource = "http://filmer@{address}?token={TOKEN}"\nfps = 10\n'
            f'[[cameras]]\nname = "shed"\nsource = "http://filmer:{INLINE}@{address}"\nfps = 10\n'
            f'[model]\npath = "{model}"\n[selection]\nbudget = 1.0\nshares = {{ canary = 1.0 }}\n'
            "frames_per_day = 0\nbytes_per_day = 0\nlabels_per_day = 0\n"
            f'[health]\nprometheus_file = "{tmp_path}/metrics.prom"\nstats_s = 1.0\n'
        )
        link = {"host": "127.0.0.1", "port": mosquitto.port, "ca_file": str(authority.file)}
        yield camera, BrokerSettings(username="operator", password=BROKER, **link)


def secrets(folder: Path) -> list[str]:
    """Every secret, in every form that it travels in."""
    key = (folder / "agent.credentials/client_key").read_text().splitlines()[1]
    plain = [BROKER, CAMERA, INLINE, TOKEN, key]
    logins = [base64.b64encode(f"filmer:{word}".encode()).decode() for word in (CAMERA, INLINE)]
    return [*plain, *(quote(word, safe="") for word in plain), *logins]


def test_no_secret_is_in_anything_that_the_device_says(site: Site, tailkeeper: Tailkeeper, tmp_path: Path) -> None:
    camera, settings = site
    said: dict[str, str] = {}
    with Spy(settings) as spy, service(tmp_path, "run") as device:
        eventually(lambda: spooled(tmp_path) >= 3, "nothing was collected")
        eventually((tmp_path / "metrics.prom").exists, "no metrics")
        camera.login, login = "nobody:enters", camera.login
        camera.stop()
        camera.start()
        eventually(lambda: events(tmp_path, "run").count("camera lost") >= 2, "the camera is not missed")
        camera.login = login
        for command in (["status"], ["check"], ["config", "show"], ["config", "check"], ["spool", "ls"]):
            done = tailkeeper(*command, "--config", "agent.toml", "--json")
            said[command[0]] = said.get(command[0], "") + done.out + done.err
        proc = Path(f"/proc/{device.pid}")
        said["process list"] = (proc / "cmdline").read_text() + (proc / "environ").read_text()
    loaded = load(tmp_path / "agent.toml", environ={})
    with Device(loaded, SystemClock(), check=lambda: run_checks(loaded.file)).running() as again:
        wait_until(lambda: again.broker.connected and bool(again.watch and again.watch.newest), "it runs")
        said["diag"] = json.dumps(again.operations.diag(), default=str)
        said["info"] = again.operations.info(()).model_dump_json()
    said["log"] = (tmp_path / "run.log").read_text()
    said["metrics"] = (tmp_path / "metrics.prom").read_text()
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            said[path.name] = path.read_bytes().decode("latin-1")
    for message in spy.heard():
        said[f"{message.topic} {len(said)}"] = message.payload.decode("latin-1")
    assert {"status", "check", "config", "spool", "index.sqlite", "log"} <= said.keys()
    assert any("up/stats" in where for where in said)
    assert all("filmer@127.0.0.1" in said[where] for where in ("log", "check", "config", "diag")), "the test can see"
    assert [(where, word) for where, text in said.items() for word in secrets(tmp_path) if word in text] == []
