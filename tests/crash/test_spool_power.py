"""Power cuts on a real ext4: what `put` accepted is on the disk. The long run is `make power-cuts`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.power import cut
from tests.crash.spool_victim import Promises
from tests.fakes.disks import ext4, needs_root


@needs_root
@pytest.mark.root
def test_nothing_accepted_is_lost_when_the_power_goes(tmp_path: Path) -> None:
    promises, chance = Promises(), random.Random(20)
    with ext4(tmp_path) as disk:
        for life in range(8):
            cut(disk, promises, life, chance)
    assert len(promises.accepted) + promises.evicted > 50
