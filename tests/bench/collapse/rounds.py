"""The order of the work. Every step leaves a file, and a step whose file is there is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agent import durable
from agent.errors import ConfigError
from agent.export.bundle import Facts, write_bundle
from agent.export.frames import TRAIN_SEEDS, render_set
from agent.world.classes import NAMES, TAIL
from tests.bench.collapse import arms
from tests.bench.collapse.judge import judge
from tests.bench.collapse.learn import SCRATCH, Lesson, Sample
from tests.bench.collapse.plan import ARMS, HELD_OUT, OURS, RANDOM, SELF, Plan
from tests.bench.collapse.streets import Street, held_out, watched

Learn = Callable[[Path], None]
"""Does the lesson in a folder: writes `model.pt` and `model.onnx` there."""


@dataclass(frozen=True)
class Step:
    """Something to do and the file that shows that it was done."""

    name: str
    result: Path
    do: Callable[[], object]


@dataclass(frozen=True)
class Rounds:
    """The benchmark in one folder."""

    plan: Plan
    work: Path
    learn: Learn

    def steps(self) -> Iterator[Step]:
        """All of them, in an order in which each finds what it needs."""
        base = self.work / "base" / "counts" / f"{TRAIN_SEEDS + self.plan.base_streets - 1}.json"
        yield Step("base set", base, self._render_base)
        for number in range(self.plan.held_out_streets):
            folder = self.work / "judged-on" / f"{number:02d}"
            yield Step(f"held-out street {number}", folder / "truth.json", partial(self._held_out, number))
        for piece in range(self.plan.start_pieces):
            yield Step(f"start, piece {piece + 1}", self._start(piece) / "model.onnx", partial(self._begin, piece))
        yield from self._judged("start", self._start(), lambda: arms.counts(self._base(), len(NAMES)))
        for repetition in range(self.plan.repetitions):
            for turn in range(self.plan.rounds):
                yield from self._round(repetition, turn)

    def claim(self) -> None:
        """Write the plan into the folder; raises ConfigError where work of another plan is there.

        More repetitions may be added to what is there.
        """
        sizes = {key: value for key, value in asdict(self.plan).items() if key != "repetitions"}
        file = self.work / "plan.json"
        if file.exists() and json.loads(file.read_text()) != sizes:
            raise ConfigError(f"{self.work} holds work of other sizes", remedy="name another --work, or the same sizes")
        self.work.mkdir(parents=True, exist_ok=True)
        durable.write(file, json.dumps(sizes, indent=1).encode())

    def _round(self, repetition: int, turn: int) -> Iterator[Step]:
        for camera in range(self.plan.cameras):
            name = f"street {repetition}.{turn}.{camera}"
            folder = self._street(repetition, turn, camera)
            yield Step(name, folder / "truth.json", partial(self._watched, repetition, turn, camera))
        for arm in ARMS:
            folder, name = self.folder(repetition, turn, arm), f"{arm} {repetition}.{turn}"
            yield Step(f"{name} labels", folder / "labels.json", partial(self._label, repetition, turn, arm))
            yield Step(f"{name} learns", folder / "model.onnx", partial(self._retrain, repetition, turn, arm))
            yield from self._judged(name, folder, partial(self._counts, repetition, turn, arm))

    def _judged(self, name: str, folder: Path, counts: Callable[[], list[int]]) -> Iterator[Step]:
        yield Step(f"{name} judged", folder / "scores.json", lambda: self._judge(folder, counts()))

    # Where things are

    def folder(self, repetition: int, turn: int, arm: str) -> Path:
        """What an arm did in a round."""
        return self.work / f"repetition-{repetition}" / f"round-{turn}" / arm

    def scores(self, folder: Path) -> dict[str, Any] | None:
        """What a model was judged, None where that is still to do."""
        path = folder / "scores.json"
        return dict(json.loads(path.read_text())) if path.exists() else None

    def start_scores(self) -> dict[str, Any] | None:
        """Of the checkpoint that all begin from."""
        return self.scores(self._start())

    def _start(self, piece: int | None = None) -> Path:
        return self.work / "start" / str(self.plan.start_pieces - 1 if piece is None else piece)

    def _street(self, repetition: int, turn: int, camera: int) -> Path:
        return self.work / "streets" / f"{repetition}-{turn}-{camera}"

    def labelled(self, repetition: int, turn: int, arm: str) -> dict[str, int]:
        """How much an arm labelled in a round: frames, boxes, and boxes of tail classes among them."""
        found = self._labels(repetition, turn, arm)
        counts = arms.counts(found, len(NAMES))
        return {"frames": len(found), "boxes": sum(counts), "tail_boxes": sum(counts[cls] for cls in TAIL)}

    # What is seen

    def _render_base(self) -> None:
        render_set(self.work / "base", TRAIN_SEEDS, self.plan.base_streets, 1)

    def _base(self) -> list[Sample]:
        labels = sorted((self.work / "base" / "labels").glob("*.txt"))
        return [Sample(str(self.work / "base" / "images" / f"{path.stem}.png"), path.read_text()) for path in labels]

    def _held_out(self, number: int | None = None) -> list[Street]:
        wanted = range(self.plan.held_out_streets) if number is None else [number]
        folder = self.work / "judged-on"
        return [held_out(folder / f"{n:02d}", HELD_OUT + n, self.plan.held_out_frames) for n in wanted]

    def _watched(self, repetition: int, turn: int, camera: int) -> Street:
        seed = self.plan.street(repetition, turn, camera)
        return watched(self._street(repetition, turn, camera), seed, self.plan.frames)

    # What is done

    def _begin(self, piece: int) -> None:
        plan = self.plan
        rates = [plan.start_rate - at * plan.start_fall for at in (piece, piece + 0.98)]
        seen = arms.views(self._base(), plan.start_views, np.random.default_rng(piece))
        start = str(self._start(piece - 1) / "model.pt") if piece else SCRATCH
        self._teach(self._start(piece), Lesson(start, seen, (rates[0], rates[1]), piece))

    def _label(self, repetition: int, turn: int, arm: str) -> None:
        streets = [self._watched(repetition, turn, camera) for camera in range(self.plan.cameras)]
        before = self.folder(repetition, turn - 1, arm) if turn else self._start()
        seen = arms.Watched(streets, before / "bundle", 1000 + 10 * repetition + turn)
        if arm == OURS:
            found = arms.candidates(seen, self.plan.budget)
        elif arm == RANDOM:
            found = arms.at_random(seen, arms.boxes(self._labels(repetition, turn, OURS)))
        else:
            found = arms.own_rows(seen) if arm == SELF else arms.every_frame(seen)
        folder = self.folder(repetition, turn, arm)
        folder.mkdir(parents=True, exist_ok=True)
        durable.write(folder / "labels.json", json.dumps([asdict(sample) for sample in found]).encode())

    def _labels(self, repetition: int, turn: int, arm: str) -> list[Sample]:
        """What an arm labelled in one round."""
        kept = json.loads((self.folder(repetition, turn, arm) / "labels.json").read_text())
        return [Sample(**sample) for sample in kept]

    def _own(self, repetition: int, turn: int, arm: str) -> list[Sample]:
        """What an arm trains on beside the base set: all its rounds, but for `self` the last one only."""
        turns = [turn] if arm == SELF else range(turn + 1)
        return [sample for number in turns for sample in self._labels(repetition, number, arm)]

    def _counts(self, repetition: int, turn: int, arm: str) -> list[int]:
        """Labels per class in the training set of an arm."""
        base = [] if arm == SELF else self._base()
        return arms.counts(base + self._own(repetition, turn, arm), len(NAMES))

    def _retrain(self, repetition: int, turn: int, arm: str) -> None:
        """Half of what is seen is the base set, but for `self`, which has no human labels."""
        rng = np.random.default_rng([repetition, turn, ARMS.index(arm)])
        own, count = self._own(repetition, turn, arm), self.plan.views
        half = 0 if arm == SELF else count // 2
        seen = arms.views(self._base(), half, rng) + arms.views(own, count - half, rng)
        start = str(self._start() / "model.pt")
        rates = self.plan.rate, self.plan.rate / 50
        self._teach(self.folder(repetition, turn, arm), Lesson(start, seen, rates, 10 * repetition + turn))

    def _teach(self, folder: Path, lesson: Lesson) -> None:
        lesson.write(folder)
        self.learn(folder)

    def _judge(self, folder: Path, counts: list[int]) -> None:
        facts = Facts("collapse", 1, "", counts=tuple(counts))
        write_bundle(folder / "bundle", (folder / "model.onnx").read_bytes(), facts)
        scores = judge(folder / "bundle", self._held_out())
        durable.write(folder / "scores.json", json.dumps(scores, indent=1).encode())
