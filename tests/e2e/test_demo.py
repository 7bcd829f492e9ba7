"""The whole product in one command."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import pytest

from agent.records import content_id
from tests.e2e.conftest import Tailkeeper

KEYS = {"frames", "fps", "candidates", "stored", "lanes", "out"}


def stored(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((out / "dataset" / "meta").glob("*/*.json"))]


def check_data_set(out: Path, count: int) -> None:
    """Every candidate is there once, and image, metadata and id agree."""
    records = stored(out)
    images = list((out / "dataset" / "images").glob("*/*.jpg"))
    assert len(records) == len(images) == len({record["sha256"] for record in records}) == count
    for record in records:
        path = out / "dataset" / "images" / record["cid"][:2] / f"{record['cid']}.jpg"
        image, meta = path.read_bytes(), record["meta"]
        assert hashlib.sha256(image).hexdigest() == record["sha256"]
        assert len(image) == record["size"]
        assert record["cid"] == content_id(meta["device"], meta["ts_ns"], record["sha256"])
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape[:2] == (meta["image"]["h"], meta["image"]["w"])


def test_a_folder_of_pictures_becomes_stored_candidates(
    tailkeeper: Tailkeeper, pictures: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = tailkeeper("demo", "--source", pictures, "--model", model, "--out", out, "--json")
    assert done.status == 0, done.err
    summary = done.json
    assert set(summary) >= KEYS
    assert summary["frames"] == 40
    assert summary["candidates"] == summary["stored"] == sum(summary["lanes"].values()) > 0
    check_data_set(out, summary["stored"])
    assert Counter(record["meta"]["lane"] for record in stored(out)) == summary["lanes"]
    assert cv2.imread(str(out / "contact_sheet.jpg")) is not None


def test_the_summary_for_a_person_says_how_many_were_stored(
    tailkeeper: Tailkeeper, pictures: Path, model: Path, tmp_path: Path
) -> None:
    done = tailkeeper("demo", "--source", pictures, "--model", model, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert f"stored {len(stored(tmp_path / 'out'))}" in done.out.splitlines()
    assert "contact sheet" in done.out


def test_without_mosquitto_the_embedded_broker_is_amqtt(
    tailkeeper: Tailkeeper, pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden by a PATH and a search that know no mosquitto."""
    pytest.importorskip("amqtt")
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    (nowhere / "sitecustomize.py").write_text("import shutil\nshutil.which = lambda *_, **__: None\n")
    path = f"{nowhere}{os.pathsep}{Path(__file__).parents[2]}"
    done = tailkeeper(
        "demo", "--source", pictures, "--model", model, "--out", tmp_path / "out", "--json", PYTHONPATH=path
    )
    assert done.status == 0, done.err
    assert (tmp_path / "out" / "broker" / "amqtt.yaml").exists()
    assert done.json["stored"] > 0
    check_data_set(tmp_path / "out", done.json["stored"])


def test_unreadable_pictures_are_skipped(tailkeeper: Tailkeeper, pictures: Path, model: Path, tmp_path: Path) -> None:
    (pictures / "005.jpg").write_bytes(b"no picture")
    (pictures / "006.jpg").write_bytes(b"")
    shutil.copy(pictures / "007.jpg", pictures / "notes.txt")
    done = tailkeeper("demo", "--source", pictures, "--model", model, "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    assert done.json["frames"] == 38
    assert done.json["skipped"] == 2


def test_real_frames_and_the_real_model(tailkeeper: Tailkeeper, assets: Path, tmp_path: Path) -> None:
    source, model = assets / "data" / "clips" / "car-detection.mp4", assets / "models" / "yolo26n.onnx"
    done = tailkeeper(
        "demo", "--source", source, "--model", model, "--seconds", "15", "--out", tmp_path / "out", "--json"
    )
    assert done.status == 0, done.err
    assert done.json["stored"] == done.json["candidates"] > 0
    check_data_set(tmp_path / "out", done.json["stored"])


def test_with_no_arguments_a_street_gives_candidates_of_all_lanes_and_rare_classes(
    tailkeeper: Tailkeeper, tmp_path: Path
) -> None:
    done = tailkeeper("demo", "--seconds", "30", "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    assert {"uncertain", "rare", "canary"} <= set(done.json["lanes"])
    manifest = json.loads((Path(__file__).parents[2] / "agent" / "world" / "model" / "manifest.json").read_text())
    by_count = sorted(zip(manifest["counts"], manifest["classes"], strict=True))
    rare = {name for _, name in by_count[: len(by_count) // 3]}
    seen = {d["name"] for record in stored(tmp_path / "out") for d in record["meta"]["detections"] if d["served"]}
    assert rare & seen, f"of {sorted(rare)} none is among {sorted(seen)}"
