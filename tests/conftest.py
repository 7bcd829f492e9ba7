"""What tests share: the folder of real models and pictures, which is not part of the repository."""

from __future__ import annotations

import os
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
