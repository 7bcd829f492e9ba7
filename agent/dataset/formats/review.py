"""review.csv: a person's verdict per image, for formats that have no place for one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from agent.dataset.formats.incoming import Author, Gathering, Known, candidate
from agent.dataset.formats.outgoing import REVIEW, REVIEW_COLUMNS
from agent.errors import LabelError


def verdicts(found: Gathering, known: Known, text: bytes) -> dict[str, str]:
    """What the table says, by candidate; empty verdicts are left out, wrong lines are problems. b"": no table."""
    said: dict[str, str] = {}
    with found.at(REVIEW):
        for number, (image, word) in _rows(text) if text else ():
            with found.at(f"{REVIEW}, line {number}"):
                task = candidate(known, image)
                if word and said.setdefault(task.cid, word) != word:
                    del said[task.cid]
                    raise LabelError(f"{image} has two verdicts", remedy="leave one of them")
    return said


def take_rest(found: Gathering, known: Known, said: Mapping[str, str], author: Author) -> None:
    """Add verdicts on images of which the tool's own files say nothing."""
    for cid, word in said.items():
        with found.at(f"{REVIEW}, {cid}"):
            found.take(candidate(known, cid), (), word, author)


def _rows(text: bytes) -> Iterator[tuple[int, tuple[str, str]]]:
    """Line number, image and verdict. Raises LabelError for what is no such table."""
    remedy = f"save it as UTF-8 CSV with the columns {','.join(REVIEW_COLUMNS)}"
    try:
        table = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True)
        if not set(REVIEW_COLUMNS) <= set(table.fieldnames or ()):
            raise LabelError(f"no columns {' and '.join(REVIEW_COLUMNS)}", remedy=remedy)
        for row in table:
            image, word = (row[column] or "" for column in REVIEW_COLUMNS)
            yield table.line_num, (image.strip(), word.strip().lower())
    except (ValueError, csv.Error) as error:
        raise LabelError(f"not a table: {error}", remedy=remedy) from None
