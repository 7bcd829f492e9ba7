"""The two services as processes: a broker that comes late, signals, listings beside them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from agent.clock import SystemClock
from agent.spool import verify
from tests.e2e.conftest import COMMAND, Tailkeeper
from tests.fakes.mosquitto import Mosquitto, free_port, mosquitto_path

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def service(folder: Path, name: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """`tailkeeper run` or `collect`; ended with SIGTERM, which it must obey within five seconds."""
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, name, "--config", "agent.toml"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
            stderr=log,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def events(folder: Path, name: str) -> list[str]:
    lines = (folder / f"{name}.log").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait for something that only shows from outside the process."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


Configure: TypeAlias = Callable[..., Path]


@pytest.fixture
def configure(tmp_path: Path, pictures: Path, model: Path) -> Configure:
    """Write the configuration of a device and a collector that share a broker on `port`."""

    def write(port: int, *, quality: int = 90, loop: bool = True) -> Path:
        (tmp_path / "agent.toml").write_text(
            f'[device]\nid = "pole-1"\nstate_dir = "{tmp_path}/state"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {port}\ntls = false\n'
            "reconnect_min_s = 0.1\nreconnect_max_s = 0.5\n"
            f'[[cameras]]\nname = "gate"\nsource = "{pictures}"\nfps = 20\nloop = {str(loop).lower()}\n'
            f'[model]\npath = "{model}"\n'
            "[selection]\nbudget = 0.5\nwindow_frames = 10\nshares = { canary = 1.0 }\n"
            "frames_per_day = 0\nbytes_per_day = 0\nlabels_per_day = 0\n"
            f"[image]\nquality = {quality}\n"
            "[uplink]\nstart_spread_s = 0.0\nreceipt_timeout_s = 2.0\n"
            f'[collector]\nstore = "{tmp_path}/store"\n'
        )
        return tmp_path

    return write


@pytest.fixture
def late_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto that is not started yet; its port is known."""
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    broker = Mosquitto(tmp_path)
    yield broker
    broker.stop()


def spooled(folder: Path) -> int:
    return len(list((folder / "state" / "spool" / "items").glob("*/*.tkc")))


def received(folder: Path) -> int:
    return len(list((folder / "store" / "images").glob("*/*.jpg")))


def undelivered(folder: Path) -> set[str]:
    """Ids of items that the collector does not have; files of delivered ones are removed later, many at a time."""
    items = {path.stem for path in (folder / "state" / "spool" / "items").glob("*/*.tkc")}
    return items - {path.stem for path in (folder / "store" / "images").glob("*/*.jpg")}


def test_without_a_broker_the_agent_collects_and_delivers_later(configure: Configure, late_broker: Mosquitto) -> None:
    folder = configure(late_broker.port, loop=False)
    with ExitStack() as running:
        running.enter_context(service(folder, "run"))
        eventually(lambda: spooled(folder) >= 3, "nothing was collected")
        late_broker.start()
        running.enter_context(service(folder, "collect"))
        eventually(lambda: not undelivered(folder), "not everything was delivered")
    assert received(folder) >= 3
    assert (folder / "state" / "spool" / "index.sqlite").exists()


def test_sigterm_loses_nothing_that_was_accepted(configure: Configure) -> None:
    folder = configure(free_port())
    with service(folder, "run"):
        eventually(lambda: spooled(folder) >= 3, "nothing was collected")
    before = spooled(folder)
    found = verify(folder / "state" / "spool")
    assert list((folder / "state" / "engines").glob("*.onnx")), "the optimised graph is kept for the next start"
    assert (found.items, found.damaged) == (before, {})


def test_listings_work_while_the_services_run(
    configure: Configure, late_broker: Mosquitto, tailkeeper: Tailkeeper
) -> None:
    folder = configure(late_broker.port)
    with ExitStack() as running:
        running.enter_context(service(folder, "run"))
        eventually(lambda: spooled(folder) >= 2, "nothing was collected")
        items = tailkeeper("spool", "ls", "--config", "agent.toml", "--json").json["items"]
        assert {"cid", "camera", "ts", "lane", "score", "state", "bytes"} <= set(items[0])
        late_broker.start()
        running.enter_context(service(folder, "collect"))
        eventually(lambda: received(folder) >= 2, "nothing arrived")
        lines = tailkeeper("dataset", "ls", "--config", "agent.toml", "--json").out.splitlines()
        rows = [json.loads(line) for line in lines]
        assert (folder / "store" / rows[0]["path"]).stat().st_size == rows[0]["bytes"]
        assert (rows[0]["device"], rows[0]["camera"], rows[0]["lane"]) == ("pole-1", "gate", "canary")
    assert len({row["cid"] for row in rows}) == len(rows)


def test_sighup_takes_a_new_configuration_and_refuses_a_wrong_one(configure: Configure) -> None:
    folder = configure(free_port())
    with service(folder, "run") as process:
        eventually(lambda: spooled(folder) >= 1, "nothing was collected")
        (folder / "agent.toml").write_text("[selection]\nbudget = 7\n")
        process.send_signal(signal.SIGHUP)
        eventually(lambda: any("not reloaded" in event for event in events(folder, "run")), "no refusal")
        before = spooled(folder)
        eventually(lambda: spooled(folder) > before, "the old configuration does not go on")
        configure(free_port(), quality=11)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: b'"quality":11' in newest(folder), "the new configuration is not in use")


def newest(folder: Path) -> bytes:
    items = (folder / "state" / "spool" / "items").glob("*/*.tkc")
    path = max(items, key=lambda path: path.stat().st_mtime_ns)
    return path.read_bytes()[:8192]


def test_a_wall_clock_that_jumps_by_years_neither_stops_nor_loses_anything(
    configure: Configure, late_broker: Mosquitto
) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed: apt install faketime")
    if SystemClock().synced():
        pytest.skip("this machine's clock is synchronised, and libfaketime does not hide that")
    folder, shown = configure(late_broker.port), late_broker.log.with_name("wall-clock")
    faked = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(shown), "FAKETIME_NO_CACHE": "1"}
    faked["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    for year in ("1970", "2037", "1999", "2096"):
        shown.write_text(f"@{year}-12-31 23:59:50\n")
        with service(folder, "run", **faked):
            collects(folder, f"in {year}")
            shown.write_text("@1984-01-01 00:00:00\n")
            collects(folder, f"after {year}")
    kept = spooled(folder)
    shown.write_text("@2001-09-09 01:46:40\n")
    with service(folder, "run", **faked), service(folder, "collect"):
        late_broker.start()
        eventually(lambda: received(folder) >= kept, "not everything was delivered")
    metas = [json.loads(path.read_text())["meta"] for path in (folder / "store" / "meta").glob("*/*.json")]
    stamps = [meta["ts_ns"] for meta in sorted(metas, key=lambda meta: meta["mono_ns"])]
    assert stamps == sorted(set(stamps))
    assert {meta["ts"][:4] for meta in metas} >= {"1970", "2037", "2096"}
    assert not any(meta["clock_synced"] for meta in metas)


def collects(folder: Path, when: str) -> None:
    """Wait for three more items in the spool."""
    before = spooled(folder)
    eventually(lambda: spooled(folder) >= before + 3, f"nothing collected {when}")
