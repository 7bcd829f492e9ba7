"""`python -m tests.bench.speed [rate memory start still cameras]`: `make bench-speed`.

Needs ../shared (TAILKEEPER_ASSETS) and mosquitto. `--ultralytics` is an interpreter that has Ultralytics.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.detector.rewrite import without_splits
from tests.bench.delivery import Other, collect
from tests.bench.shipped import REPOSITORY, shipped_environment
from tests.bench.speed.memory import watched
from tests.bench.speed.start import starts
from tests.bench.speed.still import still_clip
from tests.bench.speed.turns import Racer, race
from tests.fakes.mosquitto import Mosquitto

EXPORT = REPOSITORY / ".venv-export" / "bin" / "python"
"""Has Ultralytics after `make test-export`."""


@dataclass(frozen=True)
class Ground:
    """Where everything is compared."""

    folder: Path
    port: int
    options: argparse.Namespace
    model: Path
    clip: Path

    def bare(self, threads: int, *video: Path) -> Racer:
        return Racer("session.run", "tests.bench.speed.bare", self.model, threads, *video)

    def rewritten(self, threads: int) -> Racer:
        """The bare session on the graph that the agent makes of the model: what only the rest of the agent does."""
        path = self.folder / "rewritten.onnx"
        path.write_bytes(without_splits(self.model.read_bytes()))
        return Racer("session.run, rewritten", "tests.bench.speed.bare", path, threads)

    def agent(self, name: str, threads: int, *sources: Path, still_s: float = 0.0) -> Racer:
        folder = self.folder / name.replace(" ", "-")
        return Racer(name, "tests.bench.speed.pipeline", folder, self.port, self.model, threads, still_s, *sources)

    def race(self, *racers: Racer) -> str:
        """Let them take turns, end them, and say how many rounds were spoilt."""
        spoilt = race(racers, rounds=self.options.rounds, seconds=self.options.turn_s)
        for racer in racers:
            racer.close()
        return (
            f"{self.options.rounds} rounds of {self.options.turn_s:g} s turns, {spoilt} more spoilt by other programs"
        )


def rate(ground: Ground) -> Iterator[str]:
    """Frames per second next to the bare session and to Ultralytics."""
    yield "| threads | who | frames/s | of session.run | quartiles | CPU ms a frame |"
    yield "|---|---|---|---|---|---|"
    notes = []
    for threads in (2, 1):
        agent = ground.agent(f"tailkeeper {threads}", threads, ground.clip)
        racers = [ground.bare(threads), agent, ground.rewritten(threads)]
        if threads > 1 and (python := ground.options.ultralytics):
            racers.append(Racer("ultralytics", "tests.bench.speed.ultra", ground.model, ground.clip, python=python))
        notes.append(f"\n{threads} threads: {ground.race(*racers)}; tailkeeper over ")
        notes[-1] += ", ".join(f"{racer.name} {_ratio(agent, racer)}" for racer in racers if racer is not agent)
        for racer in racers:
            yield f"| {threads} | {_against(racer, racers[0])} |"
    yield from notes


def cameras(ground: Ground) -> Iterator[str]:
    """Four cameras on one detector next to one camera."""
    one = ground.agent("one camera", 2, ground.clip)
    four = ground.agent("four cameras", 2, *[ground.clip] * 4)
    note = ground.race(one, four)
    least = min(turn["least"] * 4 / max(turn["frames"], 1) for turn in four.turns)
    age = max(turn["age_s"] for turn in four.turns)
    yield f"one camera {one.fps:.1f} frames/s, four {four.fps:.1f}: {_ratio(four, one)} of it; {note}"
    yield f"the camera with the fewest frames in any turn had {least:.2f} of its share; oldest newest frame {age:.2f} s"


def still(ground: Ground) -> Iterator[str]:
    """CPU per frame where nothing moves."""
    clip = still_clip(ground.clip, ground.folder / "still.mp4")
    gated, everything = ground.agent("gated", 2, clip, still_s=2.0), ground.agent("every frame", 2, clip)
    note = ground.race(gated, everything)
    each = [racer.per_frame("cpu_s") * 1000 for racer in (gated, everything)]
    yield f"CPU ms a frame: {each[0]:.2f} gated, {each[1]:.2f} without the gate: {each[0] / each[1]:.3f}; {note}"


def start(ground: Ground) -> Iterator[str]:
    """Cold start to the first detection."""
    took = starts(ground.folder, ground.port, ground.model, ground.clip, 2, ground.options.starts)
    first, again = took["first"] / took["bare"], took["again"] / took["bare"]
    yield f"medians of {ground.options.starts}: bare {took['bare']:.2f} s, tailkeeper run {took['first']:.2f} s"
    yield f"({first:.2f} x), with its graph kept {took['again']:.2f} s ({again:.2f} x)"


def memory(ground: Ground) -> Iterator[str]:
    """Peak of the service next to a bare process."""
    bare = ground.bare(2, ground.clip)
    for _ in range(3):
        least = bare.turn(5)["peak_mb"]
    bare.close()
    took = watched(ground.folder, ground.port, ground.model, ground.clip, 2, ground.options.minutes)
    yield f"bare session with OpenCV {least:.0f} MB; tailkeeper run {took['peak_mb']:.0f} MB at its peak"
    yield f"({took['peak_mb'] / least:.2f} x) in {ground.options.minutes:g} minutes, {took['mb_per_hour']:+.1f} MB/h"
    yield "in the second half"


PARTS: dict[str, Callable[[Ground], Iterator[str]]] = {
    "rate": rate, "cameras": cameras, "still": still, "start": start, "memory": memory,
}  # fmt: skip


def _ratio(mine: Racer, other: Racer) -> str:
    ratios = mine.against(other)
    return f"{ratios[len(ratios) // 2]:.3f}"


def _against(racer: Racer, other: Racer) -> str:
    ratios = racer.against(other)
    quarter = len(ratios) // 4
    cpu = racer.per_frame("cpu_s") * 1000
    spread = f"{ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
    return f"{racer.name} | {racer.fps:.1f} | {_ratio(racer, other)} | {spread} | {cpu:.1f}"


@contextlib.contextmanager
def _ground(options: argparse.Namespace) -> Iterator[Ground]:
    assets = Path(os.environ.get("TAILKEEPER_ASSETS", REPOSITORY.parent / "shared")).resolve()
    model, clip = assets / "models" / "yolo26n.onnx", assets / "data" / "clips" / "car-detection.mp4"
    if not model.exists():
        raise SystemExit(f"no model at {model}: set TAILKEEPER_ASSETS")
    with tempfile.TemporaryDirectory() as made:
        broker = Mosquitto(Path(made)).start()
        try:
            with Other(collect, broker.port, Path(made) / "store"):
                yield Ground(Path(made), broker.port, options, model, clip)
        finally:
            broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="speed", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which (default: all)")
    parser.add_argument("--ultralytics", type=Path, default=EXPORT if EXPORT.exists() else None, help="an interpreter")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--turn-s", type=float, default=2.0)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the look at memory")
    options = parser.parse_args()
    os.environ.update(shipped_environment("tailkeeper.service"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and what was started ends as well
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)  # so that our own processes can be told from others
    with _ground(options) as ground:
        for name in options.parts or PARTS:
            print(f"\n## {name}\n")
            for line in PARTS[name](ground):
                print(line, flush=True)


if __name__ == "__main__":
    main()
