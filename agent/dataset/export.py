"""A batch of candidates to a labelling tool: chosen, written, and only then remembered as exported.

A batch that was cut off is finished by the same command: the folder says what it was to hold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import durable
from agent.collector import LabelStore
from agent.dataset.formats import Format
from agent.dataset.tasks import Choice, choose, tasks_of
from agent.errors import ConfigError

BATCH_FILE = "tailkeeper.json"
"""In the folder of an export: {v, export, format, classes, url, tasks: [cid], evaluation: [cid]}; export is 0 until all
is written. `evaluation` names the canary draws: labelled like the others, and never trained on."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to."""

    number: int
    folder: Path
    tasks: int
    twins: int
    lanes: dict[str, int]
    unreadable: list[str]

    def document(self) -> dict[str, Any]:
        return {
            "export": self.number,
            "folder": self.folder,
            "tasks": self.tasks,
            "near_duplicates": self.twins,
            "lanes": self.lanes,
            "unreadable": self.unreadable,
        }


def export(
    store: LabelStore,
    tool: tuple[str, Format],
    folder: Path,
    choice: Choice,
    classes: Sequence[str],
    url: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write the next batch for `tool` (name and format) into `folder`, or finish the one that was begun there.

    Raises ConfigError where the folder holds something else, where there is nothing to export, OSError.
    """
    name, form = tool
    batch = _begun(folder, name)
    twins, unreadable = 0, list[str]()
    if batch is None:
        chosen = choose(store, choice, progress)
        twins, unreadable = len(chosen.twins), chosen.unreadable
        if chosen.cids:
            batch = {"v": 1, "export": 0, "format": name, "classes": list(classes), "url": url, "tasks": chosen.cids}
            _note(folder, batch)
    if batch is None:
        return Exported(0, folder, 0, twins, {}, unreadable)
    tasks = tasks_of(store.folder, batch["tasks"])
    form.write(tasks, folder, batch["classes"], url=batch["url"])
    number = store.remember_export(name, folder, batch["classes"], batch["tasks"])
    canary = [task.cid for task in tasks if task.lane == "canary"]
    _note(folder, {**batch, "export": number, "evaluation": canary})
    return Exported(number, folder, len(tasks), twins, dict(Counter(task.lane for task in tasks)), unreadable)


def _begun(folder: Path, name: str) -> dict[str, Any] | None:
    """The batch that a cut-off export left in `folder`; None where the folder is empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        batch: dict[str, Any] = json.loads((folder / BATCH_FILE).read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{folder}: not empty, and no export of ours", remedy="name a new folder") from None
    if batch.get("export") or batch.get("format") != name:
        what = f"holds export {batch['export']}" if batch.get("export") else f"a {batch.get('format')} export was begun"
        raise ConfigError(f"{folder}: {what}", remedy="name a new folder for each batch")
    return batch


def _note(folder: Path, batch: dict[str, Any]) -> None:
    durable.make_folder(folder)
    durable.write(folder / BATCH_FILE, json.dumps(batch, indent=1).encode())
