"""What the connection decides by itself: throughput, numbers, certificates. The rest meets a real broker."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent import durable
from agent.broker import WINDOW_BYTES, Broker, ConnectionCounter, Throughput
from agent.broker.throughput import FIRST_RATE
from agent.clock import SystemClock
from agent.errors import ConfigError
from agent.settings import BrokerSettings
from agent.wire import CHUNK_FLOOR, CHUNK_LIMIT


def acknowledge(throughput: Throughput, size: int, seconds: float, *, packets: int = 8) -> None:
    """Packets of this size one after the other, each acknowledged so many seconds after it was started."""
    for _ in range(packets):
        throughput.learn(size, int(seconds * 1e9), throughput.acknowledged)


def test_an_unknown_link_is_taken_for_a_slow_one() -> None:
    throughput = Throughput()
    assert throughput.rate == FIRST_RATE
    assert throughput.window == 2 * FIRST_RATE


def test_the_window_follows_the_link_up_and_down() -> None:
    throughput = Throughput()
    acknowledge(throughput, 60_000, 0.01)
    assert throughput.rate == pytest.approx(6e6)
    assert throughput.window == WINDOW_BYTES
    acknowledge(throughput, 60_000, 6)
    assert throughput.rate == pytest.approx(10_000)
    assert throughput.window == pytest.approx(20_000)


def test_packets_under_way_together_count_together() -> None:
    throughput = Throughput()
    for _ in range(4):  # four started at once, acknowledged within a second
        throughput.learn(10_000, 1_000_000_000, 0)
    assert throughput.rate == pytest.approx(40_000)


def test_a_link_that_broke_under_the_load_gets_half_of_it() -> None:
    throughput = Throughput()
    acknowledge(throughput, 60_000, 1)
    throughput.halve()
    assert throughput.rate == pytest.approx(30_000)


def test_chunks_take_a_quarter_of_the_keepalive_within_limits() -> None:
    broker = Broker(BrokerSettings(host="x", tls=False, keepalive_s=20), "gate", SystemClock(), random.Random(1))
    acknowledge(broker.throughput, 10_000, 1)
    assert broker.chunk == 50_000
    acknowledge(broker.throughput, 10_000, 0.001)
    assert broker.chunk == CHUNK_LIMIT
    acknowledge(broker.throughput, 100, 1)
    assert broker.chunk == CHUNK_FLOOR


def test_connection_numbers_grow_over_restarts_and_full_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "connections.json"
    numbers = [ConnectionCounter(path)() for _ in range(3)]
    counter = ConnectionCounter(path, step=1)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "save_state", refuse)
    numbers += [counter() for _ in range(3)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    "files", [{"ca_file": "/missing.pem"}, {"cert_file": "/missing.pem", "key_file": "/missing.key"}]
)
def test_certificates_that_cannot_be_used_are_named(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        Broker(BrokerSettings(host="x", **files), "gate", SystemClock(), random.Random(1))


def test_one_that_never_started_closes_without_a_word() -> None:
    Broker(BrokerSettings(host="x", tls=False), "gate", SystemClock(), random.Random(1)).close()
