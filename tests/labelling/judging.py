"""Asks a labelling tool's own library, in the environment where it is installed, what it sees in a file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from agent.dataset.records import Box

Judge: TypeAlias = Callable[[str, Path], dict[str, Any]]
ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TAILKEEPER_LABELLING", ROOT / ".venv-labelling")) / "bin" / "python"


def the_judge() -> Judge:
    """Skips the test where the tools' libraries are not installed."""
    if not PYTHON.exists():
        pytest.skip(f"no labelling tools' libraries at {PYTHON}: make test-export installs them")

    def judge(name: str, path: Path) -> dict[str, Any]:
        command = [str(PYTHON), str(Path(__file__).with_name("judge.py")), name, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["errors"] == []
        return found

    return judge


def boxes(seen: Sequence[Sequence[Any]]) -> list[Box]:
    """Boxes as a judge tells them."""
    return [Box(name, (x1, y1, x2, y2)) for name, x1, y1, x2, y2, _ in seen]
