"""The arm64 package, unpacked over an arm64 Debian and run by qemu: it imports and infers one frame."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.machine.conftest import REPOSITORY
from tests.e2e.machine.machine import Root, make_debian, missing, overlay, run
from tests.e2e.machine.test_install import INFER

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(3600)]

QEMU = "qemu-aarch64-static"


@pytest.fixture(scope="module")
def arm_debian(request: pytest.FixtureRequest) -> Path:
    """An arm64 Debian with Python, unpacked and not configured: its programs cannot run here by themselves."""
    if reason := missing("debootstrap", "unshare", QEMU):
        pytest.skip(reason)
    image = request.config.cache.mkdir("debian") / "arm64"
    if not image.exists():
        foreign = make_debian(
            image.with_name("arm64-packages"),
            *("--arch=arm64", "--foreign"),
            packages=("ca-certificates", "libstdc++6", "python3"),
        )
        for package in sorted((foreign / "var/cache/apt/archives").glob("*.deb")):
            run(["dpkg-deb", "--extract", str(package), str(foreign)])
        foreign.rename(image)
    return image


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm64")
    run([str(REPOSITORY / "deploy/kit.sh"), "--arch", "arm64", "--out", str(folder / "kit")])
    made = run(
        [str(REPOSITORY / "deploy/deb.sh"), "--arch", "arm64", "--kit", str(folder / "kit"), "--out", str(folder)]
    )
    return Path(made.stdout.splitlines()[-1])


def test_the_package_infers_a_frame_on_arm(arm_debian: Path, package: Path, tmp_path: Path) -> None:
    fields = subprocess.run(
        ["dpkg-deb", "--field", package, "Architecture"], capture_output=True, text=True, check=True
    )
    assert fields.stdout.strip() == "arm64"
    with overlay(arm_debian, tmp_path / "machine") as path:
        run(["dpkg-deb", "--extract", str(package), str(path)])
        shutil.copy(str(shutil.which(QEMU)), path / QEMU)
        program = "import sys, platform; assert platform.machine() == 'aarch64'\n" + INFER
        environment = ("-E", "PYTHONPATH=/opt/tailkeeper/current/lib/python3.11/site-packages")
        answer = Root(path).run(f"/{QEMU}", *environment, "/usr/bin/python3.11", "-c", program)
    assert answer.stdout.split() == ["rows", "6"]
