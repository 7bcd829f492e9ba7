"""A seeded slice of the control fuzz; the long run is ``python -m tests.bench.fuzz_control``."""

from __future__ import annotations

from pathlib import Path

from tests.bench.fuzz_control import fuzz


def test_no_mutated_payload_breaks_the_loop_or_is_applied(memory: Path) -> None:
    result = fuzz(memory, 1000, seed=1)

    assert (result["errors"], result["applied"]) == (0, 0)
