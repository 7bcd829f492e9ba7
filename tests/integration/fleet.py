"""A device's control loop over a real broker, with an agent of the test's own behind it; and the operator's side."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.broker import Broker, ConnectionCounter, Presence
from agent.clock import Clock, SystemClock, rfc3339
from agent.control import Control, Desired, Ops
from agent.errors import RejectError
from agent.fleet import Link
from agent.fleet.link import EVERYTHING
from agent.models import ModelStore, Pulse, Rollout, Runtime
from agent.records import ModelRef
from agent.settings import BrokerSettings, Loaded, load
from agent.wire import CameraStats, InferStats, Info, SpoolStats, Stats, Topics


class FakeAgent:
    """What control asks of an agent, written down; a test decides what cameras and spool look like."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[tuple[Any, ...]] = []
        self.applied: list[Loaded] = []
        self.ages: dict[str, float | None] = {"gate": 0.1}
        self.ages_after_apply: dict[str, float | None] | None = None
        self.refusal: Exception | None = None
        self.items = 3
        self.model = ModelRef(id="configured", sha256="a" * 64)
        self.paused: set[str] = set()

    def ops(self) -> Ops:
        return Ops(
            apply=self.apply,
            frames=lambda: self.ages,
            pause=lambda what: self.calls.append(("pause", what)),
            resume=lambda what: self.calls.append(("resume", what)),
            flush=lambda: self.calls.append(("flush",)),
            capture=self.capture,
            restart=lambda: self.calls.append(("restart",)),
            purge=self.purge,
            diag=lambda: {"agent": "test", "log": "x" * 100_000},
            log_level=lambda level, for_s: self.calls.append(("log_level", level, for_s)),
            need=lambda weights: self.calls.append(("need", dict(weights))),
            stats=self.stats,
            info=self.info,
        )

    def apply(self, loaded: Loaded) -> None:
        if self.refusal:
            refusal, self.refusal = self.refusal, None
            raise refusal
        self.applied.append(loaded)
        if self.ages_after_apply is not None:
            self.ages, self.ages_after_apply = self.ages_after_apply, None

    def capture(self, camera: str | None, key: str) -> list[str]:
        if camera not in (None, "gate"):
            raise RejectError(f"no camera {camera!r}")
        self.calls.append(("capture", camera, key))
        return ["c" * 32]

    def purge(self, expect: int | None) -> int:
        self.calls.append(("purge", expect))
        gone, self.items = self.items, 0
        return gone

    def stats(self) -> Stats:
        return Stats(
            ts=rfc3339(self.clock.wall_ns()),
            uptime_s=1.0,
            cameras={"gate": CameraStats(state="live", fps=5.0, frame_age_s=0.1, reconnects=0, dropped=0)},
            infer_ms=InferStats(p50=40.0, p95=50.0),
            cpu=0.5,
            rss_mb=200.0,
            temp_c=None,
            throttled=None,
            clock_synced=True,
            disk_free_mb=1000.0,
            spool=SpoolStats(items=self.items, bytes=0, oldest_s=None, sent=0, quarantined=0, evicted={}),
            budget={},
            drift={"gate": {"classes": 0.1}},
            counters={},
        )

    def info(self, ops: tuple[str, ...]) -> Info:
        return Info(
            device="gate-north",
            agent="test",
            hardware={},
            cameras=("gate",),
            model=self.model,
            classes=("car",),
            ops=ops,
            limits={},
            boot=self.clock.boot(),
            ts=rfc3339(self.clock.wall_ns()),
        )


class SyncedClock(SystemClock):
    def synced(self) -> bool:
        return True


class Controlled:
    """One device: its real control loop and broker connection."""

    def __init__(
        self,
        folder: Path,
        broker: BrokerSettings,
        *,
        name: str = "gate-north",
        groups: tuple[str, ...] = ("north",),
        protocol: int = 5,
        trial_s: float = 0.5,
        trusted_keys: tuple[str, ...] = (),
        configured: Path | None = None,
        rehearse: Callable[[Path, Path], None] = lambda *_: None,
        trace: Callable[[str], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        values: Mapping[str, Any] = {
            "device": {"id": name, "groups": list(groups)},
            "cameras": {"gate": {"name": "gate", "source": "0"}},
            "health": {"stats_s": 1.0},
            "control": {"config_trial_s": trial_s},
        }
        clock, rng = clock or SyncedClock(), random.Random(1)
        self.agent = FakeAgent(clock)
        topics = Topics(broker.prefix, name)
        presence = Presence(topics.status, clock.boot(), ConnectionCounter(folder / "connections.json"))
        self.broker = Broker(broker, name, clock, rng, presence=presence, protocol=5 if protocol == 5 else 4)
        self.desired = Desired(folder / "control", load(Path("/dev/null"), command_line=values, environ={}))
        self.store = ModelStore(folder / "models", configured or folder / "none", trace=trace)
        self.running = self.store.open(lambda path: path)
        rollout = Rollout(
            self.store,
            Runtime(rehearse, self._warm, lambda: Pulse(frames=1000, infer_s=40), lambda: ()),
            trusted_keys=trusted_keys,
            trial_s=trial_s,
            clock=clock,
            rng=rng,
        )
        self.control = Control(
            desired=self.desired,
            broker=self.broker,
            device=name,
            ops=self.agent.ops(),
            rollout=rollout if configured else None,
            folder=folder / "control",
            clock=clock,
            rng=rng,
            trace=trace,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.control.run, args=(self._stop,), name=f"control {name}")

    def _warm(self, path: Path) -> Callable[[], None]:
        def switch() -> None:
            self.running = path
            self.agent.model = ModelRef(id=path.name, sha256="b" * 64)

        return switch

    def __enter__(self) -> Controlled:
        self.control.restore()
        self.broker.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.broker.close()


def operator(broker: BrokerSettings, **options: Any) -> Link:
    """An operator who hears everything, and may send more than is good for a device."""
    broker = broker.model_copy(update={"max_packet_bytes": 4_000_000})
    return Link(broker, SystemClock(), random.Random(), **{"topics": (*EVERYTHING, "up/blk"), **options})
