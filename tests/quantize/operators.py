"""A model that grows by one quantized operator a case, with random codes, scales and zero points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
STORED = {name: getattr(TensorProto, name.upper()) for name in ("int8", "uint8", "int16", "uint16", "int4", "uint4")}


def limits(dtype: str) -> tuple[int, int]:
    """The least and the greatest code of a type."""
    bits = int(dtype.lstrip("uint"))
    return (0, (1 << bits) - 1) if dtype.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)


@dataclass(slots=True)
class Operators:
    """The model; `data` and `weight` are the types of codes that its cases are made for."""

    data: str
    weight: str
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    # --- Tensors ------------------------------------------------------------------------------

    def name(self) -> str:
        return f"v{len(self.nodes)}_{len(self.constants)}_{len(self.inputs)}"

    def constant(self, values: object, dtype: str | None = None) -> str:
        name, array = f"c{self.name()}", np.asarray(values)
        given = helper.make_tensor(name, STORED[dtype], array.shape, array.ravel()) if dtype else numpy_helper.from_array(array, name)
        self.constants.append(given)
        return name

    def floats(self, *values: float) -> str:
        return self.constant(np.array(values if len(values) != 1 else values[0], np.float32))

    def normal(self, *shape: int) -> str:
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def given(self, array: np.ndarray) -> str:
        name = f"x{self.name()}"
        self.inputs[name] = array
        return name

    def codes(self, *shape: int, dtype: str | None = None) -> str:
        """An input of random codes."""
        low, high = limits(dtype or self.data)
        return self.given(self.rng.integers(low, high + 1, shape).astype(dtype or self.data))

    def real(self, *shape: int) -> str:
        """An input of random floats."""
        return self.given(self.rng.normal(0, 1.5, shape).astype(np.float32))

    def weights(self, *shape: int) -> str:
        """Constant codes; of bytes as many bits as no instruction saturates with, of which ONNX Runtime uses some."""
        low, high = limits(self.weight)
        bytes_ = self.weight in ("int8", "uint8")
        middle = (low + high + 1) // 2
        low, high = (middle - 63, middle + 63) if bytes_ else (low, high)
        return self.constant(self.rng.integers(low, high + 1, shape), self.weight)

    def scale(self, low: float = 0.01, high: float = 0.05, channels: int | None = None) -> str:
        return self.constant(self.rng.uniform(low, high, () if channels is None else channels).astype(np.float32))

    def weight_scale(self, channels: int | None = None) -> str:
        return self.scale(0.002, 0.01, channels)

    def zero(self, channels: int | None = None) -> str:
        """A zero point of the data, in the middle half of the codes."""
        low, high = limits(self.data)
        quarter = (high - low) // 4
        return self.constant(self.rng.integers(low + quarter, high - quarter, () if channels is None else channels), self.data)

    def lowest(self) -> str:
        return self.constant(limits(self.data)[0], self.data)

    def weight_zero(self, channels: int | None = None) -> str:
        """The middle of the codes of the weights."""
        low, high = limits(self.weight)
        return self.constant(np.full(() if channels is None else channels, (low + high + 1) // 2), self.weight)

    # --- Nodes --------------------------------------------------------------------------------

    def add(self, op: str, *inputs: str, **attrs: object) -> str:
        return self.several(op, 1, *inputs, **attrs)[0]

    def several(self, op: str, outputs: int, *inputs: str, **attrs: object) -> list[str]:
        domain, _, plain = op.rpartition("::")
        names = [f"y{k}{self.name()}" for k in range(outputs)]
        self.nodes.append(helper.make_node(plain, inputs, names, names[0], domain=domain, **attrs))
        return names

    def dequantized(self, *shape: int, scale: str | None = None, zero: str | None = None) -> str:
        """The real values of codes that are an input."""
        return self.add("DequantizeLinear", self.codes(*shape), scale or self.scale(), zero or self.zero())

    def dequantized_weights(self, *shape: int, axis: int | None = None) -> str:
        """The real values of constant codes, with one scale for each index of an axis if it is given."""
        channels = None if axis is None else shape[axis]
        factors = (self.weights(*shape), self.weight_scale(channels), self.weight_zero(channels))
        return self.add("DequantizeLinear", *factors, **({} if axis is None else {"axis": axis}))

    def quantized(self, real: str, scale: float | str = 0.1, zero: str | None = None) -> None:
        """Quantize a value, which becomes an output."""
        known = scale if isinstance(scale, str) else self.floats(scale)
        self.output(self.add("QuantizeLinear", real, known, zero or self.zero()))

    def output(self, *names: str) -> None:
        self.outputs += names

    def model(self) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in self.inputs.items()]
        wanted = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "operators", given, wanted, self.constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def indices(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


Shape = Sequence[int]
