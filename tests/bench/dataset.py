"""The labelling loop on a large store: `python -m tests.bench.dataset [--candidates N]`.

A store of 100,000 candidates of 20 devices (5,000 views, each seen twenty times with other objects), a twentieth of
them exported and labelled before. Each command runs in a process of its own, as a user runs it: seconds and peak
memory. The store is kept under build/ and used again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import SystemClock
from agent.collector import LabelStore, listing
from agent.collector.store import Store
from agent.dataset.labelling import take
from agent.dataset.records import Box, Label, Labels
from agent.records import LANES, Detection, Item, make_item
from tests.fakes.folders import a_folder
from tests.fakes.stores import CLASSES, HEIGHT, WIDTH, a_scene

DEVICES, VIEWS, BATCH = 20, 5_000, 2_000
BASE = 1_000
LABELLED = 20
"""Every so many-th candidate was exported and labelled before."""
BUILD = Path(__file__).resolve().parents[2] / "build"


def candidates(count: int) -> Iterator[Item]:
    """Distinct candidates: pictures repeat after `VIEWS` (a comment in the JPEG apart), objects do not."""
    rng = np.random.default_rng(1)
    views: list[Item] = []
    for number in range(count):
        if number < VIEWS:
            views.append(a_scene(number, (), quality=60))
        view = views[number % VIEWS]
        image = view.image[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big") + view.image[2:]
        rows = tuple(_row(rng) for _ in range(int(rng.integers(1, 8))))
        lane = LANES[int(rng.integers(4))]
        changes = {"ts_ns": view.meta.ts_ns + number, "device": f"gate-{number % DEVICES:02}", "detections": rows}
        yield make_item(image, view.meta.model_copy(update={**changes, "lane": lane, "score": float(rng.random())}))


def _row(rng: np.random.Generator) -> Detection:
    x, y = rng.uniform(0, WIDTH - 60), rng.uniform(0, HEIGHT - 60)
    w, h = rng.uniform(20, 60, 2)
    c = int(rng.integers(len(CLASSES)))
    box = (round(x, 2), round(y, 2), round(x + w, 2), round(y + h, 2))
    return Detection(c=c, name=CLASSES[c], conf=float(round(rng.uniform(0.1, 0.9), 4)), xyxy=box, served=True)


def fill(folder: Path, count: int) -> None:
    """The store's files and rows, without waiting for the disk each time; goes on where it was cut off."""
    store = Store(folder, SystemClock())
    held: list[Item] = []
    there = sum(1 for _ in listing(folder))
    for item in itertools.islice(candidates(count if there < count else 0), there, None):
        for path, content in store._files_of(item, "2027-01-15T08:00:00.000Z"):
            Path(path).write_bytes(content)
        held.append(item)
        if len(held) == BATCH:
            store.add(held, {})
            held.clear()
    store.add(held, {})
    store.close()


def label_exported(folder: Path) -> None:
    """A person's word on everything that was exported and has none: what the model saw, half a pixel larger."""
    with LabelStore(folder, SystemClock()) as store:
        cids = [row["cid"] for row in store.rows("c.cid", "c.label = 'exported'")]
        take(store, Labels(tuple(_word(folder, cid) for cid in cids)), CLASSES)


def _word(folder: Path, cid: str) -> Label:
    record = json.loads((folder / "meta" / cid[:2] / f"{cid}.json").read_bytes())["meta"]
    boxes = tuple(
        Box(row["name"], (row["xyxy"][0], row["xyxy"][1], row["xyxy"][2] + 0.5, row["xyxy"][3] + 0.5))
        for row in record["detections"]
    )
    return Label(cid, WIDTH, HEIGHT, boxes, "useful", "ann", "2027-01-16T08:00:00Z", "bench")


COMMAND = """
import re, sys
from agent.cli import main
status = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(status)
"""


def timed(config: Path, *words: object) -> dict[str, Any]:
    """A command in a process of its own: seconds, peak memory (as the process itself knows it), what it said."""
    command = [sys.executable, "-c", COMMAND, "dataset", *map(str, words), "--config", str(config), "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr}")
    peak_kb = int(done.stderr.splitlines()[-1])
    return {"s": round(seconds, 2), "rss_mb": round(peak_kb / 1024), "said": json.loads(done.stdout)}


def prepared(work: Path, count: int) -> Path:
    """A store of which a part is exported and labelled; the configuration that names it."""
    folder, config = work / "store", work / "agent.toml"
    if not (work / "ready").exists():
        work.mkdir(parents=True, exist_ok=True)
        config.write_text(f'[collector]\nstore = "{folder}"\n')
        fill(folder, count)
        a_folder(work / "street", train=range(900_000, 900_000 + BASE))
        if not any(row["label"] != "unlabelled" for row in listing(folder)):
            timed(config, "export", "coco", work / "before", "--limit", count // LABELLED)
        label_exported(folder)
        (work / "ready").touch()
    return config


def measure(work: Path, count: int) -> dict[str, Any]:
    """Every command once. What was exported and labelled stays so: the next measurement takes the next 1,000."""
    config = prepared(work, count)
    store, base = work / "store", work / "street" / "data.yaml"
    for name in ("batch", "versions"):
        shutil.rmtree(work / name, ignore_errors=True)
    found = {"stats": timed(config, "stats")}
    found["export of the newest 1,000"] = timed(config, "export", "coco", work / "batch", "--newest")
    found["build"] = timed(config, "build", "--out", work / "versions", "--base", base)
    label_exported(store)
    found["build of the next version"] = timed(config, "build", "--out", work / "versions")
    found["verify"] = timed(config, "verify", found["build of the next version"]["said"]["folder"])
    return found


def main() -> None:
    """Print a table: command, seconds, peak memory, for a small store and the large one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--prepare", action="store_true", help="make the stores, measure nothing")
    options = parser.parse_args()
    for count in (options.candidates // 10, options.candidates):
        work = BUILD / f"bench-dataset-{count}"
        if options.prepare:
            prepared(work, count)
            continue
        print(f"{count} candidates")
        for name, run in measure(work, count).items():
            print(f"  {name:<28} {run['s']:>7.2f} s  {run['rss_mb']:>5} MB")


if __name__ == "__main__":
    main()
