"""Splits of convolutions are taken apart where that changes nothing, and left alone everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from agent.detector.rewrite import without_splits
from tests.fakes.models import IR_VERSION

PARTS = (2, 4)
CHANNELS = sum(PARTS)
Change = Callable[[ModelProto], object]


def a_block(*, silu: bool = True, bias: bool = True, sizes: bool = True) -> ModelProto:
    """A convolution with or without SiLU, its split, and something different made of each part."""
    rng = np.random.default_rng(0)
    constants = {"weight": rng.normal(size=(CHANNELS, 3, 3, 3)), "bias": rng.normal(size=CHANNELS), "two": np.array(2)}
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array(PARTS), "sizes"))
    whole = "active" if silu else "made"
    activation = [
        helper.make_node("Sigmoid", ["made"], ["gate"], name="sigmoid"),
        helper.make_node("Mul", ["made", "gate"], ["active"], name="product"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "weight", *["bias"] * bias], ["made"], name="conv", pads=[1, 1, 1, 1]),
        *(activation if silu else []),
        helper.make_node("Split", [whole, *["sizes"] * sizes], ["a", "b"], name="split", axis=1),
        helper.make_node("Mul", ["a", "two"], ["doubled"], name="double"),
        helper.make_node("Concat", ["b", "doubled"], ["out"], name="concat", axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, CHANNELS, 8, 8))
    if not sizes:
        nodes[-3].attribute.append(helper.make_attribute("num_outputs", 2))
    graph = helper.make_graph(nodes, "block", [image], [out], tensors)
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", 20)])


def coded(model: ModelProto) -> bytes:
    return bytes(model.SerializeToString())


def answers(model: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    return session.run(None, {"image": image})


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def unused(model: bytes) -> set[str]:
    """Constants that no operator needs."""
    graph = onnx.load_from_string(model).graph
    return {tensor.name for tensor in graph.initializer} - {name for node in graph.node for name in node.input}


def node(model: ModelProto, name: str) -> Any:
    return next(node for node in model.graph.node if node.name == name)


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [True, False])
def test_each_part_is_a_convolution_with_the_same_channels(silu: bool, bias: bool, sizes: bool) -> None:
    model = coded(a_block(silu=silu, bias=bias, sizes=sizes))
    rewritten = without_splits(model)
    onnx.checker.check_model(onnx.load_from_string(rewritten))
    part = ["Conv", "Sigmoid", "Mul"] if silu else ["Conv"]
    assert operators(rewritten) == [*part, *part, "Mul", "Concat"]
    np.testing.assert_allclose(answers(rewritten), answers(model), rtol=1e-6, atol=1e-6)
    assert unused(rewritten) == unused(model)


def test_every_block_of_a_model_is_taken_apart() -> None:
    first, second = a_block(), a_block()
    for each in second.graph.node:  # the second block goes on where the first one ends, with the same filters
        each.name += " 2"
        each.input[:] = ["part" if name == "image" else name for name in each.input]
        each.input[:] = [
            name if name in ("part", "weight", "bias", "sizes", "two") else f"{name}2" for name in each.input
        ]
        each.output[:] = [name if name == "out" else f"{name}2" for name in each.output]
    node(first, "concat").output[0] = "joined"
    first.graph.node.append(helper.make_node("Split", ["joined"], ["part", "rest"], axis=1, num_outputs=2))
    first.graph.node.extend(second.graph.node)
    model = coded(first)
    rewritten = without_splits(model)
    assert operators(rewritten).count("Split") == 1  # what it splits is no convolution's
    np.testing.assert_allclose(answers(rewritten), answers(model), rtol=1e-6, atol=1e-6)


def _also_out(model: ModelProto, name: str, channels: int = CHANNELS) -> None:
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, 8, 8)))


def _grouped(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones((CHANNELS, 1, 3, 3), np.float32), "weight")
    model.graph.initializer[0].CopyFrom(tensor)
    node(model, "conv").attribute.append(helper.make_attribute("group", 3))


def _along_the_rows(model: ModelProto) -> None:
    node(model, "split").attribute[0].i = 2
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2 * CHANNELS
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 4
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.array([4, 4]), "sizes"))


def _of_another_domain(model: ModelProto) -> None:
    node(model, "conv").domain = "someone.else"


def _may_be_overridden(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, (CHANNELS, 3, 3, 3)))


def _numbers_elsewhere(model: ModelProto) -> None:
    tensor = numpy_helper.to_array(model.graph.initializer[0])
    listed = helper.make_tensor("weight", TensorProto.FLOAT, tensor.shape, tensor.ravel().tolist())
    assert not listed.raw_data
    model.graph.initializer[0].CopyFrom(listed)


def _other_sizes(model: ModelProto) -> None:
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.array([2, 5]), "sizes"))


def _computed_sizes(model: ModelProto) -> None:
    tensor = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["sizes"], value=tensor))


def _with_a_branch(model: ModelProto) -> None:
    made = helper.make_tensor_value_info("made2", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["active"], ["made2"])], "branch", [], [made])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: _also_out(model, "made"),
        lambda model: _also_out(model, "gate"),
        lambda model: _also_out(model, "active"),
        lambda model: model.graph.node.append(helper.make_node("Identity", ["active"], ["more"])),
        lambda model: node(model, "product").input.__setitem__(0, "gate"),
        lambda model: setattr(node(model, "sigmoid"), "op_type", "Tanh"),
        lambda model: node(model, "split").output.__setitem__(0, ""),
        lambda model: node(model, "split").ClearField("output"),
        lambda model: node(model, "split").ClearField("input"),
        _grouped,
        _along_the_rows,
        _of_another_domain,
        _may_be_overridden,
        _numbers_elsewhere,
        _other_sizes,
        _computed_sizes,
        _with_a_branch,
    ],
)
def test_what_is_unlike_such_a_block_stays_as_it_is(change: Change) -> None:
    block = a_block()
    change(block)
    assert without_splits(coded(block)) == coded(block)


@given(at=st.integers(0, len(coded(a_block())) - 1), value=st.integers(0, 255))
def test_whatever_a_byte_is_changed_to_nothing_is_raised(at: int, value: int) -> None:
    model = coded(a_block())
    assert without_splits(model[:at] + bytes([value]) + model[at + 1 :])


@given(st.binary(max_size=200))
def test_what_is_no_model_stays_as_it_is(junk: bytes) -> None:
    try:
        onnx.load_from_string(junk)
    except Exception:  # noqa: BLE001 - no ONNX
        assert without_splits(junk) == junk
