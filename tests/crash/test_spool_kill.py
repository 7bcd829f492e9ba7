"""SIGKILL at every named step of the spool, and at any other moment: what was accepted is there at the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.settings import SpoolSettings
from tests.crash.spool_victim import ROOMY, TIGHT, Promises, Victim, check

STEPS = (
    "put.room",
    "before fsync",
    "after fsync",
    "before rename",
    "after rename",
    "put.durable",
    "put.row",
    "evict.rows",
    "commit.rows",
    "commit.file",
    "commit.files",
    "quarantine.file",
)


@pytest.mark.parametrize("step", STEPS)
def test_nothing_accepted_is_lost_when_killed_at(step: str, memory: Path) -> None:
    promises = Promises()
    for life, count in enumerate((1, 5)):
        victim = Victim(memory / "spool", TIGHT, life, kill_at=(step, count))
        promises.listen(victim.pipe)
        victim.process.join()
        assert victim.process.exitcode == -9
        victim.bury()
        check(memory / "spool", TIGHT, promises)
    assert promises.accepted


@pytest.mark.parametrize("limits", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_nothing_accepted_is_lost_when_killed_at_any_moment(memory: Path, limits: SpoolSettings) -> None:
    promises = Promises()
    for life in range(8):
        victim = Victim(memory / "spool", limits, life)
        promises.listen(victim.pipe, most=3 + 7 * life)
        victim.kill()
        promises.listen(victim.pipe)
        victim.bury()
        check(memory / "spool", limits, promises)
    assert len(promises.accepted | promises.given_back) > 50
