"""Every run-time dependency has a wheel for 64-bit ARM, on every Python that is supported (asks the package index)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
NATIVE = {"onnxruntime", "opencv-python-headless", "numpy", "cryptography", "pydantic-core"}
"""What is compiled, and so could lack a wheel."""


def resolve(python: str, *requirements: str) -> subprocess.CompletedProcess[str]:
    """Pin the requirements for ARM (glibc 2.28) from wheels alone; uv refuses versions without a wheel that fits."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", *requirements),
            *("--constraint", str(REPOSITORY / "requirements.lock"), "--only-binary", ":all:"),
            *("--python-version", python, "--python-platform", "aarch64-manylinux_2_28"),
            *("--no-header", "--no-annotate", "--quiet"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_device_installs_from_wheels_on_arm(python: str) -> None:
    answer = resolve(python, str(REPOSITORY / "pyproject.toml"))
    assert answer.returncode == 0, answer.stderr
    assert {line.partition("==")[0] for line in answer.stdout.splitlines()} >= NATIVE


def test_a_package_without_wheels_would_be_noticed(tmp_path: Path) -> None:
    only_source = tmp_path / "requirements.in"
    only_source.write_text("systemd-python\n")
    assert resolve("3.11", str(only_source)).returncode != 0
