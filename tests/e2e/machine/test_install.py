"""Installation on a clean Debian without network and without libGL: install, upgrade, go back, remove."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.machine.conftest import NEW, OLD
from tests.e2e.machine.machine import Root

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1800)]

INFER = """
import numpy as np
from pathlib import Path
import agent.world
from agent.detector import Detector
detector = Detector(Path(agent.world.__file__).parent / "model", floor=0.02)
print("rows", detector.detect(np.full((360, 640, 3), 114, np.uint8)).shape[1])
"""
SPOOLED = "/var/lib/tailkeeper/spool/items/aa/item.tkc"
CONFIG = "/etc/tailkeeper/agent.toml"


def install(root: Root, kit: Path, *options: str) -> str:
    """Run a kit's installer; returns what it said."""
    root.copy(kit, f"/root/{kit.name}")
    return root.run(f"/root/{kit.name}/install.sh", *options).stderr


def version(root: Root) -> str:
    return root.run("tailkeeper", "--version").stdout.split()[-1]


def configure(root: Root) -> None:
    """What an operator and a year of service leave on a device."""
    root.run("tailkeeper", "provision", "--broker", "broker.example", "--camera", "gate=0")
    root.write(SPOOLED, "precious")


def test_a_kit_installs_without_network_and_infers_a_frame(root: Root, kits: dict[str, Path]) -> None:
    assert f"tailkeeper {OLD} is installed" in install(root, kits[OLD])
    assert version(root) == OLD
    answer = root.run("/opt/tailkeeper/current/bin/python", "-c", INFER)
    assert answer.stdout.split() == ["rows", "6"]
    assert root.at("/etc/systemd/system/tailkeeper.service").exists()
    assert not list(root.at("/opt").rglob("torch")) + list(root.at("/opt").rglob("ultralytics"))


def test_installing_again_changes_nothing(root: Root, kits: dict[str, Path]) -> None:
    install(root, kits[OLD])
    python = root.at("/opt/tailkeeper/current/bin/tailkeeper").stat().st_mtime_ns
    install(root, kits[OLD])
    assert root.at("/opt/tailkeeper/current/bin/tailkeeper").stat().st_mtime_ns == python
    assert not root.at("/opt/tailkeeper/previous").is_symlink()


def test_upgrade_and_going_back_keep_configuration_and_spool(root: Root, kits: dict[str, Path]) -> None:
    install(root, kits[OLD], "--drop-in", "rtsp-only")
    configure(root)
    before = root.at(CONFIG).read_bytes()
    install(root, kits[NEW])
    assert version(root) == NEW
    root.run(f"/root/{NEW}/install.sh", "--rollback")
    assert version(root) == OLD
    root.run(f"/root/{NEW}/install.sh", "--rollback")
    assert version(root) == NEW
    assert root.at(CONFIG).read_bytes() == before
    assert root.at(SPOOLED).read_text() == "precious"
    assert root.at("/etc/systemd/system/tailkeeper.service.d/rtsp-only.conf").exists()


def test_a_kit_that_does_not_fit_leaves_the_running_version(root: Root, kits: dict[str, Path]) -> None:
    install(root, kits[OLD])
    root.copy(kits[NEW], "/root/damaged")
    (wheel,) = root.at("/root/damaged/wheels").glob("onnxruntime-*.whl")
    wheel.write_bytes(wheel.read_bytes()[:100_000])
    refused = root.run("/root/damaged/install.sh", check=False)
    assert refused.returncode == 1
    assert "do not fit this machine" in refused.stderr
    assert version(root) == OLD


def test_uninstalling_keeps_configuration_and_spool_unless_told_otherwise(root: Root, kits: dict[str, Path]) -> None:
    install(root, kits[OLD])
    configure(root)
    root.run(f"/root/{OLD}/install.sh", "--uninstall")
    assert not root.at("/opt/tailkeeper").exists()
    assert not root.at("/usr/local/bin/tailkeeper").is_symlink()
    assert not root.at("/etc/systemd/system/tailkeeper.service").exists()
    assert root.at(CONFIG).exists()
    assert root.at(SPOOLED).exists()
    root.run(f"/root/{OLD}/install.sh", "--purge")
    assert not root.at(CONFIG).exists()
    assert not root.at(SPOOLED).exists()


def test_the_package_installs_upgrades_goes_back_and_leaves(root: Root, packages: dict[str, Path]) -> None:
    for number, package in packages.items():
        root.copy(package, f"/root/{number}.deb")
    root.run("dpkg", "--install", f"/root/{OLD}.deb")
    assert root.run("/opt/tailkeeper/current/bin/python3", "-c", INFER).stdout.split() == ["rows", "6"]
    configure(root)
    before = root.at(CONFIG).read_bytes()
    for number in (NEW, OLD):
        root.run("dpkg", "--install", f"/root/{number}.deb")
        assert version(root) == number
    root.run("dpkg", "--remove", "tailkeeper")
    assert not list(root.at("/opt/tailkeeper").rglob("*.py*"))
    assert root.at(CONFIG).read_bytes() == before
    assert root.at(SPOOLED).read_text() == "precious"
    root.run("dpkg", "--purge", "tailkeeper")
    assert not root.at("/etc/tailkeeper").exists()
    assert not root.at(SPOOLED).exists()


def test_the_package_refuses_to_mix_with_the_installer(
    root: Root, kits: dict[str, Path], packages: dict[str, Path]
) -> None:
    install(root, kits[OLD])
    root.copy(packages[NEW], "/root/new.deb")
    refused = root.run("dpkg", "--install", "/root/new.deb", check=False)
    assert "install.sh --uninstall" in refused.stderr
    assert version(root) == OLD
