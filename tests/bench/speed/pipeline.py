"""The agent as the service wires it, in a process of its own: cameras, detector, selection, spool, uplink.

    python -m tests.bench.speed.pipeline FOLDER PORT MODEL THREADS STILL_S SOURCE...

Between its turns the watch loop stands still, and with it everything before and after it.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from agent.clock import SystemClock
from agent.service import Device
from agent.settings import Loaded, load
from tests.bench.speed.turns import serve

UNLIMITED = {"frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0}


def configuration(folder: Path, port: int, model: str, threads: int, sources: list[str], **selection: object) -> Loaded:
    """Defaults, but for the daily limits, which would leave nothing to select within seconds at full speed."""
    folder.mkdir(exist_ok=True)
    (folder / "none.toml").touch()
    cameras = {
        f"camera-{n}": {"name": f"camera-{n}", "source": source, "fps": 0.0, "loop": True}
        for n, source in enumerate(sources)
    }
    return load(
        folder / "none.toml",
        environ={},
        command_line={
            "device": {"id": "speed", "state_dir": str(folder)},
            "broker": {"host": "127.0.0.1", "port": port, "tls": False},
            "cameras": cameras,
            "model": {"path": model, "threads": threads},
            "selection": UNLIMITED | selection,
            "uplink": {"start_spread_s": 0.0},
        },
    )


class Stoppable:
    """The watch loop of a running device, let go in turns."""

    def __init__(self, device: Device) -> None:
        assert device.watch is not None
        self._device, self._watch = device, device.watch
        self._go, self._standing = threading.Event(), threading.Event()
        self._stop()

    def turn(self, seconds: float) -> dict[str, float]:
        """What went all the way through in so many seconds: frames, those of the slowest camera, the oldest's age."""
        before = self._frames()
        self._go.set()
        threading.Event().wait(seconds)
        self._stop()
        frames = [now - before.get(camera, 0) for camera, now in self._frames().items()]
        oldest = min(self._watch.newest.values(), default=0)
        age = (self._device.clock.mono_ns() - oldest) / 1e9
        return {"frames": sum(frames), "least": min(frames, default=0), "age_s": age}

    def _stop(self) -> None:
        self._go.clear()
        self._standing.clear()
        self._watch.post(self._stand)
        self._standing.wait()

    def _stand(self) -> None:
        self._standing.set()
        self._go.wait()

    def end(self) -> None:
        self._go.set()

    def _frames(self) -> dict[str, int]:
        """Considered frames per camera; the loop stands still meanwhile."""
        cameras = self._watch.parts.selector.state()["cameras"]
        return {name: state["frames"] for name, state in cameras.items()}


def main() -> None:
    folder, port, model, threads, still_s, *sources = sys.argv[1:]
    settings = configuration(Path(folder), int(port), model, int(threads), sources, still_s=float(still_s))
    device = Device(settings, SystemClock())
    with device.running():
        stoppable = Stoppable(device)
        serve(stoppable.turn)
        stoppable.end()


if __name__ == "__main__":
    main()
