"""The labelling loop on a real run: candidates out to each tool, a person's boxes back in, a version, a trained model.

The person is a script that knows the truth of the demo's street. Every fourth frame nobody looks at: the model's
guesses in it must not come back as labels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import pytest

from agent.clock import SystemClock
from agent.collector import LabelStore
from agent.dataset.formats import FORMATS
from agent.dataset.records import Box
from agent.dataset.tasks import tasks_of
from agent.demo.run import DEMO_SOURCE
from agent.world import World
from agent.world.classes import NAMES
from agent.world.truth import truth
from tests.e2e.conftest import COMMAND, Tailkeeper
from tests.labelling import coco, cvat, label_studio, ultralytics, work
from tests.labelling.judging import PYTHON, boxes, the_judge
from tests.labelling.work import WHEN, WHO, Answer

SECONDS = 10
VISIBLE = 0.4
"""Share of a thing's pixels from which a person would draw it."""
ANSWERS = {"label-studio": label_studio, "coco": coco, "cvat": cvat, "ultralytics": ultralytics}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tailkeeper demo` left behind: dataset/ is the collector's store."""
    out = tmp_path_factory.mktemp("run") / "out"
    command = [*COMMAND, "demo", "--seconds", str(SECONDS), "--out", str(out)]
    subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=100, check=True)
    return out


@pytest.fixture(scope="module")
def answers(run: Path) -> dict[str, Answer]:
    """What a person says of each candidate. A scene is known by its picture: rendering and JPEG give the same bytes."""
    store = run / "dataset"
    wanted = {hashlib.sha256(path.read_bytes()).hexdigest(): path.stem for path in store.rglob("images/*/*.jpg")}
    world, found, index = World(DEMO_SOURCE.removeprefix("world:")), dict[str, Answer](), 0
    while len(found) < len(wanted):
        jpeg = cv2.imencode(".jpg", world.render(index), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        cid = wanted.get(hashlib.sha256(jpeg).hexdigest())
        if cid:
            drawn = [thing for thing in truth(world, index) if thing.visibility >= VISIBLE]
            found[cid] = Answer(tuple(Box(NAMES[thing.cls], thing.box) for thing in drawn))
        index += 1
    return {cid: Answer(answer.boxes, "useful" if answer.boxes else "nothing") for cid, answer in found.items()}


@pytest.fixture
def store(tmp_path: Path, run: Path) -> Path:
    """A copy of the run's store, with agent.toml and the names of the classes beside it."""
    shutil.copytree(run / "dataset", tmp_path / "store")
    (tmp_path / "agent.toml").write_text(f'[collector]\nstore = "{tmp_path / "store"}"\n')
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path / "store"


@pytest.mark.parametrize("tool", sorted(FORMATS))
def test_candidates_come_back_as_a_person_labelled_them(
    tmp_path: Path, store: Path, answers: dict[str, Answer], tailkeeper: Tailkeeper, tool: str
) -> None:
    common = ("--config", "agent.toml", "--classes", "names.txt", "--json")
    exported = tailkeeper("dataset", "export", tool, "out", *common)
    assert exported.status == 0, exported.err
    batch = json.loads((tmp_path / "out" / "tailkeeper.json").read_text())["tasks"]
    assert len(batch) == exported.json["tasks"] > 0
    judged(tool, tmp_path / "out", store, batch)

    given = {cid: answers[cid] for number, cid in enumerate(batch) if number % 4}
    path = ANSWERS[tool].answer(tmp_path / "out", given)
    imported = tailkeeper("dataset", "import", tool, path, *common, "--who", WHO, "--when", WHEN)
    assert imported.status == 0, imported.err
    assert (imported.json["labels"], imported.json["stored"]) == (len(given), len(given))
    assert len(imported.json["problems"]) == (0 if tool in ("label-studio", "ultralytics") else 1)
    assert_stored(store, batch, given)

    built = tailkeeper("dataset", "build", "--out", "sets", "--val-share", "0.4", *common)
    assert built.status == 0, built.err
    assert_built(tmp_path / built.json["folder"], given)
    verified = tailkeeper("dataset", "verify", built.json["folder"], "--config", "agent.toml", "--json")
    assert verified.json["ok"], verified.err


def judged(tool: str, folder: Path, store: Path, batch: list[str]) -> None:
    """The tool's own library sees each candidate of the batch with the model's boxes, where it is installed."""
    if tool == "ultralytics" or not PYTHON.exists():
        return
    seen = the_judge()(tool.replace("-", "_"), folder)["images"]
    assert seen.keys() == {f"{cid}.jpg" for cid in batch}
    for task in tasks_of(store, batch):
        assert work.same(boxes(seen[f"{task.cid}.jpg"]), [guess.box for guess in task.predictions])


def assert_stored(store: Path, batch: list[str], given: Mapping[str, Answer]) -> None:
    """Each answer is one revision with the same boxes; what nobody looked at has none."""
    with LabelStore(store, SystemClock()) as labels:
        for cid in batch:
            said = labels.revisions(cid)
            assert len(said) == (cid in given)
            for one in said:
                assert work.same([Box(drawn.name, drawn.xyxy) for drawn in one.boxes], given[cid].boxes)
                assert (one.who, one.verdict) == (WHO, given[cid].verdict)


def assert_built(folder: Path, given: Mapping[str, Answer]) -> None:
    """The version's label files hold the boxes that the person drew, and no other candidate is in it."""
    found = {path.stem: path for path in folder.rglob("labels/**/*.txt")}
    assert {cid for cid in given if any(cid in name for name in found)} == given.keys()
    assert len(found) == len(given)
    for name, path in found.items():
        answer = next(given[cid] for cid in given if cid in name)
        lines = [line.split() for line in path.read_text().splitlines()]
        assert all(len(columns) == 5 for columns in lines)
        assert sorted(NAMES[int(columns[0])] for columns in lines) == sorted(box.name for box in answer.boxes)


@pytest.mark.timeout(240)
def test_ultralytics_trains_and_validates_what_was_built(
    tmp_path: Path, store: Path, answers: dict[str, Answer], tailkeeper: Tailkeeper
) -> None:
    pytest.importorskip("ultralytics", reason="needs the export extra: make test-export")
    common = ("--config", "agent.toml", "--classes", "names.txt", "--json")
    assert tailkeeper("dataset", "export", "label-studio", "out", *common).status == 0
    path = label_studio.answer(tmp_path / "out", answers)
    assert tailkeeper("dataset", "import", "label-studio", path, *common).status == 0
    built: Any = tailkeeper("dataset", "build", "--out", "sets", "--val-share", "0.4", *common).json
    sheet = tmp_path / built["folder"] / "data.yaml"
    command = [sys.executable, "-m", "tests.labelling.train", str(sheet), str(tmp_path / "runs")]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"classes {len(NAMES)}" in done.stdout
    for cache in (tmp_path / built["folder"] / "labels").glob("*.cache"):  # all that a training leaves behind
        cache.unlink()
    verified = tailkeeper("dataset", "verify", built["folder"], "--config", "agent.toml", "--json")
    assert verified.json["ok"], verified.err
