"""The report in a real browser: it asks for nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from agent.collector import LabelStore
from agent.dataset.report import report
from tests.fakes.browser import NAMES, browser, look, screenshot
from tests.fakes.clock import FakeClock
from tests.unit.test_dataset_report import BUS, CAR, MOVED, candidate, opened

__all__ = ["opened"]
pytestmark = pytest.mark.skipif(browser() is None, reason=f"no browser: {NAMES[0]} is a package of Debian")


@pytest.fixture
def page(opened: Callable[..., LabelStore], tmp_path: Path) -> Path:
    """A report on 2,000 minutes of one camera, some of it labelled."""
    items = [candidate(i * 40) for i in range(30)]
    items += [candidate(i * 50 + 7, (BUS,), chance=0.05, score=0.4 + i % 5) for i in range(40)]
    said = [(item, (BUS, MOVED) if i % 3 else (BUS,)) for i, item in enumerate(items[30:60])]
    store = opened(items, [*said, (items[0], (CAR,))])
    out = tmp_path / "page" / "report.html"
    out.parent.mkdir()
    report(store, out, {"car": 1200, "bus": 30, "person": 90_000}, FakeClock())
    return out


@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_report_and_asks_for_nothing_else(page: Path, width: int) -> None:
    seen = look(page, width)
    assert seen.requests == []
    assert seen.console == []
    assert (seen.page["width"], seen.page["wide"]) == (width, 0)
    assert (seen.page["pictures"], seen.page["broken"]) == (16, 0)
    text = " ".join(seen.page["text"].replace("\u2009", "").split())
    for words in ("70 candidates", "≈ 800 frames looked at", "0.67 errors a frame", "bus 30 + 30 +100.0%"):
        assert words in text
    assert seen.page["shapes"] > 50


def test_light_and_dark_are_drawn_as_such(page: Path, tmp_path: Path) -> None:
    grounds = []
    for dark in (False, True):
        screenshot(page, tmp_path / "shot.png", 800, 600, dark=dark)
        picture = cv2.imread(str(tmp_path / "shot.png"))
        assert picture is not None
        grounds.append(float(picture[4, 4].mean()))
    assert grounds[0] > 230
    assert grounds[1] < 40


def test_the_browser_would_have_told(tmp_path: Path) -> None:
    """The checks themselves: a page that does what ours must not."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<body style="width:2000px"><img src="http://127.0.0.1:9/x.png"><script>console.error("no")</script></body>'
    )
    seen = look(bad, 390)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert any('"no"' in line for line in seen.console)
    assert seen.page["wide"] > 1000
    assert seen.page["broken"] == 1
