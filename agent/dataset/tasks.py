"""Candidates as work for labellers: which come first, and which nobody has to see twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from agent.collector import LabelStore, image_path, read_meta
from agent.dataset.looks import Looks, Objects, ObjectsOf, look
from agent.dataset.records import Box, Prediction, Task
from agent.errors import FrameError
from agent.records import LANES, Lane

TURNS: tuple[Lane, ...] = ("manual", "rule", "rare", "uncertain", "temporal", "canary")
"""Lanes take turns, what somebody asked for first: each beginning of a batch holds some of every lane."""
KEPT = 256
"""Looks of one commit."""
CACHED = 4096
"""Candidates whose rows are kept in memory while others are compared with them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What may go into a batch. `again`: also what went to a tool before and came back without a label."""

    limit: int
    lanes: tuple[Lane, ...] = LANES
    again: bool = False
    newest: bool = False
    """The newest first, instead of the lanes in turn."""


@dataclass(slots=True)
class Chosen:
    """A batch: its tasks in order of priority, and what was left out."""

    cids: list[str] = field(default_factory=list)
    twins: dict[str, str] = field(default_factory=dict)
    """Left out, and the candidate that shows the same frame."""
    unreadable: list[str] = field(default_factory=list)


def choose(store: LabelStore, choice: Choice, progress: Callable[[str], None] = lambda _: None) -> Chosen:
    """The next batch of work. What was compared is remembered in the index, so nothing is compared twice.

    Near-duplicates of what was chosen before, by whatever device, are left out; canary draws never are: they stand for
    all frames, also for those that look alike.
    """
    chosen, looks, objects_of = Chosen(), Looks(), rows_of(store.folder)
    for row in store.rows("c.cid, look", "look IS NOT NULL AND twin IS NULL"):
        looks.add(row["cid"], row["look"])
    fresh: list[tuple[str, bytes, str | None]] = []
    for cid, lane in _in_turn(store, choice):
        known = next(store.rows("look", "c.cid = ?", (cid,)))["look"]
        try:
            picture = known or look(store.folder / image_path(cid))
        except FrameError:
            chosen.unreadable.append(cid)
            continue
        twin = None if lane == "canary" else looks.twin(picture, cid, objects_of)
        if twin is not None:
            chosen.twins[cid] = twin
        else:
            chosen.cids.append(cid)
        if known is None or twin is not None:
            fresh.append((cid, picture, twin))
        if known is None and twin is None:
            looks.add(cid, picture)
        if len(fresh) >= KEPT:
            store.keep_looks(fresh)
            fresh.clear()
            progress(f"{len(chosen.cids)} tasks, {len(chosen.twins)} near-duplicates left out")
        if len(chosen.cids) >= choice.limit:
            break
    store.keep_looks(fresh)
    return chosen


def _in_turn(store: LabelStore, choice: Choice) -> Iterator[tuple[str, Lane]]:
    """Ids and lanes of what may be chosen. Within a lane the highest score first; canary draws by id, so at random:
    a part of them must stand for all frames as the whole does."""

    def waiting(lanes: Sequence[Lane], order: str) -> Iterator[tuple[str, Lane]]:
        states = ("unlabelled", "exported") if choice.again else ("unlabelled",)
        among = [f"{column} IN ({','.join('?' * len(of))})" for column, of in (("c.label", states), ("lane", lanes))]
        where = f"{' AND '.join(among)} AND twin IS NULL ORDER BY {order}"
        return ((row["cid"], row["lane"]) for row in store.rows("c.cid, lane", where, (*states, *lanes)))

    if choice.newest:
        return waiting(choice.lanes, "ts_ns DESC, c.cid")
    lanes = [lane for lane in TURNS if lane in choice.lanes]
    queues = [waiting([lane], "c.cid" if lane == "canary" else "score DESC, c.cid") for lane in lanes]
    return (each for turn in itertools.zip_longest(*queues) for each in turn if each is not None)


def rows_of(folder: Path) -> ObjectsOf:
    """What a candidate's model served, and all its rows, relative to the picture; read from the store when asked."""

    @lru_cache(CACHED)
    def objects_of(cid: str) -> tuple[Objects, Objects]:
        meta = read_meta(folder, cid)
        if meta is None:
            return (), ()
        width, height = meta.image.w, meta.image.h
        rows = [
            ((row.name, (x1 / width, y1 / height, x2 / width, y2 / height)), row.served)
            for row in meta.detections
            for x1, y1, x2, y2 in (row.xyxy,)
        ]
        return [each for each, served in rows if served], [each for each, _ in rows]

    return objects_of


def task_of(folder: Path, cid: str, priority: float = 0.0) -> Task | None:
    """A stored candidate as a task, its served rows as pre-annotations; None where there is no such candidate.

    Rows below the serving threshold are left out: a labeller would delete most of them.
    """
    meta = read_meta(folder, cid)
    if meta is None:
        return None
    served = (row for row in meta.detections if row.served)
    return Task(
        cid=cid,
        image=folder / image_path(cid),
        width=meta.image.w,
        height=meta.image.h,
        device=meta.device,
        camera=meta.camera,
        ts=meta.ts,
        lane=meta.lane,
        score=meta.score,
        probability=meta.probability,
        model=meta.model.id,
        reasons=meta.reasons,
        priority=priority,
        predictions=tuple(Prediction(Box(row.name, row.xyxy), row.conf) for row in served),
    )


def tasks_of(folder: Path, cids: Sequence[str]) -> list[Task]:
    """Tasks of these candidates, in order, the first with the highest priority."""
    tasks = (task_of(folder, cid, float(len(cids) - place)) for place, cid in enumerate(cids))
    return [task for task in tasks if task is not None]
