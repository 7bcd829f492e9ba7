"""A broker, a device and a collector, each real and each a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.fakes.mosquitto import Mosquitto, mosquitto_path

StartMosquitto: TypeAlias = Callable[..., Mosquitto]


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[StartMosquitto]:
    """Start a mosquitto with these lines of configuration; it is stopped at the end of the test."""
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    started: list[Mosquitto] = []

    def start(*lines: str, persistence: bool = False) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(started)}"
        folder.mkdir()
        started.append(Mosquitto(folder, *lines, persistence=persistence).start())
        return started[-1]

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
def mosquitto(start_mosquitto: StartMosquitto) -> Mosquitto:
    """A mosquitto with its defaults."""
    return start_mosquitto()
