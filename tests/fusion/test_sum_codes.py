"""Codes of sums of two codes by multiply-adds: all pairs of codes against the definition."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from onnxc.backends.llvm.byte_rows import MEANINGS
from onnxc.backends.llvm.target import parse
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.evaluate import evaluate_nest
from onnxc.compiler.kernel.float_bounds import float_bounds
from onnxc.compiler.kernel.nodes import Cast, Expr, MathFn, Var
from onnxc.compiler.kernel.text import print_expr
from onnxc.compiler.program.interpret import run_program
from onnxc.compiler.program.stages import Group
from onnxc.passes.fusion.constant_stages import Constants
from onnxc.passes.fusion.form_groups import form_groups
from onnxc.passes.fusion.options import FusionOptions
from onnxc.passes.fusion.sum_codes import summed

from ..lowered import program_of
from .quantized_models import graph_of, stages_of

SUM = """g (int8[256,256] x, int8[256,256] v) => (int8[256,256] y) {
    d = DequantizeLinear(x, sx, zx)
    e = DequantizeLinear(v, sv, zv)
    s = Add(d, e)
    y = QuantizeLinear(s, sy, zy) }"""
RELU = SUM.replace("QuantizeLinear(s,", "QuantizeLinear(r,").replace("    y =", "    r = Relu(s)\n    y =")
SUM_OF_CONV = """g (int8[1,16,6,6] x, int8[1,8,6,6] v) => (int8[1,8,6,6] y) {
    d = DequantizeLinear(x, sx, zx)
    k = DequantizeLinear(w, sw, zw)
    c = Conv(d, k)
    q = QuantizeLinear(c, sc, zc)
    f = DequantizeLinear(q, sc, zc)
    e = DequantizeLinear(v, sv, zv)
    s = Add(e, f)
    r = Relu(s)
    y = QuantizeLinear(r, sy, zy) }"""
WEIGHTS = np.random.default_rng(3).integers(-127, 128, (8, 16, 1, 1)).astype(np.int8)
CONV = {"w": WEIGHTS, "sw": np.float32(0.01), "zw": np.int8(0), "sc": np.float32(0.31), "zc": np.int8(1)}


def _parameters(scales: tuple[float, float, float], zeros: tuple[int, int, int]) -> dict[str, np.ndarray]:
    found = {f"s{name}": np.array(scale, np.float32) for name, scale in zip("xvy", scales, strict=True)}
    return found | {f"z{name}": np.array(zero, np.int8) for name, zero in zip("xvy", zeros, strict=True)}


def _summed(body: str, parameters: dict[str, np.ndarray]) -> tuple[Expr, np.ndarray, np.ndarray] | str:
    """What is stored with multiply-adds, and the codes of all pairs that it and the definition give."""
    (stage,) = stages_of(body, parameters)
    found = summed(stage, Constants(GraphFacts.of(graph_of(body, parameters))))
    if isinstance(found, str):
        return found
    codes = np.arange(-128, 128).astype(np.int8)
    inputs = {"x": np.repeat(codes, 256).reshape(256, 256), "v": np.tile(codes, 256).reshape(256, 256)}
    got = evaluate_nest(found.nest, [{**parameters, **inputs}[v.name] for v in found.operands], {})
    return found.nest.result, got, run_graph(graph_of(body, parameters, passes=False), inputs)["y"]


@pytest.mark.parametrize("body", [SUM, RELU])
@pytest.mark.parametrize("seed", range(6))
def test_all_pairs(body: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other, _ = scales = (*(float(s) for s in generator.uniform(0.01, 0.1, 2)), float(generator.uniform(0.03, 0.2)))
    assert one > 0 and other > 0
    found = _summed(body, _parameters(scales, tuple(int(z) for z in generator.integers(-128, 128, 3))))  # type: ignore[arg-type]
    assert not isinstance(found, str)
    result, got, expected = found
    assert "math.fma" in print_expr(result) and "div" not in print_expr(result)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("body", [SUM, RELU])
@pytest.mark.parametrize("zero", [0, -128, 7])
def test_ties(body: str, zero: int) -> None:
    """Scales like these make codes that are exactly between two; the sum is as the definition has it, or is left alone."""
    for scales in ((0.5, 0.5, 1.0), (0.1, 0.1, 0.2), (0.25, 0.75, 0.5), (0.3, 0.1, 0.2)):
        found = _summed(body, _parameters(scales, (zero, 3, zero)))
        if not isinstance(found, str):
            np.testing.assert_array_equal(found[1], found[2])


def test_the_form_behind_a_convolution() -> None:
    """The code that is rounded there stays a float, and nothing is checked for NaN."""
    parameters = _parameters((0.05, 0.07, 0.11), (-128, -128, -128)) | CONV
    graph = graph_of(SUM_OF_CONV, cast("dict[str, np.ndarray]", parameters))
    units = form_groups(graph, GraphFacts.of(graph), FusionOptions(has_fma=True))
    (result,) = (stage.nest.result for unit in units if isinstance(unit, Group) for stage in unit.stages)
    text = print_expr(result)
    assert text.count("math.fma") == 2 and text.count("int8.saturate") == 1 and "div" not in text
    assert isinstance(result, Cast)
    found = float_bounds(result.value)
    assert found is not None and found[0] > -1000 and found[1] < 1000


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cpu:x86-64-v2"])
def test_programs(target: str) -> None:
    """With multiply-adds and without, codes are the same."""
    parameters = _parameters((0.05, 0.07, 0.11), (-128, -128, -128)) | CONV
    graph = graph_of(SUM_OF_CONV, cast("dict[str, np.ndarray]", parameters), passes=False)
    generator = np.random.default_rng(5)
    inputs = {v.name: generator.integers(-128, 128, v.type.static_shape).astype(np.int8) for v in graph.inputs}
    got = run_program(program_of(graph, target), inputs, MEANINGS)["y"]
    np.testing.assert_array_equal(got, run_graph(graph, inputs)["y"])
    assert parse(target).has_fma == (target == "cpu:x86-64-v3")


def test_bounds_of_floats() -> None:
    x, code = Var("x", DType.FLOAT32), build.cast(build.cast(Var("c", DType.INT8), DType.INT32), DType.FLOAT32)
    assert float_bounds(x) is None and float_bounds(build.mul(x, 2.0)) is None
    assert float_bounds(code) == (-128, 127)
    assert float_bounds(build.math_fn(MathFn.FMA, code, build.const(2.0, DType.FLOAT32), build.const(1.0, DType.FLOAT32))) == (-255, 255)
    above = build.select(build.gt(x, -3.0), x, build.const(-3.0, DType.FLOAT32))
    within = build.select(build.lt(above, 5.0), above, build.const(5.0, DType.FLOAT32))
    assert float_bounds(within) == (-3, 5)
    assert float_bounds(build.select(build.gt(x, -3.0), build.const(-3.0, DType.FLOAT32), x)) is None
