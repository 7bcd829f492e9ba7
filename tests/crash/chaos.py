"""Agent, collector and broker, real processes, killed again and again: what the spool accepted arrives once.

``python -m tests.crash.chaos --kills 1000 --seed 1`` is `make chaos`. Each victim is killed with SIGKILL, at a random
moment or when it comes to one of the named steps of its state machines for the nth time. Then everybody is left alone
until the spool is empty, and the store is compared with what `put` promised.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from agent.collector import image_path, listing, read_meta
from agent.records import content_id
from agent.settings import BrokerSettings, SpoolSettings
from agent.spool import listing as spool_listing
from tests.fakes.items import a_picture_item, variants
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import Collector, Device, broker_settings

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.integration.delivery", "tests.fakes.items"])

STEPS = {
    "agent": (
        *("put.room", "put.durable", "put.row", "commit.rows", "commit.file", "commit.files"),
        *("uplink.claimed", "uplink.part", "uplink.sent", "uplink.asked", "uplink.forgotten", "uplink.released"),
    ),
    "collector": (
        *("ingest.staged", "ingest.written", "ingest.owned", "ingest.rows", "ingest.dropped"),
        *("collector.acknowledged", "collector.answered"),
    ),
}
BACKLOG = 20
"""Items in the spool at which the agent waits before it puts another."""
LIFE_S = 1.5
"""A victim that does not come to its step is killed after this long."""
CALM_S = 120.0
Trace = Callable[[str], None]


@dataclass
class Report:
    """What a storm came to."""

    kills: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    stored: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: int = 0
    corrupt: list[str] = field(default_factory=list)
    quarantined: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.corrupt or self.quarantined)


class Storm:
    """The three processes and the folder that they work in."""

    def __init__(self, folder: Path, seed: int, protocol: int = 5) -> None:
        self.folder = folder
        self._rng = random.Random(seed)
        self._mosquitto = Mosquitto(folder).start()
        self._broker = broker_settings(
            self._mosquitto.port, reconnect_min_s=0.02, reconnect_max_s=0.2, max_packet_bytes=8_192, keepalive_s=10
        )
        self._protocol = protocol
        self._lives = 0
        self._players: dict[str, ForkServerProcess] = {}
        self._plans: dict[str, tuple[str, int] | None] = {}
        self.report = Report()

    def blow(self, kills: int) -> None:
        """Kill and restart so many times."""
        for name in ("agent", "collector"):
            self._start(name)
        while self.report.kills.total() < kills:
            victim = self._rng.choice(("agent", "collector", "broker"))
            if victim == "broker":
                time.sleep(self._rng.uniform(0, 0.15))
                self._mosquitto.kill()
                self._mosquitto.start()
            else:
                self._end(victim)
                self._start(victim)
            self.report.kills[victim] += 1

    def calm(self) -> Report:
        """Let everybody finish, and compare what was promised with what is there."""
        for name, player in self._players.items():
            player.kill()
            player.join()
            self._start(name, calm=True)
        self._players["agent"].join(CALM_S)
        for player in self._players.values():
            player.kill()
            player.join()
            player.close()
        self._mosquitto.stop()
        self._compare()
        return self.report

    def _start(self, name: str, *, calm: bool = False) -> None:
        plan = None
        if not calm and self._rng.random() < 0.6:
            plan = (self._rng.choice(STEPS[name]), self._rng.randint(1, 8))
        self._plans[name] = plan
        self._lives += 1
        play = _play_agent if name == "agent" else _play_collector
        arguments = (self.folder, self._broker, self._protocol, self._lives, plan, calm)
        self._players[name] = _SERVER.Process(target=play, args=arguments)
        self._players[name].start()

    def _end(self, name: str) -> None:
        player, plan = self._players[name], self._plans[name]
        player.join(LIFE_S if plan else self._rng.uniform(0, 0.3))
        if player.exitcode is None:
            player.kill()
        elif plan and player.exitcode == -signal.SIGKILL:
            self.report.steps[plan[0]] += 1
        else:
            raise AssertionError(f"{name} ended by itself with status {player.exitcode}")
        player.join()
        player.close()

    def _compare(self) -> None:
        report, store = self.report, self.folder / "store"
        accepted = set((self.folder / "accepted").read_text().split())
        rows = list(listing(store))
        report.accepted, report.stored = len(accepted), len(rows)
        report.lost = sorted(accepted - {row["cid"] for row in rows})
        files = [path.stem for path in store.glob("images/*/*.jpg")]
        report.duplicates = len(files) + len(rows) - 2 * len(set(files) | {row["cid"] for row in rows})
        report.corrupt = [row["cid"] for row in rows if not _is_whole(store, row["cid"], row["sha256"])]
        report.quarantined = sum(
            entry.state == "quarantine" for entry in spool_listing(self.folder / "device" / "spool")
        )


def _is_whole(store: Path, cid: str, sha256: str) -> bool:
    image, meta = (store / image_path(cid)).read_bytes(), read_meta(store, cid)
    digest = hashlib.sha256(image).hexdigest()
    return digest == sha256 and meta is not None and content_id(meta.device, meta.ts_ns, digest) == cid


def _fatal(plan: tuple[str, int] | None) -> Trace:
    """A trace that ends the process when it hears the step for that time."""
    left = Counter(dict([plan] if plan else []))

    def hear(step: str) -> None:
        if step in left:
            left[step] -= 1
            if left[step] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hear


def _play_agent(
    folder: Path, broker: BrokerSettings, protocol: int, life: int, plan: tuple[str, int] | None, calm: bool
) -> None:
    """Put items as long as there is room, and write down which were accepted; in a calm, only deliver."""
    logging.disable()
    pictures = [a_picture_item(0, width=96, height=64), a_picture_item(1, width=320, height=240)]
    promised = os.open(folder / "accepted", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    device = Device(
        folder / "device",
        broker,
        protocol=protocol,
        uplink={"receipt_timeout_s": 0.3, "receipt_timeout_max_s": 2.0},
        spool=SpoolSettings(reserve_bytes=0),
        trace=_fatal(plan),
    )
    with device:
        number = 0
        while not calm or device.spool.stats().items:
            if calm or device.spool.stats().items >= BACKLOG:
                time.sleep(0.01)
                continue
            (item,) = variants(1, pictures[number % 5 == 0], life * 1_000_000 + number)
            device.put(item)
            os.write(promised, f"{item.cid}\n".encode())
            number += 1


def _play_collector(
    folder: Path, broker: BrokerSettings, protocol: int, _life: int, plan: tuple[str, int] | None, _calm: bool
) -> None:
    logging.disable()
    with Collector(folder / "store", broker, protocol=protocol, trace=_fatal(plan)):
        signal.pause()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--protocol", type=int, choices=(4, 5), default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tailkeeper-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    storm = Storm(folder, options.seed, options.protocol)
    storm.blow(options.kills)
    report = storm.calm()
    sys.stdout.write(json.dumps(vars(report), indent=2) + "\n")
    if report.clean:
        shutil.rmtree(folder)
    sys.exit(0 if report.clean else 1)


if __name__ == "__main__":
    main()
