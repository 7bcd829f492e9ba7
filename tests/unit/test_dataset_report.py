"""The report: its numbers are those of the store, and canary draws with labels speak of all frames."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import main
from agent.collector import LabelStore
from agent.dataset.labelling import take
from agent.dataset.records import Labels
from agent.dataset.report.accuracy import Canary, Change, changes, considered, error_rate, errors_of
from agent.dataset.report.facts import Axis, captured, gather
from agent.dataset.report.page import page
from agent.records import Item, make_item
from agent.selection.canary import Estimate
from tests.fakes.clock import FakeClock
from tests.fakes.stores import Objects, a_label, a_scene, a_store

NOW = datetime(2027, 1, 15, 8, 0, tzinfo=timezone.utc)
CAR, BUS = ("car", (40, 60, 120, 110)), ("bus", (160, 40, 260, 140))
MOVED = ("car", (200, 150, 280, 200))


def candidate(number: int, objects: Objects = (CAR,), *, chance: float | None = None, **changes: Any) -> Item:
    """Candidate `number`, taken so many minutes before now; a canary draw where it has a chance."""
    item = a_scene(number, objects, lane="canary" if chance else changes.pop("lane", "uncertain"))
    at = NOW - timedelta(minutes=number)
    meta = item.meta.model_copy(update={"probability": chance, "ts": at.isoformat(), **changes})
    return make_item(item.image, meta)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., LabelStore]]:
    """Opens a store with these candidates, and with what people said of some of them."""
    stores: list[LabelStore] = []

    def make(items: Sequence[Item], said: Sequence[tuple[Item, Objects]] = (), **changes: Any) -> LabelStore:
        store = LabelStore(a_store(tmp_path / "store", items), FakeClock())
        stores.append(store)
        labels = tuple(a_label(item, objects, **changes) for item, objects in said)
        assert not take(store, Labels(labels), ()).problems
        return store

    yield make
    for store in stores:
        store.close()


def shown(store: LabelStore, trained: dict[str, int] | None = None) -> str:
    """The words of the page."""
    text = re.sub(r"<style>.*</style>", "", page(gather(store, 4), store.folder, trained, NOW), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).replace("\u2009", "").split())


def test_missed_and_wrong_objects_are_counted_against_what_a_person_drew(opened: Callable[..., LabelStore]) -> None:
    item = candidate(1, (CAR, BUS), chance=0.1)
    store = opened([item], [(item, (CAR, MOVED))])
    assert errors_of(store.folder, item.cid, 1) == (1, 1)
    assert errors_of(store.folder, item.cid, 2) is None


def test_each_drawn_box_is_found_once(opened: Callable[..., LabelStore]) -> None:
    item = candidate(1, (CAR, CAR), chance=0.1)
    store = opened([item], [(item, (("car", (44, 62, 122, 114)),))])
    assert errors_of(store.folder, item.cid, 1) == (0, 1)


def test_an_empty_frame_is_as_good_as_another(opened: Callable[..., LabelStore]) -> None:
    item = candidate(1, (CAR,), chance=0.1)
    assert errors_of(opened([item], [(item, ())]).folder, item.cid, 1) == (0, 1)


def test_a_draw_counts_by_one_over_its_chance() -> None:
    rare = [Canary(i, 0.1, 1.0, 1, 4, 0) for i in range(5)]
    common = [Canary(i, 0.4, 1.0, 1, 0, 0) for i in range(5)]
    unlabelled = [Canary(i, 0.5, 1.0, 1) for i in range(8)]
    assert considered(rare + common + unlabelled) == pytest.approx(50 + 12.5 + 16)
    found = error_rate(rare + common + unlabelled)
    assert found is not None
    assert found.mean == pytest.approx(4 * 50 / 62.5)
    assert found.low < found.mean < found.high
    assert error_rate(unlabelled) is None


def test_the_interval_holds_the_truth_in_19_of_20_stores() -> None:
    rng = np.random.default_rng(7)
    errors = rng.poisson(1.3, 4000)
    held = 0
    for _ in range(300):
        chance = np.where(np.arange(4000) < 2000, 0.02, 0.05)
        drawn = np.flatnonzero(rng.random(4000) < chance)
        found = error_rate([Canary(float(i), float(chance[i]), 1.0, 1, int(errors[i]), 0) for i in drawn])
        held += found is not None and found.low <= errors.mean() <= found.high
    assert 0.91 <= held / 300 <= 0.985


def test_a_change_is_spoken_of_only_where_it_is_sure() -> None:
    rng = np.random.default_rng(3)
    same = [Canary(float(i), 0.1, float(rng.gamma(2)), 3) for i in range(200)]
    other = [Canary(float(200 + i), 0.1, float(5 + rng.gamma(2)), 3) for i in range(60)]
    assert not changes(same)["expected errors"].sure
    assert changes(same + other)["expected errors"].sure
    assert not changes(same + other)["objects"].sure
    assert changes(same[:20]) == {}
    assert not Change(Estimate(3, 3, 3), Estimate(3, 3, 3)).sure


@given(st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1)), st.floats(0, 1e9))
def test_an_axis_has_few_steps_and_holds_both_ends(first: datetime, span: float) -> None:
    begin = first.replace(tzinfo=timezone.utc)
    end = begin + timedelta(seconds=span)
    axis = Axis.over(begin, end)
    assert 1 <= axis.bins <= 40
    assert axis.start <= begin < axis.start + axis.step
    assert axis.start + (axis.bins - 1) * axis.step <= end < axis.start + axis.bins * axis.step
    assert (axis.bin(begin), axis.bin(end)) == (0, axis.bins - 1)


def test_a_clock_that_was_wrong_is_not_believed() -> None:
    row = {"received": "2027-01-15T08:00:00.000Z"}
    assert captured({**row, "ts": "2027-01-15T07:00:00.1234Z"}) == NOW - timedelta(hours=1)
    for wrong in ("1970-01-01T00:00:12Z", "2031-05-01T00:00:00+02:00"):
        assert captured({**row, "ts": wrong}) == NOW


def test_the_page_has_the_stores_numbers(opened: Callable[..., LabelStore]) -> None:
    items = [candidate(i) for i in range(6)] + [candidate(6 + i, (BUS,), chance=0.1) for i in range(4)]
    said = [(items[0], (CAR,)), (items[6], (BUS,)), (items[7], (BUS, MOVED)), (items[8], ())]
    text = shown(opened(items, said), {"car": 50, "bus": 3, "tram": 0})
    assert "10 candidates" in text
    assert "≈ 40 frames looked at 25.0% of them kept" in text
    assert "4 labelled by people 6 wait" in text
    assert "0.67 errors a frame" in text
    assert "3 of 4 draws have a label that counts (1 object missed, 1 wrong)" in text
    assert "car 50 + 2 +4.0%" in text
    assert "bus 3 + 2 +66.7%" in text
    assert "gate-north / gate 4 75%" in text


def test_what_is_not_known_is_said_to_be_unknown(opened: Callable[..., LabelStore]) -> None:
    text = shown(opened([candidate(1), candidate(2, chance=0.5)]))
    assert "Unknown: 0 of 1 canary draws have a human label" in text
    assert "name it with --model" in text
    assert "Nobody has labelled anything yet." in text
    assert "No camera has enough canary draws" in text


def test_an_empty_store_has_a_page_too(opened: Callable[..., LabelStore]) -> None:
    assert "This store holds no candidates" in shown(opened([]))


def test_labels_that_cannot_be_read_are_counted(opened: Callable[..., LabelStore]) -> None:
    items = [candidate(i, chance=0.1) for i in range(4)]
    store = opened(items, [(item, (CAR,)) for item in items])
    (store.folder / "labels" / items[0].cid[:2] / f"{items[0].cid}.0001.json").write_text("{}")
    assert "1 labelled draw could not be read" in shown(store)


def test_names_cannot_break_the_page(opened: Callable[..., LabelStore]) -> None:
    evil = "<img src=x onerror=alert(1)>"
    item = candidate(1, (CAR,), reasons=(evil,), camera=evil)
    store = opened([item], [(item, (CAR,))], who=evil)
    text = page(gather(store, 4), store.folder, {evil: 4}, NOW)
    assert evil not in text
    assert "&lt;img src=x" in text
    assert "$" not in text


def test_pictures_that_are_gone_leave_the_rest(opened: Callable[..., LabelStore]) -> None:
    items = [candidate(i) for i in range(3)]
    store = opened(items)
    (store.folder / "images" / items[1].cid[:2] / f"{items[1].cid}.jpg").unlink()
    assert page(gather(store, 4), store.folder, None, NOW).count('class="tile"') == 2


def test_the_command_writes_one_file_and_says_what_is_in_it(
    opened: Callable[..., LabelStore], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [candidate(i, chance=0.25) for i in range(3)]
    opened(items, [(item, (CAR, BUS)) for item in items])
    (tmp_path / "agent.toml").write_text(f'[collector]\nstore = "{tmp_path}/store"\n')
    command = ["dataset", "report", "--config", str(tmp_path / "agent.toml"), "--out"]
    assert main([*command, str(tmp_path / "r.html"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["candidates"], said["frames"], said["labelled_canaries"]) == (3, 12, 3)
    assert said["errors_per_frame"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert said["bytes"] == (tmp_path / "r.html").stat().st_size
    assert main([*command, str(tmp_path / "gone" / "r.html")]) == 2
    assert "--out" in capsys.readouterr().err
