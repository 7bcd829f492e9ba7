"""`python -m tests.bench.collapse --work FOLDER`: go on with the benchmark, then write its report.

Killed at any time, it goes on where it was. With `--minutes M` it begins nothing new after M minutes (exit status 3
while something is left).
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.collapse.plan import Plan
from tests.bench.collapse.report import write
from tests.bench.collapse.rounds import Rounds

LEFT = 3
SIZES = {
    "rounds": "rounds of retraining",
    "repetitions": "repetitions, on other streets",
    "frames": "considered frames per street and round",
    "views": "images seen in one retraining",
}


def main() -> int:
    """Run the steps that are left."""
    options = _options()
    plan = Plan(**{name: getattr(options, name) for name in SIZES})
    rounds = Rounds(plan, options.work.resolve(), learn_in_child)
    rounds.claim()
    ends = time.monotonic() + 60 * options.minutes
    for step in rounds.steps():
        if step.result.exists() or options.report:
            continue
        if time.monotonic() > ends:
            return LEFT
        began = time.monotonic()
        step.do()
        print(f"{step.name}: {time.monotonic() - began:.0f} s", flush=True)
    print(write(rounds, options.out))
    return 0


def learn_in_child(folder: Path) -> None:
    """One retraining; its output goes to `learn.log`."""
    with (folder / "learn.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.bench.collapse.learn", str(folder)]
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.collapse", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/collapse"), help="folder for everything it makes")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for collapse.json, .md and .svg")
    parser.add_argument("--report", action="store_true", help="only report what is done so far")
    for name, text in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=getattr(Plan, name), help=f"{text} (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after this (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
