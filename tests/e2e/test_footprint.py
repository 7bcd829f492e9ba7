"""What is installed on a device, what it opens, and what JetPack's runtime takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import COMMAND

REPOSITORY = Path(__file__).parents[2]
LIMIT_MB = 360
STRACE = ("strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o")
SHIPPED = REPOSITORY / "agent" / "world" / "model" / "model.onnx"


def pip(python: Path, *arguments: str) -> None:
    """Skips where no package registry can be reached."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if "Could not find a version" in done.stderr or "connection" in done.stderr.lower():
        pytest.skip(f"packages cannot be fetched: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(900)
def test_the_device_install_is_small_and_knows_no_training_tools(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    before = megabytes(tmp_path / "venv")
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "agent", source / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip(python, "--constraint", str(REPOSITORY / "requirements.lock"), str(source))
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout.lower()
    assert not re.search(r"^(torch|torchvision|ultralytics|onnx|amqtt)\s", listed, re.MULTILINE)
    assert megabytes(tmp_path / "venv") - before < LIMIT_MB
    helped = subprocess.run([python.with_name("tailkeeper"), "--help"], capture_output=True, text=True, check=True)
    assert "replay" in helped.stdout


def megabytes(folder: Path) -> float:
    """Disk use of a folder, as a device would see it."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def test_no_socket_is_opened_but_the_brokers(pictures: Path, model: Path, tmp_path: Path) -> None:
    """The demo under strace: every address that anything in it connects or sends to."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt install strace")
    trace, home = tmp_path / "trace", tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [*STRACE, str(trace), *COMMAND, "demo", "--source", pictures, "--model", model, "--out", tmp_path / "out"],
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    if "Operation not permitted" in done.stderr and "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    addresses = set(re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', trace.read_text()))
    assert addresses == {("127.0.0.1", "")}
    assert list(home.rglob("*")) == [], "something was written into the user's home"


@pytest.mark.timeout(300)
def test_the_shipped_model_runs_on_jetpacks_onnxruntime(tmp_path: Path) -> None:
    """1.23.2 is the last onnxruntime for Python 3.10, which JetPack 6 has."""
    if not SHIPPED.exists():
        pytest.skip("no model is shipped")
    pip(Path(sys.executable), "--no-deps", "--target", str(tmp_path), "onnxruntime==1.23.2")
    code = (
        "import onnxruntime, numpy\n"
        "assert onnxruntime.__version__ == '1.23.2', onnxruntime.__version__\n"
        f"session = onnxruntime.InferenceSession({str(SHIPPED)!r}, providers=['CPUExecutionProvider'])\n"
        "given = session.get_inputs()[0]\n"
        "rows = session.run(None, {given.name: numpy.zeros(given.shape, numpy.float32)})[0]\n"
        "assert rows.shape == (1, 300, 6), rows.shape\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
