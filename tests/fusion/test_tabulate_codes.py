"""Functions of single codes as tables of 256 codes."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.kernel.nodes import Math
from onnxc.compiler.kernel.text import print_expr
from onnxc.compiler.kernel.traverse import walk
from onnxc.passes.fusion.stage_graph import NATIVE_MATH, make_stage_graph
from onnxc.passes.fusion.tabulate_codes import tabulated

from .quantized_models import fused_and_defined, graph_of, stages_of

PARAMETERS = {
    "sx": np.float32(0.05), "zx": np.int8(-3), "sy": np.float32(1 / 256), "zy": np.int8(-128), "sc": np.float32(0.5), "zc": np.int8(5),
    "w": np.arange(-96, 96).reshape(8, 24, 1, 1).astype(np.int8), "sw": np.float32(0.002), "zw": np.int8(0),
}  # fmt: skip
SIGMOID = """g (int8[1,24,8,8] x) => (int8[1,24,8,8] y) {
    d = DequantizeLinear(x, sx, zx)
    r = Sigmoid(d)
    y = QuantizeLinear(r, sy, zy) }"""
SILU_OF_CONV = """g (int8[1,24,8,9] x) => (int8[1,8,8,9] y) {
    d = DequantizeLinear(x, sx, zx)
    v = DequantizeLinear(w, sw, zw)
    c = Conv(d, v)
    q = QuantizeLinear(c, sc, zc)
    e = DequantizeLinear(q, sc, zc)
    s = Sigmoid(e)
    r = Mul(s, e)
    y = QuantizeLinear(r, sc, zc) }"""


@pytest.mark.parametrize("body", [SIGMOID, SILU_OF_CONV])
def test_no_function_is_computed_while_running(body: str) -> None:
    (stage,) = stages_of(body, PARAMETERS)
    assert not any(isinstance(e, Math) and e.fn not in NATIVE_MATH for e in walk(stage.nest.body, stage.nest.result))


def test_form_of_a_map() -> None:
    (stage,) = stages_of(SIGMOID, PARAMETERS)
    assert print_expr(stage.nest.body) == "read.1.int8(cast.int64(sub(cast.int32(read.0.int8(0, %i1, %i2, %i3)), -128:int32)))"


def test_form_of_an_epilogue() -> None:
    (stage,) = stages_of(SILU_OF_CONV, PARAMETERS)
    assert print_expr(stage.nest.result).startswith("read.4.int8(cast.int64(sub(cast.int32(cast.int8.saturate(")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_all_codes(dtype: type) -> None:
    body = SIGMOID.replace("int8[", "uint8[") if dtype is np.uint8 else SIGMOID
    parameters = {**PARAMETERS, "zx": dtype(77), "zy": dtype(9)}
    x = np.resize(np.arange(256).astype(np.uint8).view(dtype), (1, 24, 8, 8))
    fused, defined = fused_and_defined(body, parameters, {"x": x})
    np.testing.assert_array_equal(fused, defined)


def test_epilogue_gives_the_codes_of_the_definition() -> None:
    x = np.random.default_rng(0).integers(-128, 128, (1, 24, 8, 9)).astype(np.int8)
    fused, defined = fused_and_defined(SILU_OF_CONV, PARAMETERS, {"x": x})
    assert np.mean(fused != defined) < 0.01  # ties of the sum only
    assert np.abs(fused.astype(int) - defined.astype(int)).max() <= 1


SMALL = SIGMOID.replace("8,8]", "2,2]")
TWO = SIGMOID.replace("(int8[1,24,8,8] x)", "(int8[1,24,8,8] x, int8[1,24,8,8] u)").replace("Sigmoid(d)", "Sigmoid(t)")
TWO = TWO.replace("r = S", "f = DequantizeLinear(u, sx, zx)\n t = Add(d, f)\n r = S")
CHEAP = SIGMOID.replace("Sigmoid", "Relu")


@pytest.mark.parametrize(("body", "reason"), [(SMALL, "small"), (TWO, "no function of one code"), (CHEAP, "no function of one code")])
def test_refused(body: str, reason: str) -> None:
    stages = make_stage_graph(graph := graph_of(body, PARAMETERS), GraphFacts.of(graph))
    (fused,) = stages_of(body, PARAMETERS)
    assert str(tabulated(fused, stages.constants)).startswith(reason)


def test_what_rounds_is_looked_up_where_a_target_wants_it() -> None:
    stages = make_stage_graph(graph := graph_of(CHEAP, PARAMETERS), GraphFacts.of(graph))
    (fused,) = stages_of(CHEAP, PARAMETERS)
    found = tabulated(fused, stages.constants, all_rounding=True)
    assert not isinstance(found, str)
    assert not any(isinstance(e, Math) for e in walk(found.nest.body))


@pytest.mark.parametrize("pool", ["MaxPool<kernel_shape=[2,2]>", "AveragePool<kernel_shape=[3,3]>", "GlobalAveragePool"])
def test_functions_of_codes_belong_to_the_sum_and_not_to_the_window_that_reads_them(pool: str) -> None:
    shape = "[1,8,1,1]" if "Global" in pool else "[1,8,7,8]" if "Max" in pool else "[1,8,6,7]"
    body = SILU_OF_CONV.replace("y = Q", "a = Q").replace("[1,8,8,9] y", f"{shape} y").removesuffix("}")
    pooled = f"y = {pool}(a)" if "Max" in pool else f"b = DequantizeLinear(a, sc, zc)\n p = {pool}(b)\n y = QuantizeLinear(p, sc, zc)"
    first, second = stages_of(f"{body}\n {pooled} }}", PARAMETERS)
    assert print_expr(first.nest.result).startswith("read.4.int8(")
    assert not second.is_map
    assert all(operand.type.shape != (256,) for operand in second.operands)
