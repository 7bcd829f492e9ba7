"""What a version's files say: samples with their provenance, the card, and the hash over all of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from agent.dataset.formats.ultralytics import line
from agent.dataset.looks import ACROSS, DOWN, Objects
from agent.errors import ConfigError, LabelError, VersionError
from agent.records import Record
from agent.wire import first_error

Split = Literal["train", "val", "eval"]
SPLITS: tuple[Split, ...] = ("train", "val", "eval")
Source = Literal["base", "candidate", "synthetic"]
PROVENANCE, LOOKS, CARD, SHEET, CARD_TEXT = "provenance.jsonl", "looks.bin", "card.json", "data.yaml", "card.md"
LOOK_BYTES = ACROSS * DOWN
Counts: TypeAlias = dict[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its label in a version: a line of provenance.jsonl, without the keys that are None."""

    image: str
    """Relative to the version; the label is beside it, under labels/."""
    sha256: str
    """Of the picture."""
    label_sha256: str
    """Of the label file."""
    split: Split
    source: Source
    group: str
    """Near-duplicates share it, and are all on one side: train, or val and eval."""
    counts: Counts
    """Objects by class."""
    origin: str | None = None
    """Base and synthetic: folder and file. Candidates of another store: the version that brought them, declared."""
    cid: str | None = None
    """Candidates: from here on, from the sensor to the label."""
    device: str | None = None
    camera: str | None = None
    ts: str | None = None
    lane: str | None = None
    probability: float | None = None
    model: str | None = None
    revision: int | None = None
    revision_sha256: str | None = None
    verdict: str | None = None
    who: str | None = None
    when: str | None = None
    tool: str | None = None

    @property
    def key(self) -> str:
        """What makes it the same sample in another version: the candidate, or the picture."""
        return self.cid or self.sha256

    @property
    def label(self) -> str:
        return label_file(self.image)

    def encode(self) -> bytes:
        """Its line in provenance.jsonl."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps({k: v for k, v in held.items() if v is not None}, ensure_ascii=False).encode() + b"\n"


_SAMPLE = TypeAdapter(Sample)


class Origin(Record):
    """A version or a folder that a version was made of."""

    name: str
    path: str
    content: str
    """Hash of everything that was taken from it."""
    declared_by: str | None = None
    """Who says that these are real pictures with people's labels (base), or synthetic ones (synthetic)."""


class Left(Record):
    """A sample that is not in the version, or not where somebody might expect it, and why."""

    key: str
    why: str


class Card(Record):
    """card.json. `content` is the hash of provenance, looks and data.yaml, and so of every sample."""

    v: Literal[1] = 1
    version: str
    content: str
    created: str
    seed: int
    val_share: float
    synthetic_cap: float
    labels_until: str
    """Labels that came later are not in it."""
    add_classes: tuple[str, ...] = ()
    parent: Origin | None = None
    bases: tuple[Origin, ...] = ()
    synthetic: tuple[Origin, ...] = ()
    classes: dict[str, dict[str, int]]
    """Objects by class and split, in the order of the classes."""
    images: dict[str, dict[str, int]]
    """Pictures by split and source."""
    ratio: dict[str, float]
    """Shares of train and val: declared real, human-verified, self-labelled (always 0), synthetic."""
    withdrawn: tuple[Left, ...] = ()
    """In the parent, and taken back by a person's verdict."""
    relabelled: tuple[str, ...] = ()
    left_out: tuple[Left, ...] = ()
    moved: tuple[Left, ...] = ()
    """On another side than their folder said, because a near-duplicate is there."""
    tools: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A version as its files say; nothing is proved by reading it (`verify` does)."""

    folder: Path
    card: Card
    samples: tuple[Sample, ...]

    @property
    def names(self) -> list[str]:
        return list(self.card.classes)

    def looks(self) -> list[bytes]:
        """Per sample; raises VersionError where the file does not fit."""
        content = _read(self.folder / LOOKS)
        if len(content) != LOOK_BYTES * len(self.samples):
            raise _damaged(self.folder / LOOKS, "does not fit the samples")
        return [content[at : at + LOOK_BYTES] for at in range(0, len(content), LOOK_BYTES)]

    def objects(self, sample: Sample) -> Objects:
        """The sample's label: class names and boxes relative to the picture."""
        return parse_label(_read(self.folder / sample.label), self.names, str(self.folder / sample.label))


