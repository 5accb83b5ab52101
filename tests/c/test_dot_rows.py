"""Sums of products of bytes: the schedule's kernels in the interpreter and as C, against the nest's own meaning."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from onnxc.backends.c.mma import ROWS, dot_rows
from onnxc.compiler.diagnostics import NOWHERE
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.nodes import Layout, TensorType, Value
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.evaluate import evaluate_nest
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.nest import Combine, Nest, reduction
from onnxc.compiler.kernel.nodes import CastMode, Expr, MathFn, Read, Var
from onnxc.compiler.program.stages import Group, ScheduledKernel, make_stage
from onnxc.passes.kernel.loop_form import physical_shape
from onnxc.passes.kernel.schedule_depthwise import schedule_depthwise
from onnxc.passes.kernel.schedule_dot import schedule_dot

from .conftest import Run

DOT_ROWS = {name: dot_rows(name) for name in ("any", "cortex-m55")}
OUTSIDE = 5
"""The zero point of the data, which stands around them."""


def in_memory(value: Value, array: np.ndarray) -> np.ndarray:
    """An array's elements in the order in which its value lies in memory."""
    if value.type.layout.block > 1:
        array = np.moveaxis(array, value.type.layout.axis, -1)
    assert np.prod(physical_shape(value.type)) == array.size
    return np.ascontiguousarray(array).reshape(-1)


def codes(acc: Expr, bias: Expr, scale: Expr, dtype: DType) -> Expr:
    """The canonical requantization."""
    units = build.mul(build.cast(build.add(acc, bias), DType.FLOAT32), scale)
    zero = -3.0 if dtype.is_signed else 120.0
    return build.cast(build.add(build.math_fn(MathFn.ROUND, units), zero), dtype, CastMode.SATURATE)


def conv_group(
    image: tuple[int, int, int], filters: int, kernel: tuple[int, int], *, stride: int = 1, pad: int = 0, dilation: int = 1,
    data: DType = DType.INT8, weight: DType = DType.INT8, depthwise: bool = False, channels_last: bool = True,
) -> tuple[Group, Nest]:  # fmt: skip
    """A convolution with requantization; `image` is channels, height and width."""
    channels, *size = image
    out = [(n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)]

    def term(axes: tuple[Var, ...], taps: tuple[Var, ...]) -> Expr:
        n, f, *place = axes
        *depth, ky, kx = taps
        at = [build.sub(build.add(build.mul(p, stride), build.mul(t, dilation)), pad) for p, t in zip(place, (ky, kx), strict=True)]
        checks = [c for a, n in zip(at, size, strict=True) for c in (build.ge(a, 0), build.lt(a, n))]
        x = build.cast(Read(0, (n, f if depthwise else depth[0], *at), data), DType.INT32)
        w = build.cast(Read(1, (f, *(depth or [build.const(0)]), ky, kx), weight), DType.INT32)
        return build.mul(build.select(build.logical_and(*checks), x, OUTSIDE) if pad else x, w)

    def finish(acc: Expr, axes: tuple[Var, ...]) -> Expr:
        return codes(acc, Read(2, (axes[1],), DType.INT32), Read(3, (axes[1],), DType.FLOAT32), data)

    depth = () if depthwise else (channels,)
    nest = reduction((1, filters, *out), (*depth, *kernel), Combine.SUM, term, finish)

    def value(name: str, dtype: DType, shape: tuple[int, ...]) -> Value:
        layout = Layout(1, shape[1]) if channels_last and shape[1] > 1 else Layout()
        return Value(name, TensorType(dtype, shape, layout))

    result = value("y", data, (1, filters, *out))
    weights = Value("w", TensorType(weight, (filters, 1 if depthwise else channels, *kernel)))
    operands = [value("x", data, (1, *image)), weights, *parameters(filters)]
    return Group((make_stage(result, tuple(operands), nest, NOWHERE, ()),), (result,)), nest


