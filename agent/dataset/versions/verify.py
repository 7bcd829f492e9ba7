"""``dataset verify``: that a version is what it was when it was built, and that no prediction is in it.

Everything is told again from the files: hashes, splits, groups, numbers. With the store, each candidate's label is
compared with the person's own word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from agent.collector import LabelStore, read_label
from agent.dataset.records import Problem
from agent.dataset.versions.draft import file_hash
from agent.dataset.versions.record import (
    SPLITS,
    Sample,
    Version,
    content_hash,
    count,
    label_text,
    parse_label,
    tallies,
)
from agent.dataset.versions.verified import relative
from agent.errors import ItemError, LabelError

_AGAIN = "restore the version, or build it again"
_WORD = "only a person's label in the store makes a candidate a sample"


def verify(version: Version, store: LabelStore | None = None) -> list[Problem]:
    """Everything that is wrong with a version; empty where it is proved. Raises VersionError, OSError."""
    problems = [*check_files(version), *_unknown_files(version)]
    return [*problems, *check_store(version, store)] if store is not None else problems


def check_files(version: Version) -> list[Problem]:
    """Hashes of everything, what each sample says of itself, sides, numbers."""
    card, folder = version.card, version.folder
    found: list[Problem] = []
    if content_hash(folder) != card.content or not folder.name.endswith(card.content[:8]):
        found.append(Problem(str(folder), "provenance, looks or data.yaml were changed after it was built", _AGAIN))
    models = {sample.model.casefold() for sample in version.samples if sample.model}
    for sample in version.samples:
        found += (Problem(str(folder / sample.image), what, remedy) for what, remedy in _wrong(version, sample, models))
    found += _sides(version)
    try:
        numbers = tallies(version.samples, version.names)
    except KeyError as error:
        return [*found, Problem(str(folder), f"objects of class {error} that the card does not know", _AGAIN)]
    if any(getattr(card, key) != value for key, value in numbers.items()):
        found.append(Problem(str(folder), "the card's numbers are not those of the samples", _AGAIN))
    return found


def _wrong(version: Version, sample: Sample, models: set[str]) -> Iterator[tuple[str, str]]:
    yield from _changed(version, sample)
    if sample.image.split("/")[:2] != ["images", sample.split] or ".." in sample.image:
        yield f"a {sample.split} sample in {sample.image}", _AGAIN
    if sample.source == "synthetic" and sample.split != "train":
        yield "a synthetic sample that models would be judged by", _AGAIN
    if sample.source == "candidate":
        yield from _unworded(sample, models)
    elif sample.cid is not None or sample.split == "eval":
        yield f"a {sample.source} sample where only candidates are", _WORD
    elif not sample.origin:
        yield "nobody knows where it comes from", "only declared folders and labelled candidates are learned from"


def _changed(version: Version, sample: Sample) -> Iterator[tuple[str, str]]:
    try:
        if file_hash(version.folder / sample.image) != sample.sha256:
            yield "the picture was changed after the version was built", _AGAIN
        content = (version.folder / sample.label).read_bytes()
        if hashlib.sha256(content).hexdigest() != sample.label_sha256:
            yield "its label was changed after the version was built", "change labels in the store, and build again"
        elif count(parse_label(content, version.names, sample.label)) != sample.counts:
            yield "its label is not what the provenance counts", _AGAIN
    except LabelError as error:
        yield error.what, error.remedy
    except OSError as error:
        yield f"{error.strerror}: {error.filename}", _AGAIN


def _unworded(sample: Sample, models: set[str]) -> Iterator[tuple[str, str]]:
    if (
        not sample.cid
        or not sample.revision
        or not sample.revision_sha256
        or sample.verdict not in ("useful", "nothing")
    ):
        yield "a candidate without a person's verdict", _WORD
    for name in (sample.who, sample.tool):
        if not (name or "").strip() or (name or "").strip().casefold() in models:
            yield f"said by {name!r}, which is nobody", _WORD
    if (sample.lane == "canary") != (sample.split == "eval"):
        yield f"a sample of lane {sample.lane} in {sample.split}: canary draws are never trained on", _AGAIN


def _sides(version: Version) -> Iterator[Problem]:
    """Near-duplicates on both sides; more synthetic samples than the cap."""
    sides: dict[str, set[bool]] = {}
    for sample in version.samples:
        sides.setdefault(sample.group, set()).add(sample.split == "train")
    where = str(version.folder)
    for group, both in sides.items():
        if len(both) == 2:
            yield Problem(where, f"near-duplicates of group {group} in train and in val or eval", _AGAIN)
    if len({sample.key for sample in version.samples}) != len(version.samples):
        yield Problem(where, "a sample twice", _AGAIN)
    train = [sample for sample in version.samples if sample.split == "train"]
    synthetic = sum(sample.source == "synthetic" for sample in train)
    if synthetic > version.card.synthetic_cap * len(train) + 1e-9:
        yield Problem(where, f"{synthetic} synthetic of {len(train)} samples in train, above the cap", _AGAIN)


def _unknown_files(version: Version) -> Iterator[Problem]:
    """Files beside the samples: a trainer would read them."""
    known = {sample.image for sample in version.samples} | {sample.label for sample in version.samples}
    for kind in ("images", "labels"):
        for path in sorted((version.folder / kind).rglob("*")):
            name = path.relative_to(version.folder).as_posix()
            if path.is_dir() and name in {f"{kind}/{split}" for split in SPLITS}:
                continue
            if path.suffix == ".cache":
                yield Problem(str(path), "a trainer's own copy of the labels, which nobody can verify", "delete it")
            elif name not in known:
                yield Problem(str(path), "no sample of this version", "delete it: labels come in through the store")


def check_store(version: Version, store: LabelStore, *, declared: bool = False) -> list[Problem]:
    """Whether each candidate's label is, to the letter, what a person said in this store.

    Candidates of other stores came with a version that somebody declared: their samples name it, or the whole version
    is `declared` so now. A picture of this store is never one of those.
    """
    known = store.candidates([sample.cid for sample in version.samples if sample.cid])
    ours = store.having([sample.sha256 for sample in version.samples if sample.cid not in known])
    found = []
    for sample in version.samples:
        where = str(version.folder / sample.image)
        if sample.cid in known:
            found += [Problem(where, what, _WORD) for what in _unsaid(version, sample, store)]
        elif sample.sha256 in ours:
            found.append(Problem(where, f"candidate {ours[sample.sha256]} under another name", _WORD))
        elif sample.cid and not (declared or sample.origin):
            found.append(Problem(where, "a candidate that this store does not have", _WORD))
    return found


def _unsaid(version: Version, sample: Sample, store: LabelStore) -> Iterator[str]:
    """What a sample says that the person did not."""
    try:
        word = read_label(store.folder, sample.cid or "", sample.revision or 0)
    except ItemError as error:
        yield error.what
        return
    text = label_text(relative(word), version.names)
    if word.sha256 != sample.revision_sha256 or hashlib.sha256(text).hexdigest() != sample.label_sha256:
        yield f"its label is not what {word.who} said"
    if (word.image, word.who, word.verdict) != (sample.sha256, sample.who, sample.verdict):
        yield "its provenance is not its label's"
