"""A real headless Chromium: what a page asks for, complains about, and looks like at a width."""

from __future__ import annotations

import functools
import html
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_MEASURE = """<!doctype html><meta charset="utf-8"><iframe src="{page}" style="width:{width}px;height:900px;border:0">
</iframe><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const pictures = [...page.images];
  document.body.innerText = JSON.stringify({{
    wide: root.scrollWidth - root.clientWidth,
    width: root.clientWidth,
    pictures: pictures.length,
    broken: pictures.filter(each => !each.naturalWidth).length,
    text: page.body.innerText,
    shapes: page.querySelectorAll("svg rect").length,
  }});
}});
</script>"""


def browser() -> str | None:
    """The program, where there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of opening a page."""

    page: dict[str, Any]
    """wide (pixels by which it is wider than the window), width, pictures, broken, text, shapes."""
    requests: list[str]
    """Addresses that were asked for, but for the page and what measures it."""
    console: list[str]
    """What the page's console says."""


def look(page: Path, width: int) -> Seen:
    """Open the file `page` in a window of `width` pixels."""
    net = page.with_name("net.json")
    (page.parent / "measure.html").write_text(_MEASURE.format(page=page.name, width=width))
    with _served(page.parent) as address:
        done = _run(
            f"{address}/measure.html",
            *("--dump-dom", "--virtual-time-budget=10000", "--window-size=1400,1000"),
            *("--enable-logging=stderr", f"--log-net-log={net}", "--net-log-capture-mode=Everything"),
        )
    body = re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    assert body, done.stderr
    wanted = {f"{address}/{name}" for name in ("measure.html", page.name)}
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    asked = [one for one in _asked(net) if one not in wanted and not one.startswith("data:")]
    return Seen(json.loads(html.unescape(body[1])), asked, console)


def screenshot(page: Path, out: Path, width: int, height: int, *, dark: bool = False) -> None:
    """Draw the file `page` into the PNG `out`."""
    night = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _run(page.as_uri(), f"--window-size={width},{height}", f"--screenshot={out}", *night)


def _run(address: str, *flags: str) -> subprocess.CompletedProcess[str]:
    program = browser()
    assert program
    own = ["--no-sandbox"] if os.geteuid() == 0 else []
    always = ("--headless", "--hide-scrollbars", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    return subprocess.run(
        [program, *always, *own, *flags, address], capture_output=True, text=True, timeout=100, check=True
    )


def _asked(log: Path) -> Iterator[str]:
    """Addresses of every request in Chromium's own network log."""
    record = json.loads(log.read_text())
    start = record["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    for event in record["events"]:
        if event["type"] == start and "url" in event.get("params", {}):
            yield event["params"]["url"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on standard error: the browser's own words are read there."""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
