"""How fast is delivery, next to plain MQTT? `make bench-delivery`.

Goodput from a device's spool to the collector's durable store over loopback, as a ratio to paho publishing the same
packets with the same window and QoS 1 through the same broker to one plain subscriber, alternately in the same run;
plain has no disk at either end. Device and collector are processes of their own, as they are in the field.

What bounds it is measured beside it: the disk (pictures, metadata and rows of a window of four candidates made durable
as the collector does it, and nothing else) and the processors (time that device, collector and broker take for one
picture, were all cores always busy; what the kernel's own threads do for disk and network comes on top). What is
missing to that bound is waiting in turn: only four candidates may lack their receipt, and each goes through nine pairs
of hands. Also: candidates that one collector stores per second when several devices send, and bytes that a device
writes per byte of picture.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.broker import WINDOW_BYTES, WINDOW_PACKETS, Broker
from agent.clock import SystemClock
from agent.collector import devices
from agent.collector.store import Store
from agent.records import Item
from agent.settings import BrokerSettings
from agent.uplink import ROWS
from agent.wire import Receipt, Topics, encode_item, encode_part, split
from tests.fakes.items import a_picture_item, variants
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import Collector, Device, broker_settings

SIZES = {"60 KB": (400, 304), "300 KB": (960, 640)}
"""Width and height at which a picture of noise has about that size."""
FLOOD_DEVICES = 8
_GET_FLAGS, _SET_FLAGS, _TOP_FOLDER = 0x80086601, 0x40086602, 0x20000
"""Linux ioctls FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, and the flag of ext4 that `chattr +T` sets."""


def pictures(count: int, size: tuple[int, int], device: str = "gate-north") -> list[Item]:
    """Pictures of one size that differ in their bytes."""
    return variants(count, a_picture_item(0, width=size[0], height=size[1], device=device))


def collect(port: int, store: Path, ready: Event, stop: Event) -> None:
    """A collector."""
    with Collector(store, broker_settings(port)):
        ready.set()
        stop.wait()


def _listen(port: int, store: Path, ready: Event, stop: Event) -> None:
    """A subscriber that throws away what it gets."""
    del store
    broker = Broker(broker_settings(port), "listener", SystemClock(), random.Random(1), receive_bytes=2**27)
    broker.subscribe("plain", lambda _: None)
    broker.start()
    broker.wait_connected(10)
    ready.set()
    stop.wait()
    broker.close()


class Other:
    """The receiving end, in a process of its own."""

    def __init__(self, what: Callable[[int, Path, Event, Event], None], port: int, store: Path) -> None:
        context = multiprocessing.get_context("spawn")
        ready, self._stop = context.Event(), context.Event()
        self._process = context.Process(target=what, args=(port, store, ready, self._stop))
        self._process.start()
        self.pid = self._process.pid or 0
        assert ready.wait(60)

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join()


def plain_rate(port: int, packets: Sequence[bytes], payload: int) -> float:
    """Bytes of picture per second of paho publishing these packets, with the uplink's window."""
    packets_limit = min(WINDOW_PACKETS, max(1, WINDOW_BYTES // max(map(len, packets))))
    window = threading.Semaphore(packets_limit)
    client = Client(CallbackAPIVersion.VERSION2, "plain", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_publish = lambda *_: window.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    started = time.perf_counter()
    for packet in packets:
        window.acquire()
        client.publish("plain", packet, 1)
    for _ in range(packets_limit):
        window.acquire()
    elapsed = time.perf_counter() - started
    client.disconnect()
    client.loop_stop()
    return payload / elapsed


@dataclass(frozen=True)
class Delivery:
    """One round."""

    rate: float
    """Bytes of picture per second from spool to store."""
    written: float
    """Bytes that the device wrote per byte of picture, `put` and all."""
    cpu_ms: dict[str, float]
    """Processor time per picture of each process."""


def deliver(broker: BrokerSettings, folder: Path, items: Sequence[Item], others: Mapping[str, int]) -> Delivery:
    """Put all, then upload all. `others` are the processes at the other end, by name."""
    size = sum(len(item.image) for item in items)
    before = _written()
    left = threading.Semaphore(0)
    pids = {"device": os.getpid(), **others}

    def trace(step: str) -> None:
        if step == "uplink.forgotten":
            left.release()

    with Device(folder, broker, uplink={"receipt_timeout_s": 60}, trace=trace) as device:
        device.uplink.paused = True
        device.put(*items)
        os.sync()
        device.uplink.paused = False
        started, cpu = time.perf_counter(), {name: _cpu_ms(pid) for name, pid in pids.items()}
        device.uplink.wake()
        for _ in items:
            left.acquire()
        elapsed = time.perf_counter() - started
        spent = {name: (_cpu_ms(pid) - cpu[name]) / len(items) for name, pid in pids.items()}
    return Delivery(size / elapsed, (_written() - before) / size, spent)


def _cpu_ms(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e6


def disk_rate(folder: Path, items: Sequence[Item]) -> float:
    """Bytes of picture per second that a store takes when somebody hands it four at a time."""
    store = Store(folder, SystemClock())
    started = time.perf_counter()
    for first in range(0, len(items), ROWS):
        store.write(items[first : first + ROWS])
        store.add(items[first : first + ROWS], {})
    elapsed = time.perf_counter() - started
    store.close()
    return sum(len(item.image) for item in items) / elapsed


def _written() -> int:
    """Bytes that this process caused to be written to disks; 0 on a file system in memory."""
    os.sync()
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def _apart(folder: Path) -> None:
    """Have ext4 put the folders in it into parts of the disk of their own, as two machines have disks of their own.

    It looks at every inode that was freed lately before it takes one in the same part, so what the device deletes would
    slow down what the collector creates.
    """
    flags = array.array("l", [0])
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # another file system
        fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
        flags[0] |= _TOP_FOLDER
        fcntl.ioctl(descriptor, _SET_FLAGS, flags)
    os.close(descriptor)


def compare(name: str, count: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Alternate plain and delivered rounds for pictures of one size."""
    items = pictures(count, SIZES[name])
    size = sum(len(item.image) for item in items)
    topic = Topics("tk/v1", "gate-north").candidate
    packets = [encode_part(item, part) for item in items for part in split(item, topic, 126_000, 64_000)]
    plain, disk, ours = [], [], []
    for _ in range(rounds):
        place, there = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
        mosquitto = Mosquitto(place).start()
        broker = broker_settings(mosquitto.port)
        with Other(_listen, mosquitto.port, place):
            plain.append(plain_rate(mosquitto.port, packets, size))
        disk.append(disk_rate(there / "bare", items))
        with Other(collect, mosquitto.port, there / "store") as other:
            pids = {"collector": other.pid, "broker": mosquitto.pid}
            ours.append(deliver(broker, place / "device", items, pids))
        assert devices(there / "store")[0]["stored"] == count
        mosquitto.stop()
    ratios = [o.rate / p for o, p in zip(ours, plain, strict=True)]
    cpu = {name: round(statistics.median(o.cpu_ms[name] for o in ours), 2) for name in ours[0].cpu_ms}
    cores = len(os.sched_getaffinity(0))
    by_cpu = size / count / (sum(cpu.values()) / 1000 / cores) / 1e6
    by_disk = statistics.median(disk) / 1e6
    share = min(by_cpu, by_disk) * 1e6 / statistics.median(plain)
    return {
        "images": count,
        "image_bytes": size // count,
        "plain_mb_s": round(statistics.median(plain) / 1e6, 1),
        "delivered_mb_s": round(statistics.median(o.rate for o in ours) / 1e6, 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": sorted(round(ratio, 2) for ratio in ratios),
        "disk_bound_mb_s": round(by_disk, 1),
        "cpu_ms_per_image": cpu,
        "cpu_bound_mb_s": round(by_cpu, 1),
        "bound_by": f"{sum(cpu.values()):.1f} ms of processor per picture on {cores} cores allow {by_cpu:.0f} MB/s,"
        f" the disk {by_disk:.0f}: at most {share:.2f} of plain",
        "written_per_byte": round(statistics.median(o.written for o in ours), 2),
    }


def flood(count: int, folder: Path) -> float:
    """Candidates per second that one collector stores when several devices send pictures of 60 KB."""
    folder.mkdir()
    mosquitto = Mosquitto(folder).start()
    broker = broker_settings(mosquitto.port)
    payloads = {
        f"device-{n}": [encode_item(item) for item in pictures(count // FLOOD_DEVICES, SIZES["60 KB"], f"device-{n}")]
        for n in range(FLOOD_DEVICES)
    }
    left = threading.Semaphore(0)
    with Other(collect, mosquitto.port, folder / "store"):
        clients = [_sender(broker, name, left) for name in payloads]
        started = time.perf_counter()
        for group in range(count // FLOOD_DEVICES):
            for client, (name, own) in zip(clients, payloads.items(), strict=True):
                client.publish(Topics("tk/v1", name).candidate, own[group])
            if group >= 4:  # as many without a receipt as a device would have
                for _ in clients:
                    left.acquire()
        for _ in range(4 * FLOOD_DEVICES):
            left.acquire()
        elapsed = time.perf_counter() - started
        for client in clients:
            client.close()
    mosquitto.stop()
    return count / elapsed


def _sender(broker: BrokerSettings, name: str, left: threading.Semaphore) -> Broker:
    client = Broker(broker, name, SystemClock(), random.Random(1))
    client.subscribe(Topics("tk/v1", name).ack, lambda m: left.release(len(Receipt.decode(m.payload).acks)))
    client.start()
    client.wait_connected(10)
    return client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400, help="pictures of 60 KB; a fifth as many of 300 KB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        _apart(Path(name))
        result = {
            "60 KB": compare("60 KB", options.images, options.rounds, Path(name)),
            "300 KB": compare("300 KB", options.images // 5, options.rounds, Path(name)),
            "stored_per_s": round(flood(options.images // FLOOD_DEVICES * FLOOD_DEVICES, Path(name) / "flood")),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
