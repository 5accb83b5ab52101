"""Sums of dequantized values as integer sums: the form that schedules see, what stays, and that the meaning stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.kernel.nest import Combine
from onnxc.compiler.kernel.text import print_expr
from onnxc.compiler.program.stages import Stage
from onnxc.passes.fusion.fixed_point import Numerics
from onnxc.passes.fusion.integer_sums import integer_sum
from onnxc.passes.fusion.stage_graph import make_stage_graph

from .quantized_models import Arrays, fused_and_defined, graph_of, stages_of

REQUANTIZED = "cast.uint8.saturate(add(math.round(mul(cast.float32(add(%acc, read.2.int32(%i1))), read.3.float32({at}))), 100.0:float32))"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def parameters(rng: np.random.Generator, channels: int, per_channel: bool = True, weight_zero: int = 0) -> dict[str, np.ndarray]:
    """Scales and zero points: x is uint8 around 120, w int8, y uint8 around 100; the bias has the scale of the sum."""
    count = channels if per_channel else 1
    sw = rng.uniform(0.005, 0.02, count).astype(np.float32)
    sx = np.float32(0.02)
    shape = (channels,) if per_channel else ()
    return {
        "sx": sx, "zx": np.uint8(120), "sw": sw.reshape(shape), "zw": np.full(shape, weight_zero, np.int8),
        "b": rng.integers(-500, 500, channels).astype(np.int32), "sb": (sx * sw).reshape(shape), "zb": np.zeros(shape, np.int32),
        "sy": np.float32(0.15), "zy": np.uint8(100),
    }  # fmt: skip


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)


def codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(np.uint8)


CONV = """g (uint8[1,4,6,5] x) => (uint8[1,8,6,5] y) {
    xd = DequantizeLinear(x, sx, zx)
    wd = DequantizeLinear<axis=0>(w, sw, zw)
    bd = DequantizeLinear<axis=0>(b, sb, zb)
    r = Conv<pads=[1,1,1,1], group=%d>(xd, wd, bd)
    y = QuantizeLinear(r, sy, zy) }"""
QLINEAR_CONV = """g (uint8[1,4,6,5] x) => (uint8[1,8,6,5] y) {
    y = QLinearConv<pads=[1,1,1,1], group=%d>(x, sx, zx, w, sw, zw, sy, zy, b) }"""
MATMUL = """g (uint8[3,16] x) => (uint8[3,8] y) {
    xd = DequantizeLinear(x, sx, zx)
    wd = DequantizeLinear<axis=1>(w, sw, zw)
    bd = DequantizeLinear<axis=0>(b, sb, zb)
    p = MatMul(xd, wd)
    r = Add(p, bd)
    y = QuantizeLinear(r, sy, zy) }"""


def only_stage(body: str, constants: Arrays) -> Stage:
    (stage,) = stages_of(body, constants)
    return stage


# --- The form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [CONV % 1, QLINEAR_CONV % 1])
def test_form_of_a_convolution(rng: np.random.Generator, body: str) -> None:
    nest = only_stage(body, {"w": weights(rng, 8, 4, 3, 3), **parameters(rng, 8)}).nest
    text = print_expr(nest.body)
    assert text.startswith("mul(select(and(")
    assert ", 120:int32), cast.int32(read.1.int8(%i1, %k0, %k1, %k2)))" in text  # pads are the zero point
    assert print_expr(nest.result) == REQUANTIZED.format(at="%i1")


def test_form_of_a_matrix_product(rng: np.random.Generator) -> None:
    nest = only_stage(MATMUL, {"w": weights(rng, 16, 8), **parameters(rng, 8)}).nest
    assert print_expr(nest.body) == "mul(cast.int32(read.0.uint8(%i0, %k0)), cast.int32(read.1.int8(%k0, %i1)))"
    assert print_expr(nest.result) == REQUANTIZED.format(at="%i1")


def test_one_scale_is_one_number(rng: np.random.Generator) -> None:
    nest = only_stage(MATMUL, {"w": weights(rng, 16, 8), **parameters(rng, 8, per_channel=False), "zw": np.int8(0)}).nest
    assert print_expr(nest.result) == REQUANTIZED.format(at="")


def test_constants_hold_bias_zero_point_and_scales(rng: np.random.Generator) -> None:
    from .quantized_models import Known, units_of

    given_ = {"w": weights(rng, 16, 8), **parameters(rng, 8)}
    known = [unit for unit in units_of(graph_of(MATMUL, given_)) if isinstance(unit, Known)]
    offset, multiplier = (unit.array for unit in known)
    np.testing.assert_array_equal(offset, given_["b"] - 120 * given_["w"].astype(np.int32).sum(axis=0))
    np.testing.assert_array_equal(multiplier, given_["sx"] * given_["sw"] / given_["sy"])


def test_without_quantization_the_sum_is_scaled(rng: np.random.Generator) -> None:
    body = MATMUL.replace("uint8[3,8] y", "float[3,8] y").replace("r = Add", "y = Add")
    body = body.replace("y = QuantizeLinear(r, sy, zy)", "")
    nest = only_stage(body, {"w": weights(rng, 16, 8), **parameters(rng, 8)}).nest
    assert print_expr(nest.result) == "mul(cast.float32(add(%acc, read.2.int32(%i1))), read.3.float32(%i1))"


def test_mean_of_codes_is_a_sum_of_codes(rng: np.random.Generator) -> None:
    body = """g (uint8[1,8,6,5] x) => (uint8[1,8,1,1] y) {
        xd = DequantizeLinear(x, sx, zx)
        m = GlobalAveragePool(xd)
        y = QuantizeLinear(m, sy, zy) }"""
    nest = only_stage(body, parameters(rng, 8)).nest
    assert print_expr(nest.body) == "cast.int32(read.0.uint8(%i0, %i1, %k0, %k1))"
    assert nest.body.dtype is DType.INT32


@pytest.mark.parametrize(("zero", "bounded"), [(0, False), (100, True)])
def test_relu_becomes_a_bound_of_the_code(rng: np.random.Generator, zero: int, bounded: bool) -> None:
    body = MATMUL.replace("QuantizeLinear(r,", "QuantizeLinear(q,").replace("y = Q", "q = Relu(r)\n y = Q")
    nest = only_stage(body, {"w": weights(rng, 16, 8), **parameters(rng, 8), "zy": np.uint8(zero)}).nest
    text = print_expr(nest.result)
    assert text.startswith("max(cast.uint8.saturate(" if bounded else "cast.uint8.saturate(")
    assert text.endswith(", 100:uint8)" if bounded else f", {float(zero)}:float32))")


def test_zero_points_of_weights_are_subtracted_when_compiling(rng: np.random.Generator) -> None:
    stage = only_stage(MATMUL, {"w": rng.integers(0, 100, (16, 8)).astype(np.int8), **parameters(rng, 8, weight_zero=50)})
    assert print_expr(stage.nest.body) == "mul(cast.int32(read.0.uint8(%i0, %k0)), cast.int32(read.1.int8(%k0, %i1)))"


def test_zero_points_known_while_running_are_multiplied_with_sums_of_weights(rng: np.random.Generator) -> None:
    body = "g (uint8[3,16] x, uint8 z) => (int32[3,8] y) { y = MatMulInteger(x, w, z) }"
    nest = only_stage(body, {"w": weights(rng, 16, 8)}).nest
    assert print_expr(nest.body) == "mul(cast.int32(read.0.uint8(%i0, %k0)), cast.int32(read.1.int8(%k0, %i1)))"
    assert print_expr(nest.result) == "sub(%acc, mul(cast.int32(read.2.uint8()), read.3.int32(%i1)))"


# --- What stays ---------------------------------------------------------------------------------

FLOAT = "g (float[3,16] x) => (float[3,8] y) { wd = DequantizeLinear<axis=1>(w, sw, zw)\n y = MatMul(x, wd) }"
ROWS = """g (uint8[3,16] x) => (float[3,8] y) {
    xd = DequantizeLinear(x, sx, zx)
    wd = DequantizeLinear<axis=0>(w, sr, zr)
    y = MatMul(xd, wd) }"""
WIDE = "g (int16[3,16] x) => (float[3,8] y) { xd = DequantizeLinear(x, sx)\n wd = DequantizeLinear(v, sx)\n y = MatMul(xd, wd) }"
UNKNOWN = """g (uint8[3,N] x, int8[N,8] u) => (float[3,8] y) {
    xd = DequantizeLinear(x, sx, zx)
    ud = DequantizeLinear(u, sx)
    y = MatMul(xd, ud) }"""
WINDOW = """g (uint8[1,8,6,5] x) => (float[1,8,6,5] y) {
    xd = DequantizeLinear(x, sx, zx)
    y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(xd) }"""
PLAIN = "g (float[3,16] x) => (float[3,8] y) { y = MatMul(x, f) }"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (FLOAT, "a factor is neither an integer nor the same for all terms"),
        (ROWS, "a factor is neither an integer nor the same for all terms"),
        (WIDE, "the sum may be larger than an int32"),
        (UNKNOWN, "the number of terms is not known"),
        (PLAIN, "no operand is dequantized"),
        (WINDOW, "the terms are added in their order, as floats"),
    ],
)
def test_refused(rng: np.random.Generator, body: str, reason: str) -> None:
    constants = {
        "w": weights(rng, 16, 8), "v": rng.integers(-(1 << 15), 1 << 15, (16, 8)).astype(np.int16),
        "f": rng.standard_normal((16, 8)).astype(np.float32),
        "sr": np.full(16, 0.1, np.float32), "zr": np.zeros(16, np.int8), **parameters(rng, 8),
    }  # fmt: skip
    graph = graph_of(body, constants)
    stages = make_stage_graph(graph, GraphFacts.of(graph))
    (sum_,) = (stage for stage in stages.stages.values() if stage.nest.combine is Combine.SUM)
    assert integer_sum(sum_, stages) == reason


def test_products_of_computed_codes_stay_floats_where_these_are_cheap(rng: np.random.Generator) -> None:
    body = MATMUL.replace("w, sw, zw", "v, sw, zw").replace("g (uint8[3,16] x)", "g (uint8[3,16] x, int8[16,8] v)")
    graph = graph_of(body, parameters(rng, 8))
    stages = make_stage_graph(graph, GraphFacts.of(graph))
    (sum_,) = (stage for stage in stages.stages.values() if stage.nest.combine is Combine.SUM)
    assert isinstance(integer_sum(sum_, stages), Stage)
    assert isinstance(integer_sum(sum_, stages, has_fma=True), str)


def test_means_of_windows_are_sums_of_integers_where_scales_are(rng: np.random.Generator) -> None:
    graph = graph_of(WINDOW, parameters(rng, 8))
    stages = make_stage_graph(graph, GraphFacts.of(graph))
    (sum_,) = (stage for stage in stages.stages.values() if stage.nest.combine is Combine.SUM)
    found = integer_sum(sum_, stages, Numerics.FIXED)
    assert isinstance(found, Stage)
    assert found.nest.body.dtype is DType.INT32


# --- The meaning --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 16),
    group=st.sampled_from([1, 2, 4]),
    per_channel=st.booleans(),
    weight_zero=st.sampled_from([0, 7]),
    form=st.sampled_from([CONV, QLINEAR_CONV]),
)
def test_convolutions_give_the_codes_of_the_quantized_operator(
    seed: int, group: int, per_channel: bool, weight_zero: int, form: str
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.integers(-100, 100, (8, 4 // group, 3, 3)).astype(np.int8)
    constants = {"w": w, **parameters(rng, 8, per_channel, weight_zero)}
    x = {"x": codes(rng, 1, 4, 6, 5)}
    fused, _ = fused_and_defined(form % group, constants, x)
    _, expected = fused_and_defined(QLINEAR_CONV % group, {k: v for k, v in constants.items() if k not in ("sb", "zb")}, x)
    np.testing.assert_array_equal(fused, expected)


SUMS = {
    "MatMul": (MATMUL, (3, 16), (16, 8)),
    "Gemm": (
        MATMUL.replace("p = MatMul(xd, wd)", "")
        .replace("r = Add(p, bd)", "r = Gemm<transB=1, alpha=0.5>(xd, wd, bd)")
        .replace("<axis=1>", "<axis=0>"),
        (3, 16),
        (8, 16),
    ),
    "ConvTranspose": (
        """g (uint8[1,4,5,3] x) => (uint8[1,8,10,6] y) {
        xd = DequantizeLinear(x, sx, zx)
        wd = DequantizeLinear<axis=1>(w, sw, zw)
        bd = DequantizeLinear<axis=0>(b, sb, zb)
        r = ConvTranspose<strides=[2,2], pads=[0,0,1,1]>(xd, wd, bd)
        y = QuantizeLinear(r, sy, zy) }""",
        (1, 4, 5, 3),
        (4, 8, 3, 3),
    ),
    "Einsum": (
        """g (uint8[3,16] x) => (uint8[3,8] y) {
        xd = DequantizeLinear(x, sx, zx)
        wd = DequantizeLinear<axis=0>(w, sw, zw)
        r = Einsum<equation="ik,jk->ij">(xd, wd)
        y = QuantizeLinear(r, sy, zy) }""",
        (3, 16),
        (8, 16),
    ),
    "movement": (
        """g (uint8[4,4,3] x) => (uint8[3,8] y) {
        xd = DequantizeLinear(x, sx, zx)
        xt = Transpose<perm=[2,0,1]>(xd)
        xr = Reshape(xt, shape)
        wd = DequantizeLinear<axis=1>(w, sw, zw)
        r = MatMul(xr, wd)
        y = QuantizeLinear(r, sy, zy) }""",
        (4, 4, 3),
        (16, 8),
    ),
    "residual": (
        """g (uint8[3,16] x) => (uint8[3,8] y) {
        xd = DequantizeLinear(x, sx, zx)
        wd = DequantizeLinear<axis=1>(w, sw, zw)
        p = MatMul(xd, wd)
        q = QuantizeLinear(p, sy, zy)
        qd = DequantizeLinear(q, sy, zy)
        xs = Slice(xd, start, end, one)
        s = Add(qd, xs)
        t = Relu(s)
        y = QuantizeLinear(t, sy, zy) }""",
        (3, 16),
        (16, 8),
    ),
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("seed", range(3))
def test_codes_differ_from_those_of_float_sums_by_rounding_only(name: str, seed: int) -> None:
    body, x_shape, w_shape = SUMS[name]
    rng = np.random.default_rng(seed)
    shapes = {"shape": np.array([3, 16]), "start": np.array([0, 0]), "end": np.array([3, 8]), "one": np.array([0, 1])}
    constants = {"w": weights(rng, *w_shape), **parameters(rng, 8, weight_zero=3), **shapes}
    fused, defined = fused_and_defined(body, constants, {"x": codes(rng, *x_shape)})
    difference = np.abs(fused.astype(int) - defined.astype(int))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.02  # ties only


@pytest.mark.parametrize("name", SUMS)
def test_fires(rng: np.random.Generator, name: str) -> None:
    body, _, w_shape = SUMS[name]
    shapes = {"shape": np.array([3, 16]), "start": np.array([0, 0]), "end": np.array([3, 8]), "one": np.array([0, 1])}
    stages = stages_of(body, {"w": weights(rng, *w_shape), **parameters(rng, 8), **shapes})
    assert [stage.nest.body.dtype for stage in stages if not stage.is_map] == [DType.INT32]
