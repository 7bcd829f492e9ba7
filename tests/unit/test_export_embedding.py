"""The extra output of an exported model: the mean of a feature map that is there anyway, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.bundle import read_bundle
from agent.cli import main
from agent.detector import Detector
from agent.errors import ModelError
from agent.export.onnx import OPSET, add_embedding, export_checkpoint


def two_layers(*, kept_inside: bool = False) -> Any:
    """A model [1,3,8,8] -> [1,4,8,8] of a convolution in layer 7 and something that reads it in layer 8."""
    weights = np.random.default_rng(1).normal(size=(4, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["sums"], name="/model.7/conv/Conv"),
        helper.make_node("Relu", ["sums"], ["features"], name="/model.7/act/Relu"),
        helper.make_node("Neg", ["images" if kept_inside else "features"], ["output0"], name="/model.8/Neg"),
    ]
    shapes = {"images": (1, 3, 8, 8), "output0": (1, 3 if kept_inside else 4, 8, 8)}
    image, output = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in shapes)
    graph = helper.make_graph(nodes, "g", [image], [output], [numpy_helper.from_array(weights, "weights")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def test_the_embedding_is_the_mean_of_the_map_that_the_layer_hands_on() -> None:
    model = two_layers()
    add_embedding(model, 7)
    onnx.checker.check_model(model, full_check=True)
    image = np.random.default_rng(2).normal(size=(1, 3, 8, 8)).astype(np.float32)
    output, embedding = ort.InferenceSession(model.SerializeToString()).run(None, {"images": image})
    assert embedding.shape == (1, 4)
    assert embedding[0] == pytest.approx(-output[0].mean(axis=(1, 2)), abs=1e-6)


@pytest.mark.parametrize("model", [two_layers(kept_inside=True), two_layers()], ids=["unread", "no such layer"])
def test_a_model_without_such_a_map_is_refused(model: Any) -> None:
    layer = 7 if model.graph.node[2].input[0] == "images" else 3
    with pytest.raises(ModelError, match=f"layer {layer} .* no feature map"):
        add_embedding(model, layer)


@pytest.fixture
def checkpoint(assets: Path) -> Path:
    pytest.importorskip("ultralytics", reason="Ultralytics is not installed: `make test-export`")
    return assets / "models" / "yolo26n.pt"


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_exported_with_it_gives_the_same_rows_and_the_checkpoints_own_features(
    checkpoint: Path, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["model", "export", checkpoint, "--out", tmp_path / "b", "--imgsz", "320", "--embedding", "--json"]
    assert main([str(word) for word in command]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["embedding"] == {"name": "embedding", "length": 256}
    bundle = read_bundle(tmp_path / "b")
    assert onnx.load_from_string(bundle.onnx).opset_import[0].version <= 17

    picture = cv2.imread(str(next((assets / "data" / "coco_val_a" / "images").iterdir())))
    assert picture is not None
    image = np.asarray(picture, np.uint8)
    rows, embedding = Detector(tmp_path / "b", floor=0.02).look(image)
    plain = Detector(export_checkpoint(checkpoint, tmp_path / "plain.onnx", 320), floor=0.02)
    assert np.allclose(rows, plain.detect(image), atol=1e-3)
    assert embedding == pytest.approx(pooled(checkpoint, image), abs=2e-3)
    assert main(["model", "info", str(tmp_path / "b")]) == 0
    assert "embedding of 256 values" in capsys.readouterr().out


def pooled(checkpoint: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean of the map that the checkpoint's backbone ends with, by PyTorch itself."""
    import torch
    from ultralytics import YOLO

    from agent.detector.letterbox import Letterbox

    network = YOLO(str(checkpoint)).model.float().eval()
    seen: list[Any] = []
    network.model[10].register_forward_hook(lambda _, inputs, output: seen.append(output.mean(dim=(2, 3))))
    with torch.no_grad():
        network(torch.from_numpy(Letterbox((320, 320)).blob(image)[0]))
    return np.asarray(seen[0][0].numpy(), np.float32)
