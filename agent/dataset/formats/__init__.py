"""Labelling tools: each has a `write` (tasks with pre-annotations out) and a `read` (people's labels back)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.dataset.formats import coco, cvat, label_studio, ultralytics
from agent.dataset.formats.incoming import Known
from agent.dataset.records import Labels, Task


class Write(Protocol):
    def __call__(self, tasks: Sequence[Task], folder: Path, classes: Sequence[str], *, url: str = "") -> None:
        """Write what the tool imports into `folder`; the same tasks give the same files.

        `url`: where the store's images folder is served, for tools that fetch images; "" puts them beside the tasks.
        Raises ConfigError for a tool that cannot do that, FrameError where an image is gone, OSError.
        """


class Read(Protocol):
    def __call__(self, path: Path, known: Known, *, who: str = "", when: str = "") -> Labels:
        """What people said, from what the tool exported; `who` and `when` for tools whose files do not say.

        Whatever is wrong in the file is a problem of the result. Raises ConfigError where there is no file, or where
        `who` or `when` is needed and missing.
        """


@dataclass(frozen=True, slots=True)
class Format:
    write: Write
    read: Read


FORMATS: dict[str, Format] = {
    "label-studio": Format(label_studio.write, label_studio.read),
    "cvat": Format(cvat.write, cvat.read),
    "coco": Format(coco.write, coco.read),
    "ultralytics": Format(ultralytics.write, ultralytics.read),
}
