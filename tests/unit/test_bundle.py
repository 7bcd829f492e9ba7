"""Bundles: read once, verified, one file only."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from agent import bundle
from agent.bundle import read_bundle
from agent.errors import ModelError
from tests.fakes.models import NAMES, a_bundle, a_model, end2end, with_external_data

MODEL = a_model(end2end([]))


def test_a_bundle_is_read_with_its_manifest(tmp_path: Path) -> None:
    read = read_bundle(a_bundle(tmp_path, MODEL))
    assert read.onnx == MODEL
    assert read.sha256 == hashlib.sha256(MODEL).hexdigest()
    assert read.model_id == "fake-1"
    assert read.manifest is not None
    assert read.manifest.classes == NAMES
    assert read.manifest.calibration.odds == 1.5


def test_a_bare_onnx_is_called_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "street cam.onnx"
    path.write_bytes(MODEL)
    read = read_bundle(path)
    assert (read.model_id, read.manifest) == ("street-cam", None)


def test_a_newer_manifest_with_further_keys_is_read(tmp_path: Path) -> None:
    assert read_bundle(a_bundle(tmp_path, MODEL, from_the_future=1)).manifest is not None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sha256": "0" * 64}, "not the file that its manifest describes"),
        ({"size": 1}, "not the file that its manifest describes"),
        ({"counts": [1]}, "counts has 1 entries for 3 classes"),
        ({"task": "segment"}, "task"),
        ({"classes": []}, "classes"),
        ({"model_id": "../up"}, "model_id"),
        ({"v": 2}, "v"),
    ],
)
def test_a_bad_manifest_is_refused_by_key(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        read_bundle(a_bundle(tmp_path, MODEL, **changes))


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    a_bundle(tmp_path, MODEL)
    (tmp_path / "manifest.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match=r"manifest\.json"):
        read_bundle(tmp_path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx does not exist; give a bundle"):
        read_bundle(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelError, match=r"manifest\.json does not exist"):
        read_bundle(tmp_path)


def test_a_model_with_external_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="keeps weights in other files"):
        read_bundle(with_external_data(tmp_path))


def test_external_data_is_found_inside_subgraphs(tmp_path: Path) -> None:
    secret = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value="../../etc/passwd")
    inner = helper.make_graph([helper.make_node("Constant", [], ["x"], value=secret)], "inner", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([node], "outer", [], []))
    path = tmp_path / "nested.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files"):
        read_bundle(path)


def test_a_compiled_engine_beside_the_model_is_refused() -> None:
    node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft", ep_cache_context="../engine.bin")
    with pytest.raises(ModelError, match="other files"):
        read_bundle(helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString())


def test_a_file_over_the_size_cap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "SIZE_LIMIT", 100)
    path = tmp_path / "big.onnx"
    path.write_bytes(MODEL)
    with pytest.raises(ModelError, match="larger than 100 bytes"):
        read_bundle(path)
    with pytest.raises(ModelError, match="larger than 100 bytes"):
        read_bundle(MODEL)


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", b"\x89PNG\r\n\x1a\n", b"\x00" * 64, MODEL[:-9]])
def test_what_is_no_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="is not an ONNX model"):
        read_bundle(content)


@given(st.binary(max_size=200), st.integers(0, len(MODEL)))
def test_damage_never_ends_in_anything_but_a_model_error(damage: bytes, at: int) -> None:
    with contextlib.suppress(ModelError):
        read_bundle(MODEL[:at] + damage + MODEL[at + len(damage) :])
