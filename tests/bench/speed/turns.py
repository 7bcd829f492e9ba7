"""Processes that take turns: each works when told, for as long as told, and says what it did.

Only the standard library: Ultralytics' turn is taken by another interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from tests.bench.shipped import REPOSITORY

LIMIT = 0.05
"""Cores that others may take while we measure."""
SPOILT = 1
"""How many times the wanted rounds may be spoilt before all of them count: a table of a busy machine says so."""


def serve(turn: Callable[[float], dict[str, float]]) -> None:
    """Child: for each number of seconds on a line of standard input, what `turn(seconds)` did: frames, and more."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nobody's chatter among the answers
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        begun, cpu = time.perf_counter(), time.process_time()
        did = turn(float(line))
        answer = {**did, "s": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu, "peak_mb": peak_mb()}
        print(json.dumps(answer), file=out, flush=True)


def until(seconds: float, step: Callable[[], object]) -> dict[str, float]:
    """Do `step` again and again for so many seconds; how often."""
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        step()
        done += 1
    return {"frames": done}


def peak_mb() -> float:
    """The most memory that this process has had resident, in MB of 10^6 bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


class Racer:
    """Parent: one such process."""

    def __init__(self, name: str, module: str, *arguments: object, python: Path | str = sys.executable) -> None:
        """`python` runs `module` with these arguments."""
        self.name = name
        self.turns: list[dict[str, float]] = []
        self.child = subprocess.Popen(
            [str(python), "-m", module, *map(str, arguments)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while self._answer() != "ready\n":
            """What is said before is not for us."""

    def turn(self, seconds: float) -> dict[str, float]:
        """Let it work, and hear what it did."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{seconds}\n")
        self.child.stdin.flush()
        answer: dict[str, float] = json.loads(self._answer())
        return answer

    def per_frame(self, what: str) -> float:
        """Median over the turns of so much of it per frame."""
        return median(turn[what] / max(turn["frames"], 1) for turn in self.turns)

    @property
    def fps(self) -> float:
        """Median over the turns."""
        return 1 / self.per_frame("s")

    def against(self, other: Racer) -> list[float]:
        """Rate over the other's, turn by turn, in ascending order."""
        pairs = zip(self.turns, other.turns, strict=True)
        return sorted(mine["frames"] / mine["s"] * its["s"] / max(its["frames"], 1) for mine, its in pairs)

    def close(self) -> None:
        """End it."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait(30)

    def _answer(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.child.wait()}")
        return line


def race(racers: Sequence[Racer], *, rounds: int, seconds: float) -> int:
    """Alternately, until `rounds` rounds count; how many did not.

    The order turns round each time and the first round warms up. A round during which others took more than `LIMIT`
    of a core does not count: what they take away differs from turn to turn.
    """
    spoilt = 0
    for racer in racers:
        racer.turn(seconds)
    while (counted := len(racers[0].turns)) < rounds:
        others, answers = others_cpu_s(), {}
        begun = time.monotonic()
        for racer in racers if (counted + spoilt) % 2 else racers[::-1]:
            answers[racer] = racer.turn(seconds)
        if others_cpu_s() - others > LIMIT * (time.monotonic() - begun) and spoilt < SPOILT * rounds:
            spoilt += 1
            continue
        for racer, answer in answers.items():
            racer.turns.append(answer)
    return spoilt


def others_cpu_s() -> float:
    """CPU seconds since the machine's start that went to other sessions than this one, or to other virtual machines."""
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text("ascii").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / tick - sum(_own(os.getpgid(0))) / tick


def _own(group: int) -> Iterator[int]:
    """Ticks of each process of the group, those that have ended below it included."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(") ")[2].split()
            if int(fields[2]) == group:
                yield sum(map(int, fields[11:15]))
