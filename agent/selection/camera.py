"""Selection for one camera: what happens to a frame, and what is remembered of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.records import Candidate, Frame, Lane, Rows, Vector
from agent.selection.budgets import RANKED, Budget
from agent.selection.canary import uniform
from agent.selection.coverage import COLOURS, Coverage, Look, Scenes, embedded, palette, signature
from agent.selection.drift import Drift
from agent.selection.gates import Gate, Gates, thumbnail
from agent.selection.rules import Rules
from agent.selection.scores import Evidence, Floats, clean_rows, weigh
from agent.selection.still import Still
from agent.selection.temporal import events
from agent.selection.window import POOL_BYTES, Encode, Entry, Window
from agent.settings import SelectionSettings

_SENT = 128
"""How many of the latest picks are remembered by number, so that no context frame is sent twice."""

_UNMOVED = 64
"""More than there ever are frames between `moves` and `pass_over`."""


@dataclass(frozen=True, slots=True)
class Model:
    """What selection must know of the detector."""

    classes: tuple[str, ...]
    serve: float
    floor: float
    odds: float
    """Repairs confidence: see `scores.repair`."""
    embedding: int = 0
    """Length of the vector that it gives for a frame as a whole; 0 where it gives none."""


class Camera:
    """What selection knows of one camera."""

    def __init__(
        self,
        policy: SelectionSettings,
        model: Model,
        *,
        place: int,
        seed: int,
        cameras: int,
        state: Mapping[str, Any],
        encode: Encode | None,
    ) -> None:
        """`place` is the camera's among the device's: a recording replayed under another name gives the same draws.

        `cameras` share the daily limits; `state` is what `state()` gave before a restart; `encode` is the window's.
        """
        self._policy, self._model = policy, model
        self._salt = f"{seed}|{place}"
        self.budget = Budget.restore(policy, cameras, state.get("budget", {}))
        self.gates = Gates()
        self.drift = Drift.restore(len(model.classes), state.get("drift", {}))
        self.manual: tuple[str, ...] = ()
        """Why the next frame is wanted, whatever it shows."""
        self._rules = Rules(policy.rules, model.classes, model.serve, state.get("rules"))
        self._frames: int = int(state.get("frames", 0))
        self._last_t: float | None = None
        self._scenes = Scenes()
        self._coverage = Coverage(len(model.classes), model.embedding or COLOURS)
        self._still = Still()
        self._unmoved: deque[int] = deque(maxlen=_UNMOVED)
        self._window = Window(RANKED, encode)
        self._waiting: tuple[Evidence, Entry] | None = None
        self._recent: deque[Entry] = deque()
        self._context: tuple[str, int] = ("", 0)
        self._sent: deque[int] = deque(maxlen=_SENT)

    def consider(self, frame: Frame, rows: Rows, embedding: Vector | None, weights: Floats) -> list[Candidate]:
        """Take a frame into account; the candidates that this leads to. `weights` are those of the classes."""
        picked = self._count(frame)
        thumb = thumbnail(frame.image)
        gate = self.gates.judge(frame.image, thumb)
        entry = self._entry(frame, rows, thumb, weights, embedding)
        if gate is None:
            self.drift.add(entry.look.evidence, thumb, self._model.serve)
        picked += self._at_once(entry, gate)
        if gate is None:
            self._offer(entry)
        return picked + self._full(len(picked))

    def moves(self, frame: Frame) -> bool:
        """Whether the model must look at a frame: something has moved since it last did. Once for each, in their order.

        Rules and the temporal lane follow every frame.
        """
        every_frame = self._policy.still_s == 0 or self._policy.rules or self._policy.shares.temporal or self.manual
        if every_frame or not self._still.holds(frame.image, frame.t, self._policy.still_s):
            return True
        self._unmoved.append(frame.index)
        return False

    def pass_over(self, frame: Frame) -> list[Candidate] | None:
        """Take a frame into account in which nothing `moves`.

        None where the model must look: what moves, and canary draws. Their probability is only known when the frame is
        considered, and differs from this by far less than a factor of 2.
        """
        if frame.index not in self._unmoved:
            return None
        self._unmoved.remove(frame.index)
        if uniform(self._salt, self._frames + 1, "canary") < 2 * self.budget.canary(self.drift.canary):
            return None
        picked = self._count(frame)
        self.gates.judge(frame.image, thumbnail(frame.image))
        return picked + self._full(len(picked))

    def end(self) -> list[Candidate]:
        """End the window now: it gets its share pro rata."""
        return self._end(0)

    def adopt(self, policy: SelectionSettings, cameras: int) -> None:
        """Go on under another policy; call `end` first, the open window belongs to the old one."""
        if policy.rules != self._policy.rules:
            self._rules = Rules(policy.rules, self._model.classes, self._model.serve, self._rules.state())
        self._policy = policy
        self.budget.adopt(policy, cameras)

    def keep_as(self, encode: Encode) -> None:
        """Forget the frames that wait with a picture; those to come are kept as `encode` makes them."""
        self._window = Window(RANKED, encode)
        self._recent = deque(entry for entry in self._recent if entry.picture is None)

    def state(self) -> dict[str, Any]:
        """What must survive a restart."""
        return {
            "frames": self._frames,
            "budget": self.budget.state(),
            "rules": self._rules.state(),
            "drift": self.drift.state(),
        }

    def _entry(
        self, frame: Frame, rows: Rows, thumb: Floats, weights: Floats, embedding: Vector | None = None
    ) -> Entry:
        model = self._model
        height, width = frame.image.shape[:2]
        rows = clean_rows(rows, model.floor, len(model.classes))
        evidence = weigh(rows, width, height, serve=model.serve, odds=model.odds, weights=weights)
        view = signature(thumb)
        scenery = embedded(embedding, model.embedding) if model.embedding else palette(thumb)
        look = Look(frame.t, view, scenery, self._scenes.of(view), evidence)
        reasons: tuple[str, ...] = ()
        if len(evidence.classes):
            rarest = model.classes[int(evidence.classes[int(evidence.tail.argmax())])]
            reasons = (f"errors {evidence.eec:.2f}", f"rarest {rarest}")
        return Entry(frame, rows, look, self._coverage.still_open(look), reasons)

    def _count(self, frame: Frame) -> list[Candidate]:
        """One more considered frame: it earns budget, and may end a window that has grown too old."""
        self.budget.earn(None if self._last_t is None else frame.t - self._last_t)
        self._last_t = frame.t
        self._frames += 1
        return self._age(frame.t)

    def _full(self, picked: int) -> list[Candidate]:
        """One more frame in the window: it may be the last one."""
        self._window.frames += 1
        return self._end(picked) if self._window.frames >= self._policy.window_frames else []

    # What is picked without waiting for the window's end

    def _at_once(self, entry: Entry, gate: Gate | None) -> list[Candidate]:
        """By command, by the canary draw, by a rule, or as context of one: in this order, and once."""
        chance = self.budget.canary(self.drift.canary)
        drawn = self._draw("canary") < chance and (gate is None or self._policy.budget >= 1.0)
        fired = [] if gate else self._rules.firing(entry.frame.t, entry.rows, self._draw)
        why = [f"gate {gate}"] if gate else []
        why += [f"rule {rule.name}" for rule in fired]
        picked = []
        if fired and (room := self.budget.room()):
            picked = self._before(f"context {fired[0].name}", min(room - 1, max(rule.before for rule in fired)))
        if self.manual:
            why, self.manual = [*self.manual, *why], ()
            picked.append(self._take(entry, "manual", None, why))
        elif drawn:
            picked.append(self._take(entry, "canary", chance, why))
        elif (fired or self._context[1]) and gate is None and self.budget.room():
            picked.append(self._take(entry, "rule", None, why or [self._context[0]]))
        self._context = self._context[0], max(0, self._context[1] - 1)
        if fired:
            self._context = f"context {fired[0].name}", max(rule.after for rule in fired)
        self._remember(entry)
        return picked

    def _before(self, reason: str, frames: int) -> list[Candidate]:
        """The frames before an event that have not been sent anyway."""
        wanted = list(self._recent)[-frames:] if frames else []
        return [self._take(entry, "rule", None, [reason]) for entry in wanted if entry.frame.index not in self._sent]

    def _remember(self, entry: Entry) -> None:
        """Keep as many of the latest frames as the rules want before an event, within the limit on pixels."""
        if self._rules.before:
            self._recent.append(entry)
            room = min(self._rules.before, POOL_BYTES // max(1, entry.frame.image.nbytes))
            while len(self._recent) > room:
                self._recent.popleft()

    def _take(self, entry: Entry, lane: Lane, chance: float | None, why: list[str]) -> Candidate:
        self._window.discard(entry)
        self._select(entry)
        return entry.candidate(lane, entry.look.evidence.eec, chance, *why)

    def _select(self, entry: Entry) -> None:
        """From now on what this frame shows is covered."""
        self._sent.append(entry.frame.index)
        self._coverage.add(entry.look)
        self._window.cover(entry.look)

    def _draw(self, purpose: str) -> float:
        return uniform(self._salt, self._frames, purpose)

    # What competes until the window's end

    def _offer(self, entry: Entry) -> None:
        """Into the pool, with the temporal lane open one frame later: only the next frame tells what was lost."""
        if not self._policy.shares.temporal:
            self._admit(entry)
            return
        before, middle = self._waiting or (entry.look.evidence, None)
        if middle is not None:
            seen = events(before, middle.look.evidence, entry.look.evidence, self._model.serve)
            middle.inconsistent = float(seen.total())
            middle.reasons += tuple(f"{kind} {n}" for kind, n in seen.items() if n)
            self._admit(middle)
        self._waiting = (middle or entry).look.evidence, entry

    def _admit(self, entry: Entry) -> None:
        if entry.frame.index not in self._sent:
            self._window.offer(entry)

    def _age(self, t: float) -> list[Candidate]:
        """End the window that has grown too old; one that starts in the future (time went back) starts again now."""
        start, picked = self._window.start, []
        if start is not None and t - start >= self._policy.window_s:
            picked, start = self._end(0), None
        if start is None or t < start:
            self._window.start = t
        return picked

    def _end(self, reserved: int) -> list[Candidate]:
        """Spend what the budget allows on the window's best, richest lane first; without budget the best stay on.

        `reserved` candidates have been picked just now and are not charged yet.
        """
        if self._waiting is not None:
            self._admit(self._waiting[1])
            self._waiting = None
        quota = self.budget.quota() - reserved
        balance = {lane: self.budget.balance[lane] for lane in RANKED}
        picked: list[Candidate] = []
        while quota > len(picked) and balance:
            lane = max(balance, key=lambda name: balance[name])
            best = self._window.pick(lane) if balance[lane] > 0 else None
            if best is None:
                del balance[lane]
                continue
            entry, gain = best
            picked.append(entry.candidate(lane, gain, None))
            self._select(entry)
            balance[lane] -= 1.0
        self._window.restart(picked=quota > 0)
        return picked
