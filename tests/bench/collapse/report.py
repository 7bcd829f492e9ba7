"""What came out: one JSON file, tables, and a picture (SVG, drawn here)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.collapse.plan import ALL, ARM_NAMES, OURS, RANDOM, SELF
from tests.bench.collapse.rounds import Rounds

ORDER = (SELF, RANDOM, OURS, ALL)
COLOURS = {SELF: "#c0392b", RANDOM: "#7f8c8d", OURS: "#1f77b4", ALL: "#2c3e50"}
PANELS = {"head": "head classes", "tail": "tail classes"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 240, 46, 34, 40


def results(rounds: Rounds) -> dict[str, Any]:
    """Of every arm, round and repetition that is done: scores, labelled frames and boxes, tail boxes among them."""
    arms: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ORDER}
    for arm in ORDER:
        for repetition in range(rounds.plan.repetitions):
            for turn in range(rounds.plan.rounds):
                scores = rounds.scores(rounds.folder(repetition, turn, arm))
                if scores is not None:
                    row = {"repetition": repetition, "round": turn + 1, **rounds.labelled(repetition, turn, arm)}
                    arms[arm].append(row | scores)
    return {"start": rounds.start_scores(), "arms": arms}


def write(rounds: Rounds, folder: Path) -> str:
    """Write `collapse.json`, `collapse.md` and `collapse.svg`; returns the tables."""
    found = results(rounds)
    text = tables(found)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "collapse.json").write_text(json.dumps(found, indent=1))
    (folder / "collapse.md").write_text(text)
    (folder / "collapse.svg").write_text(drawing(found))
    return text


def tables(found: dict[str, Any]) -> str:
    """Markdown: AP50 of tail and head per round, mean over the repetitions with their range; and what was labelled."""
    turns = sorted({row["round"] for rows in found["arms"].values() for row in rows})
    start = found["start"] or {}
    parts = []
    for group, title in reversed(PANELS.items()):
        parts.append(f"mAP50 of the {title}, mean (lowest to highest repetition)\n")
        parts.append("| | start | " + " | ".join(f"round {turn}" for turn in turns) + " |")
        parts.append("|---" * (len(turns) + 2) + "|")
        for arm in ORDER:
            cells = [_cell([row[group] for row in found["arms"][arm] if row["round"] == turn]) for turn in turns]
            parts.append(f"| {ARM_NAMES[arm]} | {start.get(group, float('nan')):.3f} | " + " | ".join(cells) + " |")
        parts.append("")
    parts.append("Labelled per round, mean over rounds and repetitions\n")
    parts += ["| | frames | boxes | of tail classes |", "|---|---|---|---|"]
    for arm in ORDER:
        means = [
            np.mean([row[key] for row in found["arms"][arm]] or [np.nan]) for key in ("frames", "boxes", "tail_boxes")
        ]
        who = " (by the model itself)" if arm == SELF else ""
        parts.append(f"| {ARM_NAMES[arm]}{who} | " + " | ".join(f"{mean:.0f}" for mean in means) + " |")
    return "\n".join(parts) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def drawing(found: dict[str, Any]) -> str:
    """Two panels, AP over rounds: lines are means, dots the repetitions. Each has a scale of its own, from zero."""
    turns = max((row["round"] for rows in found["arms"].values() for row in rows), default=1)
    width, height = len(PANELS) * (WIDTH + LEFT) + GAP, TOP + HEIGHT + 110
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, group in enumerate(PANELS):
        parts += _panel(found, group, LEFT + number * (WIDTH + LEFT), turns)
    for number, arm in enumerate(ORDER):
        x, y = LEFT + (number % 2) * (WIDTH + LEFT), TOP + HEIGHT + 56 + 22 * (number // 2)
        parts.append(f'<path d="M{x} {y}h28" stroke="{COLOURS[arm]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 36}" y="{y + 4}">{ARM_NAMES[arm]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(found: dict[str, Any], group: str, left: float, turns: int) -> Iterator[str]:
    values = [row[group] for rows in found["arms"].values() for row in rows]
    highest = max([*values, found["start"][group] if found["start"] else 1.0])
    unit = 0.1 if highest > 0.3 else 0.02
    lines = math.ceil(highest / unit)
    top = lines * unit

    def at(turn: float, value: float) -> tuple[float, float]:
        return round(left + WIDTH * turn / turns, 1), round(TOP + HEIGHT * (1 - value / top), 1)

    yield f'<text x="{left}" y="{TOP - 14}" font-weight="bold">{PANELS[group]}: mAP50 on held-out streets</text>'
    for step in range(lines + 1):
        x, y = at(0, step * unit)
        yield f'<path d="M{x} {y}h{WIDTH}" stroke="#ddd"/><text x="{x - 32}" y="{y + 4}">{step * unit:.2f}</text>'
    for turn in range(turns + 1):
        x, y = at(turn, 0)
        yield f'<text x="{x}" y="{y + 18}" text-anchor="middle">{f"round {turn}" if turn else "start"}</text>'
    for arm in ORDER:
        rows = found["arms"][arm]
        means = [
            np.mean([row[group] for row in rows if row["round"] == turn] or [np.nan]) for turn in range(1, turns + 1)
        ]
        line = [found["start"][group] if found["start"] else np.nan, *means]
        points = [at(turn, value) for turn, value in enumerate(line) if not np.isnan(value)]
        path = " ".join(f"{x},{y}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{COLOURS[arm]}" stroke-width="2.5"/>'
        for row in rows:
            x, y = at(row["round"], row[group])
            yield f'<circle cx="{x}" cy="{y}" r="3" fill="{COLOURS[arm]}"/>'
