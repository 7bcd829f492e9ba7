"""A person who fills in review.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from tests.labelling.work import WORDS, Answer


def fill(folder: Path, answers: Mapping[str, Answer]) -> None:
    """A verdict for each answer that has one, and "nothing there" for empty frames."""
    with (folder / "review.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "review.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ("image", "verdict"))
        table.writeheader()
        for row in rows:
            given = answers.get(Path(row["image"]).stem)
            word = "" if given is None else given.verdict or ("" if given.boxes else "nothing")
            table.writerow({"image": row["image"], "verdict": WORDS.get(word, word)})
