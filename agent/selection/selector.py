"""The whole of selection: frames and their rows in, candidates out, one set of small states per camera.

    consider   gate -> canary draw -> evidence -> open window        (every frame)
    due        what windows that ended, rules and commands have picked (after every frame)
    charge     a candidate is safe in the spool: only now it costs

Nothing here knows the time, a file or the network, and cameras do not influence each other: the same frames with
the same seed give the same picks, live or replayed, however the cameras interleave.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.records import Candidate, Frame, Rows
from agent.selection.budgets import RANKED, Budget
from agent.selection.coverage import Coverage, Look, signature
from agent.selection.gates import Gate, Gates, thumbnail
from agent.selection.scores import Evidence, Floats, class_weights, clean_rows, weigh
from agent.selection.window import Entry, Window
from agent.settings import SelectionSettings


class Camera:
    """What selection knows of one camera."""

    def __init__(
        self, name: str, place: int, policy: SelectionSettings, cameras: int, state: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.place = place
        """Among the device's cameras: a recording replayed under another name gives the same draws."""
        self.budget = Budget.restore(policy, cameras, state.get("budget", {}))
        self.gates = Gates()
        self.coverage = Coverage()
        self.window = Window(RANKED)
        self.frames: int = int(state.get("frames", 0))
        """Considered so far, over all restarts: the index of the canary draws."""
        self.last_t: float | None = None
        self.manual: tuple[str, ...] = ()
        """Why the next frame is wanted, whatever it shows."""

    def state(self) -> dict[str, Any]:
        return {"frames": self.frames, "budget": self.budget.state()}


