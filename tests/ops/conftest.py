"""One node against the ONNX reference evaluator: the table's definition, executed by the graph interpreter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxc.compiler.dtypes import DType
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.program.string_ports import decode_outputs, encode_inputs

Arrays = Sequence[np.ndarray | None]
RTOL = {DType.FLOAT16: 2e-3, DType.BFLOAT16: 2e-2, DType.FLOAT32: 2e-6, DType.FLOAT64: 1e-12}


def model_of(
    op: str,
    inputs: Arrays,
    attrs: Mapping[str, Any] | None = None,
    *,
    opset: int = 25,
    outputs: int = 1,
    constants: Sequence[int] = (),
    domain: str = "",
) -> onnx.ModelProto:
    """A model of one node; inputs at the positions in `constants` are initializers."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], "node", domain=domain, **(attrs or {}))
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for i, (name, x) in enumerate(zip(names, inputs, strict=True))
        if x is not None and i not in constants
    ]
    wanted = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    stored = [numpy_helper.from_array(x, names[i]) for i, x in enumerate(inputs) if x is not None and i in constants]
    graph = helper.make_graph([node], "one_node", given, wanted, stored)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run_model(model: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """What the compiler's own semantics give for it."""
    for value in model.graph.output:
        value.ClearField("type")
    graph = load_graph(model)
    feeds = encode_inputs({f"x{i}": x for i, x in enumerate(inputs) if x is not None}, graph.texts)
    found = run_graph(graph, {value.name: np.asarray(feeds[value.name]) for value in graph.inputs})
    return list(decode_outputs(found, graph.texts).values())


def assert_equal(found: np.ndarray, expected: np.ndarray, rtol: float | None = None) -> None:
    """Same type and shape; floats agree within the tolerance of their type, everything else exactly."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    dtype = DType.of(expected.dtype)
    if not dtype.is_float:
        np.testing.assert_array_equal(found, expected)
        return
    if dtype.bits < 16:
        np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))
        return
    tolerance = RTOL[dtype] if rtol is None else rtol
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance)


@pytest.fixture
def check() -> Callable[..., None]:
    """Call with what `model_of` takes, and `expected` where the reference evaluator does not know better."""

    def run(
        op: str,
        inputs: Arrays,
        attrs: Mapping[str, Any] | None = None,
        *,
        expected: Arrays | None = None,
        rtol: float | None = None,
        **options: Any,
    ) -> None:
        model = model_of(op, inputs, attrs, **options)
        if expected is None:
            feeds = {value.name: inputs[int(value.name[1:])] for value in model.graph.input}
            with np.errstate(all="ignore"):
                expected = ReferenceEvaluator(model).run(None, feeds)
        found = run_model(model, inputs)
        assert len(found) == len(expected)
        for result, wanted in zip(found, expected, strict=True):
            if wanted is not None:
                assert_equal(result, np.asarray(wanted), rtol)

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(7)


@pytest.fixture
def runtime() -> Callable[..., None]:
    """Call with what `model_of` takes: the node against ONNX Runtime, which knows more operators and attributes.

    `symbolic` names the extents of some inputs; `slack` allows integers to differ by so much.
    """
    import onnxruntime

    def run(
        op: str,
        inputs: Arrays,
        attrs: Mapping[str, Any] | None = None,
        *,
        symbolic: Mapping[int, Sequence[str | int]] | None = None,
        rtol: float = 1e-5,
        slack: int = 0,
        opset: int = 21,
        **options: Any,
    ) -> None:
        model = model_of(op, inputs, attrs, opset=opset, **options)
        for entry in model.opset_import:
            entry.version = 3 if entry.domain == "ai.onnx.ml" else entry.version
        for value in model.graph.input:
            value.type.CopyFrom(_renamed(value, (symbolic or {}).get(int(value.name[1:]))))
        for value in model.graph.output:
            value.ClearField("type")
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        feeds = {value.name: inputs[int(value.name[1:])] for value in model.graph.input}
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        for result, wanted in zip(run_model(model, inputs), session.run(None, feeds), strict=True):
            if slack:
                assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
                assert np.abs(result.astype(np.int64) - wanted.astype(np.int64)).max() <= slack
            else:
                assert_equal(result, wanted, rtol)

    return run


def _renamed(value: onnx.ValueInfoProto, extents: Sequence[str | int] | None) -> onnx.TypeProto:
    kind = value.type.tensor_type
    shape = [d.dim_value for d in kind.shape.dim] if extents is None else extents
    return helper.make_tensor_type_proto(kind.elem_type, shape)
