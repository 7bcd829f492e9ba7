"""Other machines on this one: clean Debian roots (overlays of one image) and machines booted from them. Root only."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

DEBIAN = "bookworm"
PACKAGES = ("ca-certificates", "dbus", "mosquitto", "python3", "python3-venv", "systemd", "systemd-sysv")
BOOT_S = 120.0


def missing(*tools: str) -> str:
    """Why no machine can be made here; empty where one can."""
    if os.geteuid() != 0:
        return "only root can make machines"
    lacking = [tool for tool in tools if shutil.which(tool) is None]
    return f"not installed here: {', '.join(lacking)}" if lacking else ""


def make_debian(image: Path, *options: str, packages: tuple[str, ...] = PACKAGES) -> Path:
    """Bootstrap a minimal Debian into `image`, unless it is there."""
    if not image.exists():
        part = image.with_name(f"{image.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        run(["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", *options, DEBIAN, str(part)])
        part.rename(image)
    return image


def run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a failed one is shown with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{command} exited {done.returncode}: {done.stdout}{done.stderr}"
    return done


class Root:
    """A file system tree that can be entered."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside, without network."""
        script = 'mount -t proc proc "$1/proc" && exec chroot "$@"'
        enter = ["unshare", "--net", "--mount", "--pid", "--fork", "/bin/sh", "-c", script, "sh", str(self.path)]
        return run([*enter, *command], check=check)

    def at(self, name: str) -> Path:
        """Where the tree's file `name` is on this machine."""
        return self.path / name.lstrip("/")

    def copy(self, source: Path, target: str) -> None:
        self.at(target).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, self.at(target), dirs_exist_ok=True)
        else:
            shutil.copy(source, self.at(target))

    def write(self, target: str, text: str) -> None:
        self.at(target).parent.mkdir(parents=True, exist_ok=True)
        self.at(target).write_text(text, "utf-8")

    def edit(self, target: str, **values: object) -> None:
        """Set keys of a TOML file, in place of the lines that have them."""
        text = self.at(target).read_text("utf-8")
        for key, value in values.items():
            text, found = re.subn(rf"(?m)^#?{key} = .*$", f"{key} = {value}", text, count=1)
            assert found, key
        self.at(target).write_text(text, "utf-8")


@contextlib.contextmanager
def overlay(image: Path, folder: Path) -> Iterator[Path]:
    """A tree that starts as `image` and keeps its changes below `folder`."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    layers = f"lowerdir={image},upperdir={folder}/upper,workdir={folder}/work"
    run(["mount", "-t", "overlay", "overlay", "-o", layers, str(folder / "root")])
    try:
        yield folder / "root"
    finally:
        run(["umount", "--lazy", str(folder / "root")])


class Machine(Root):
    """A tree that boots: systemd as process 1, and a network of its own with nobody else in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._container: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Start it, and wait until systemd has started everything."""
        options = ["--quiet", "--boot", "--private-network", "--register=no", "--keep-unit", "--console=pipe"]
        self._container = subprocess.Popen(
            ["systemd-nspawn", *options, f"--directory={self.path}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        children = Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children")
        deadline = time.monotonic() + BOOT_S
        while self._init == 0 or self._state() not in ("running", "degraded"):
            assert time.monotonic() < deadline, "the machine does not boot"
            assert self._container.poll() is None, "systemd-nspawn ended"
            self._init = int(next(iter(children.read_text().split()), 0))
            time.sleep(0.2)  # there is no event before systemd can be asked

    def _state(self) -> str:
        return self.inside("systemctl", "is-system-running", "--wait", check=False).stdout.strip()

    def inside(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the booted machine."""
        return run(["nsenter", "--all", f"--target={self._init}", *command], check=check)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.inside("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def wait_for(self, pattern: str, *, unit: str = "", since: str = "", timeout_s: float = 90.0) -> str:
        """Wait for a line of this boot's journal, of one unit or after a `cursor`; returns it."""
        follow = ["journalctl", "--boot", "--follow", "--lines=all", "--output=cat"]
        follow += [f"--unit={unit}"] if unit else []
        follow += [f"--after-cursor={since}"] if since else []
        with subprocess.Popen(
            ["nsenter", "--all", f"--target={self._init}", *follow], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as journal:
            assert journal.stdout is not None
            try:
                return _find(journal.stdout.fileno(), re.compile(pattern), time.monotonic() + timeout_s)
            finally:
                journal.kill()

    def cursor(self) -> str:
        """Where the journal ends now."""
        shown = self.inside("journalctl", "--lines=0", "--show-cursor").stdout
        return shown.rpartition("cursor: ")[2].strip()

    def cut_power(self) -> None:
        """End every process at once, with no chance to finish anything."""
        assert self._container is not None
        os.kill(self._init, signal.SIGKILL)
        self._container.kill()
        self._container.wait()
        self._container, self._init = None, 0

    def off(self) -> None:
        if self._container is not None:
            self.cut_power()


def _find(descriptor: int, pattern: re.Pattern[str], deadline: float) -> str:
    text = ""
    while True:
        for line in text.splitlines():
            if pattern.search(line):
                return line
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{pattern.pattern!r} is not in the journal:\n{text[-3000:]}"
        text += os.read(descriptor, 65_536).decode(errors="replace")
