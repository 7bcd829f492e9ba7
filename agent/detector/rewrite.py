"""A rewrite of the graph that ONNX Runtime leaves undone, and that changes no result.

YOLO's blocks (C2f, C3k2, C2PSA) compute a convolution and split its channels. On x86 ONNX Runtime keeps what
convolutions compute in a blocked layout, in which it cannot split: YOLO26n is taken out of it and put back 57 times in
an inference. One convolution per part, with the part's filters, gives the same channels: 15 times, and 35.1 instead of
38.2 ms of processor time (two cores, onnxruntime 1.28). ARM has no such layout in its wheels; there it spares what
Split copies, which is 1 % (under qemu).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np

from agent.protobuf import Content, field, fields, head, raw_fields, varints

VERSION = 1
"""Counts what this module makes of one and the same model."""

Piece: TypeAlias = "bytes | memoryview"
"""Of a message: models are large, and most of one stays as it is."""

# Field numbers of onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_WEIGHT, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3
_TENSOR_DIMENSION, _TENSOR_NAME, _TENSOR_RAW = 1, 8, 9
_VALUE_NAME = 1
_NESTED = {b"If", b"Loop", b"Scan", b"SequenceMap"}
"""ONNX's operators with graphs of their own; those of others may have them too."""


@dataclass(frozen=True, eq=False)
class Node:
    """An operator; names are bytes, as in the file."""

    message: memoryview
    op: bytes
    """With its domain, where that is not ONNX's own."""
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]

    @cached_property
    def attributes(self) -> dict[bytes, int]:
        """The integers; 0 for those of other kinds."""
        found = (dict(fields(content)) for content in _messages(self.message)[_NODE_ATTRIBUTE])
        return {_bytes(each.get(_ATTRIBUTE_NAME)): _int(each.get(_ATTRIBUTE_INT)) for each in found}

    @property
    def nested(self) -> bool:
        """Whether it may hold graphs of its own, which may use any name of this one."""
        return self.op in _NESTED or b"." in self.op

    def between(self, inputs: Sequence[bytes], output: bytes) -> bytes:
        """The same operator on other values."""
        kept = [raw for number, _, raw in raw_fields(self.message) if number > _NODE_NAME]
        ends = [field(_NODE_INPUT, name) for name in inputs] + [field(_NODE_OUTPUT, output)]
        return b"".join([*ends, field(_NODE_NAME, output), *kept])


@dataclass(frozen=True, eq=False)
class Tensor:
    """A constant of the graph."""

    message: memoryview
    dimensions: tuple[int, ...]
    raw: memoryview
    """Empty where the file keeps the numbers in another way."""

    def rows(self, begin: int, end: int, name: bytes) -> bytes:
        """These rows of it, as a tensor of that name."""
        size = len(self.raw) // self.dimensions[0]
        changed = (_TENSOR_DIMENSION, _TENSOR_NAME, _TENSOR_RAW)
        kept = [raw for number, _, raw in raw_fields(self.message) if number not in changed]
        dimensions = [field(_TENSOR_DIMENSION, n) for n in (end - begin, *self.dimensions[1:])]
        rows = bytes(self.raw[begin * size : end * size])
        return b"".join([*dimensions, *kept, field(_TENSOR_NAME, name), field(_TENSOR_RAW, rows)])


@dataclass(frozen=True)
class Block:
    """A convolution, perhaps SiLU (Sigmoid, Mul), and the split of its channels, which nothing else needs whole."""

    convolution: Node
    activation: tuple[Node, ...]
    split: Node
    filters: tuple[Tensor, ...]
    """Weight, and bias where there is one: a row per channel."""
    parts: tuple[int, ...]
    """Channels of each."""

    def nodes(self) -> list[bytes]:
        """What computes the parts one by one."""
        nodes, filters = [], self.convolution.inputs[1:]
        for output in self.split.outputs:
            made = _of(output, self.convolution.outputs[0]) if self.activation else output
            inputs = [self.convolution.inputs[0], *(_of(output, name) for name in filters)]
            nodes.append(self.convolution.between(inputs, made))
            if self.activation:
                sigmoid, product = self.activation
                gate = _of(output, sigmoid.outputs[0])
                nodes += [sigmoid.between([made], gate), product.between([made, gate], output)]
        return nodes

    def weights(self) -> list[bytes]:
        """The filters of each part."""
        spans = list(pairwise(accumulate(self.parts, initial=0)))
        return [
            tensor.rows(begin, end, _of(output, name))
            for name, tensor in zip(self.convolution.inputs[1:], self.filters, strict=True)
            for output, (begin, end) in zip(self.split.outputs, spans, strict=True)
        ]


