"""The whole of selection: frames and their rows in, candidates out.

    moves      something has moved, and the model must look                 (every frame)
    pass_over  nothing has: counted, and that is all                        (every frame)
    consider   gate -> canary draw, rules -> evidence -> open window        (every other frame)
    due        what windows that ended, rules and commands have picked      (after every frame)
    charge     a candidate is safe in the spool: only now it costs

Nothing here knows the time, a file or the network, and cameras do not influence each other: the same frames with
the same seed give the same picks, live or replayed, however the cameras interleave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.records import LANES, Candidate, Frame, Rows, Vector
from agent.selection.camera import Camera, Model
from agent.selection.scores import Floats, class_weights
from agent.selection.window import Encode
from agent.settings import SelectionSettings


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
        embedding: int = 0,
        encode: Encode | None = None,
    ) -> None:
        """`serve` and `floor` are confidences; `counts` are labelled objects per class in training, None when
        unknown (then what the cameras see is counted instead); `odds` repairs confidence; `state` is what `state()`
        gave before a restart; `cameras` share the daily limits (those not named join as they come); `embedding` is the
        length of the vector per frame that comes with the rows, 0 without one; `encode` makes what is stored of a frame
        that waits for its window's end, which keeps its pixels without it.
        """
        self._policy, self._seed, self._counts, self._encode = policy, seed, counts, encode
        self._model = Model(tuple(classes), serve, floor, odds, embedding)
        self._need: dict[str, float] = {}
        kept = state or {}
        live = list(kept.get("live", ()))
        self._live = np.array(live if len(live) == len(classes) else [0.0] * len(classes))
        self._weights = self._weigh_classes()
        self._kept: dict[str, Any] = dict(kept.get("cameras", {}))
        self._cameras: dict[str, Camera] = {}
        self._names = list(cameras)
        self._ready: list[Candidate] = []

    def consider(self, frame: Frame, rows: Rows, embedding: Vector | None = None) -> None:
        """Take one frame into account; what it leads to is fetched with `due`."""
        if self._counts is None:
            self._count(rows)
        self._ready += self._camera(frame.camera).consider(frame, rows, embedding, self._weights)

    def moves(self, frame: Frame) -> bool:
        """Whether something has moved since the model last looked. Ask once for each frame, in their order.

        The answer does not wait for what selection makes of the frames before: they may still be in the model.
        """
        return self._camera(frame.camera).moves(frame)

    def pass_over(self, frame: Frame) -> bool:
        """Take one frame into account without rows, where nothing `moves`.

        False where rows are needed: then `consider` it.
        """
        picked = self._camera(frame.camera).pass_over(frame)
        self._ready += picked or []
        return picked is not None

    def due(self) -> list[Candidate]:
        """What has been picked since the last call, in the order of picking."""
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> list[Candidate]:
        """End all open windows early (shutdown, new configuration): they get their share pro rata."""
        for camera in self._cameras.values():
            self._ready += camera.end()
        return self.due()

    def charge(self, candidate: Candidate, bytes_stored: int) -> None:
        """The candidate is safe in the spool: it counts against the budgets."""
        labels = int((candidate.rows[:, 4] >= self._model.serve).sum())
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
            camera.adopt(policy, len(self._names))

    def keep_as(self, encode: Encode) -> None:
        """Go on with pictures made otherwise; call `close` first, frames that still wait are forgotten.

        What was made before may show what must not be shown any more.
        """
        self._encode = encode
        for camera in self._cameras.values():
            camera.keep_as(encode)

    def state(self) -> dict[str, Any]:
        """What must survive a restart: JSON-able, a few kB per camera."""
        cameras = self._kept | {name: camera.state() for name, camera in self._cameras.items()}
        return {"cameras": cameras, "live": [round(float(n), 3) for n in self._live]}

    def report(self) -> dict[str, Any]:
        """For stats: budget {lane: {spent, left}}, drift {camera: {measure: value}}, gated {camera: {gate: frames}}."""
        budgets = [camera.budget for camera in self._cameras.values()]
        lanes = {
            lane: {
                "spent": sum(budget.spent[lane] for budget in budgets),
                "left": round(sum(budget.balance.get(lane, 0.0) for budget in budgets), 3),
            }
            for lane in LANES
        }
        return {
            "budget": lanes,
            "drift": {name: camera.drift.measures() for name, camera in self._cameras.items()},
            "gated": {name: dict(camera.gates.stopped) for name, camera in self._cameras.items()},
        }

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            if name not in self._names:
                self._names.append(name)
            self._cameras[name] = Camera(
                self._policy,
                self._model,
                place=self._names.index(name),
                seed=self._seed,
                cameras=len(self._names),
                state=self._kept.get(name, {}),
                encode=self._encode,
            )
            for camera in self._cameras.values():
                camera.adopt(self._policy, len(self._names))
        return self._cameras[name]

    def _weigh_classes(self) -> Floats:
        counts = self._live if self._counts is None else np.asarray(self._counts, np.float64)
        return class_weights(counts, self._need, self._model.classes)

    def _count(self, rows: Rows) -> None:
        """Where training counts are unknown, what is served live stands in for them."""
        served = rows[np.isfinite(rows).all(axis=1) & (rows[:, 4] >= self._model.serve), 5].astype(np.intp)
        np.add.at(self._live, served[(served >= 0) & (served < len(self._live))], 1.0)
        self._weights = self._weigh_classes()
