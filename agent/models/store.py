"""The models a device keeps: bundles in folders that never change, and one durable pointer to the active one.

``<state_dir>/models/bundles/<counter>-<model_id>/`` holds a verified bundle; ``pointer.json`` says which one is active,
which one was before and stays on the disk, the highest counter ever activated, and the trial that is under way. The
pointer is the only thing that changes what runs, and it changes in one durable write: a power cut leaves the old model
active or the new one, both complete. No bundle active means the configured model, which nobody can take away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from agent import durable
from agent.bundle import MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, Manifest, read_bundle
from agent.errors import ModelError
from agent.models.drift import Pulse
from agent.records import Record

_LAYOUT = 1
STARTS_IN_TRIAL = 3
"""Starts of the agent within one trial: more is a crash loop, and the new model is its likeliest cause."""

Loaded = TypeVar("Loaded")


class Trial(Record):
    """A model that has been made active and has yet to prove itself."""

    key: str
    """Id of the command that activated it."""
    baseline: Pulse
    """What the model before had done until then."""
    starts: int = 0


class Outcome(Record):
    """How a trial ended, kept until the command that began it has been answered."""

    key: str
    reason: str = ""
    """Why the model was rolled back; empty where it stayed."""


class Pointer(Record):
    """Which bundle is active (None: the configured model), which was before, and what is going on."""

    active: str | None = None
    previous: str | None = None
    counter: int = -1
    """The highest counter that was ever active: a lower or equal one is refused for good."""
    trial: Trial | None = None
    outcomes: tuple[Outcome, ...] = Field(default=(), max_length=16)


class ModelStore:
    """The bundles under one folder and the pointer to the active one; threads may share it."""

    def __init__(self, folder: Path, configured: Path, *, trace: Callable[[str], None] = lambda _: None) -> None:
        """`folder`: ``<state_dir>/models``, made when it is first needed. `configured`: ``model.path`` of the settings.

        `trace` is told the name of each step that changes something on the disk.
        """
        self._folder = folder
        self._configured = configured
        self.trace = trace
        self._lock = threading.RLock()
        self._pointer = self._load()

    @property
    def pointer(self) -> Pointer:
        return self._pointer

    @property
    def active(self) -> Path:
        """Bundle folder, or bare ONNX, of the model that is to run."""
        return self._path(self._pointer.active)

    def open(self, load: Callable[[Path], Loaded]) -> Loaded:
        """Load the active model, falling back to the one before and to the configured one; called once at each start.

        Raises ModelError only where the configured model cannot be loaded either.
        """
        self._count_start()
        while True:
            path = self.active
            try:
                return load(path)
            except ModelError as error:
                if self._pointer.active is None:
                    raise
                self.roll_back(f"it cannot be loaded: {error.what}")

    def check_counter(self, manifest: Manifest) -> None:
        """Raise ModelError for a bundle that is not newer than every one that was ever active here."""
        highest = self._pointer.counter
        with contextlib.suppress(ModelError):
            configured = read_bundle(self._configured).manifest
            highest = max(highest, configured.counter if configured else -1)
        if manifest.counter <= highest:
            raise ModelError(
                f"counter {manifest.counter} of {manifest.model_id} is not above {highest}",
                remedy="a device never goes back to an older model; export and sign it with a higher counter",
            )

    def staging(self, sha256: str) -> Path:
        """Folder for the download of one model; what was left of others is deleted."""
        folder = self._folder / "staging" / sha256
        for other in _folders(folder.parent):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        durable.make_folder(folder)
        return folder

    def stage(self, staging: Path, manifest: bytes, signature: str) -> str:
        """Turn a download into a bundle of the store; returns its name. Raises ModelError, OSError.

        Everything is verified where it lies before the folder gets its final name.
        """
        durable.write(staging / MANIFEST_FILE, manifest)
        durable.write(staging / SIGNATURE_FILE, signature.encode())
        bundle = read_bundle(staging)
        if bundle.manifest is None:
            raise ModelError("the bundle has no manifest")
        self.trace("model.verified")
        name = bundle_name(bundle.manifest)
        final = self._folder / "bundles" / name
        with self._lock:
            if name in (self._pointer.active, self._pointer.previous):
                raise ModelError(f"bundle {name} is here already", remedy="give a new model a higher counter")
            if final.exists():
                shutil.rmtree(final)  # left by a roll-out that was cut before it was activated
            durable.make_folder(final.parent)
            os.rename(staging, final)
            durable.sync_folder(final.parent)
            durable.sync_folder(staging.parent)
        self.trace("model.staged")
        return name

    def bundle(self, name: str) -> Path:
        return self._folder / "bundles" / name

    def discard(self, name: str) -> None:
        """Delete a staged bundle that did not become active."""
        with self._lock:
            if name not in (self._pointer.active, self._pointer.previous):
                shutil.rmtree(self.bundle(name), ignore_errors=True)

    def activate(self, name: str, trial: Trial | None = None) -> None:
        """Make a staged bundle the active one, on trial until `settle` or `roll_back` where a trial is given."""
        manifest = read_bundle(self.bundle(name)).manifest
        counter = manifest.counter if manifest else -1
        with self._lock:
            before = self._pointer = self._load()
            previous = before.active if before.active != name else before.previous
            self._save(active=name, previous=previous, counter=max(before.counter, counter), trial=trial)
        self.trace("model.activated")

    def settle(self) -> None:
        """The trial went well: note it, and delete what is neither active nor the one before."""
        with self._lock:
            trial = self._pointer.trial
            if trial:
                self._save(trial=None, outcomes=self._outcomes(Outcome(key=trial.key)))
            self.trace("model.settled")
            kept = {self._pointer.active, self._pointer.previous}
            for folder in _folders(self._folder / "bundles"):
                if folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)

    def roll_back(self, reason: str, key: str | None = None) -> Path:
        """Make the model before the active one active again, from the file that was kept; returns where it is.

        `key`: id of the command that wants it. Raises ModelError where the configured model is active: none is before.
        """
        with self._lock:
            before = self._pointer = self._load()
            if before.active is None:
                raise ModelError("the configured model is active", remedy="there is nothing before it to go back to")
            ended = [Outcome(key=before.trial.key, reason=reason)] if before.trial else []
            ended += [Outcome(key=key)] if key else []
            previous = before.previous if before.previous and self._sound(before.previous) else None
            self._save(active=previous, previous=None, trial=None, outcomes=self._outcomes(*ended))
        self.trace("model.rolled back")
        return self.active

    def outcome(self, key: str) -> Outcome | None:
        """How the trial that the command `key` began has ended."""
        return next((outcome for outcome in self._pointer.outcomes if outcome.key == key), None)

    def listing(self) -> list[dict[str, Any]]:
        """The models that are there, one JSON-able row each; the configured one first."""
        rows = [_row(self._configured, "configured", self._pointer.active is None)]
        for folder in _folders(self._folder / "bundles"):
            role = "previous" if folder.name == self._pointer.previous else "kept"
            rows.append(_row(folder, role, folder.name == self._pointer.active))
        return rows

    def _path(self, name: str | None) -> Path:
        return self._configured if name is None else self.bundle(name)

    def _sound(self, name: str) -> bool:
        with contextlib.suppress(ModelError):
            read_bundle(self.bundle(name))
            return True
        return False

    def _count_start(self) -> None:
        with self._lock:
            trial = self._pointer.trial
            if trial and trial.starts >= STARTS_IN_TRIAL:
                self.roll_back(f"the agent started {trial.starts} times within its trial: a crash loop")
            elif trial:
                self._save(trial=trial.model_copy(update={"starts": trial.starts + 1}))
                self.trace("model.start counted")

    def _outcomes(self, *ended: Outcome) -> tuple[Outcome, ...]:
        return (*self._pointer.outcomes, *ended)[-16:]

    def _load(self) -> Pointer:
        state = durable.load_state(self._folder / "pointer.json", _LAYOUT)
        with contextlib.suppress(ValueError):
            return Pointer.model_validate(state or {})
        return Pointer()

    def _save(self, **changes: Any) -> None:
        pointer = self._pointer.model_copy(update=changes)
        durable.make_folder(self._folder)
        durable.save_state(self._folder / "pointer.json", _LAYOUT, pointer.model_dump(mode="json"))
        self._pointer = pointer
        self.trace("model.pointer saved")


def bundle_name(manifest: Manifest) -> str:
    """Name of a bundle's folder in the store: counters are never used twice."""
    return f"{manifest.counter}-{manifest.model_id}"


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _row(path: Path, role: str, active: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"path": str(path), "role": "active" if active else role}
    try:
        bundle = read_bundle(path)
    except ModelError as error:
        return {**row, "error": str(error)}
    manifest = bundle.manifest
    facts = {"model_id": bundle.model_id, "counter": manifest.counter if manifest else None, "sha256": bundle.sha256}
    return {**row, **facts, "bytes": len(bundle.onnx), "signed": (path / SIGNATURE_FILE).is_file(), "file": MODEL_FILE}
