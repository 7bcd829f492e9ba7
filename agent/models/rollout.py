"""A model roll-out on a device: downloading, verified, staged, warmed, active; rolled back when it proves unfit.

Every step can be cut by a power failure. Before the pointer changes, the same command simply starts again and finds the
blocks it has; after it, the trial is taken up where it was. A model that fails leaves the one before running.
"""

from __future__ import annotations

import base64
import binascii
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from agent.bundle import MANIFEST_LIMIT, Manifest, parse_manifest
from agent.clock import Clock
from agent.errors import ModelError, RetryError
from agent.models import signing
from agent.models.download import HTTP_BLOCK, MQTT_BLOCK, Download, Fetch, http_fetch
from agent.models.drift import MIN_FRAMES, Pulse, judge
from agent.models.store import ModelStore, Trial
from agent.wire import ModelUpdate

Step: TypeAlias = Literal["downloading", "verified", "staged", "warmed", "active", "rolled_back"]
Report: TypeAlias = Callable[[Step, float | None], None]
"""Told each step; with the share that is done, 0 to 1, while downloading and on trial."""

PATIENCE_S = 86_400.0
"""A download goes on for so long over a link that comes and goes."""
RETRY_MIN_S, RETRY_MAX_S = 1.0, 300.0
OVERTIME = 4
"""A trial ends after so many times its length even where cameras that rest gave too few frames to judge."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a roll-out needs from the running agent."""

    rehearse: Callable[[Path, Path], None]
    """(new, current): try the new model in a child process with limits; raises ModelError with the reason."""
    warm: Callable[[Path], Callable[[], None]]
    """Load and warm a model beside the running one; what it returns makes it the running one between two frames."""
    pulse: Callable[[], Pulse]
    """What the running model has done since it went live."""
    required_classes: Callable[[], Sequence[str]]
    """Class names that the present configuration speaks of: redaction by a model without them would stop all frames."""


