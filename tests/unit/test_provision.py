"""Provisioning: one command makes a device the fleet's own, again and again without harm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.provision import Wishes, provision, set_camera, set_key
from agent.settings import Settings, load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SAMPLE = Path(__file__).parents[2] / "deploy" / "agent.toml"


def toml(text: str) -> dict[str, Any]:
    tables: dict[str, Any] = tomllib.loads(text)
    return tables


class Device:
    """The places that provisioning writes to."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "etc" / "agent.toml"
        self.credentials = folder / "etc" / "agent.credentials"
        self.unit = folder / "tailkeeper.service.d"

    def provision(self, wishes: Wishes) -> list[str]:
        return [path.name for path in provision(self.config, wishes, sample=SAMPLE, unit=self.unit)]

    def settings(self) -> Settings:
        return load(self.config, environ={}).settings


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("hunter2\n")
    return path


def wishes_of(secret: Path) -> Wishes:
    return Wishes(
        device_id="gate-north",
        broker="mqtt.example:8884",
        username="gate-north",
        ca=secret,
        cert=secret,
        secrets={"client_key": secret, "broker_password": secret, "camera_yard_password": secret},
        cameras={"yard": "rtsp://view@10.0.0.5/s", "dock": "/dev/video2"},
    )


def test_a_new_device_gets_a_whole_configuration(device: Device, secret: Path) -> None:
    device.provision(wishes_of(secret))
    settings = device.settings()
    assert settings.device.id == "gate-north"
    assert (settings.broker.host, settings.broker.port, settings.broker.tls) == ("mqtt.example", 8884, True)
    assert settings.broker.key_file == str(device.credentials / "client_key")
    assert settings.broker.password == "hunter2"
    assert [(camera.name, camera.source) for camera in settings.cameras] == [
        ("yard", "rtsp://view@10.0.0.5/s"),
        ("dock", "/dev/video2"),
    ]
    assert settings.cameras[0].password == "hunter2"


def test_secrets_are_in_private_files_and_nowhere_else(device: Device, secret: Path) -> None:
    device.provision(wishes_of(secret))
    assert "hunter2" not in device.config.read_text()
    assert device.config.stat().st_mode & 0o777 == 0o644
    assert device.credentials.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in device.credentials.iterdir()} == {0o600}


def test_systemd_is_told_of_the_cameras_passwords(device: Device, secret: Path) -> None:
    device.provision(wishes_of(secret))
    device.provision(Wishes(cameras={"door": "0"}, secrets={"camera_door_password": secret}))
    assert (device.unit / "cameras.conf").read_text().splitlines()[1:] == [
        "[Service]",
        f"LoadCredential=camera_door_password:{device.credentials}/camera_door_password",
        f"LoadCredential=camera_yard_password:{device.credentials}/camera_yard_password",
    ]


def test_a_second_run_changes_nothing(device: Device, secret: Path) -> None:
    assert device.provision(wishes_of(secret))
    assert device.provision(wishes_of(secret)) == []


def test_what_is_not_wished_for_stays(device: Device, secret: Path) -> None:
    device.provision(wishes_of(secret))
    device.config.write_text(device.config.read_text() + "\n[image]\nquality = 80  # mine\n")
    with pytest.raises(ConfigError, match="image"):
        device.provision(Wishes(broker="other.example"))
    text = (
        device.config.read_text()
        .replace("\n[image]\nquality = 80  # mine\n", "")
        .replace("#quality = 90", "quality = 80")
    )
    device.config.write_text(text)
    assert device.provision(Wishes(broker="other.example")) == ["agent.toml"]
    settings = device.settings()
    assert (settings.image.quality, settings.broker.host, settings.broker.port) == (80, "other.example", 8884)
    assert settings.device.id == "gate-north"
    assert "# JPEG quality" in device.config.read_text()


def test_an_invalid_wish_writes_nothing(device: Device, secret: Path) -> None:
    with pytest.raises(ConfigError, match=r"device\.id"):
        device.provision(Wishes(device_id="no spaces", broker="b", secrets={"broker_password": secret}))
    assert not device.config.exists()
    assert not device.credentials.exists()


def test_a_certificate_needs_its_key(device: Device, secret: Path) -> None:
    with pytest.raises(ConfigError, match="key_file"):
        device.provision(Wishes(broker="b", cert=secret))


def test_a_file_that_cannot_be_read_is_named(device: Device, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        device.provision(Wishes(ca=tmp_path / "absent.pem"))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20))
def test_any_text_survives_as_a_value(value: str) -> None:
    text = set_key(SAMPLE.read_text("utf-8"), "broker", "username", value)
    assert toml(text)["broker"]["username"] == value
    assert toml(set_key(text, "broker", "username", "again"))["broker"]["username"] == "again"


def test_keys_are_found_in_their_own_section_only() -> None:
    text = set_key("[a]\n#x = 1\n[b]\nx = 2\n#x = 3\n", "b", "x", 4)
    assert text == "[a]\n#x = 1\n[b]\nx = 4\n#x = 3\n"
    assert set_key(text, "c", "x", True).endswith("\n\n[c]\nx = true\n")
    assert set_key("[a]\n", "a", "x", "y") == '[a]\nx = "y"\n'


def test_cameras_are_found_by_name() -> None:
    text = '[[cameras]]\nname = "a"\nsource = "1"\n[[cameras]]\nname = "b"\nsource = "2"\n'
    assert toml(set_camera(text, "b", "3"))["cameras"][1]["source"] == "3"
    assert toml(set_camera(text, "c", "4"))["cameras"][2] == {"name": "c", "source": "4"}
