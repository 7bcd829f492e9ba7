"""Power cuts in a row on one disk: ``python -m tests.crash.power --cuts 500`` (root). Prints what was kept and lost."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.spool_victim import ROOMY, Promises, Victim, check
from tests.fakes.disks import Ext4, ext4


def cut(disk: Ext4, promises: Promises, life: int, chance: random.Random) -> None:
    """Let a victim work the spool, cut the power at some moment, mount again, and hold the spool to its promises."""
    victim = Victim(disk.mounted / "spool", ROOMY, life)
    promises.listen(victim.pipe, most=chance.randrange(1, 60))
    time.sleep(chance.uniform(0, 0.02))  # any moment, also between two messages
    disk.cut_power()
    victim.kill()
    promises.listen(victim.pipe)
    victim.bury()
    disk.unmount()
    disk.mount()
    check(disk.mounted / "spool", ROOMY, promises)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable()
    chance = random.Random(arguments.seed)
    promises = Promises()
    with tempfile.TemporaryDirectory() as folder, ext4(Path(folder)) as disk:
        for life in range(arguments.cuts):
            cut(disk, promises, life, chance)
            if (life + 1) % 50 == 0:
                sys.stderr.write(f"{life + 1} power cuts\n")
    accepted, done = len(promises.accepted), len(promises.given_back & promises.accepted)
    sys.stdout.write(
        f"power cuts {arguments.cuts}: accepted {accepted}, delivered or set aside {done}, every check held\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