class Graph:
    """What is looked at in a graph."""

    def __init__(self, message: memoryview) -> None:
        found = _messages(message)
        self.nodes = [_node(content) for content in found[_GRAPH_NODE]]
        self._made_by = {name: node for node in self.nodes for name in node.outputs}
        self._uses = Counter(name for node in self.nodes for name in node.inputs)
        self._uses.update(_value_name(content) for content in found[_GRAPH_OUTPUT])
        tensors = [_tensor(content) for content in found[_GRAPH_WEIGHT]]
        self.weights = [name for name, _ in tensors]
        self._tensors = dict(tensors)
        for content in found[_GRAPH_INPUT]:  # a caller may give another value for it
            self._tensors.pop(_value_name(content), None)

    def block(self, split: Node) -> Block | None:
        """The block that ends in this split, if it is one that can be taken apart."""
        by_channel = split.op == b"Split" and split.attributes.get(b"axis") == 1 and b"split" not in split.attributes
        named = split.inputs and split.outputs and all(split.outputs)
        last = self._made_by.get(split.inputs[0]) if by_channel and named else None
        if last is None:
            return None
        activation: tuple[Node, ...] = ()
        convolution = last
        if last.op == b"Mul":
            sides = {node.op: node for node in map(self._made_by.get, last.inputs) if node}
            if sides.keys() != {b"Conv", b"Sigmoid"} or sides[b"Sigmoid"].inputs != sides[b"Conv"].outputs:
                return None
            convolution, activation = sides[b"Conv"], (sides[b"Sigmoid"], last)
        chain = (convolution, *activation)
        needed = Counter(name for node in (*activation, split) for name in node.inputs)
        if any(self._uses[node.outputs[0]] != needed[node.outputs[0]] for node in chain):
            return None
        filters = tuple(tensor for name in convolution.inputs[1:] if (tensor := self._tensors.get(name)))
        plain = convolution.op == b"Conv" and convolution.attributes.get(b"group", 1) == 1
        if not plain or not filters or len(filters) < len(convolution.inputs) - 1:
            return None
        parts = self._parts(split, filters[0])
        if min(parts, default=0) < 1 or any(not t.raw or t.dimensions[:1] != (sum(parts),) for t in filters):
            return None
        return Block(convolution, activation, split, filters, parts)

    def unused_without(self, nodes: Iterable[Node]) -> set[bytes]:
        """Values that nothing else needs."""
        needed = Counter(name for node in nodes for name in node.inputs)
        return {name for name, uses in needed.items() if self._uses[name] == uses}

    def _parts(self, split: Node, weight: Tensor) -> tuple[int, ...]:
        """The channels of each part; none where that is not written in the file."""
        if len(split.inputs) == 1:
            return (weight.dimensions[0] // len(split.outputs),) * len(split.outputs) if weight.dimensions else ()
        sizes = self._tensors.get(split.inputs[1])
        parts = tuple(np.frombuffer(sizes.raw, "<i8").tolist()) if sizes else ()
        return parts if len(parts) == len(split.outputs) else ()


def without_splits(onnx: bytes) -> bytes:
    """The model with a convolution for each part where the channels of one were split; itself where none is."""
    try:
        return b"".join(_rewritten(memoryview(onnx)))
    except ValueError:  # no message: ONNX Runtime will say what is wrong with it
        return onnx


def _rewritten(model: memoryview) -> Iterator[Piece]:
    for number, content, raw in raw_fields(model):
        if number == _MODEL_GRAPH and isinstance(content, memoryview):
            graph = _rewritten_graph(content)
            yield head(number, sum(map(len, graph)))
            yield from graph
        else:
            yield raw


def _rewritten_graph(message: memoryview) -> list[Piece]:
    graph = Graph(message)
    if any(node.nested for node in graph.nodes):
        return [message]
    blocks = [block for node in graph.nodes if (block := graph.block(node))]
    instead = {block.split: block for block in blocks}
    gone = {node for block in blocks for node in (block.convolution, *block.activation)}
    unused = graph.unused_without([*gone, *instead])
    out: list[Piece] = []
    nodes, weights = iter(graph.nodes), iter(graph.weights)
    for number, content, raw in raw_fields(message):
        whole = isinstance(content, memoryview)
        node = next(nodes) if number == _GRAPH_NODE and whole else None
        weight = next(weights) if number == _GRAPH_WEIGHT and whole else None
        if node in instead:
            out += [field(_GRAPH_NODE, new) for new in instead[node].nodes()]
        elif node not in gone and weight not in unused:
            out.append(raw)
    return out + [field(_GRAPH_WEIGHT, weight) for block in blocks for weight in block.weights()]


def _messages(message: memoryview) -> dict[int, list[memoryview]]:
    """Its strings and inner messages, by field number; none for a number that is not there."""
    found: dict[int, list[memoryview]] = defaultdict(list)
    for number, content in fields(message):
        if isinstance(content, memoryview):
            found[number].append(content)
    return found


def _node(message: memoryview) -> Node:
    found = _messages(message)
    op, domain = (b"".join(found[number][-1:]) for number in (_NODE_OP, _NODE_DOMAIN))
    return Node(
        message,
        op if domain in (b"", b"ai.onnx") else domain + b"." + op,
        tuple(map(bytes, found[_NODE_INPUT])),
        tuple(map(bytes, found[_NODE_OUTPUT])),
    )


def _tensor(message: memoryview) -> tuple[bytes, Tensor]:
    """A constant by its name."""
    dimensions, name, raw = [], b"", memoryview(b"")
    for number, content in fields(message):
        if number == _TENSOR_DIMENSION:  # one by one, or packed
            dimensions += [content] if isinstance(content, int) else list(varints(content))
        elif number == _TENSOR_NAME:
            name = _bytes(content)
        elif number == _TENSOR_RAW and isinstance(content, memoryview):
            raw = content
    return name, Tensor(message, tuple(dimensions), raw)


def _value_name(message: memoryview) -> bytes:
    return _bytes(dict(fields(message)).get(_VALUE_NAME))


def _of(output: bytes, name: bytes) -> bytes:
    """What a value is called in the part with this output."""
    return output + b"/" + name


def _bytes(content: Content | None) -> bytes:
    return bytes(content) if isinstance(content, memoryview) else b""


def _int(content: Content | None) -> int:
    return content if isinstance(content, int) else 0