def read_version(folder: Path) -> Version:
    """A version's card and samples. ConfigError where the folder is none, VersionError where its files are damaged."""
    if not (folder / CARD).is_file():
        raise ConfigError(f"{folder}: no version of a data set", remedy="name a folder that `dataset build` made")
    try:
        card = Card.model_validate_json(_read(folder / CARD))
        samples = tuple(map(_SAMPLE.validate_json, _read(folder / PROVENANCE).splitlines()))
    except ValidationError as error:
        raise _damaged(folder, first_error(error)) from None
    return Version(folder, card, samples)


def versions(out: Path) -> list[Path]:
    """The versions in a folder of versions, oldest first."""
    return sorted(path for path in out.glob("v[0-9]*-*") if (path / CARD).is_file()) if out.is_dir() else []


def content_hash(folder: Path) -> str:
    """Over provenance, looks and data.yaml; the provenance has the hashes of pictures and labels."""
    digest = hashlib.sha256()
    for name in (PROVENANCE, LOOKS, SHEET):
        digest.update(f"{name} {hashlib.sha256(_read(folder / name)).hexdigest()}\n".encode())
    return digest.hexdigest()


def label_file(image: str) -> str:
    """The label beside an image: labels/ instead of images/, .txt instead of its suffix, as Ultralytics has it."""
    return f"labels/{Path(image).relative_to('images').with_suffix('.txt').as_posix()}"


def label_text(objects: Objects, names: Sequence[str]) -> bytes:
    """A label file: five columns a line, so no confidence."""
    return "".join(f"{line(names.index(name), box, 1, 1)}\n" for name, box in objects).encode("ascii")


def parse_label(content: bytes, names: Sequence[str], where: str) -> Objects:
    """The objects of a label file. Raises LabelError for anything that is not five columns of a training label."""
    objects = []
    for number, text in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        columns = text.split()
        if not columns:
            continue
        if len(columns) == 6:
            what, remedy = "a sixth column, a confidence: these are predictions", "have people label these pictures"
            raise LabelError(f"{where}, line {number}: {what}", remedy=remedy)
        objects.append(_object(columns, names, f"{where}, line {number}"))
    return objects


def _object(columns: Sequence[str], names: Sequence[str], where: str) -> tuple[str, tuple[float, float, float, float]]:
    remedy = "write class x y w h, relative to the picture"
    try:
        index, (x, y, w, h) = int(columns[0]), (float(value) for value in columns[1:])
    except ValueError:
        raise LabelError(f"{where}: not five numbers", remedy=remedy) from None
    if not 0 <= index < len(names):
        raise LabelError(f"{where}: class {index} of {len(names)}", remedy="name the class in data.yaml")
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < w <= 1 and 0 < h <= 1):
        raise LabelError(f"{where}: a box outside the picture", remedy=remedy)
    return names[index], (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def count(objects: Objects) -> Counts:
    """Objects by class, in alphabetical order."""
    return dict(sorted(Counter(name for name, _ in objects).items()))


def tallies(samples: Iterable[Sample], names: Sequence[str]) -> dict[str, Any]:
    """The card's numbers: classes, images, ratio."""
    classes = {name: dict.fromkeys(SPLITS, 0) for name in names}
    images: dict[str, Counts] = {split: {} for split in SPLITS}
    for sample in samples:
        images[sample.split][sample.source] = images[sample.split].get(sample.source, 0) + 1
        for name, objects in sample.counts.items():
            classes[name][sample.split] += objects
    return {"classes": classes, "images": images, "ratio": _ratio(images)}


def _ratio(images: dict[str, Counts]) -> dict[str, float]:
    learned = Counter[str]()
    for split in ("train", "val"):
        learned.update(images[split])
    whole = max(1, learned.total())
    shares = {"real": "base", "human_verified": "candidate", "self_labelled": "none", "synthetic": "synthetic"}
    return {name: round(learned[source] / whole, 4) for name, source in shares.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from None


def _damaged(path: Path, why: str) -> VersionError:
    return VersionError(f"{path}: {why}", remedy="restore the version, or build it again")
