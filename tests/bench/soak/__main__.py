"""Runs the soak: see the package."""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tests.bench.soak
from tests.bench.soak.events import DECK
from tests.bench.soak.figures import Keeper, Sample, broken, figures
from tests.bench.soak.rig import SMALL, Soak, running
from tests.fakes import mjpeg

PAUSE_S = 1.0
"""Between two events."""
HEAL_S = 60.0
"""In which all must be well again, without help, on a machine that may be busy."""
QUIET_S = 20.0
"""How long a healed service is looked at: frames of the troubled time have left selection's pools by then."""
DRAIN_S = 180.0


def run(soak: Soak, seconds: float, keep: Callable[[str], object]) -> None:
    """Trouble it for so long; `keep` gets a line per round."""
    begin = time.monotonic()
    heal(soak)
    while (passed := time.monotonic() - begin) < seconds:
        soak.warm = passed > seconds / 6
        for event in soak.rng.sample(DECK, len(DECK)):
            event(soak)
            soak.events[event.__name__] += 1
            soak.wait(PAUSE_S)
        heal(soak)
        look(soak)
        keep(json.dumps({name: samples[-1] for name, samples in soak.rounds.items()}))


def heal(soak: Soak) -> None:
    """Wait until all is well, with cameras of the smallest resolution."""
    for camera in soak.cameras.values():
        if camera.size != SMALL:
            camera.stop()
            camera.size = SMALL
            camera.start()
    begin = time.monotonic()
    soak.wait(2.0)
    while not soak.is_well():
        assert time.monotonic() - begin < HEAL_S, f"not healed: {soak.last_words()}"
        soak.wait(0.5)
    soak.heal_s.append(time.monotonic() - begin)


def look(soak: Soak) -> None:
    """Take the round's figures over a quiet time: medians, and the least memory, which is what is held for good."""
    seen: dict[str, list[Sample]] = {name: [] for name in soak.rounds}
    for _ in range(round(QUIET_S)):
        soak.wait(1.0)
        for name, samples in seen.items():
            samples.append(soak.sample(name))
    for name, samples in seen.items():
        middle = Sample(*map(statistics.median, zip(*samples, strict=True)))
        least = {what: min(getattr(sample, what) for sample in samples) for what in ("rss_mb", "anonymous_mb")}
        soak.rounds[name].append(middle._replace(**least))


def drain(soak: Soak) -> set[str]:
    """Stop collecting and wait until all is delivered; returns what was seen in the spool and is not in the store."""
    soak.processes["run"].send_signal(signal.SIGTERM)
    soak.processes["run"].wait(20)
    soak.note_spool()
    for camera in soak.cameras.values():
        camera.stop()
    soak.start("run")
    end = time.monotonic() + DRAIN_S
    while time.monotonic() < end and (missing := soak.seen - stored(soak.folder / "store")):
        time.sleep(1)
    return missing


def stored(store: Path) -> set[str]:
    return {path.stem for path in (store / "images").glob("*/*.jpg")}


def main() -> int:
    parser = argparse.ArgumentParser(description=(tests.bench.soak.__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=Path, help="file for every sample")
    parser.add_argument("--leak", type=float, default=0.0, metavar="MB", help="have the device leak so much an hour")
    arguments = parser.parse_args()
    mjpeg.PICTURES_PER_S = 5
    keeper = Keeper(arguments.samples)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), arguments.seed, keeper, arguments.leak) as soak:
        run(soak, arguments.minutes * 60, lambda line: print(line, file=sys.stderr, flush=True))
        missing = drain(soak)
    keeper.close()
    result: dict[str, Any] = {
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "events": dict(soak.events),
        "candidates": len(soak.seen),
        "lost": len(missing),
        "heal_s": {"median": round(statistics.median(soak.heal_s), 1), "max": round(max(soak.heal_s), 1)},
        **{name: figures(samples[len(samples) // 2 :]) for name, samples in soak.rounds.items()},
    }
    result["broken"] = list(broken(result))
    print(json.dumps(result, indent=2))
    return 1 if result["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
