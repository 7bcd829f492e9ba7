"""A device that leaks: `python -m tests.bench.soak.leak MB_PER_HOUR run ...`. Shows that the soak notices.

What it leaks belongs to one device, as most of what could leak does, and goes with it when it is made anew.
"""

from __future__ import annotations

import sys
import time

from agent.cli import main
from agent.health import Counters


def leak(mb_per_hour: float) -> None:
    """Have counters keep so much more, and a little for the keeping, with whatever they count."""
    add, since = Counters.add, time.monotonic()

    def add_and_keep(self: Counters, name: str, n: int = 1) -> None:
        nonlocal since
        begun, since = since, time.monotonic()
        vars(self).setdefault("leaked", []).append(bytes(round((since - begun) / 3600 * mb_per_hour * 2**20)))
        add(self, name, n)

    Counters.add = add_and_keep  # type: ignore[method-assign]


if __name__ == "__main__":
    leak(float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