class Rollout:
    """Carries out one model update at a time; `run` blocks, `roll_back` may be called from another thread."""

    def __init__(
        self,
        store: ModelStore,
        runtime: Runtime,
        *,
        trusted_keys: Sequence[str],
        trial_s: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._trusted = trusted_keys
        self._trial_s = trial_s
        self._clock = clock
        self._rng = rng
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._bringing_up = False
        self._cancel = threading.Event()
        self._wake = threading.Event()

    def run(self, key: str, update: ModelUpdate, fetch_block: Fetch, report: Report) -> dict[str, object]:
        """Carry the update out, or on; `key` is the id of its command. Returns the result for the operator.

        `fetch_block` is used where the update names a stream and no URL. Raises ModelError with the reason when the old
        model is the one that runs, and RetryError when the agent stops meanwhile.
        """
        trial = self._store.pointer.trial
        if self._store.outcome(key) is None:
            if not (trial and trial.key == key):
                self._bring_up(key, update, fetch_block, report)
            report("active", None)
            self._watch(report)
        outcome = self._store.outcome(key)
        if outcome and outcome.reason:
            report("rolled_back", None)
            raise ModelError(f"rolled back: {outcome.reason}")
        return {"model_id": update.model_id, "active": self._store.active.name}

    def recall(self, key: str) -> dict[str, object]:
        """Operator's word: give up an update that is not active yet, else go back to the model before.

        `key` is the id of the command, which is carried out once. Raises ModelError where there is no model before.
        """
        with self._lock:
            if self._bringing_up:
                self._cancel.set()
                self._wake.set()
                return {"cancelled": True, "active": self._store.active.name}
            if self._store.outcome(key) is None:
                self._back("the operator's word", key)
            self._wake.set()
            return {"cancelled": False, "active": self._store.active.name}

    def close(self) -> None:
        """The agent ends: leave a roll-out as it is, to be taken up at the next start."""
        self._stop.set()
        self._wake.set()

    def _bring_up(self, key: str, update: ModelUpdate, fetch_block: Fetch, report: Report) -> None:
        self._cancel.clear()
        self._bringing_up = True
        try:
            name = self._fetch(update, fetch_block, report)
            report("staged", None)
            try:
                self._go_live(key, name, report)
            except ModelError:
                self._store.discard(name)
                raise
        except OSError as error:
            raise ModelError(f"the disk refuses the model: {error.strerror or error}") from None
        finally:
            self._bringing_up = False

    def _fetch(self, update: ModelUpdate, fetch_block: Fetch, report: Report) -> str:
        """Download, verify, stage; returns the bundle's name. What is not worth going on with is deleted."""
        text = _decode(update.manifest)
        manifest = self._verify(update, text)
        staging = self._store.staging(manifest.sha256)
        try:
            self._download(staging, update, fetch_block, report)
            name = self._store.stage(staging, text, update.signature)
        except ModelError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        report("verified", None)
        return name

    def _go_live(self, key: str, name: str, report: Report) -> None:
        path = self._store.bundle(name)
        self._runtime.rehearse(path, self._store.active)
        switch = self._runtime.warm(path)
        report("warmed", None)
        with self._lock:
            self._refuse_when_cancelled()
            self._store.activate(name, Trial(key=key, baseline=self._runtime.pulse()))
            self._bringing_up = False
        try:
            switch()
        except Exception as error:  # noqa: BLE001 - whatever it was, the old model runs and has to be the active one
            self._store.roll_back(f"it could not be switched to: {error}")

    def _refuse_when_cancelled(self) -> None:
        if self._cancel.is_set():
            raise ModelError("given up by the operator's word before it was active")
        if self._stop.is_set():
            raise RetryError("the agent stops; the update goes on at its next start")

    def _verify(self, update: ModelUpdate, text: bytes) -> Manifest:
        """Everything that can be refused before the first byte is fetched."""
        signing.verify(text, update.signature, self._trusted)
        manifest = parse_manifest(text, "manifest")
        if (manifest.model_id, manifest.size, manifest.sha256) != (update.model_id, update.size, update.sha256):
            raise ModelError("the command announces another model than the manifest", remedy="send both of one bundle")
        self._store.check_counter(manifest)
        missing = [name for name in self._runtime.required_classes() if name not in manifest.classes]
        if missing:
            raise ModelError(
                f"the model has no class {missing[0]!r}, which this device's configuration needs",
                remedy="change the configuration first, or train the class",
            )
        return manifest

    def _download(self, staging: Path, update: ModelUpdate, fetch_block: Fetch, report: Report) -> None:
        fetch, block = (http_fetch(update.url), HTTP_BLOCK) if update.url else (fetch_block, MQTT_BLOCK)
        download = Download(staging, update.size, update.sha256, block, self._store.trace)
        deadline = self._clock.mono_ns() + int(PATIENCE_S * 1e9)
        delay = RETRY_MIN_S

        def fetch_unless_cancelled(offset: int, length: int) -> bytes:
            self._refuse_when_cancelled()
            return fetch(offset, length)

        while True:
            done = download.progress
            report("downloading", done)
            try:
                return download.run(fetch_unless_cancelled, lambda share: report("downloading", share))
            except RetryError as error:
                self._refuse_when_cancelled()
                if self._clock.mono_ns() > deadline:
                    raise ModelError(f"no download within {PATIENCE_S / 3600:.0f} h: {error}") from None
            delay = RETRY_MIN_S if download.progress > done else min(delay * 2, RETRY_MAX_S)
            self._pause(delay * self._rng.uniform(0.5, 1))

    def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until somebody wants something."""
        self._wake.wait(seconds)
        self._wake.clear()

    def _watch(self, report: Report) -> None:
        """The drift window: compare with the model before until the trial is over, one way or the other."""
        began = self._clock.mono_ns()
        while trial := self._store.pointer.trial:
            if self._stop.is_set():
                raise RetryError("the agent stops; the trial goes on at its next start")
            pulse = self._runtime.pulse()
            share = (self._clock.mono_ns() - began) / 1e9 / self._trial_s
            reason = judge(trial.baseline, pulse)
            with self._lock:
                if self._store.pointer.trial is None:
                    break  # recalled meanwhile
                if reason:
                    self._back(reason)
                elif share >= (1 if pulse.frames >= MIN_FRAMES else OVERTIME):
                    self._store.settle()
            report("active", min(share, 1.0))
            self._pause(min(1.0, self._trial_s / 20))

    def _back(self, reason: str, key: str | None = None) -> None:
        self._runtime.warm(self._store.roll_back(reason, key))()


def _decode(text: str) -> bytes:
    try:
        manifest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ModelError("the manifest is not base64", remedy="send its exact bytes, base64") from None
    if len(manifest) > MANIFEST_LIMIT:
        raise ModelError(f"a manifest of {len(manifest)} bytes", remedy=f"at most {MANIFEST_LIMIT}")
    return manifest
