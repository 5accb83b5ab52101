"""Products with weights of few bits: the schedule that unpacks codes in registers gives what the operator means, on every CPU.

Programs run in the kernel interpreter. The targets stand for vectors of 16, 8 and 4 lanes, with and without dot products.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxc
from onnxc.backends.llvm.code_rows import MEANINGS
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.program.interpret import run_program
from onnxc.compiler.program.nodes import Program
from onnxc.compiler.target import load_target

from ..lowered import graph_of, program_of

INT8_LEVEL = 4
TARGETS = {
    "cpu:icelake-server": {4: "vpdpbusd.v16i32", 8: "vpdpbusd.v16i32"},
    "cpu:x86-64-v4": {4: "maddubs.v16i32x4"},
    "cpu:alderlake": {4: "vpdpbusd.v8i32", 8: "vpdpbusd.v8i32"},
    "cpu:x86-64-v3": {4: "maddubs.v8i32x4"},
    "cpu:aarch64,neoverse-n1": {4: "sdot.v4i32"},
    "cpu:aarch64,neoverse-v1": {4: "usdot.v4i32", 8: "usdot.v4i32"},
    "cpu:aarch64,cortex-a72": {},
}
"""The rows that a target has for data of 8 bits, by the bits of a code."""


def _model(columns: int, depth: int, *, bits: int, block: int = 32, zeros: str = "", level: int = 0, bias: bool = False) -> onnx.ModelProto:
    random, blocks = np.random.default_rng(bits), -(-depth // block)
    inputs = {
        "codes": random.integers(0, 256, (columns, blocks, block * bits // 8)).astype(np.uint8),
        "scales": random.uniform(0.01, 0.1, (columns, blocks)).astype(np.float32),
    }
    if zeros:
        packed = random.integers(0, 256, (columns, -(-blocks * bits // 8))).astype(np.uint8)
        inputs["zeros"] = packed if zeros == "codes" else random.uniform(0, 9, (columns, blocks)).astype(np.float32)
    if bias:
        inputs["bias"] = random.standard_normal(columns).astype(np.float32)
    names = ["x", "codes", "scales", "zeros" if zeros else "", "", "bias" if bias else ""]
    attrs = {"N": columns, "K": depth, "bits": bits, "block_size": block, "accuracy_level": level}
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **attrs)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", extent]) for name, extent in (("x", depth), ("y", columns))]
    weights = [numpy_helper.from_array(array, name) for name, array in inputs.items()]
    graph = helper.make_graph([node], "codes", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10)


def _schedules(program: Program) -> str:
    return " ".join(kernel.schedule for kernel in program.kernels.values())


@pytest.mark.parametrize("target", ["cpu:icelake-server", "cpu:x86-64-v3", "cpu:aarch64,cortex-a72"])
@pytest.mark.parametrize(("bits", "zeros", "columns", "rows"), [(4, "", 34, 1), (4, "codes", 16, 5), (8, "float", 9, 2), (8, "", 17, 1)])
def test_floats(target: str, bits: int, zeros: str, columns: int, rows: int) -> None:
    graph = load_graph(_model(columns, 64, bits=bits, zeros=zeros, bias=True))
    inputs = {"x": np.random.default_rng(0).standard_normal((rows, 64)).astype(np.float32)}
    program = program_of(graph, target)
    assert f"codes(bits={bits}, block=32" in _schedules(program)
    np.testing.assert_allclose(run_program(program, inputs)["y"], run_graph(graph, inputs)["y"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("bits", "zeros"), [(4, ""), (8, "codes")])
def test_data_of_8_bits(target: str, bits: int, zeros: str) -> None:
    """Against the graph after the pass that quantizes the data; without an instruction, data stay floats."""
    graph = graph_of(_model(19, 64, bits=bits, zeros=zeros, level=INT8_LEVEL), target)
    inputs = {"x": np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)}
    inputs["x"][2] = 0  # a scale of zero
    program = load_target(target).pipeline.build(graph)
    row = TARGETS[target].get(bits)
    assert f"mma={f'codes{bits}.{row}' if row else 'fma'}" in _schedules(program)
    np.testing.assert_allclose(run_program(program, inputs, MEANINGS)["y"], run_graph(graph, inputs)["y"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("level", [0, INT8_LEVEL])
@pytest.mark.parametrize("bits", [4, 8])
def test_same_as_onnx_runtime(bits: int, level: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = _model(100, 256, bits=bits, zeros="codes", level=level)
    compiled, session = onnxc.compile(model, threads=2), onnxruntime.InferenceSession(model.SerializeToString())
    for rows in (1, 4, 13):
        x = np.random.default_rng(rows).standard_normal((rows, 256)).astype(np.float32)
        expected = session.run(None, {"x": x})[0]
        error = 1e-2 if (bits, level) == (8, INT8_LEVEL) else 1e-5  # ONNX Runtime takes floats for codes of 8 bits
        np.testing.assert_allclose(compiled(x), expected, rtol=0, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "c"])
@pytest.mark.parametrize(("bits", "zeros"), [(4, "codes"), (8, "")])
def test_the_last_block_is_not_full(target: str, bits: int, zeros: str) -> None:
    """The loop over the depth must not run to the end of the last block, where the data have ended."""
    graph = load_graph(_model(9, 40, bits=bits, zeros=zeros))
    inputs = {"x": np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)}
    program = program_of(graph, target)
    np.testing.assert_allclose(run_program(program, inputs)["y"], run_graph(graph, inputs)["y"], rtol=1e-5, atol=1e-4)


def test_weights_stay_packed() -> None:
    artifact = onnxc.compile(_model(256, 512, bits=4)).artifact
    codes, scales = 256 * 512 // 2, 4 * 256 * 16
    assert codes + scales <= artifact.interface.weight_bytes <= codes + scales + 1024


def test_activations_of_several_products_are_quantized_once() -> None:
    model = _model(32, 64, bits=4, level=INT8_LEVEL)
    model.graph.node.append(helper.make_node("MatMulNBits", ["x", "codes", "scales"], ["z"], domain="com.microsoft",
                                             N=32, K=64, bits=4, block_size=32, accuracy_level=INT8_LEVEL))  # fmt: skip
    model.graph.node.append(helper.make_node("Mul", ["y", "z"], ["w"]))
    model.graph.node.append(helper.make_node("Identity", ["x"], ["v"]))
    model.graph.output[0].name = "w"
    graph = graph_of(model, "cpu:icelake-server")
    assert sum(node.op == "Round" for node in graph.nodes) == 1


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("kind", "has_zeros"), [("int4", False), ("int4", True), ("uint4", True), ("uint4", False), ("uint8", True)])
def test_dequantized_weights_stay_codes(kind: str, has_zeros: bool, turned: bool) -> None:
    """DequantizeLinear in blocks along the depth, before a product; perhaps with a Transpose in between."""
    columns, depth, block = 20, 64, 32
    random, dtype = np.random.default_rng(3), np.dtype(getattr(ml_dtypes, kind, kind))
    low, high = (-8, 8) if kind == "int4" else (0, 16 if kind == "uint4" else 256)
    arrays = {"w": (depth, columns), "scale": (depth // block, columns), "zero": (depth // block, columns)}
    weights = {name: random.integers(low, high, shape).astype(dtype) for name, shape in arrays.items()}
    weights["scale"] = random.uniform(0.1, 1, arrays["scale"]).astype(np.float32)
    weights = {name: np.ascontiguousarray(array.T) if turned else array for name, array in weights.items()}
    names = ["w", "scale", "zero"][: 3 if has_zeros else 2]
    nodes = [helper.make_node("DequantizeLinear", names, ["real"], axis=1 if turned else 0, block_size=block)]
    nodes += [helper.make_node("Transpose", ["real"], ["b"], perm=[1, 0])] if turned else []
    nodes.append(helper.make_node("MatMul", ["x", "b" if turned else "real"], ["y"]))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, extent]) for name, extent in (("x", depth), ("y", columns))]
    initializers = [numpy_helper.from_array(weights[name], name) for name in names]
    graph = helper.make_graph(nodes, "dequantized", ports[:1], ports[1:], initializers)
    source = load_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    passed = graph_of(source, "cpu:x86-64-v3")
    assert [node.op for node in passed.nodes] == ["onnxc::MatMulCodes"]
    inputs = {"x": random.standard_normal((2, depth)).astype(np.float32)}
    np.testing.assert_allclose(run_graph(passed, inputs)["y"], run_graph(source, inputs)["y"], rtol=1e-5, atol=1e-4)
