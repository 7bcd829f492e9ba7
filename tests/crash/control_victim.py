"""A process that takes commands, configurations and models until it is killed, and tells what it has promised."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from agent import durable
from agent.bundle import read_bundle
from agent.clock import rfc3339
from agent.control.commands import Call, Commands, Op
from agent.control.desired import Desired
from agent.control.ledger import Ledger
from agent.control.ops import Arguments, NoArguments, Update
from agent.models import ModelStore, Pulse, Rollout, Runtime, keygen
from agent.settings import load
from agent.wire import Command, CommandState, DesiredConfig
from tests.crash.spool_victim import _killer, _trace_system_calls
from tests.fakes.bundles import ROWS, a_bundle, an_update
from tests.fakes.clock import FakeClock
from tests.fakes.models import a_model, end2end

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["agent.control", "agent.models", "tests.fakes.bundles"])

MODEL = a_model(end2end(ROWS), metadata={"note": "x" * 150_000})
"""Five blocks."""
LIFE_NS = 10_000 * 10**9
"""From one life to the next on the wall clock; commands expire after 1,000 s."""
BASE = {"device": {"id": "victim"}, "cameras": {"gate": {"name": "gate", "source": "0"}}}
WELL = Pulse(frames=1000, infer_s=40, served={"car": 900}, confidence=600)
ILL = Pulse(frames=1000, infer_s=400, served={"car": 900}, confidence=600)


@dataclass
class Promises:
    """What the operator was told, over all lives of one device."""

    done: set[str] = field(default_factory=set)
    """Commands that were told to be successful."""
    version: int = 0
    """The newest configuration that was told to be in force."""
    lives: int = 0

    def listen(self, pipe: Connection, most: int | None = None) -> None:
        heard = 0
        with suppress(EOFError, ConnectionResetError):
            while heard != most:
                kind, what = pipe.recv()
                if kind == "done":
                    self.done.add(what)
                elif kind == "version":
                    self.version = max(self.version, what)
                heard += 1


class Site:
    """What is outside the device: a key and signed bundles with rising counters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted = keygen(folder / "key.pem")
        bundle_of(folder, 1)


def bundle_of(site: Path, counter: int) -> Path:
    """The site's bundle with this counter, made when it is first needed."""
    path = site / f"bundle-{counter}"
    if not path.exists():
        key = site / "key.pem"
        a_bundle(site / f"{path.name}-{os.getpid()}", counter=counter, key=key, model=MODEL).rename(path)
    return path


class Victim:
    """The process; `kill_at` = (step, count) lets it kill itself when it comes to that step for that time."""

    def __init__(self, state: Path, site: Site, life: int, kill_at: tuple[str, int] | None = None) -> None:
        self.pipe, theirs = _SERVER.Pipe(duplex=False)
        self.process: ForkServerProcess = _SERVER.Process(
            target=_live, args=(state, site.folder, site.trusted, life, theirs, kill_at)
        )
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        self.process.kill()

    def bury(self) -> None:
        self.process.join()
        self.process.close()
        self.pipe.close()


def check(state: Path, site: Site, promises: Promises) -> str:
    """The next start: it has a working model, every promised effect once, and no configuration but a valid one."""
    store = ModelStore(state / "models", site.folder / "bundle-1")
    model = store.open(lambda path: read_bundle(path).model_id)
    assert model == "tiny"
    effects = _effects(state)
    assert len(effects) == len(set(effects)), f"carried out twice: {effects}"
    assert promises.done <= {*effects, *(name for name in promises.done if name.startswith("model"))}
    desired = Desired(state / "control", load(Path("/dev/null"), command_line=BASE, environ={}))
    report = desired.report()
    assert report.seen.device >= promises.version
    assert desired.loaded.settings.selection.window_frames == (report.version or 150)
    promises.lives += 1
    return store.active.name


def _effects(state: Path) -> list[str]:
    return list((durable.load_state(state / "effects.json", 1) or {}).get("done", []))


class Append(Arguments):
    """Arguments of the op whose effect carries the command's id, as a capture's does."""


def _live(state: Path, site: Path, trusted: str, life: int, pipe: Connection, kill_at: tuple[str, int] | None) -> None:
    trace: Callable[[str], None] = _killer(*kill_at) if kill_at else lambda _: None
    if kill_at:
        _trace_system_calls(trace)
    with suppress(OSError, EOFError):  # the disk was pulled, or the test is over
        _Device(state, site, trusted, life, pipe, trace).live()


