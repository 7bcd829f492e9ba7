"""The way of a candidate into a version: through a person's label in the store, and no other.

Nothing that the index says is believed: the label is read from its file, which carries its own hash, and must be the
one that stands; the picture must be the one that was labelled, and the one that the device sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.collector import TRUTH, LabelStore, Revision, image_path, read_label, read_meta
from agent.collector.revisions import standing
from agent.dataset.looks import Objects, look
from agent.dataset.versions.draft import Draft, file_hash
from agent.dataset.versions.record import Left, Sample, count, label_text
from agent.errors import FrameError, ItemError, LabelError
from agent.records import Meta, content_id

_COLUMNS = "c.cid, c.sha256, c.lane, c.label, look"


@dataclass(slots=True)
class Verified:
    """Candidates with a person's word, for versions with the classes `names`.

    `until`: labels that the store took later do not count (RFC 3339); "" for all. What cannot be taken is in `refused`
    with the reason, and what a person does not want to be learned from in `taken_back`.
    """

    store: LabelStore
    names: Sequence[str]
    until: str = ""
    refused: list[Left] = field(default_factory=list)
    taken_back: dict[str, str] = field(default_factory=dict)
    latest: str = ""
    """When the store took the newest label of those in the drafts."""

    def drafts(self) -> Iterator[Draft]:
        """Those that may be learned from or evaluated on, by id."""
        models = self.store.models()
        rows = list(self.store.rows(_COLUMNS, "c.label NOT IN ('unlabelled', 'exported') ORDER BY c.cid"))
        fresh: list[tuple[str, bytes, str | None]] = []
        for row in rows:
            try:
                draft = self._draft(row, models)
            except (ItemError, LabelError, FrameError, OSError) as error:
                self.refused.append(Left(key=row["cid"], why=str(error)))
                continue
            if draft is not None:
                if row["look"] is None:
                    fresh.append((row["cid"], draft.look, None))
                yield draft
        self.store.keep_looks(fresh)

    def _draft(self, row: dict[str, Any], models: set[str]) -> Draft | None:
        """None for what people do not want to be learned from. Raises ItemError or LabelError for what must not be."""
        cid = row["cid"]
        everything = self._said(cid)
        said = [revision for revision in everything if not self.until or revision.taken <= self.until]
        now = standing(said)
        if now.state not in TRUTH or now.revision is None:
            if now.state not in ("unlabelled", "exported"):
                who = ", ".join(sorted({revision.who for revision in said}))
                self.taken_back[cid] = f"{now.state}, said by {who}"
            if row["label"] in TRUTH and said == everything:
                raise LabelError(f"{cid}: the index says {row['label']}, its label files say {now.state}")
            return None
        revision = next(each for each in said if each.revision == now.revision)
        self.latest = max(self.latest, *(each.taken for each in said))
        meta = self._meta(cid, row)
        self._check_word(revision, row, models)
        return self._sealed(revision, meta, row)

    def _said(self, cid: str) -> list[Revision]:
        """Every word on a candidate, from the files. Raises ItemError where one is damaged or not the row's."""
        found = []
        for row in self.store.label_rows(cid):
            revision = read_label(self.store.folder, cid, row["revision"])
            if revision.sha256 != row["sha256"]:
                raise ItemError(
                    f"{cid}: label {revision.revision} is not the one that was taken", remedy="import again"
                )
            found.append(revision)
        return found

    def _meta(self, cid: str, row: dict[str, Any]) -> Meta:
        meta = read_meta(self.store.folder, cid)
        if meta is None:
            raise ItemError(f"{cid}: its metadata is gone", remedy="restore the store")
        if content_id(meta.device, meta.ts_ns, row["sha256"]) != cid or meta.lane != row["lane"]:
            raise ItemError(f"{cid}: its metadata was changed after it arrived", remedy="restore the store")
        return meta

    def _check_word(self, revision: Revision, row: dict[str, Any], models: set[str]) -> None:
        if revision.image != row["sha256"]:
            raise LabelError(f"{revision.cid}: labelled on another picture", remedy="label the stored one")
        for name in (revision.who, revision.tool):
            if not name.strip() or name.strip().casefold() in models:
                raise LabelError(
                    f"{revision.cid}: said by {name!r}, which is nobody", remedy="have a person look at it"
                )
        for box in revision.boxes:
            if box.name not in self.names:
                what = f"{revision.cid}: class {box.name!r} is not one of the version's"
                raise LabelError(what, remedy="add it with --add-class, if all samples were labelled for it")

    def _sealed(self, revision: Revision, meta: Meta, row: dict[str, Any]) -> Draft:
        picture = self.store.folder / image_path(revision.cid)
        if file_hash(picture) != row["sha256"]:
            raise ItemError(f"{revision.cid}: its picture was changed after it arrived", remedy="restore the store")
        objects = relative(revision)
        label = label_text(objects, self.names)
        sample = Sample(
            image="",
            sha256=row["sha256"],
            label_sha256=hashlib.sha256(label).hexdigest(),
            split="eval" if meta.lane == "canary" else "train",
            source="candidate",
            group="",
            counts=count(objects),
            cid=revision.cid,
            device=meta.device,
            camera=meta.camera,
            ts=meta.ts,
            lane=meta.lane,
            probability=meta.probability,
            model=meta.model.id,
            revision=revision.revision,
            revision_sha256=revision.sha256,
            verdict=revision.verdict,
            who=revision.who,
            when=revision.when,
            tool=revision.tool,
        )
        wish = sample.split if meta.lane == "canary" else None
        return Draft(sample, picture, label, row["look"] or look(picture), wish=wish)


def relative(revision: Revision) -> Objects:
    """The label's objects relative to the picture: none where a person says that nothing is there."""
    if revision.verdict != "useful":
        return ()
    width, height = revision.width, revision.height
    boxes = ((box.name, box.xyxy) for box in revision.boxes)
    return [(name, (x1 / width, y1 / height, x2 / width, y2 / height)) for name, (x1, y1, x2, y2) in boxes]
