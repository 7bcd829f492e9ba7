"""What selection costs beside the inference, in CPU time of its thread, with a full memory of selected frames."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from agent.selection import Selector
from agent.settings import SelectionSettings
from tests.bench.tailstream.ours import UNLIMITED
from tests.bench.tailstream.results import Judged


def cost(judged: Sequence[Judged]) -> str:
    """Markdown: milliseconds per frame, median and 99th percentile, per kind of stream."""
    lines = ["| stream | median ms | p99 ms | max ms | remembered frames |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys(one.case.kind for one in judged):
        one = next(each for each in judged if each.case.kind == kind)
        times, remembered = _times(one)
        p50, p99 = np.quantile(times, [0.5, 0.99])
        lines.append(f"| {kind} | {p50:.2f} | {p99:.2f} | {max(times):.2f} | {remembered} |")
    return "\n".join(lines)


def _times(one: Judged) -> tuple[list[float], int]:
    """CPU milliseconds of `consider` and `due` per frame of the second half, once the memory is full."""
    case = one.case
    selector = Selector(
        SelectionSettings(budget=0.05, **UNLIMITED),
        serve=0.25,
        floor=0.02,
        classes=case.stream.classes,
        counts=case.counts,
        odds=case.odds,
        seed=1,
    )
    camera = selector._camera(case.stream.name)
    frames = list(case.stream.frames())
    for frame, rows in (frames * 512)[:512]:
        camera._select(camera._entry(frame, rows, np.zeros((18, 24, 3)) + frame.index % 7, selector._weights))
    times = []
    for frame, rows in frames:
        begun = time.thread_time()
        selector.consider(frame, rows)
        due = selector.due()
        times.append((time.thread_time() - begun) * 1000)
        for candidate in due:
            selector.charge(candidate, 100_000)
    return times, min(512, camera._coverage._frames)
