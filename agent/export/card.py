"""The model card of the demo model, written from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.world.classes import HEAD, NAMES, TAIL

LICENCE = """\
The weights in model.onnx were trained from scratch with Ultralytics (https://github.com/ultralytics/ultralytics),
from its yolo26n.yaml, on frames rendered by this project alone. No downloaded weights and no photographs were used.

Ultralytics, its model definitions and models trained with it are licensed under the GNU Affero General Public
License, version 3 (AGPL-3.0, https://www.gnu.org/licenses/agpl-3.0.html) or under an Ultralytics Enterprise Licence.
These weights are distributed under AGPL-3.0. The rest of this repository has its own licence; see the LICENSE file
at its root.
"""


@dataclass(frozen=True)
class Measured:
    """What the card reports. Sequences are in the order of the classes; `curve` is what calibration_curve gives."""

    counts: Sequence[int]
    frames: int
    streets: int
    held_out_frames: int
    held_out_streets: int
    objects: Sequence[int]
    precisions: Sequence[float]
    head: float
    tail: float
    overall: float
    odds: float
    curve: Sequence[tuple[float, float, int, float, float, float]]
    training: str
    parameters: int


def write_card(measured: Measured, model_id: str, created: str) -> str:
    """The card as Markdown."""
    rows = "\n".join(
        f"| {name} | {_group(cls)} | {count} | {measured.objects[cls]} | {measured.precisions[cls]:.3f} |"
        for cls, (name, count) in enumerate(zip(NAMES, measured.counts, strict=True))
    )
    bins = "\n".join(
        f"| {low:.2f} - {high:.2f} | {count} | {mean:.3f} | {fixed:.3f} | {right:.3f} |"
        for low, high, count, mean, fixed, right in measured.curve
    )
    return f"""# {model_id}

A YOLO26n for the rendered street of `agent/world`, so that a newcomer, a test or a benchmark has a real detector
without a network. It knows nothing of real streets.
Written by `python -m agent.export.train_world` at {created}.

- Architecture: Ultralytics `yolo26n.yaml`, {len(NAMES)} classes, {measured.parameters:,} weights
  (BatchNorm folded, one-to-one head only); input 320 x 192, output end to end [1, 300, 6].
- Weights: from scratch, rounded to 8 bits and a sign per output channel, stored as FP32.
- Training: {measured.frames} frames of {measured.streets} streets, independent moments of all hours and weathers.
  {measured.training}
- Long-tailed on purpose: the frequency of the classes follows a Zipf-Mandelbrot law, and the tail is what the
  selection is there to find.
- Licence: AGPL-3.0, see `LICENCE`.

## Average precision on held-out streets

{measured.held_out_frames} frames of {measured.held_out_streets} streets that were not trained on, IoU 0.5, full
precision-recall curve (101 points). Objects less than a quarter visible count neither way.

| mAP50 | |
|---|---|
| head | **{measured.head:.3f}** |
| tail | **{measured.tail:.3f}** |
| all classes | {measured.overall:.3f} |

| class | group | training objects | held-out objects | AP50 |
|---|---|---|---|---|
{rows}

## Calibration

The odds of a confidence are multiplied by **{measured.odds:.2f}** (fitted on streets in neither set). Measured on the
held-out streets, all classes, every row from 0.02 up:

| confidence | rows | mean | repaired | right |
|---|---|---|---|---|
{bins}
"""


def _group(cls: int) -> str:
    return "head" if cls in HEAD else "tail" if cls in TAIL else "middle"
