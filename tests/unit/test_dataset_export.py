"""Batches for labelling tools: what comes first, what nobody has to see twice, and what was sent before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.collector import LabelStore, Revision, listing
from agent.collector.labels import LabelStore as Store
from agent.dataset.export import BATCH_FILE, Exported, export
from agent.dataset.formats import Format
from agent.dataset.formats.label_studio import read
from agent.dataset.names import names_in, read_names
from agent.dataset.records import Task
from agent.dataset.tasks import Choice
from agent.errors import ConfigError
from agent.records import Item
from tests.fakes.clock import FakeClock
from tests.fakes.stores import a_scene, a_store


class Tool:
    """A labelling tool that takes its tasks as a list, and fails when it is told to."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.broken = False

    def write(self, tasks: Sequence[Task], folder: Path, classes: Sequence[str], *, url: str = "") -> None:
        self.tasks = list(tasks)
        if self.broken:
            raise OSError(28, "No space left on device")
        (folder / "tasks.json").write_text(json.dumps([task.cid for task in tasks]))


@pytest.fixture
def tool() -> Tool:
    return Tool()


def run(folder: Path, tool: Tool, out: Path, choice: Choice | None = None) -> Exported:
    with LabelStore(folder, FakeClock()) as store:
        return export(store, ("tool", Format(tool.write, read)), out, choice or Choice(100), ["car"])


def cids(*items: Item) -> list[str]:
    return [item.cid for item in items]


def test_lanes_take_turns_and_the_highest_score_comes_first(tmp_path: Path, tool: Tool) -> None:
    doubtful = [a_scene(number, score=number) for number in range(3)]
    rare = [a_scene(10 + number, lane="rare", score=5 + number) for number in range(2)]
    canary = a_scene(20, lane="canary", score=0)
    folder = a_store(tmp_path / "store", [*doubtful, *rare, canary])
    done = run(folder, tool, tmp_path / "out")
    assert [task.cid for task in tool.tasks] == cids(
        rare[1], doubtful[2], canary, rare[0], doubtful[1], doubtful[0]
    )  # fmt: skip
    assert [task.priority for task in tool.tasks] == [6, 5, 4, 3, 2, 1]
    assert (done.tasks, done.twins, done.lanes) == (6, 0, {"rare": 2, "uncertain": 3, "canary": 1})
    batch = json.loads((tmp_path / "out" / BATCH_FILE).read_text())
    assert batch["evaluation"] == [canary.cid]


def test_each_candidate_is_exported_once(tmp_path: Path, tool: Tool) -> None:
    items = [a_scene(number, score=9 - number) for number in range(5)]
    folder = a_store(tmp_path / "store", items[:4])
    run(folder, tool, tmp_path / "a", Choice(3))
    assert [task.cid for task in tool.tasks] == cids(*items[:3])
    a_store(folder, items[4:])
    assert run(folder, tool, tmp_path / "b").tasks == 2
    assert [task.cid for task in tool.tasks] == cids(*items[3:])
    assert run(folder, tool, tmp_path / "c").tasks == 0
    assert not (tmp_path / "c").exists()
    assert {row["label"] for row in listing(folder)} == {"exported"}
    assert run(folder, tool, tmp_path / "d", Choice(100, again=True)).tasks == 5


def test_two_agents_on_one_clip_give_one_task_per_distinct_frame(tmp_path: Path, tool: Tool) -> None:
    places = [(20 * i, 60, 20 * i + 80, 110) for i in range(8)]
    north = [a_scene(i, [("car", box)], scene=1) for i, box in enumerate(places)]
    south = [
        a_scene(i, [("car", box)], scene=1, device="gate-south", quality=70, scale=0.75) for i, box in enumerate(places)
    ]
    folder = a_store(tmp_path / "store", [*north[:6], *south[2:]])
    done = run(folder, tool, tmp_path / "out")
    assert done.tasks == len(places)
    assert done.twins == 4
    shown = {north.index(item) if item in north else south.index(item) for item in [*north, *south]
             if item.cid in {task.cid for task in tool.tasks}}  # fmt: skip
    assert shown == set(range(8))


def test_near_duplicates_are_known_in_later_batches_too(tmp_path: Path, tool: Tool) -> None:
    folder = a_store(tmp_path / "store", [a_scene(1)])
    run(folder, tool, tmp_path / "a")
    a_store(folder, [a_scene(7, scene=1, device="gate-south", quality=60)])
    done = run(folder, tool, tmp_path / "b")
    assert (done.tasks, done.twins) == (0, 1)
    assert run(folder, tool, tmp_path / "c").twins == 0, "it is compared once"