def matmul_group(rows: int, depth: int, columns: int) -> tuple[Group, Nest]:
    """A matrix product with requantization; the weights stand with the depth first."""

    def term(axes: tuple[Var, ...], taps: tuple[Var, ...]) -> Expr:
        x = build.cast(Read(0, (axes[0], taps[0]), DType.INT8), DType.INT32)
        return build.mul(x, build.cast(Read(1, (taps[0], axes[1]), DType.INT8), DType.INT32))

    def finish(acc: Expr, axes: tuple[Var, ...]) -> Expr:
        return codes(acc, Read(2, (axes[1],), DType.INT32), Read(3, (axes[1],), DType.FLOAT32), DType.INT8)

    nest = reduction((rows, columns), (depth,), Combine.SUM, term, finish)
    result = Value("y", TensorType(DType.INT8, (rows, columns)))
    operands = [Value("x", TensorType(DType.INT8, (rows, depth))), Value("w", TensorType(DType.INT8, (depth, columns)))]
    return Group((make_stage(result, (*operands, *parameters(columns)), nest, NOWHERE, ()),), (result,)), nest


def parameters(channels: int) -> list[Value]:
    return [Value("b", TensorType(DType.INT32, (channels,))), Value("m", TensorType(DType.FLOAT32, (channels,)))]


def numbers(value: Value, rng: np.random.Generator) -> np.ndarray:
    """Numbers of a type with its limits among them; scales that make most codes fit."""
    shape, dtype = value.type.static_shape, value.type.dtype
    if dtype is DType.FLOAT32:
        return rng.uniform(0.0002, 0.001, shape).astype(np.float32)
    if dtype is DType.INT32:
        return rng.integers(-3000, 3000, shape).astype(np.int32)
    low, high = dtype.limits
    return rng.choice([low, high, low + 1, *rng.integers(low, high + 1, 61)], shape).astype(dtype.numpy)


