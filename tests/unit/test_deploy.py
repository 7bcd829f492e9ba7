"""What is shipped for installation: sample configurations that list every key, and units that are hardened."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from agent.settings import CameraSettings, Loaded, Settings, load

DEPLOY = Path(__file__).parents[2] / "deploy"
EXPOSURE = {"tailkeeper": 1.5, "tailkeeper-collector": 1.3, "tailkeeper-clock": 1.3}
"""What `systemd-analyze security` may say at most."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def load_sample(folder: Path, *names: str) -> Loaded:
    """The samples as one file, with every key that is commented out made active."""
    text = "\n".join((DEPLOY / name).read_text("utf-8") for name in names)
    path = folder / "all.toml"
    path.write_text(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE), "utf-8")
    return load(path, environ={})


def sample_of_both(folder: Path) -> Loaded:
    collector = (DEPLOY / "collector.toml").read_text("utf-8")
    section = folder / "section.toml"
    section.write_text(collector[collector.index("[collector]") :], "utf-8")
    return load_sample(folder, "agent.toml", str(section))


def all_keys() -> set[str]:
    keys = {f"cameras.gate.{key}" for key in CameraSettings.model_fields}
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys |= {f"{name}.{key}" for key in info.annotation.model_fields}
    return keys


@pytest.mark.parametrize("name", ["agent.toml", "collector.toml"])
def test_the_samples_are_valid_as_they_are(name: str) -> None:
    load(DEPLOY / name, environ={}).require_service()


def test_the_samples_document_every_setting(tmp_path: Path) -> None:
    loaded = sample_of_both(tmp_path)
    documented = {key for key, origin in loaded.origins().items() if origin != "default"}
    documented |= {"selection.shares"} if any(key.startswith("selection.shares.") for key in documented) else set()
    assert all_keys() - documented == set()


def test_what_the_samples_call_a_default_is_the_default(tmp_path: Path) -> None:
    sample = sample_of_both(tmp_path).settings.model_dump()
    plain = load_minimal(tmp_path).settings.model_dump()
    for settings in (sample, plain):
        settings["device"].pop("id")
    assert sample == plain


def load_minimal(folder: Path) -> Loaded:
    path = folder / "minimal.toml"
    path.write_text(
        '[broker]\nhost = "broker.example"\n[[cameras]]\nname = "gate"\nsource = "/dev/video0"\n'
        '[collector]\nstore = "/var/lib/tailkeeper-collector"\n',
        "utf-8",
    )
    return load(path, environ={})


def unit_folder(folder: Path, unit: str, *drop_ins: str) -> Path:
    """A folder with the shipped unit and drop-ins, its program replaced by one that every machine has."""
    text = (DEPLOY / f"{unit}.service").read_text("utf-8")
    (folder / f"{unit}.service").write_text(re.sub(r"/opt/tailkeeper/\S+", "/bin/true", text), "utf-8")
    for name in drop_ins:
        target = folder / f"{unit}.service.d"
        target.mkdir(exist_ok=True)
        shutil.copy(DEPLOY / "drop-ins" / f"{name}.conf", target)
    return folder


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


COMBINATIONS = [
    ("tailkeeper", ()),
    ("tailkeeper", ("jetson",)),
    ("tailkeeper", ("picamera",)),
    ("tailkeeper", ("rtsp-only",)),
    ("tailkeeper", ("pinned-broker",)),
    ("tailkeeper", ("rtsp-only", "pinned-broker")),
    ("tailkeeper-clock", ()),
    ("tailkeeper-collector", ()),
    ("tailkeeper-collector", ("pinned-broker",)),
]


@needs_systemd
@pytest.mark.parametrize(("unit", "drop_ins"), COMBINATIONS)
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, unit: str, drop_ins: tuple[str, ...]) -> None:
    found = analyze(unit_folder(tmp_path, unit, *drop_ins), "verify", f"{unit}.service")
    assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize(("unit", "drop_ins"), COMBINATIONS)
def test_the_units_are_exposed_as_little_as_promised(tmp_path: Path, unit: str, drop_ins: tuple[str, ...]) -> None:
    answer = analyze(
        unit_folder(tmp_path, unit, *drop_ins), "security", "--offline=true", "--no-pager", f"{unit}.service"
    )
    if "unrecognized option" in answer.stderr:
        pytest.skip("this systemd is older than 250 and cannot judge a unit offline")
    found = re.search(r"exposure level for .*: ([0-9.]+)", answer.stdout)
    assert found, answer.stderr
    limit = min(EXPOSURE[unit], 1.3) if "pinned-broker" in drop_ins else EXPOSURE[unit]
    assert float(found[1]) <= limit