def test_canary_draws_are_never_left_out(tmp_path: Path, tool: Tool) -> None:
    twins = [a_scene(number, scene=1, lane="canary") for number in range(3)]
    folder = a_store(tmp_path / "store", [a_scene(9, scene=1), *twins])
    done = run(folder, tool, tmp_path / "out")
    assert done.lanes == {"uncertain": 1, "canary": 3}


def test_a_batch_that_was_cut_off_is_finished_and_counts_only_then(tmp_path: Path, tool: Tool) -> None:
    items = [a_scene(number, score=9 - number) for number in range(4)]
    folder = a_store(tmp_path / "store", items[:2])
    tool.broken = True
    with pytest.raises(OSError, match="No space"):
        run(folder, tool, tmp_path / "out")
    assert {row["label"] for row in listing(folder)} == {"unlabelled"}
    a_store(folder, items[2:])
    tool.broken = False
    assert run(folder, tool, tmp_path / "out").tasks == 2
    assert [task.cid for task in tool.tasks] == cids(*items[:2])
    assert run(folder, tool, tmp_path / "next").tasks == 2
    with pytest.raises(ConfigError, match="holds export 1; name a new folder"):
        run(folder, tool, tmp_path / "out")


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, tool: Tool) -> None:
    folder = a_store(tmp_path / "store", [a_scene()])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday.jpg").write_text("")
    with pytest.raises(ConfigError, match="not empty"):
        run(folder, tool, tmp_path / "out")


def test_only_the_lanes_asked_for_and_the_newest_first(tmp_path: Path, tool: Tool) -> None:
    items = [a_scene(number, lane="rare" if number % 2 else "uncertain", score=9 - number) for number in range(6)]
    folder = a_store(tmp_path / "store", items)
    run(folder, tool, tmp_path / "a", Choice(2, lanes=("rare",)))
    assert [task.cid for task in tool.tasks] == cids(items[1], items[3])
    run(folder, tool, tmp_path / "b", Choice(2, newest=True))
    assert [task.cid for task in tool.tasks] == cids(items[5], items[4])


def test_a_candidate_whose_picture_is_gone_is_said(tmp_path: Path, tool: Tool) -> None:
    item = a_scene()
    folder = a_store(tmp_path / "store", [item, a_scene(1)])
    (folder / "images" / item.cid[:2] / f"{item.cid}.jpg").unlink()
    done = run(folder, tool, tmp_path / "out")
    assert (done.tasks, done.unreadable) == (1, [item.cid])


def test_class_names_are_those_of_the_last_export_and_what_was_served_since(tmp_path: Path) -> None:
    item = a_scene(1, [("person", (0, 0, 20, 60)), ("bus", (100, 50, 200, 150))])
    with Store(a_store(tmp_path, [item]), FakeClock()) as store:
        assert names_in(store) == ["bus", "person"]
        store.remember_export("coco", tmp_path, ["person", "cat"], [item.cid])
        assert names_in(store) == ["person", "cat", "bus"]


def test_class_names_are_read_from_what_people_have(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: x\nnames:\n  0: person\n  1: traffic light # two words\n")
    (tmp_path / "list.yaml").write_text("names: [person, 'car']\n")
    (tmp_path / "names.txt").write_text("person\n\ncar\n")
    assert read_names(tmp_path / "data.yaml") == ["person", "traffic light"]
    assert read_names(tmp_path / "list.yaml") == read_names(tmp_path / "names.txt") == ["person", "car"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("names: [a, a]", "'a' twice"),
        ("names: {1: a}", "not the classes in order"),
        ("- a", "no keys"),
        ("a: [", "YAML"),
    ],
)
def test_class_names_that_make_no_sense_are_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_names(tmp_path / "data.yaml")


def test_labelled_candidates_are_not_exported_again(tmp_path: Path, tool: Tool) -> None:
    item = a_scene()
    folder = a_store(tmp_path / "store", [item])
    said = Revision(
        cid=item.cid, image=item.sha256, width=320, height=240, boxes=(), verdict="junk", who="ann", when="w", tool="t"
    )
    with LabelStore(folder, FakeClock()) as store:
        store.add([said])
    assert run(folder, tool, tmp_path / "out", Choice(100, again=True)).tasks == 0
