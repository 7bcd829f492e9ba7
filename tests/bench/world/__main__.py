"""Both: `python -m tests.bench.world` is `make bench-world`."""

from __future__ import annotations

from tests.bench.world import accuracy, speed

if __name__ == "__main__":
    speed.main()
    accuracy.main()
