"""`python -m tests.bench [NAME...]` is `make bench`: runs benchmarks one after the other and gathers what they print.

Every benchmark is a module that prints its own table; the file says on which machine, with which versions and when.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from agent import __version__

BENCHMARKS = ("speed", "world", "delivery", "outage", "fleet")
PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "paho-mqtt")


def machine() -> str:
    """One line about processor, cores and memory."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    name = (named or [platform.machine()])[0]
    memory = int(Path("/proc/meminfo").read_text("ascii").split()[1]) / 1e6
    cores = sum(line.startswith("processor") for line in lines)
    return f"{name}, {cores} cores, {memory:.1f} GB, {platform.system()} {platform.release()}"


def provenance() -> str:
    """When, on which machine and with which versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    when = datetime.now(timezone.utc)
    return f"{when:%Y-%m-%d %H:%M} UTC; {machine()};\nPython {platform.python_version()}, {versions}\n"


def main() -> int:
    """Exits 1 where a benchmark failed; the others are run all the same."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--out", type=Path, default=Path("build/bench.md"))
    options = parser.parse_args()
    parts = [f"# Benchmarks of tailkeeper {__version__}\n\n{provenance()}"]
    failed = False
    for name in options.names:
        print(f"# {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{name}"], stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, flush=True)
        failed |= done.returncode != 0
        parts.append(f"# {name}{' FAILED' if done.returncode else ''}\n\n{done.stdout}")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(parts), "utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