class _Device:
    def __init__(
        self,
        state: Path,
        site: Path,
        trusted: str,
        life: int,
        pipe: Connection,
        trace: Callable[[str], None],
    ) -> None:
        self.state, self.site, self.life, self.pipe = state, site, life, pipe
        self.chance = chance = random.Random(life)
        self.clock = FakeClock(wall_ns=LIFE_NS * life)
        self.told = threading.Condition()
        self.ends: dict[str, CommandState] = {}
        durable.make_folder(state)
        self.store = ModelStore(state / "models", site / "bundle-1", trace=trace)
        self.store.open(read_bundle)
        self.ill = False
        self.switched = threading.Event()
        runtime = Runtime(lambda *_: None, lambda _: self.switched.set, self._pulse, lambda: ())
        self.rollout = Rollout(self.store, runtime, trusted_keys=[trusted], trial_s=0.02, clock=_Real(), rng=chance)
        table = {
            "append": Op(Append, self._append),
            "model_update": Op(Update, self._update, lane="model"),
            "model_rollback": Op(NoArguments, lambda call: self.rollout.recall(call.cmd_id)),
        }
        self.commands = Commands(
            Ledger(state / "control/commands", trace=trace), table, tell=self._tell, clock=self.clock, clock_wait_s=1
        )
        base = load(Path("/dev/null"), command_line=BASE, environ={})
        self.desired = Desired(state / "control", base, trace=trace)
        self.trace = trace

    def live(self) -> None:
        life = self.life
        self.commands.resume()
        self.commands.start()
        for number in range(200):
            self._configure()
            self._send(f"c{life}-{number}", "append", {})
            self._send(f"c{life}-{max(number - 1, 0)}", "append", {})
            self._send(f"c{max(life - 1, 0)}-0", "append", {}, life=max(life - 1, 0))
            self._model(f"model-{life}-{number}")
            self._wait(f"c{life}-{number}")

    def _configure(self) -> None:
        version = self.desired.report().seen.device + 1
        wanted = {"selection": {"window_frames": version if self.chance.random() < 0.8 else -1}}
        if self.desired.offer("device", DesiredConfig(version=version, values=wanted)):
            self.chance.choice((self.desired.settle, self.desired.settle, lambda: None))()
            self.pipe.send(("version", version))

    def _model(self, cmd_id: str) -> None:
        if self.chance.random() < 0.1:
            self._send(f"{cmd_id}-back", "model_rollback", {})
            return
        self.ill = self.chance.random() < 0.3
        update = an_update(bundle_of(self.site, max(self.store.pointer.counter, 1) + 1))
        self._send(cmd_id, "model_update", update.model_dump(mode="json"))
        self._wait(cmd_id)

    def _send(self, cmd_id: str, op: str, args: dict[str, Any], life: int | None = None) -> None:
        """Send a command, or one of an earlier life again, as it was."""
        now = LIFE_NS * (self.life if life is None else life)
        command = Command(
            cmd_id=cmd_id, op=op, args=args, issued=rfc3339(now), expires=rfc3339(now + 10**12), by="test"
        )
        self.commands.receive(cmd_id, command.encode())

    def _wait(self, cmd_id: str) -> None:
        with self.told:
            self.told.wait_for(lambda: cmd_id in self.ends, 20)

    def _tell(self, state: CommandState) -> None:
        if state.status in ("successful", "failed", "rejected"):
            with self.told:
                self.ends[state.cmd_id] = state
                if state.status == "successful":
                    self.pipe.send(("done", state.cmd_id))
                self.told.notify_all()

    def _append(self, call: Call) -> None:
        done = _effects(self.state)
        if call.cmd_id not in done:
            durable.save_state(self.state / "effects.json", 1, {"done": [*done, call.cmd_id]})
        self.trace("effect")

    def _update(self, call: Call) -> dict[str, Any]:
        self.switched.clear()
        return self.rollout.run(call.cmd_id, call.arguments, lambda o, n: MODEL[o : o + n], lambda *_: None)

    def _pulse(self) -> Pulse:
        return ILL if self.ill and self.switched.is_set() else WELL


class _Real(FakeClock):
    """Trials run in real time, everything else by the test's clock."""

    def mono_ns(self) -> int:
        return time.monotonic_ns()
