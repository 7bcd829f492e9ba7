"""The shipped units under a real systemd: they start, infer inside the full hardening, and survive what happens.

One machine with mosquitto, the device service and the collector; the tests run in order on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine.conftest import OLD
from tests.e2e.machine.machine import Machine, missing, overlay

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1800)]

PACKAGES = "/opt/tailkeeper/current/lib/python3.11/site-packages"
SECRET = "correct-horse-battery"
WEDGED = """#!/opt/tailkeeper/current/bin/python
import sys, threading
from pathlib import Path
import agent.cli
from agent.detector import Detector
look = Detector.look
def wedge(self, image):
    if Path("/run/wedge").exists():
        threading.Event().wait()
    return look(self, image)
Detector.look = wedge
sys.exit(agent.cli.main())
"""
"""The agent with a detector that hangs for ever once /run/wedge is there; everything else goes on turning."""
QUICK = """[Service]
ExecStart=
ExecStart=/opt/wedged run --config /etc/tailkeeper/agent.toml
WatchdogSec=10
RestartSec=1
"""
CONFIG = {
    "window_frames": 20,
    "budget": 0.2,
    "frames_per_day": 0,
    "bytes_per_day": 0,
    "labels_per_day": 0,
    "start_spread_s": 0.0,
    "frame_age_limit_s": 3.0,
}
"""Something to upload every few seconds, all day long."""
COLLECTOR = """[broker]
host = "127.0.0.1"
port = 1883
tls = false
[collector]
store = "/var/lib/tailkeeper-collector"
"""


@pytest.fixture(scope="module")
def machine(debian: Path, kits: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A device that was installed and provisioned as an operator does it, booted."""
    if reason := missing("systemd-nspawn", "nsenter"):
        pytest.skip(reason)
    with overlay(debian, tmp_path_factory.mktemp("machine")) as path:
        machine = Machine(path)
        set_up(machine, kits[OLD])
        machine.boot()
        try:
            yield machine
        finally:
            machine.off()


def set_up(machine: Machine, kit: Path) -> None:
    machine.copy(kit, "/root/kit")
    machine.run("/root/kit/install.sh", "--drop-in", "rtsp-only")
    machine.write("/root/password", SECRET)
    camera = ("--camera", "gate=world:street?seed=1", "--model", f"{PACKAGES}/agent/world/model")
    login = ("--username", "gate-north", "--password-file", "/root/password")
    machine.run(
        "tailkeeper", "provision", "--id", "gate-north", "--broker", "127.0.0.1:1883", "--no-tls", *camera, *login
    )
    machine.edit("/etc/tailkeeper/agent.toml", **CONFIG)
    machine.write("/etc/tailkeeper/collector.toml", COLLECTOR)
    machine.write("/etc/mosquitto/conf.d/test.conf", "listener 1883 127.0.0.1\nallow_anonymous true\n")
    machine.write("/opt/wedged", WEDGED)
    machine.at("/opt/wedged").chmod(0o755)
    for unit in ("tailkeeper", "tailkeeper-collector"):
        machine.run("systemctl", "enable", unit)


def stored(machine: Machine) -> int:
    """Images that the collector has."""
    return len(list(machine.at("/var/lib/private/tailkeeper-collector/images").rglob("*.jpg")))


def wait_for_upload(machine: Machine) -> None:
    """Until the collector has an image more."""
    before = stored(machine)
    count = 'find /var/lib/private/tailkeeper-collector/images -name "*.jpg" | wc -l'
    script = f'while [ "$({count})" -le {before} ]; do sleep 0.5; done'
    machine.inside("timeout", "90", "sh", "-c", script)


def test_both_services_start_and_say_so(machine: Machine) -> None:
    assert [machine.show(unit, "ActiveState") for unit in ("tailkeeper", "tailkeeper-collector")] == ["active"] * 2
    assert machine.show("tailkeeper", "StatusText") == "1 cameras"
    assert machine.show("tailkeeper", "User") == "tailkeeper"
    assert machine.show("tailkeeper", "DynamicUser") == "yes"


def test_frames_are_inferred_and_delivered_inside_the_hardening(machine: Machine) -> None:
    wait_for_upload(machine)
    assert (
        machine.inside("journalctl", "--grep=denied|EPERM|Operation not permitted", check=False).stdout.count("\n") < 2
    )


def test_systemd_accepts_the_units_and_finds_them_little_exposed(machine: Machine) -> None:
    for unit, limit in (("tailkeeper.service", 1.5), ("tailkeeper-collector.service", 1.3)):
        checked = machine.inside("systemd-analyze", "verify", unit)
        assert (checked.stdout, checked.stderr) == ("", "")
        judged = machine.inside("systemd-analyze", "security", "--no-pager", unit).stdout
        exposure = re.search(r"exposure level for .*: ([0-9.]+)", judged)
        assert exposure
        assert float(exposure[1]) <= limit


