"""Mutated control payloads: ``python -m tests.bench.fuzz_control --count 100000``.

The device has seen the highest versions that there are, and its clock stands at the end of time: whatever a mutation
makes of a payload, there is nothing that it might rightly apply.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.control.loop import Event
from agent.settings import BrokerSettings
from agent.wire import BlockHeader, Command, DesiredConfig, NeedMap, encode_block
from tests.fakes.clock import FakeClock
from tests.integration.fleet import Controlled

NEWEST = 2**63 - 1
END_OF_TIME_NS = 253_402_300_799_999_000_000
EXPIRED = {"issued": "2026-01-01T00:00:00Z", "expires": "2026-01-01T00:10:00Z", "by": "fuzz"}
VALUES = {
    "selection": {"budget": 0.1, "shares": {"canary": 0.5}},
    "cameras": {"gate": {"fps": 2, "redact": ["person"]}},
}
UPDATE = {
    "model_id": "m",
    "url": "http://127.0.0.1:9/m",
    "size": 10,
    "sha256": "0" * 64,
    "manifest": "e30=",
    "signature": "AA==",
}
COMMANDS = [
    ("capture", {"camera": "gate"}), ("pause", {"what": "all"}), ("resume", {}), ("restart", {}), ("flush", {}),
    ("purge", {"expect": 3}), ("diag", {}), ("log_level", {"level": "debug", "for_s": 5}), ("model_rollback", {}),
    ("model_update", UPDATE),
]  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 1e308, -1e308, 2**70, "", "x" * 3000, "\ud800", "../../etc/passwd", "\0", [], {}, [[]], {"": {}},
    [1, "a", None], {"budget": "a lot"}, float("nan"), float("inf"), "9" * 400, {"$ref": "#"}, [[[[[[[[]]]]]]]],
]  # fmt: skip


def bases() -> list[tuple[str, str, bytes]]:
    """(kind, level or command id, payload): one valid payload of each sort."""
    config = DesiredConfig(version=NEWEST, values=VALUES).encode()
    need = NeedMap(version=NEWEST, weights={"cat": 2.0}).encode()
    found = [("config", level, config) for level in ("all", "groups.north", "device")]
    found += [("need", level, need) for level in ("all", "groups.north")]
    for number, (op, args) in enumerate(COMMANDS):
        command = Command(cmd_id=f"c{number}", op=op, args=args, **EXPIRED)
        found.append(("cmd", command.cmd_id, command.encode()))
    header = BlockHeader(model_id="m", off=0, size=10, sha256="0" * 64)
    return [*found, ("blk", "", encode_block(header, b"0123456789"))]


def mutate(payload: bytes, chance: random.Random) -> bytes:
    """A payload that is wrong in one or several ways, in its bytes or in its structure."""
    for _ in range(chance.randrange(1, 4)):
        payload = chance.choice(MUTATIONS)(payload, chance)
    return payload


def _flip(payload: bytes, chance: random.Random) -> bytes:
    changed = bytearray(payload or b"\0")
    for _ in range(chance.randrange(1, 9)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(payload: bytes, chance: random.Random) -> bytes:
    return payload[: chance.randrange(len(payload) + 1)]


def _insert(payload: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(payload) + 1)
    return payload[:at] + chance.randbytes(chance.choice((1, 3, 50, 5000))) + payload[at:]


def _repeat(payload: bytes, chance: random.Random) -> bytes:
    begin, end = sorted(chance.randrange(len(payload) + 1) for _ in range(2))
    return payload[:end] + payload[begin:end] * chance.randrange(1, 20) + payload[end:]


def _restructure(payload: bytes, chance: random.Random) -> bytes:
    """Put something odd in the place of a value, leave a key out or add one."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return _flip(payload, chance)
    places = list(_places(document))
    if not places:
        return json.dumps(chance.choice(ODD)).encode()
    table, key = chance.choice(places)
    match chance.randrange(4):
        case 0 if isinstance(table, dict):
            del table[key]
        case 1 if isinstance(table, dict):
            table[chance.choice(("budgt", "", "version", "v", "source", "\0", "a.b"))] = chance.choice(ODD)
        case _:
            table[key] = chance.choice(ODD)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _nest(payload: bytes, chance: random.Random) -> bytes:
    depth = chance.choice((3, 200, 20_000))
    return payload.replace(b"{", b'{"a":' * depth + b"{", 1) if chance.random() < 0.5 else b"[" * depth + payload


def _places(document: Any) -> list[tuple[Any, Any]]:
    """(table or list, key) of everything in a JSON document."""
    keys = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    found = []
    for key, value in keys:
        found += [(document, key), *_places(value)]
    return found


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _cut, _insert, _repeat, _restructure, _restructure, _restructure, _nest,
)  # fmt: skip


class EndOfTime(FakeClock):
    def __init__(self) -> None:
        super().__init__(wall_ns=END_OF_TIME_NS)


def fuzz(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Feed `count` mutated payloads to one device; returns what came of it. It raises when the device would crash."""
    device = Controlled(folder, BrokerSettings(host="127.0.0.1", port=9, tls=False), clock=EndOfTime())
    device.control.restore()
    device.control.commands.start()
    for kind, level, payload in bases():
        if kind in ("config", "need"):
            device.control.handle(Event(kind, level, payload))  # type: ignore[arg-type]
    before = (len(device.agent.applied), list(device.agent.calls), device.desired.loaded.settings)
    chance, kinds = random.Random(seed), bases()
    began = time.perf_counter()
    for _ in range(count):
        kind, level, payload = chance.choice(kinds)
        mutated = mutate(payload, chance)
        if kind == "blk":
            device.control.blocks.arrived(mutated)
        else:
            device.control.handle(Event(kind, level, mutated))  # type: ignore[arg-type]
    spent = time.perf_counter() - began
    device.control.commands.close()
    after = (len(device.agent.applied), list(device.agent.calls), device.desired.loaded.settings)
    return {
        "payloads": count,
        "seconds": round(spent, 1),
        "errors": device.control.errors,
        "applied": 0 if after == before else after,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        result = fuzz(Path(folder), arguments.count, arguments.seed)
    print(json.dumps(result))
    return int(result["errors"] > 0 or result["applied"] != 0)


if __name__ == "__main__":
    sys.exit(main())
