"""``tailkeeper dataset`` on a store: batches out, labels in, numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from agent.cli import main
from tests.fakes.folders import a_folder
from tests.fakes.stores import a_scene, a_store

Run: TypeAlias = Callable[..., Any]
ITEMS = [a_scene(number, lane="canary" if number == 3 else "uncertain") for number in range(4)]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on a store of four candidates; its JSON, or its status where there is none."""
    store = a_store(tmp_path / "store", ITEMS)
    config = tmp_path / "agent.toml"
    config.write_text(f'[collector]\nstore = "{store}"\n')

    def command(*words: object) -> Any:
        status = main(["dataset", *map(str, words), "--config", str(config), "--json"])
        out = capsys.readouterr().out
        return json.loads(out) if out else status

    return command


def test_candidates_and_labels_are_counted(run: Run) -> None:
    found = run("stats")
    assert (found["candidates"], found["labels"]) == (4, {"unlabelled": 4})
    assert found["lanes"] == {"canary": {"unlabelled": 1}, "uncertain": {"unlabelled": 3}}
    assert found["devices"] == {"gate-north": {"unlabelled": 4}}
    assert found["classes"] == {"car": {"served": 4, "labelled": 0}}
    assert found["bytes"] == sum(len(item.image) for item in ITEMS)


def test_a_batch_goes_out_and_labels_come_in(run: Run, tmp_path: Path) -> None:
    sent = run("export", "label-studio", tmp_path / "batch", "--limit", 3)
    assert (sent["export"], sent["tasks"], sent["lanes"]) == (1, 3, {"uncertain": 2, "canary": 1})
    tasks = json.loads((tmp_path / "batch" / "tasks.json").read_text())
    assert [len(task["predictions"]) for task in tasks] == [1, 1, 1]
    tasks[0]["annotations"] = [_annotation()]
    (tmp_path / "labelled.json").write_text(json.dumps(tasks))
    taken = run("import", "label-studio", tmp_path / "labelled.json")
    assert (taken["labels"], taken["stored"], taken["problems"]) == (1, 1, [])
    found = run("stats")
    assert found["labels"] == {"exported": 2, "labelled": 1, "unlabelled": 1}
    assert (found["people"], found["verdicts"]) == ({"ann@example.org": 1}, {"useful": 1})
    assert found["classes"]["car"] == {"served": 4, "labelled": 1}


def _annotation() -> dict[str, Any]:
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["car"]}
    return {
        "id": 1,
        "completed_by": {"id": 1, "email": "ann@example.org"},
        "lead_time": 8.5,
        "updated_at": "2027-01-16T08:00:00Z",
        "result": [{"type": "rectanglelabels", "value": value, "original_width": 320, "original_height": 240}],
    }


def test_an_import_that_takes_nothing_fails(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.json").write_text("no json")
    taken = run("import", "label-studio", tmp_path / "text.json")
    assert (taken["stored"], len(taken["problems"])) == (0, 1)
    config = str(tmp_path / "agent.toml")
    assert main(["dataset", "import", "label-studio", str(tmp_path / "text.json"), "--config", config]) == 1
    assert "not JSON" in capsys.readouterr().err


WRONG = {
    ("export", "excel", "out"): "one of label-studio, cvat, coco, ultralytics",
    ("export", "coco", "batch", "--classes", "nowhere"): "name a data.yaml, a bundle or a list of names",
    ("import", "label-studio", "nowhere.json"): "name the file that the tool exported",
    ("import", "spool", "nowhere"): "name the folder with images/ and meta/",
    ("build", "--out", "sets"): "import labels, or name a --base",
    ("build", "--out", "sets", "--base", "nowhere.yaml"): "name a data.yaml",
    ("build", "--out", "sets", "--again", "nowhere.json"): "name its card.json",
    ("verify", "nowhere"): "name a folder that `dataset build` made",
}


@pytest.mark.parametrize(("words", "remedy"), WRONG.items(), ids=map(" ".join, WRONG))
def test_wrong_usage_is_said_with_its_remedy(
    run: Run,
    words: tuple[str, ...],
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dataset", *words, "--config", str(tmp_path / "agent.toml")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("tailkeeper: ")
    assert said.endswith(remedy)


def test_versions_are_built_proved_and_compared(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("export", "label-studio", tmp_path / "batch")
    tasks = json.loads((tmp_path / "batch" / "tasks.json").read_text())
    for number, count in enumerate((2, 4)):
        for task in tasks[:count]:
            task["annotations"] = [_annotation()]
        (tmp_path / f"labelled{number}.json").write_text(json.dumps(tasks))
        run("import", "label-studio", tmp_path / f"labelled{number}.json")
        built = run("build", "--out", tmp_path / "versions", "--val-share", 0)
        assert sum(sum(images.values()) for images in built["images"].values()) == count
        assert run("verify", built["folder"])["ok"] is True
    first, second = sorted((tmp_path / "versions").glob("v*"))
    assert main(["dataset", "diff", str(first), str(second), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["added"]) == 2
    (second / "provenance.jsonl").chmod(0o644)
    (second / "provenance.jsonl").write_bytes((second / "provenance.jsonl").read_bytes().replace(b"ann@", b"bob@"))
    refused = run("verify", second)
    assert refused["ok"] is False
    assert refused["problems"]
    assert main(["dataset", "verify", str(second), "--config", str(tmp_path / "agent.toml")]) == 1


def test_a_version_is_proved_without_a_store_as_far_as_that_goes(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = run(
        "build", "--out", tmp_path / "versions", "--base", a_folder(tmp_path / "street", train=[101], val=[102])
    )
    assert built["bases"][0]["declared_by"]
    (tmp_path / "empty.toml").write_text("")
    assert main(["dataset", "verify", built["folder"], "--config", str(tmp_path / "empty.toml")]) == 0
    assert "2 samples proved, no store here" in capsys.readouterr().out
