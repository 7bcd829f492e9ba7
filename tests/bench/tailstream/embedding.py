"""`python -m tests.bench.tailstream.embedding --model BUNDLE`: what the optional embedding is worth to our own rule.

BUNDLE is yolo26n.pt by `tailkeeper model export --embedding`: its rows are those of the other benchmarks, which come
from the same cache. Looking at a stream takes a minute or two; what was seen is kept.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agent.detector import Detector
from agent.detector.coco import coco_counts
from agent.records import Vector
from tests.bench.tailstream.cache import cached
from tests.bench.tailstream.errors import judge
from tests.bench.tailstream.ours import candidates
from tests.bench.tailstream.results import BUDGETS, DRAWS
from tests.bench.tailstream.scoring import score
from tests.bench.tailstream.shot import Plan
from tests.bench.tailstream.streams import FLOOR, SERVE, Case, coco_plans, tail_of


def main() -> None:
    """Harmonic means with and without, stream by stream and per kind."""
    options = _options()
    found: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
    for case, vectors in _cases(options):
        for budget in BUDGETS:
            pair = _harmonic(case, [], budget), _harmonic(case, vectors, budget)
            found[case.kind, budget].append(pair)
            print(f"{case.stream.name:20} {budget:.0%}  {pair[0]:.3f}  {pair[1]:.3f}", flush=True)
    print("\n| | thumbnail's colours | embedding | streams that gain, lose |\n|---|---|---|---|")
    for (kind, budget), pairs in found.items():
        without, having = np.mean(pairs, axis=0)
        gain, lose = sum(b > a + 5e-4 for a, b in pairs), sum(b < a - 5e-4 for a, b in pairs)
        print(f"| {kind} {budget:.0%} | {without:.3f} | {having:.3f} | {gain}, {lose} of {len(pairs)} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="embedding", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="bundle with an embedding")
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("TAILKEEPER_ASSETS", "../shared")))
    parser.add_argument("--cache", type=Path, default=Path("build/tailstream"))
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--only", default="", help="streams whose names begin like this")
    return parser.parse_args()


def _cases(options: argparse.Namespace) -> Iterator[tuple[Case, list[Vector]]]:
    detector = Detector(options.model, floor=FLOOR, threads=1)
    counts = coco_counts(detector.classes)
    assert counts is not None
    for plan in coco_plans(options.assets, options.half, detector.detect, counts):
        if plan.name.startswith(options.only):
            stream = cached(options.cache, plan, detector.detect, detector.classes)
            case = Case(plan.name.split("-")[0], stream, counts, detector.odds, tail_of(counts))
            yield case, _vectors(options.cache, plan, detector)


def _vectors(folder: Path, plan: Plan, detector: Detector) -> list[Vector]:
    """The embedding of every frame of the stream."""
    path = folder / f"{plan.name}.{detector.sha256[:8]}.npy"
    if not path.exists():
        looks = [detector.look(shot.image)[1] for shot in plan.shots()]
        vectors = np.stack([look for look in looks if look is not None])
        partial = path.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, vectors)
        partial.rename(path)
    return list(np.load(path))


def _harmonic(case: Case, vectors: list[Vector], budget: float) -> float:
    """Of our own rule, over as many draws as the other benchmarks make."""
    verdicts = judge(case.stream, case.tail, SERVE)
    scores = []
    for seed in range(1, DRAWS + 1):
        taken = candidates(case.stream, case.counts, case.odds, budget, seed, vectors)
        scores.append(score(verdicts, [candidate.frame.index for candidate in taken], budget).harmonic)
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