def test_the_journal_holds_events_and_no_secret(machine: Machine) -> None:
    lines = machine.inside("journalctl", "--unit=tailkeeper", "--output=cat", "_COMM=tailkeeper").stdout.splitlines()
    assert "broker connected" in {json.loads(line)["event"] for line in lines if line.startswith("{")}
    everything = machine.inside("journalctl", "--output=verbose").stdout
    everything += machine.inside("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ").stdout
    assert SECRET not in everything + machine.at("/etc/tailkeeper/agent.toml").read_text()
    assert machine.at("/etc/tailkeeper/agent.credentials").stat().st_mode & 0o077 == 0


def test_the_doctor_finds_the_device_well_beside_the_running_service(machine: Machine) -> None:
    answer = machine.inside("tailkeeper", "check", "--json")
    status = {check["name"]: check["status"] for check in json.loads(answer.stdout)["checks"]}
    assert "fail" not in status.values()
    assert status["broker"] == status["model"] == status["camera gate"] == "ok"
    assert machine.show("tailkeeper", "NRestarts") == "0"


def test_a_new_configuration_is_taken_over_without_a_restart(machine: Machine) -> None:
    since, process = machine.cursor(), machine.show("tailkeeper", "MainPID")
    machine.edit("/etc/tailkeeper/agent.toml", budget=0.3)
    machine.inside("systemctl", "reload", "tailkeeper")
    machine.wait_for("camera live", unit="tailkeeper", since=since)
    assert machine.show("tailkeeper", "MainPID") == process


def test_a_killed_service_comes_back_with_its_state(machine: Machine) -> None:
    since, process = machine.cursor(), machine.show("tailkeeper", "MainPID")
    machine.inside("systemctl", "kill", "--signal=KILL", "tailkeeper")
    machine.wait_for("broker connected", unit="tailkeeper", since=since)
    assert machine.show("tailkeeper", "MainPID") not in (process, "0")
    wait_for_upload(machine)


def test_a_wedged_watch_loop_is_ended_by_the_watchdog(machine: Machine) -> None:
    machine.write("/etc/systemd/system/tailkeeper.service.d/quick.conf", QUICK)
    machine.inside("systemctl", "daemon-reload")
    machine.inside("systemctl", "restart", "tailkeeper")
    wait_for_upload(machine)
    since = machine.cursor()
    machine.inside("touch", "/run/wedge")
    machine.wait_for("unhealthy", unit="tailkeeper", since=since)
    machine.inside("rm", "/run/wedge")
    machine.wait_for("Watchdog timeout", since=since)
    machine.wait_for("broker connected", unit="tailkeeper", since=since)
    assert "Fatal Python error: Aborted" in machine.inside("journalctl", "--unit=tailkeeper", "--output=cat").stdout
    wait_for_upload(machine)


def test_a_crash_loop_ends_in_safe_mode_and_a_clean_stop_forgives_it(machine: Machine) -> None:
    machine.inside("systemctl", "restart", "tailkeeper")
    since = machine.cursor()
    for _ in range(5):
        machine.inside("systemctl", "kill", "--signal=KILL", "tailkeeper")
        machine.wait_for("spool recovered", unit="tailkeeper", since=since)
        since = machine.cursor()
    machine.wait_for("safe mode", unit="tailkeeper")
    assert machine.show("tailkeeper", "StatusText") == "safe mode"
    machine.inside("systemctl", "restart", "tailkeeper")
    assert machine.show("tailkeeper", "StatusText") == "1 cameras"


def test_a_power_cut_loses_nothing_that_was_spooled(machine: Machine) -> None:
    machine.inside("systemctl", "stop", "tailkeeper-collector")
    waiting = 'while [ "$(tailkeeper spool ls | wc -l)" -lt 3 ]; do sleep 0.5; done'
    machine.inside("timeout", "90", "sh", "-c", waiting)
    spooled = {row["cid"] for row in json.loads(machine.inside("tailkeeper", "spool", "ls", "--json").stdout)["items"]}
    assert spooled
    machine.cut_power()
    machine.boot()
    images = machine.at("/var/lib/private/tailkeeper-collector/images")
    names = " ".join(f"{images.relative_to(machine.path)}/{cid[:2]}/{cid}.jpg" for cid in sorted(spooled))
    script = f'for f in {names}; do until [ -e "/$f" ]; do sleep 0.5; done; done'
    machine.inside("timeout", "120", "sh", "-c", script)


def test_a_clean_stop_ends_well(machine: Machine) -> None:
    machine.inside("systemctl", "stop", "tailkeeper")
    assert machine.show("tailkeeper", "Result") == "success"
    assert machine.show("tailkeeper", "ExecMainStatus") == "0"
