"""What the device itself says: temperature, throttling, memory, CPU and disk. Whatever cannot be read is None."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from agent.clock import Clock

_PI_THROTTLED = "devices/platform/*/*:firmware/get_throttled"
_PI_NOW = 0xF
"""Bits of get_throttled that speak of now: under-voltage, frequency capped, throttled, soft temperature limit.
The bits from 16 on speak of any time since boot (Raspberry Pi documentation, vcgencmd)."""
_PLAUSIBLE_C = (-40.0, 150.0)


class Sensors:
    """Readings of this machine and this process.

    `sys` and `proc` are /sys and /proc; `vcgencmd` asks a Raspberry Pi's firmware and returns its answer or None.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        sys: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        vcgencmd: Callable[[], str | None] | None = None,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._sys = sys
        self._proc = proc
        self._vcgencmd = vcgencmd or _ask_firmware
        self._cpu_s = cpu_s
        self._cpu_before = (clock.mono_ns(), cpu_s())
        self._overcurrents = self._jetson_overcurrents()

    def temperature_c(self) -> float | None:
        """The hottest plausible thermal zone in degrees Celsius."""
        texts = (_read(path) for path in self._sys.glob("class/thermal/thermal_zone*/temp"))
        zones = [int(text) / 1000 for text in texts if text is not None and text.lstrip("-").isdigit()]
        return max((c for c in zones if _PLAUSIBLE_C[0] < c < _PLAUSIBLE_C[1]), default=None)

    def throttled(self) -> bool | None:
        """Whether the hardware is slowed down now by heat, low voltage or too much current."""
        answers = [self._pi_throttled(), self._jetson_throttled(), self._cooling()]
        known = [answer for answer in answers if answer is not None]
        return any(known) if known else None

    def rss_mb(self) -> float | None:
        """Resident memory of this process."""
        statm = _read(self._proc / "self/statm")
        return round(int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1) if statm else None

    def cpu(self) -> float | None:
        """Cores this process kept busy since the last call, 1.0 = one core; None when no time has passed."""
        now = (self._clock.mono_ns(), self._cpu_s())
        (wall_ns, cpu_s), self._cpu_before = self._cpu_before, now
        elapsed = (now[0] - wall_ns) / 1e9
        return round((now[1] - cpu_s) / elapsed, 3) if elapsed > 0 else None

    def _pi_throttled(self) -> bool | None:
        text = next(map(_read, self._sys.glob(_PI_THROTTLED)), None)
        if text is None and (self._sys / "firmware/devicetree/base/model").exists():
            text = self._vcgencmd()
        try:
            return bool(int(text.rpartition("=")[2], 16) & _PI_NOW) if text else None
        except ValueError:
            return None

    def _jetson_throttled(self) -> bool | None:
        """Whether an over-current event was counted since the last look (NVIDIA Jetson Linux guide, soctherm OC)."""
        before, self._overcurrents = self._overcurrents, self._jetson_overcurrents()
        return None if before is None or self._overcurrents is None else self._overcurrents > before

    def _jetson_overcurrents(self) -> int | None:
        texts = [_read(path) for path in self._sys.glob("class/hwmon/hwmon*/oc*_event_cnt")]
        counts = [int(text) for text in texts if text is not None and text.isdigit()]
        return sum(counts) if counts else None

    def _cooling(self) -> bool | None:
        """Whether a thermal governor holds a processor's frequency down."""
        states = [
            _read(folder / "cur_state")
            for folder in self._sys.glob("class/thermal/cooling_device*")
            if "cpufreq" in (_read(folder / "type") or "")
        ]
        known = [state for state in states if state is not None]
        return any(state != "0" for state in known) if known else None


def disk_free_mb(folder: Path) -> float | None:
    """Room for a service that is not root on the disk that holds `folder`, in MB (10^6 bytes)."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return round(disk.f_bavail * disk.f_frsize / 1e6, 1)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip("\0\n ")
    except (OSError, ValueError):
        return None


def _ask_firmware() -> str | None:
    """``throttled=0x0`` from vcgencmd, where there is one that answers."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        answer = subprocess.run([command, "get_throttled"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
