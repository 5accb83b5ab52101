"""Random networks of convolutions for the tests of chains: strides, borders, dilations, residuals, branches, pools, as floats or codes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCALE = 0.05
Shape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass
class Network:
    """A network that grows."""

    rng: np.random.Generator
    codes: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def pick(self, *options: int) -> int:
        return int(self.rng.choice(options))

    def add(self, op: str, inputs: list[str], shape: Shape, **attributes: object) -> str:
        """Append a node; with codes, its result is quantized."""
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        name = self.quantized(name) if self.codes else name
        self.shapes[name] = shape
        return name

    def quantized(self, x: str) -> str:
        code = ["scale", "zero"]
        self.nodes.append(helper.make_node("QuantizeLinear", [x, *code], [f"{x}.q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{x}.q", *code], [f"{x}.d"]))
        return f"{x}.d"

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        data = self.rng.integers(-8, 9, shape)
        if not self.codes:
            self.weights.append(numpy_helper.from_array((data / 8).astype(np.float32), name))
            return name
        self.weights.append(numpy_helper.from_array(data.astype(np.int8), f"{name}.q"))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", "small"], [name]))
        return name

    def convolution(self, x: str, filters: int, like: tuple[int, int] | None = None) -> str:
        """A convolution of random form; depthwise if it keeps the channels. `like` is the window of strides that another one has."""
        channels, *size = self.shapes[x]
        group = channels if filters == channels and self.pick(0, 1) else 1
        strides = like or (self.pick(1, 1, 2, 3), self.pick(1, 1, 2))
        kernel = [self.pick(1, 2, 3, 3), self.pick(1, 3)]
        dilations = [self.pick(1, 1, 2) if k > 1 else 1 for k in kernel]
        reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        before = [self.pick(0, r // 2, min(r, 2)) for r in reach]
        out = [-(-n // s) for n, s in zip(size, strides, strict=True)]
        after = [max(0, (o - 1) * s + r + 1 - n - b) for o, s, r, n, b in zip(out, strides, reach, size, before, strict=True)]
        w = self.weight(filters, channels // group, *kernel)
        attributes = {"strides": list(strides), "dilations": dilations, "pads": [*before, *after], "group": group}
        full = [(n + b + a - r - 1) // s + 1 for n, b, a, r, s in zip(size, before, after, reach, strides, strict=True)]
        return self.add("Conv", [x, w], (filters, full[0], full[1]), **attributes)

    def step(self, x: str) -> str:
        """One more layer, or a few."""
        channels, height, width = shape = self.shapes[x]
        kind = self.pick(*range(8))
        if kind == 0 and height > 3 and width > 3:
            pool = ("MaxPool", "AveragePool")[self.pick(0, 1)]
            return self.add(pool, [x], (channels, height // 2, width // 2), kernel_shape=[2, 2], strides=[2, 2])
        if kind == 1:
            return self.add("MaxPool", [x], shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        if kind == 2:
            return self.add("Relu", [x], shape)
        if kind == 3:  # a residual
            w, v = self.weight(channels, channels, 3, 3), self.weight(channels, 1, 3, 1)
            y = self.add("Conv", [x, w], shape, pads=[1, 1, 1, 1])
            y = self.add("Conv", [y, v], shape, pads=[1, 0, 1, 0], group=channels)
            return self.add("Add", [x, y] if self.pick(0, 1) else [y, x], shape)
        if kind == 4:  # two branches with the same strides
            strides = (self.pick(1, 2), self.pick(1, 2))
            y, z = (self.convolution(x, 5, strides) for _ in range(2))
            return self.add("Add", [y, z], self.shapes[y]) if self.shapes[y] == self.shapes[z] else y
        return self.convolution(x, self.pick(channels, 4, 3))


def random_network(seed: int, *, codes: bool) -> onnx.ModelProto:
    """A network of some layers over a small image."""
    rng = np.random.default_rng(seed)
    network = Network(rng, codes)
    shape: Shape = (network.pick(2, 4), network.pick(9, 12, 14), network.pick(5, 6, 8))
    network.shapes["x"] = shape
    x = network.quantized("x") if codes else "x"
    network.shapes[x] = shape
    for _ in range(network.pick(4, 6)):
        if min(network.shapes[x][1:]) > 1:
            x = network.step(x)
    if network.pick(0, 1):
        x = network.add("GlobalAveragePool", [x], (network.shapes[x][0], 1, 1))
    network.nodes.append(helper.make_node("Identity", [x], ["y"]))
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, *network.shapes[v]]) for n, v in (("x", "x"), ("y", x))]
    constants = {"scale": np.float32(SCALE), "small": np.float32(0.02), "zero": np.int8(3)}
    weights = [*network.weights, *(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())]
    graph = helper.make_graph(network.nodes, "network", [ports[0]], [ports[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
