"""Power cuts during roll-outs on one disk: ``python -m tests.crash.control_power --cuts 100`` (root)."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.crash.control_victim import Promises, Site, Victim, check
from tests.fakes.disks import Ext4, ext4


def cut(disk: Ext4, site: Site, promises: Promises, life: int, chance: random.Random) -> str:
    """Let a victim work, cut the power at some moment, mount again; returns the model that the next start runs."""
    victim = Victim(disk.mounted / "state", site, life)
    promises.listen(victim.pipe, most=chance.randrange(1, 40))
    time.sleep(chance.uniform(0, 0.02))  # any moment, also between two messages
    disk.cut_power()
    victim.kill()
    promises.listen(victim.pipe)
    victim.bury()
    disk.unmount()
    disk.mount()
    return check(disk.mounted / "state", site, promises)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance, promises, models = random.Random(arguments.seed), Promises(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, ext4(Path(folder)) as disk:
        site = Site(Path(folder))
        for life in range(arguments.cuts):
            models[cut(disk, site, promises, life, chance)] += 1
            if (life + 1) % 20 == 0:
                sys.stderr.write(f"{life + 1} power cuts\n")
    sys.stdout.write(
        f"power cuts {arguments.cuts}: started with a working model {promises.lives} times ({len(models)} models), "
        f"commands told done {len(promises.done)}, every check held\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
