"""A week without a network, in small; ``python -m tests.bench.outage`` is the full size with its memory figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.outage import outage
from tests.fakes.mosquitto import mosquitto_path


def test_after_an_outage_the_best_goes_first_and_commands_get_through(tmp_path: Path) -> None:
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    figures = outage(tmp_path, items=120)
    assert figures.stored == figures.items
    assert figures.best_first >= 0.5
    assert figures.answers > 0