class Selector:
    """Selection over all cameras of an agent."""

    def __init__(
        self,
        policy: SelectionSettings,
        *,
        serve: float,
        floor: float,
        classes: Sequence[str],
        counts: Sequence[int] | None,
        odds: float,
        seed: int,
        state: Mapping[str, Any] | None = None,
        cameras: Sequence[str] = (),
    ) -> None:
        """`serve` and `floor` are confidences; `counts` are labelled objects per class in training, None when
        unknown (then what the cameras see is counted instead); `odds` repairs confidence; `state` is what `state()`
        gave before a restart; `cameras` share the daily limits (those not named join as they come).
        """
        self._policy, self._serve, self._floor, self._odds, self._seed = policy, serve, floor, odds, seed
        self._classes, self._counts = tuple(classes), counts
        self._need: dict[str, float] = {}
        kept = state or {}
        live = list(kept.get("live", ()))
        self._live = np.array(live if len(live) == len(self._classes) else [0.0] * len(self._classes))
        self._weights = self._weigh_classes()
        self._kept: dict[str, Any] = dict(kept.get("cameras", {}))
        self._cameras: dict[str, Camera] = {}
        self._expected = list(cameras)
        self._ready: list[Candidate] = []

    def consider(self, frame: Frame, rows: Rows) -> None:
        """Take one frame into account; what it leads to is fetched with `due`."""
        camera = self._camera(frame.camera)
        seconds = None if camera.last_t is None else frame.t - camera.last_t
        camera.last_t = frame.t
        camera.budget.earn(seconds)
        camera.frames += 1
        rows = clean_rows(rows, self._floor, len(self._classes))
        thumb = thumbnail(frame.image)
        gate = camera.gates.judge(frame.image, thumb)
        evidence = self._evidence(frame, rows)
        look = Look(frame.t, signature(thumb), evidence)
        self._age(camera, frame.t)
        if not self._at_once(camera, frame, rows, look, gate) and gate is None:
            camera.window.offer(Entry(frame, rows, look, camera.coverage.still_open(look), {}, self._reasons(evidence)))
        camera.window.frames += 1
        if camera.window.frames >= self._policy.window_frames:
            self._end(camera)

    def due(self) -> list[Candidate]:
        """What has been picked since the last call, in the order of picking."""
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> list[Candidate]:
        """End all open windows early (shutdown, new configuration): they get their share pro rata."""
        for camera in self._cameras.values():
            self._end(camera)
        return self.due()

    def charge(self, candidate: Candidate, bytes_stored: int) -> None:
        """The candidate is safe in the spool: it counts against the budgets."""
        labels = int((candidate.rows[:, 4] >= self._serve).sum())
        self._camera(candidate.frame.camera).budget.charge(candidate.lane, bytes_stored, labels)

    def manual(self, camera: str, reason: str = "command") -> None:
        """A command asks for the camera's next frame, whatever it shows."""
        self._camera(camera).manual += (reason,)

    def need(self, weights: Mapping[str, float]) -> None:
        """The fleet's need map: weights by class name, 0..1, in place of those from training counts."""
        self._need = dict(weights)
        self._weights = self._weigh_classes()

    def reconfigure(self, policy: SelectionSettings) -> None:
        """Go on under another policy; call `close` first, open windows belong to the old one."""
        self._policy = policy
        for camera in self._cameras.values():
            camera.budget.adopt(policy, len(self._cameras))

    def state(self) -> dict[str, Any]:
        """What must survive a restart: JSON-able, a few hundred bytes per camera."""
        cameras = self._kept | {name: camera.state() for name, camera in self._cameras.items()}
        return {"cameras": cameras, "live": [round(float(n), 3) for n in self._live]}

    def report(self) -> dict[str, Any]:
        """For stats: `budget` {lane: {spent, left}}, `gated` {camera: {gate: frames}}."""
        budgets = [camera.budget for camera in self._cameras.values()]
        lanes = {
            lane: {
                "spent": sum(b.spent[lane] for b in budgets),
                "left": round(sum(b.balance.get(lane, 0.0) for b in budgets), 3),
            }
            for lane in (*RANKED, "canary", "rule", "manual")
        }
        gated = {name: dict(camera.gates.stopped) for name, camera in self._cameras.items()}
        return {"budget": lanes, "gated": gated, "drift": {}}

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            if name not in self._expected:
                self._expected.append(name)
            place = self._expected.index(name)
            self._cameras[name] = Camera(name, place, self._policy, len(self._expected), self._kept.get(name, {}))
            for camera in self._cameras.values():
                camera.budget.adopt(self._policy, len(self._expected))
        return self._cameras[name]

    def _evidence(self, frame: Frame, rows: Rows) -> Evidence:
        height, width = frame.image.shape[:2]
        if self._counts is None:
            np.add.at(self._live, rows[rows[:, 4] >= self._serve, 5].astype(np.intp), 1.0)
            self._weights = self._weigh_classes()
        return weigh(rows, width, height, serve=self._serve, odds=self._odds, weights=self._weights)

    def _weigh_classes(self) -> Floats:
        counts = self._live if self._counts is None else np.asarray(self._counts, np.float64)
        return class_weights(counts, self._need, self._classes)

    def _reasons(self, evidence: Evidence) -> tuple[str, ...]:
        if not len(evidence.classes):
            return ()
        rarest = self._classes[int(evidence.classes[int(evidence.tail.argmax())])]
        return (f"errors {evidence.eec:.2f}", f"rarest {rarest}")

    def _draw(self, camera: Camera) -> float:
        """Uniform in [0, 1): fixed by seed, the camera's place and the frame's number, whatever happened before."""
        text = f"{self._seed}|{camera.place}|{camera.frames}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2.0**56

    def _at_once(self, camera: Camera, frame: Frame, rows: Rows, look: Look, gate: Gate | None) -> bool:
        """Whether the frame is picked without waiting for its window's end: by command or by the canary draw."""
        chance = camera.budget.canary()
        drawn = self._draw(camera) < chance and (gate is None or self._policy.budget >= 1.0)
        reasons = self._reasons(look.evidence) + ((f"gate {gate}",) if gate else ())
        if camera.manual:
            reasons, camera.manual = (*camera.manual, *reasons), ()
            self._emit(camera, Candidate(frame, rows, "manual", look.evidence.eec, None, reasons), look)
        elif drawn:
            self._emit(camera, Candidate(frame, rows, "canary", look.evidence.eec, chance, reasons), look)
        else:
            return False
        return True

    def _emit(self, camera: Camera, candidate: Candidate, look: Look) -> None:
        self._ready.append(candidate)
        camera.coverage.add(look)
        camera.window.cover(look)

    def _age(self, camera: Camera, t: float) -> None:
        """End the window that has grown too old; one that starts in the future (time went back) starts again now."""
        start = camera.window.start
        if start is not None and t - start >= self._policy.window_s:
            self._end(camera)
            start = None
        if start is None or t < start:
            camera.window.start = t

    def _end(self, camera: Camera) -> None:
        """Spend what the budget allows on the window's best, richest lane first; without budget the best stay on."""
        budget, window = camera.budget, camera.window
        waiting = [candidate.lane for candidate in self._ready if candidate.frame.camera == camera.name]
        quota = budget.quota() - len(waiting)
        balance = {lane: budget.balance[lane] for lane in RANKED}
        for lane in waiting:
            if lane in balance:
                balance[lane] -= 1.0
        if quota < 1:
            window.frames = 0
            window.start = None
            return
        open_lanes = [lane for lane in RANKED if balance[lane] > 0]
        while quota > 0 and open_lanes:
            lane = max(open_lanes, key=lambda name: balance[name])
            picked = window.pick(lane)
            if picked is None:
                open_lanes.remove(lane)
                continue
            entry, gain = picked
            self._ready.append(Candidate(entry.frame, entry.rows, lane, gain, None, entry.reasons))
            camera.coverage.add(entry.look)
            quota, balance[lane] = quota - 1, balance[lane] - 1.0
            open_lanes = [name for name in open_lanes if balance[name] > 0]
        camera.window = Window(RANKED)
