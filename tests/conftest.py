"""What tests share: the folder of real models and pictures, which is not part of the repository; a look at Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with models/ and data/; the test is skipped where there is none."""
    folder = Path(os.environ.get("TAILKEEPER_ASSETS", _BESIDE))
    if not (folder / "models").is_dir():
        pytest.skip(f"no models and pictures at {folder}: set TAILKEEPER_ASSETS")
    return folder


@pytest.fixture
def interned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every string that pathlib has interned from now on: Python 3.12 before 3.12.7 forgets none of them."""
    names: list[str] = []
    intern = sys.intern

    def spy(name: str) -> str:
        names.append(name)
        return intern(name)

    monkeypatch.setattr(sys, "intern", spy)
    assert Path("/a/probe").parts[-1] in names
    names.clear()
    return names
