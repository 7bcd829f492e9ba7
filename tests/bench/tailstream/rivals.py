"""What other systems do, and the prototype, on the same rows. Thresholds and probabilities are tuned on the very stream
they are judged on, so that each spends its whole budget: that favours them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.records import Rows
from agent.selection.coverage import signature
from agent.selection.gates import thumbnail
from agent.selection.scores import Floats, Ints, clean_rows, overlap, repair
from tests.bench.tailstream.cache import Stream
from tests.bench.tailstream.errors import Verdict

WINDOW = 150


@dataclass(frozen=True, slots=True)
class Scores:
    """The prototype's scores of a frame's rows: chance of an error; class weight x (that + half the confidence)."""

    boxes: Floats
    classes: Ints
    error: Floats
    tail: Floats


@dataclass(frozen=True, slots=True)
class Signals:
    """What rivals look at, computed once per stream."""

    evidence: list[Scores]
    lowest: NDArray[np.float64]
    """Lowest confidence of a served row; 1 where nothing is served."""
    served: NDArray[np.int64]
    close: NDArray[np.bool_]
    """Some row within .5 +- .1."""
    listed: NDArray[np.bool_]
    """Some served row of a tail class."""
    hashes: NDArray[np.bool_]
    """dHash, (n, 64)."""
    views: NDArray[np.float32]
    """Signatures, (n, d)."""

    def __len__(self) -> int:
        return len(self.evidence)


def signals(
    stream: Stream, counts: Sequence[int], tail: frozenset[int], serve: float, floor: float, odds: float
) -> Signals:
    """Look once at every frame. The prototype's class weights: the inverse root of the training count."""
    weights = np.maximum(np.asarray(counts, np.float64), 1.0) ** -0.5
    rows = [clean_rows(r, floor, len(stream.classes)) for r in stream.rows]
    served = [r[r[:, 4] >= serve] for r in rows]
    return Signals(
        [_score(r, serve, odds, weights) for r in rows],
        np.array([r[:, 4].min() if len(r) else 1.0 for r in served]),
        np.array([len(r) for r in served]),
        np.array([bool(((r[:, 4] > 0.4) & (r[:, 4] < 0.6)).any()) for r in rows]),
        np.array([bool(tail & set(r[:, 5].astype(int).tolist())) for r in served]),
        np.stack([_dhash(image) for image in stream.images]),
        np.stack([signature(thumbnail(image)) for image in stream.images]).astype(np.float32),
    )


def _score(rows: Rows, serve: float, odds: float, weights: Floats) -> Scores:
    _, first = np.unique(rows[:, :4], axis=0, return_index=True)
    rows = rows[np.sort(first)]
    confidence, classes = rows[:, 4], rows[:, 5].astype(np.intp)
    chance = repair(confidence, odds)
    error = np.where(confidence >= serve, 1 - chance, chance)
    return Scores(rows[:, :4], classes, error, weights[classes] * (error + 0.5 * confidence))


def _dhash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return np.asarray(small[:, 1:] > small[:, :-1]).ravel()


Rival = Callable[[Signals, float, np.random.Generator], list[int]]


