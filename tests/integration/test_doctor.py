"""The doctor at a real broker: let in, refused, in either protocol, and no trouble for the service beside it."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from agent.broker import Broker
from agent.clock import SystemClock
from agent.doctor.broker import check_broker
from agent.settings import BrokerSettings, DeviceSettings, Settings
from tests.integration.conftest import StartMosquitto


def settings_of(port: int, **broker: str) -> Settings:
    login = BrokerSettings(host="127.0.0.1", port=port, tls=False, reconnect_max_s=1.0, **broker)
    return Settings(device=DeviceSettings(id="gate-north"), broker=login)


@pytest.fixture
def passwords(tmp_path: Path) -> str:
    """A password file in which gate-north has the password right."""
    path = tmp_path / "passwords"
    path.write_text("gate-north:right\n")
    subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True, capture_output=True)
    return f"password_file {path}"


def test_a_broker_that_lets_us_in_is_fine(start_mosquitto: StartMosquitto) -> None:
    (check,) = check_broker(settings_of(start_mosquitto().port), SystemClock())
    assert (check.status, "MQTT 5" in check.detail) == ("ok", True)


@pytest.mark.parametrize(("password", "status"), [("right", "ok"), ("wrong", "fail")])
def test_a_wrong_password_is_named(start_mosquitto: StartMosquitto, passwords: str, password: str, status: str) -> None:
    port = start_mosquitto("allow_anonymous false", passwords).port
    (check,) = check_broker(settings_of(port, username="gate-north", password=password), SystemClock())
    assert check.status == status
    assert status == "ok" or "the password" in check.remedy
    assert password not in check.detail


def test_the_running_service_keeps_its_connection(start_mosquitto: StartMosquitto) -> None:
    settings = settings_of(start_mosquitto().port)
    service = Broker(settings.broker, settings.device.id, SystemClock(), random.Random())
    service.start()
    assert service.wait_connected(20)
    check_broker(settings, SystemClock())
    assert (service.connected, service.connections) == (True, 1)
    service.close()
