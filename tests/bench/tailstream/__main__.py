"""`python -m tests.bench.tailstream`: run the benchmark, print its tables, and write them to a file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.__main__ import provenance
from tests.bench.tailstream.ablation import MECHANISMS, ablated
from tests.bench.tailstream.canary import coverage
from tests.bench.tailstream.cost import cost
from tests.bench.tailstream.results import OURS, Judged, Picker, deltas, measure, table, verdict
from tests.bench.tailstream.rivals import RIVALS
from tests.bench.tailstream.streams import coco_cases, demo_cases


def main() -> None:
    """Everything, in order of importance."""
    options = _options()
    judged = list(_judged(options))
    results = measure(judged, _policies)
    parts = [
        f"# TailStream, {options.half} half\n\n{provenance()}",
        "UER / UTM, then their harmonic mean ± its spread over streams and draws.\n",
        table(results, [*RIVALS, OURS, "oracle"]),
        "\nHarmonic means, ours against the better of prototype and best rival:\n",
        verdict(results, RIVALS),
    ]
    if options.ablation:
        ablation = measure(judged, _ablated, draws=1)
        parts += ["\nChange of the harmonic mean with one mechanism off, one draw per stream:\n"]
        parts += [deltas(ablation, MECHANISMS)]
    parts += ["\nCanary lane:\n", coverage(judged), "\nCost of selection per frame:\n", cost(judged)]
    text = "\n".join(parts) + "\n"
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tailstream", description=__doc__)
    assets = os.environ.get("TAILKEEPER_ASSETS", "../shared")
    parser.add_argument("--assets", type=Path, default=Path(assets), help="folder with data/ and models/")
    parser.add_argument("--cache", type=Path, default=Path("build/tailstream"), help="where the model's rows are kept")
    parser.add_argument("--half", choices=("tune", "report"), default="report", help="which half of the material")
    parser.add_argument("--out", type=Path, default=Path("build/tailstream.md"), help="file for the tables")
    parser.add_argument("--ablation", action="store_true", help="also switch each mechanism off in turn")
    return parser.parse_args()


def _judged(options: argparse.Namespace) -> Iterator[Judged]:
    """Every stream; those of real pictures only where the assets are."""
    if (options.assets / "models" / "yolo26n.onnx").exists():
        yield from map(Judged.of, coco_cases(options.assets, options.half, options.cache))
    else:
        print(f"no assets in {options.assets}: the demo world only")
    yield from map(Judged.of, demo_cases(options.half, options.cache))


def _policies(judged: Judged) -> Mapping[str, Picker]:
    return {**judged.rivals(), OURS: judged.ours}


def _ablated(judged: Judged) -> Mapping[str, Picker]:
    return {OURS: judged.ours} | {mechanism: ablated(mechanism, judged.ours) for mechanism in MECHANISMS}


if __name__ == "__main__":
    main()
