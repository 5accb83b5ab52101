"""The numerics `fixed`: sums become codes as in TensorFlow Lite for Microcontrollers, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.kernel.evaluate import evaluate_nest
from onnxc.compiler.kernel.nest import pointwise
from onnxc.compiler.kernel.nodes import Expr, Read
from onnxc.compiler.kernel.traverse import walk
from onnxc.compiler.program.stages import Group
from onnxc.passes.fusion.constant_stages import Table
from onnxc.passes.fusion.fixed_point import Numerics, fixed_scale, multiplied
from onnxc.passes.fusion.form_groups import form_groups
from onnxc.passes.fusion.options import FusionOptions

from .quantized_models import graph_of, run_units

MATMUL = """g (uint8[3,16] x) => (uint8[3,8] y) {
    xd = DequantizeLinear(x, sx, zx)
    wd = DequantizeLinear<axis=1>(w, sw, zw)
    p = MatMul(xd, wd)
    y = QuantizeLinear(p, sy, zy) }"""


def multiply_by_quantized_multiplier(x: int, multiplier: int, exponent: int) -> int:
    """TensorFlow Lite's function of this name, written as in gemmlowp's fixedpoint.h."""
    left, right = max(exponent, 0), max(-exponent, 0)
    product = (x << left) * multiplier
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    high = abs(product + nudge) >> 31
    high = high if product + nudge >= 0 else -high  # C divides towards zero
    mask = (1 << right) - 1
    return (high >> right) + int((high & mask) > (mask >> 1) + int(high < 0))


def quantize_multiplier(scale: float) -> tuple[int, int]:
    multiplier, exponent = fixed_scale(np.array(scale))
    return int(multiplier), int(exponent)


@given(st.lists(st.integers(-(1 << 28), 1 << 28), min_size=1, max_size=30), st.floats(1e-9, 7.0))
def test_multiplication_is_that_of_tensorflow_lite(values: list[int], scale: float) -> None:
    x = np.array(values, np.int32)
    constants: list[np.ndarray] = []

    def read(what: str, table: Table) -> Expr:
        constants.append(table.values)
        return Read(len(constants), (), DType.of(table.values.dtype))

    nest = pointwise((len(values),), lambda i: multiplied(Read(0, (i,), DType.INT32), Table((), np.array(scale)), read))
    expected = [multiply_by_quantized_multiplier(v, *quantize_multiplier(scale)) for v in values]
    inside = [abs(e) < 1 << 31 and abs(v) << max(quantize_multiplier(scale)[1], 0) < 1 << 31 for v, e in zip(values, expected, strict=True)]
    found = evaluate_nest(nest, [x, *constants], {})
    np.testing.assert_array_equal(found[inside], np.array(expected)[inside])


@given(st.floats(1e-9, 1e4))
def test_a_scale_is_its_multiplier_and_exponent(scale: float) -> None:
    multiplier, exponent = quantize_multiplier(scale)
    assert 1 << 30 <= multiplier < 1 << 31
    assert np.ldexp(multiplier, exponent - 31) == pytest.approx(scale, rel=1e-9)


@pytest.mark.parametrize("per_channel", [False, True])
def test_sums_become_codes_without_floats(per_channel: bool) -> None:
    rng = np.random.default_rng(3)
    sw = rng.uniform(0.001, 0.05, 8 if per_channel else ()).astype(np.float32)
    constants = {
        "w": rng.integers(-127, 128, (16, 8)).astype(np.int8), "sx": np.float32(0.02), "zx": np.uint8(120), "sw": sw,
        "zw": np.zeros(sw.shape, np.int8), "sy": np.float32(0.15), "zy": np.uint8(100),
    }  # fmt: skip
    graph = graph_of(MATMUL, constants)
    groups = [unit for unit in form_groups(graph, GraphFacts.of(graph), FusionOptions(Numerics.FIXED)) if isinstance(unit, Group)]
    (stage,) = groups[0].stages
    assert not any(e.dtype.is_float for e in walk(stage.nest.body, stage.nest.result))
    x = rng.integers(0, 256, (3, 16)).astype(np.uint8)
    found = run_units(graph, {"x": x}, numerics=Numerics.FIXED)["y"]
    acc = (x.astype(int) - 120) @ constants["w"].astype(int)
    scales = np.broadcast_to(np.float64(constants["sx"]) * sw.astype(np.float64) / np.float64(constants["sy"]), 8)
    codes = [
        [multiply_by_quantized_multiplier(int(v), *quantize_multiplier(s)) + 100 for v, s in zip(row, scales, strict=True)] for row in acc
    ]
    np.testing.assert_array_equal(found, np.clip(codes, 0, 255))
