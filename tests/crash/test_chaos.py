"""A short storm of kill -9; `make chaos` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.chaos import Storm
from tests.fakes.mosquitto import mosquitto_path


@pytest.mark.parametrize("protocol", [5, 4], ids=["mqtt5", "mqtt311"])
def test_what_was_accepted_arrives_once_whoever_is_killed(memory: Path, protocol: int) -> None:
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    storm = Storm(memory, seed=protocol, protocol=protocol)
    storm.blow(12)
    report = storm.calm()
    assert report.clean, report
    assert report.accepted > 0
