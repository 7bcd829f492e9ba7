"""A thousand simulated devices on one mosquitto: ``python -m tests.bench.fleet``. Prints figures as one JSON line.

Real connections and the real protocol, one process for the devices, one for the broker; this one is the operator.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.fleet import Link, Plan, Rollout
from agent.fleet.link import EVERYTHING, SUMMARY
from agent.fleet.plan import Limits, stages
from agent.settings import BrokerSettings
from tests.fakes.devices import SimulatedFleet, names
from tests.fakes.mosquitto import Mosquitto

FLEET = """
import sys
from tests.bench.fleet import live
live(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
"""


def live(port: int, count: int, refusing: float) -> None:
    """The devices' process: as many connections, of which a share refuses every configuration."""
    refused = set(names(count)[:: round(1 / refusing)] if refusing else ())
    with SimulatedFleet(port, names(count)) as fleet:
        fleet.refusal = lambda name: "no room for the model" if name in refused else None
        while fleet.up < count:
            time.sleep(0.1)
        print("up", flush=True)
        sys.stdin.read()


def measure(count: int, refusing: float) -> dict[str, Any]:
    """Start everything, list the fleet, roll a configuration out."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder), "max_connections -1", "max_queued_messages 100000").start()
        began = time.perf_counter()
        command = [sys.executable, "-c", FLEET, str(broker.port), str(count), str(refusing)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as devices:
            try:
                assert devices.stdout
                assert devices.stdout.readline() == b"up\n"
                figures: dict[str, Any] = {"devices": count, "all_up_s": time.perf_counter() - began}
                figures |= _list(broker.port, Path(folder)) | _roll_out(broker.port, count, Path(folder))
            finally:
                devices.terminate()
        broker.stop()
    return {key: round(value, 2) if isinstance(value, float) else value for key, value in figures.items()}


def _link(port: int, topics: tuple[str, ...]) -> Link:
    settings = BrokerSettings(host="127.0.0.1", port=port, tls=False)
    return Link(settings, SystemClock(), random.Random(), topics=topics)


def _list(port: int, folder: Path) -> dict[str, Any]:
    """`fleet ls` as it is typed, and its part after the interpreter's start."""
    config = folder / "operator.toml"
    config.write_text(f'[broker]\nhost = "127.0.0.1"\nport = {port}\ntls = false\n')
    command = [sys.executable, "-m", "agent", "fleet", "ls", "--json", "--config", str(config)]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    typed = time.perf_counter() - began
    began = time.perf_counter()
    with _link(port, SUMMARY) as link:
        rows = [device.row() for device in link.known()]
        spent = time.perf_counter() - began
    return {
        "ls_command_s": typed,
        "ls_s": spent,
        "ls_devices": len(rows),
        "ls_online": sum(row["state"] == "online" for row in rows),
    }


def _roll_out(port: int, count: int, folder: Path) -> dict[str, Any]:
    """5 % canaries, then half, then all; each with the same share of devices that refuse."""
    with _link(port, EVERYTHING) as link:
        canaries = names(count)[: count // 20]
        plan = Plan(
            values={"selection": {"budget": 0.03}},
            stages=stages(names(count), canaries, [50]),
            limits=Limits(failures=0.05, answer_s=60, soak_s=1),
        )
        began = time.perf_counter()
        plan = Rollout(link, plan, folder / "plan.json", by="bench", told=_log).run()
        spent = time.perf_counter() - began
    fates = [outcome.fate for outcome in plan.outcomes.values()]
    return {
        "rollout": plan.state, "reason": plan.reason, "rollout_s": spent, "canaries": len(plan.stages[0].devices),
        "reached": len(fates), "failed": fates.count("failed"), "ok": fates.count("ok"),
    }  # fmt: skip


def _log(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--refusing", type=float, default=0.05, help="share of devices that refuse")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.devices, arguments.refusing)))


if __name__ == "__main__":
    main()
