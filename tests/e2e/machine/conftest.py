"""Kits, packages and machines, made once per session; the bare Debian is kept in pytest's cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine.machine import Root, make_debian, missing, overlay, run

REPOSITORY = Path(__file__).parents[3]
OLD, NEW = "0.0.1", "0.0.2"


@pytest.fixture(scope="session")
def debian(request: pytest.FixtureRequest) -> Path:
    """A minimal Debian with Python and systemd, and nothing that draws windows."""
    if reason := missing("debootstrap", "unshare"):
        pytest.skip(reason)
    image = make_debian(request.config.cache.mkdir("debian") / "amd64")
    assert not list((image / "usr/lib").rglob("libGL*"))
    return image


@pytest.fixture(scope="session")
def kits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An installation kit per version, of this source with another number."""
    folder = tmp_path_factory.mktemp("kits")
    run([str(REPOSITORY / "deploy/kit.sh"), "--out", str(folder / OLD)])
    shutil.copytree(folder / OLD, folder / NEW)
    for version in (OLD, NEW):
        renumber(folder / version, version, folder / f"source-{version}")
    return {version: folder / version for version in (OLD, NEW)}


def renumber(kit: Path, version: str, source: Path) -> None:
    """Replace the kit's own wheel by one of the same source under another version."""
    shutil.copytree(REPOSITORY / "agent", source / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    init = source / "agent/__init__.py"
    text = init.read_text("utf-8")
    start = text.index('__version__ = "')
    init.write_text(text[:start] + f'__version__ = "{version}"\n', "utf-8")
    (wheel,) = (kit / "wheels").glob("tailkeeper-*.whl")
    wheel.unlink()
    pip = [str(REPOSITORY / ".venv/bin/python"), "-m", "pip", "wheel", "--quiet", "--no-deps"]
    run([*pip, "--wheel-dir", str(kit / "wheels"), str(source)])


@pytest.fixture(scope="session")
def packages(kits: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A Debian package per version."""
    out = tmp_path_factory.mktemp("packages")
    made = {}
    for version, kit in kits.items():
        answer = run([str(REPOSITORY / "deploy/deb.sh"), "--kit", str(kit), "--out", str(out)])
        made[version] = Path(answer.stdout.splitlines()[-1])
    return made


@pytest.fixture
def root(debian: Path, tmp_path: Path) -> Iterator[Root]:
    """A clean machine that is not running."""
    with overlay(debian, tmp_path / "machine") as path:
        yield Root(path)