@pytest.fixture
def check(run_c: Run) -> Callable[[Group, Nest, ScheduledKernel], None]:
    """Runs a scheduled kernel in the interpreter and as C; both must give what the nest says, to the bit."""

    def check(group: Group, nest: Nest, scheduled: ScheduledKernel) -> None:
        rng = np.random.default_rng(11)
        inputs = {v.name: numbers(v, rng) for v in group.stages[0].operands}
        expected = evaluate_nest(nest, [inputs[v.name] for v in group.stages[0].operands], {})
        wanted = in_memory(group.outputs[0], expected)
        assert len(np.unique(wanted)) > min(20, wanted.size // 2), "the codes of a test must not all saturate"
        arrays = {}
        for value, buffer, pack in zip(scheduled.operands, scheduled.kernel.buffers, scheduled.packs, strict=True):
            source = inputs.get(value.name, np.zeros(value.type.static_shape, value.type.dtype.numpy))
            arrays[buffer] = in_memory(value, source) if pack is None else pack.apply(source)
        out = scheduled.kernel.buffers[scheduled.operands.index(group.outputs[0])]
        for run in (lambda: run_kernel(scheduled.kernel, arrays, {}, meanings()), lambda: run_c(scheduled.kernel, arrays, {})):
            arrays[out][:] = 77
            run()
            np.testing.assert_array_equal(arrays[out], wanted)

    return check


def meanings() -> dict[str, Callable[..., None]]:
    return {name: row.meaning for name, row in ROWS.items()}


def is_constant(value: Value) -> bool:
    return value.name != "x"


CONVOLUTIONS = {
    "pointwise": {"image": (8, 3, 5), "filters": 6, "kernel": (1, 1)},
    "pointwise with a stride": {"image": (8, 5, 5), "filters": 3, "kernel": (1, 1), "stride": 2},
    "depth not in whole words": {"image": (6, 3, 2), "filters": 5, "kernel": (1, 1)},
    "window": {"image": (4, 6, 5), "filters": 4, "kernel": (3, 3), "pad": 1},
    "window of few channels": {"image": (3, 7, 6), "filters": 4, "kernel": (3, 3), "pad": 1, "stride": 2},
    "window of one channel": {"image": (1, 9, 6), "filters": 5, "kernel": (4, 3), "pad": 2},
    "window without neighbours": {"image": (4, 8, 7), "filters": 2, "kernel": (3, 2), "pad": 2, "dilation": 2},
    "window inside": {"image": (4, 4, 4), "filters": 2, "kernel": (2, 2)},
    "channels first": {"image": (4, 4, 3), "filters": 2, "kernel": (2, 2), "pad": 1, "channels_last": False},
    "uint8": {"image": (4, 5, 4), "filters": 4, "kernel": (3, 3), "pad": 1, "data": DType.UINT8},
    "uint8 weights": {"image": (4, 3, 4), "filters": 3, "kernel": (1, 1), "weight": DType.UINT8},
    "all uint8": {"image": (5, 3, 4), "filters": 3, "kernel": (1, 1), "data": DType.UINT8, "weight": DType.UINT8},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("processor", DOT_ROWS)
def test_convolutions(name: str, processor: str, check: Callable[..., None]) -> None:
    group, nest = conv_group(**CONVOLUTIONS[name])
    found = schedule_dot(group, DOT_ROWS[processor], is_constant)
    assert not isinstance(found, str), found
    check(group, nest, found[0])


DEPTHWISE = {
    "window": {"image": (13, 6, 5), "kernel": (3, 3), "pad": 1},
    "stride": {"image": (4, 7, 6), "kernel": (3, 3), "pad": 1, "stride": 2},
    "channels not in whole words": {"image": (7, 5, 4), "kernel": (3, 2), "pad": 1},
    "window inside": {"image": (4, 5, 4), "kernel": (2, 3)},
    "dilation": {"image": (4, 9, 8), "kernel": (2, 3), "pad": 2, "dilation": 2},
    "row of taps": {"image": (4, 1, 9), "kernel": (1, 3)},
    "uint8": {"image": (6, 5, 4), "kernel": (3, 3), "pad": 1, "data": DType.UINT8},
    "all uint8": {"image": (4, 5, 4), "kernel": (3, 3), "data": DType.UINT8, "weight": DType.UINT8},
}


@pytest.mark.parametrize("name", DEPTHWISE)
@pytest.mark.parametrize("processor", DOT_ROWS)
def test_depthwise_convolutions(name: str, processor: str, check: Callable[..., None]) -> None:
    group, nest = conv_group(**DEPTHWISE[name], filters=DEPTHWISE[name]["image"][0], depthwise=True)
    found = schedule_depthwise(group, DOT_ROWS[processor], is_constant)
    assert not isinstance(found, str), found
    check(group, nest, found[0])


@pytest.mark.parametrize("shape", [(1, 16, 11), (5, 12, 4), (2, 7, 3)])
def test_matrix_products(shape: tuple[int, int, int], check: Callable[..., None]) -> None:
    group, nest = matmul_group(*shape)
    found = schedule_dot(group, DOT_ROWS["any"], is_constant)
    assert not isinstance(found, str), found
    check(group, nest, found[0])


def test_what_is_not_a_sum_of_products_of_bytes_is_refused() -> None:
    group, _ = conv_group((4, 3, 3), 4, (1, 1))
    assert schedule_dot(group, DOT_ROWS["any"], lambda value: False) == "neither factor is a constant tensor of bytes"
    depthwise, _ = conv_group((4, 3, 3), 4, (3, 3), depthwise=True)
    assert schedule_dot(depthwise, DOT_ROWS["any"], is_constant) == "each channel reads only itself"
    (stage,) = group.stages
    wide = replace(stage, nest=replace(stage.nest, combine=Combine.MAX))
    assert schedule_dot(replace(group, stages=(wide,)), DOT_ROWS["any"], is_constant) == "no sum over products"
