"""What people said of a candidate, and what of it counts.

A revision is one person's word at one time, kept as a file that is never changed: ``labels/aa/<cid>.<n>.json``. It
names the picture that was labelled by its sha256 and carries a hash of its own, so an edit by hand shows.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from agent.errors import ItemError
from agent.records import Record, Verdict
from agent.selection.scores import overlap
from agent.wire import first_error

AGREE_IOU = 0.5
"""Boxes of two people mean the same object from this overlap on, as in the evaluation of detectors."""
LabelState = Literal["unlabelled", "exported", "labelled", "nothing", "duplicate", "junk", "partial", "conflict"]
LABEL_STATES: tuple[LabelState, ...] = (
    *("unlabelled", "exported", "labelled", "nothing", "duplicate", "junk", "partial", "conflict"),
)
TRUTH: frozenset[LabelState] = frozenset({"labelled", "nothing"})
"""States in which a candidate may be learned from."""


class Drawn(Record):
    """An object: x1 y1 x2 y2 in pixels of the stored image."""

    name: str = Field(min_length=1, max_length=200)
    xyxy: tuple[float, float, float, float]


class Revision(Record):
    """One person's word on one candidate."""

    v: Literal[1] = 1
    cid: str = Field(pattern=r"^[0-9a-f]{32}$")
    revision: int = Field(default=0, ge=0)
    """From 1 on, in order of arrival; 0 is not stored yet."""
    image: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the picture that was labelled."""
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    boxes: tuple[Drawn, ...]
    verdict: Verdict
    who: str = Field(min_length=1, max_length=200)
    when: str
    tool: str = Field(min_length=1, max_length=200)
    partial: bool = False
    settles: bool = False
    """Somebody decided that this one counts, whatever others said before."""
    taken: str = ""
    """When it was stored, RFC 3339."""

    def encode(self) -> bytes:
        """The file: the fields and the hash of them."""
        return json.dumps({**self.model_dump(mode="json"), "sha256": self.sha256}, ensure_ascii=False).encode()

    @property
    def sha256(self) -> str:
        """Of the fields, in one spelling."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def same_word(self, other: Revision) -> bool:
        """Whether it says nothing new: the same person, time, tool and content."""
        aside = {"revision": 0, "taken": "", "settles": False}
        return self.model_copy(update=aside) == other.model_copy(update=aside)

    def counts(self) -> Counter[str]:
        """Boxes by class name."""
        return Counter(box.name for box in self.boxes)


def decode_revision(content: bytes, where: str) -> Revision:
    """The revision in a file's content. Raises ItemError where it is none, or was changed after it was written."""
    try:
        document = json.loads(content)
        said = document.pop("sha256")
        revision = Revision.model_validate(document)
    except ValidationError as error:
        raise ItemError(f"{where}: {first_error(error)}", remedy="import the label again") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ItemError(f"{where} is not a label", remedy="import the label again") from None
    if said != revision.sha256 or set(document) != set(Revision.model_fields):
        raise ItemError(f"{where} was changed after it was stored", remedy="restore it, or import the label again")
    return revision


@dataclass(frozen=True, slots=True)
class Standing:
    """What a candidate's revisions come to; `revision` is the one that counts, where one does."""

    state: LabelState
    revision: int | None = None


def standing(revisions: Sequence[Revision]) -> Standing:
    """The last word of each person counts; a revision that settles makes earlier ones of others not count.

    Unfinished work and people who disagree stand in the way until the same person says more, or somebody settles it.
    """
    ordered = sorted(revisions, key=lambda each: each.revision)
    settled = max((i for i, each in enumerate(ordered) if each.settles), default=0)
    last: dict[str, Revision] = {}
    for each in ordered[settled:]:
        if each.who not in last or each.settles or each.when >= last[each.who].when:
            last[each.who] = each
    if not last:
        return Standing("unlabelled")
    newest = max(last.values(), key=lambda each: (each.when, each.revision))
    if any(each.partial for each in last.values()):
        return Standing("partial")
    if not all(agree(newest, each) for each in last.values() if each is not newest):
        return Standing("conflict")
    return Standing("labelled" if newest.verdict == "useful" else newest.verdict, newest.revision)


def agree(one: Revision, other: Revision) -> bool:
    """Whether two people say the same: verdict, and each box with one of the other's (same class, IoU .5)."""
    if one.verdict != other.verdict or one.counts() != other.counts():
        return False
    if not one.boxes:
        return True
    ious = overlap(*(np.array([box.xyxy for box in each.boxes], np.float64) for each in (one, other)))
    ious *= [[box.name == each.name for each in other.boxes] for box in one.boxes]
    for _ in one.boxes:  # the closest pair first, each box once
        mine, theirs = np.unravel_index(int(ious.argmax()), ious.shape)
        if ious[mine, theirs] < AGREE_IOU:
            return False
        ious[mine], ious[:, theirs] = -1, -1
    return True
