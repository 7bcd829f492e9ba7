"""SIGKILL and power cuts while configurations, commands and models come in: each next start has a working model."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.control_power import cut
from tests.crash.control_victim import Promises, Site, Victim, check
from tests.fakes.disks import ext4, needs_root

STEPS = (
    "command.received",
    "command.executing",
    "effect",
    "command.successful",
    "config.saving",
    "config.saved",
    "model.block",
    "model.blocks written",
    "model.progress saved",
    "model.verified",
    "model.staged",
    "model.pointer saved",
    "model.activated",
    "model.settled",
    "model.rolled back",
    "before fsync",
    "after fsync",
    "before rename",
    "after rename",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_device_killed_at_any_step_starts_with_a_working_model_and_repeats_no_command(
    step: str, memory: Path
) -> None:
    site, promises = Site(memory), Promises()
    for life, count in enumerate((1, 4)):
        victim = Victim(memory / "state", site, life, kill_at=(step, count))
        promises.listen(victim.pipe)
        victim.process.join()
        assert victim.process.exitcode == -9
        victim.bury()
        check(memory / "state", site, promises)


@needs_root
@pytest.mark.root
def test_a_device_that_loses_its_power_starts_with_a_working_model(tmp_path: Path) -> None:
    site, promises, chance = Site(tmp_path), Promises(), random.Random(6)
    with ext4(tmp_path) as disk:
        for life in range(6):
            cut(disk, site, promises, life, chance)
    assert promises.done
