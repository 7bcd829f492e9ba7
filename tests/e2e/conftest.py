"""Commands as a user runs them: in a process of their own, over small recordings and models made on the spot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import pytest

from tests.fakes.models import a_model, end2end
from tests.integration.conftest import mosquitto, start_mosquitto

__all__ = ["mosquitto", "start_mosquitto"]


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Tailkeeper: TypeAlias = Callable[..., Finished]
COMMAND = (sys.executable, "-W", "error", "-m", "agent")


@pytest.fixture
def tailkeeper(tmp_path: Path) -> Tailkeeper:
    """Run a command to its end in an empty folder."""

    def run(*arguments: object, prefix: tuple[str, ...] = (), **environ: str) -> Finished:
        done = subprocess.run(
            [*prefix, *COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environ},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 40 noisy pictures, each another."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(40):
        cv2.imwrite(str(folder / f"{i:03}.jpg"), rng.integers(40, 200, (72, 96, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An ONNX file that sees a doubtful person and a faint cat in every picture."""
    path = tmp_path / "doubtful.onnx"
    path.write_bytes(a_model(end2end([[10, 10, 30, 40, 0.4, 0], [40, 10, 60, 30, 0.1, 2]])))
    return path