def at_random(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Every frame with the same probability."""
    return sorted(int(i) for i in rng.choice(len(seen), round(budget * len(seen)), replace=False))


def periodic(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Every 1/budget-th frame."""
    return [int(i) for i in np.arange(rng.uniform(0, 1 / budget), len(seen), 1 / budget)]


def close_to_threshold(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Roboflow: a prediction within .5 +- .1."""
    return _by_chance(seen.close, budget, rng)


def class_list(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Roboflow: a served prediction of a listed (tail) class."""
    return _by_chance(seen.listed, budget, rng)


def _by_chance(eligible: NDArray[np.bool_], budget: float, rng: np.random.Generator) -> list[int]:
    indices = np.flatnonzero(eligible)
    return sorted(int(i) for i in rng.choice(indices, min(len(indices), round(budget * len(eligible))), replace=False))


def lowest_confidence(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Geti: lowest confidence under a threshold, then a cooldown."""
    return _thresholded(-seen.lowest, budget, round(0.5 / budget))


def mixed_triggers(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Luxonis: timed, none detected, low confidence, lost in the middle, each with a cooldown."""
    lost = np.zeros(len(seen), bool)
    lost[1:-1] = (seen.served[1:-1] < seen.served[:-2]) & (seen.served[1:-1] < seen.served[2:])
    fires = np.stack([seen.served == 0, seen.lowest < 0.4, lost, np.ones(len(seen), bool)])
    wanted, low, high = round(budget * len(seen)), 1.0, float(len(seen))
    offset = int(rng.integers(0, max(1, round(1 / budget))))
    picks: list[int] = []
    for _ in range(30):
        cooldown = (low + high) / 2
        picks = _cooled(fires, cooldown, offset)
        low, high = (cooldown, high) if len(picks) > wanted else (low, cooldown)
    return picks[:wanted]


def _cooled(fires: NDArray[np.bool_], cooldown: float, offset: int) -> list[int]:
    last, picks = np.full(len(fires), -np.inf), []
    for index in range(offset, fires.shape[1]):
        ready = fires[:, index] & (index - last >= cooldown)
        if ready.any():
            last[ready] = index
            picks.append(index)
    return picks


def _thresholded(value: NDArray[np.float64], budget: float, cooldown: int) -> list[int]:
    """Frames at or above a threshold with a cooldown; the threshold that spends the budget."""
    wanted, best = round(budget * len(value)), list[int]()
    for threshold in np.unique(np.quantile(value, np.linspace(0, 1, 200)))[::-1]:
        picks, last = [], -cooldown
        for index in np.flatnonzero(value >= threshold):
            if index - last >= cooldown:
                picks.append(int(index))
                last = int(index)
        best = picks
        if len(picks) >= wanted:
            break
    return best[:wanted]


def hash_and_confidence(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Per window: the lowest confidences among frames whose dHash differs from those taken."""
    return _windowed(seen, budget, -seen.lowest, lambda i, taken: _hash_differs(seen.hashes, i, taken))


def _hash_differs(hashes: NDArray[np.bool_], index: int, taken: list[int]) -> bool:
    return not taken or int((hashes[taken] != hashes[index]).sum(axis=1).min()) > 10


def frame_embedding(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """A frame unlike every one taken before, by its whole-frame signature; the threshold that spends the budget."""
    wanted, best = round(budget * len(seen)), list[int]()
    for threshold in np.linspace(0.2, 0.999, 60):
        picks = [0]
        for index in range(1, len(seen)):
            if float((seen.views[picks] @ seen.views[index]).max()) < threshold:
                picks.append(index)
        best = picks
        if len(picks) >= wanted:
            break
    return best[:wanted]


def _windowed(
    seen: Signals, budget: float, value: NDArray[np.float64], allowed: Callable[[int, list[int]], bool]
) -> list[int]:
    taken, debt = list[int](), 0.0
    for start in range(0, len(seen), WINDOW):
        window = np.arange(start, min(start + WINDOW, len(seen)))
        debt += budget * len(window)
        for index in window[np.argsort(-value[window], kind="stable")]:
            if debt < 1:
                break
            if value[index] > -1 and allowed(int(index), taken):
                taken.append(int(index))
                debt -= 1
    return taken


def prototype(seen: Signals, budget: float, rng: np.random.Generator) -> list[int]:
    """Object coverage, 50/40/10, best of 150 frames by marginal gain: the rule selection.md started from."""
    taken, debt = list[int](), {"uncertain": 0.0, "rare": 0.0}
    for start in range(0, len(seen), WINDOW):
        window = list(range(start, min(start + WINDOW, len(seen))))
        taken += [i for i in window if rng.random() < 0.1 * budget]
        weight = {i: _open(seen, i, taken) for i in window}
        for lane, share in (("uncertain", 0.5), ("rare", 0.4)):
            debt[lane] = min(debt[lane] + share * budget * len(window), 2 * share * budget * WINDOW)
            while debt[lane] >= 1:
                gains = {i: float(_value(seen, i, lane) @ weight[i]) for i in window if i not in taken}
                best = max(gains, key=gains.__getitem__, default=-1)
                if best < 0 or gains[best] <= 0:
                    break
                taken.append(best)
                debt[lane] -= 1
                for i in window:
                    weight[i] = weight[i] * _open(seen, i, [best])
    return taken


def _value(seen: Signals, index: int, lane: str) -> NDArray[np.floating]:
    return seen.evidence[index].error if lane == "uncertain" else seen.evidence[index].tail


def _open(seen: Signals, index: int, taken: list[int]) -> NDArray[np.float32]:
    """1 for each object that no taken frame of the same view (cosine .9) holds with its class at IoU .5."""
    mine = seen.evidence[index]
    weight = np.ones(len(mine.classes), np.float32)
    for other in np.array(taken, int)[seen.views[taken] @ seen.views[index] > 0.9] if taken else ():
        theirs = seen.evidence[int(other)]
        if len(mine.classes) and len(theirs.classes):
            same = (mine.classes[:, None] == theirs.classes) & (overlap(mine.boxes, theirs.boxes) > 0.5)
            weight[same.any(axis=1)] = 0.0
    return weight


def oracle(verdicts: Sequence[Verdict], budget: float) -> list[int]:
    """Greedy with the truth in hand, over the whole stream: what could be had."""
    found, picks = set[int](), list[int]()
    for _ in range(round(budget * len(verdicts))):
        gains = [len(v.errors - found) + len(v.tail_errors - found) for v in verdicts]
        picks.append(int(np.argmax(gains)))
        found |= verdicts[picks[-1]].errors
    return picks


RIVALS: dict[str, Rival] = {
    "random": at_random,
    "periodic": periodic,
    "roboflow close": close_to_threshold,
    "roboflow class list": class_list,
    "geti": lowest_confidence,
    "luxonis": mixed_triggers,
    "hash + low confidence": hash_and_confidence,
    "frame embedding": frame_embedding,
    "prototype": prototype,
}
