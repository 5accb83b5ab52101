"""What a model asks for, read from the ONNX file alone: operators and whether the table has them, inputs, weights, work.

`inspect` shows it. It needs no target and works for models that do not compile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..record.describe import describe_export

if TYPE_CHECKING:
    import onnx

_CONTRACTIONS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")

Shape = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The answer to `onnxc inspect`."""

    ir_version: int
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    """Number of nodes by operator."""
    unknown: tuple[str, ...]
    """Operators that the compiler has no definition of."""
    inputs: Mapping[str, tuple[str, Shape]]
    """Element type and shape by name; initializers are left out."""
    outputs: Mapping[str, tuple[str, Shape]]
    parameters: int
    """Elements of all initializers."""
    parameter_bytes: int
    macs: int | None
    """Multiply-accumulate steps of convolutions and matrix products; None if a shape is not static."""


def inspect_model(path: Path) -> ModelFacts:
    """Read a model file; E0101 if it is none."""
    from onnx import shape_inference

    from ..frontend.limits import Limits
    from ..frontend.source import read_source

    model = read_source(path, Limits()).model
    export = describe_export(model)
    try:
        typed = shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # noqa: BLE001 (shapes are a courtesy here; the compiler infers its own)
        typed = model
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    counts = [math.prod(tensor.dims) for tensor in initializers.values()]
    return ModelFacts(
        export.ir_version,
        export.opsets,
        export.operators,
        _unknown(model, export.operators),
        _ports(value for value in model.graph.input if value.name not in initializers),
        _ports(typed.graph.output),
        sum(counts),
        sum(count * _bits(t.data_type) // 8 for count, t in zip(counts, initializers.values(), strict=True)),
        _macs(typed.graph),
    )


def _unknown(model: onnx.ModelProto, operators: Mapping[str, int]) -> tuple[str, ...]:
    from ..ops.table import lookup

    local = {f"{f.domain}::{f.name}" if f.domain not in ("", "ai.onnx") else f.name for f in model.functions}
    return tuple(op for op in operators if op not in local and op != "Constant" and lookup(op) is None)


def _ports(values: object) -> dict[str, tuple[str, Shape]]:
    return {value.name: _port(value) for value in values}  # type: ignore[attr-defined]


def _port(value: onnx.ValueInfoProto) -> tuple[str, Shape]:
    from ..dtypes import DType

    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return kind.removesuffix("_type"), ()
    tensor = value.type.tensor_type
    label = DType.from_onnx(tensor.elem_type).label if tensor.elem_type in {d.onnx for d in DType} else "unknown"
    return label, _shape(value)


def _shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in value.type.tensor_type.shape.dim)


def _bits(code: int) -> int:
    from ..dtypes import DType

    return DType.from_onnx(code).bits if code in {d.onnx for d in DType} else 0


def _macs(graph: onnx.GraphProto) -> int | None:
    shapes: dict[str, Shape] = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in _CONTRACTIONS:
            found = _node_macs(node, shapes)
            if found is None:
                return None
            total += found
    return total


def _node_macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Output elements times the length of the sums; for ConvTranspose, input elements times what each is added to."""
    weight_at = 3 if node.op_type.startswith("QLinear") else 1
    first, weight, output = shapes.get(node.input[0]), shapes.get(node.input[weight_at]), shapes.get(node.output[0])
    if first is None or weight is None or output is None or not first or not weight:
        return None
    if "Conv" in node.op_type:
        length, counted = weight[1:], first if node.op_type == "ConvTranspose" else output
    elif node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        length, counted = first[:1] if transposed else first[-1:], output
    else:
        length, counted = first[-1:], output
    extents = [d for d in (*counted, *length) if isinstance(d, int)]
    return math.prod(extents) if len(extents) == len(counted) + len(length) else None
