"""Layers on bytes for the tests of the C rows: convolutions and products with requantization, and numbers for them."""

from collections.abc import Callable

import numpy as np

from onnxc.backends.c.mma import ROWS, dot_rows
from onnxc.compiler.diagnostics import NOWHERE
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.nodes import Layout, TensorType, Value
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.build import const
from onnxc.compiler.kernel.evaluate import evaluate_nest
from onnxc.compiler.kernel.nest import Combine, Nest, pointwise, reduction
from onnxc.compiler.kernel.nodes import CastMode, Expr, MathFn, Read, Var
from onnxc.compiler.program.stages import Group, ScheduledKernel, make_stage
from onnxc.passes.kernel.loop_form import physical_shape
from onnxc.passes.kernel.schedule_code_maps import schedule_code_maps
from onnxc.passes.kernel.schedule_depthwise import schedule_depthwise
from onnxc.passes.kernel.schedule_dot import schedule_dot
from onnxc.passes.kernel.schedule_pools import schedule_pools

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


def residual(code: Expr, other: Expr, dtype: DType, relu: bool) -> Expr:
    """Codes that are added to others, all of different scales."""

    def real(stored: Expr, zero: int, scale: float) -> Expr:
        return build.mul(build.cast(build.sub(build.cast(stored, DType.INT32), zero), DType.FLOAT32), scale)

    total = build.add(real(other, 9, 0.013), real(code, -3, 0.021))
    units = build.div(build.maximum(total, 0.0) if relu else total, 0.03)
    return build.cast(build.add(build.math_fn(MathFn.ROUND, units), 4.0), dtype, CastMode.SATURATE)


def looked_up(code: Expr, table: int, dtype: DType) -> Expr:
    """What `tabulate_codes` makes of a function of a code."""
    at = build.cast(build.sub(build.cast(code, DType.INT32), int(dtype.limits[0])), DType.INT64)
    return Read(table, (at,), dtype)


def conv_group(
    image: tuple[int, int, int], filters: int, kernel: tuple[int, int], *, stride: int = 1, pad: int = 0, dilation: int = 1,
    data: DType = DType.INT8, weight: DType = DType.INT8, depthwise: bool = False, channels_last: bool = True, centred: bool = False,
    groups: int = 1, then: str = "",
) -> tuple[Group, Nest]:  # fmt: skip
    """A convolution with requantization; `image` is channels, height and width, `then` what is done with the codes."""
    channels, *size = image
    channels //= groups
    out = [(n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)]

    def term(axes: tuple[Var, ...], taps: tuple[Var, ...]) -> Expr:
        n, f, *place = axes
        *depth, ky, kx = taps
        at = [build.sub(build.add(build.mul(p, stride), build.mul(t, dilation)), pad) for p, t in zip(place, (ky, kx), strict=True)]
        checks = [c for a, n in zip(at, size, strict=True) for c in (build.ge(a, 0), build.lt(a, n))]
        source = f if depthwise else build.add(depth[0], build.mul(build.floordiv(f, filters // groups), channels))
        x = build.cast(Read(0, (n, source, *at), data), DType.INT32)
        w = build.cast(Read(1, (f, *(depth or [build.const(0)]), ky, kx), weight), DType.INT32)
        x = build.sub(x, OUTSIDE) if centred else x
        return build.mul(build.select(build.logical_and(*checks), x, 0 if centred else OUTSIDE) if pad else x, w)

    def finish(acc: Expr, axes: tuple[Var, ...]) -> Expr:
        found = codes(acc, Read(2, (axes[1],), DType.INT32), Read(3, (axes[1],), DType.FLOAT32), data)
        if "bounds" in then:
            found = build.minimum(build.maximum(found, const(-20 if data.is_signed else 100, data)), const(90, data))
        if "lookup" in then:
            return looked_up(found, 4, data)
        return residual(found, Read(4, axes, data), data, "relu" in then) if "residual" in then else found

    depth = () if depthwise else (channels,)
    nest = reduction((1, filters, *out), (*depth, *kernel), Combine.SUM, term, finish)

    def value(name: str, dtype: DType, shape: tuple[int, ...]) -> Value:
        layout = Layout(1, shape[1]) if channels_last and shape[1] > 1 else Layout()
        return Value(name, TensorType(dtype, shape, layout))

    result = value("y", data, (1, filters, *out))
    weights = Value("w", TensorType(weight, (filters, 1 if depthwise else channels, *kernel)))
    operands = [value("x", data, (1, *image)), weights, *parameters(filters)]
    operands += [value("x2", data, result.type.static_shape)] if "residual" in then else []
    operands += [Value("t", TensorType(data, (256,)))] if "lookup" in then else []
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


def pool_group(
    image: tuple[int, int, int], kernel: tuple[int, ...], *, stride: int = 1, pad: int = 0, data: DType = DType.INT8, then: bool = False
) -> tuple[Group, Nest]:
    """The largest of each window, perhaps negated; channels lie last."""
    channels, *size = image
    out = [(n + 2 * pad - k) // stride + 1 for n, k in zip(size, kernel, strict=True)]

    def term(axes: tuple[Var, ...], taps: tuple[Var, ...]) -> Expr:
        at = [build.sub(build.add(build.mul(p, stride), t), pad) for p, t in zip(axes[2:], taps, strict=True)]
        checks = [c for a, n in zip(at, size, strict=True) for c in (build.ge(a, 0), build.lt(a, n))]
        x = Read(0, (*axes[:2], *at), data)
        return build.select(build.logical_and(*checks), x, Combine.MAX.identity(data)) if pad else x

    def finish(acc: Expr, axes: tuple[Var, ...]) -> Expr:
        return build.neg(acc) if then else acc

    nest = reduction((1, channels, *out), kernel, Combine.MAX, term, finish)
    layout = Layout(1, channels)
    result = Value("y", TensorType(data, (1, channels, *out), layout))
    operand = Value("x", TensorType(data, (1, *image), layout))
    return Group((make_stage(result, (operand,), nest, NOWHERE, ()),), (result,)), nest


def mean_group(
    image: tuple[int, int, int], kernel: tuple[int, ...], *, stride: int = 1, pad: int = 0, data: DType = DType.INT8
) -> tuple[Group, Nest]:
    """Codes of the mean of each window, without what is outside; channels lie last."""
    channels, *size = image
    out = [(n + 2 * pad - k) // stride + 1 for n, k in zip(size, kernel, strict=True)]

    def place(axes: tuple[Var, ...], taps: tuple[Var, ...]) -> list[Expr]:
        return [build.sub(build.add(build.mul(p, stride), t), pad) for p, t in zip(axes[2:], taps, strict=True)]

    def term(axes: tuple[Var, ...], taps: tuple[Var, ...]) -> Expr:
        at = place(axes, taps)
        checks = [c for a, n in zip(at, size, strict=True) for c in (build.ge(a, 0), build.lt(a, n))]
        code = build.cast(Read(0, (*axes[:2], *at), data), DType.INT32)
        x = build.mul(build.cast(build.sub(code, 7), DType.FLOAT32), const(0.04, DType.FLOAT32))
        return build.select(build.logical_and(*checks), x, 0.0) if pad else x

    def finish(acc: Expr, axes: tuple[Var, ...]) -> Expr:
        first = [build.sub(build.mul(p, stride), pad) for p in axes[2:]]
        ends = [build.minimum(build.add(at, k), n) for at, k, n in zip(first, kernel, size, strict=True)]
        terms = build.product(build.dim(build.sub(end, build.maximum(at, 0))) for at, end in zip(first, ends, strict=True))
        units = build.div(build.div(acc, build.cast(build.index(terms), DType.FLOAT32)), const(0.03, DType.FLOAT32))
        return build.cast(build.add(build.math_fn(MathFn.ROUND, units), -3.0), data, CastMode.SATURATE)

    nest = reduction((1, channels, *out), kernel, Combine.SUM, term, finish)
    layout = Layout(1, channels)
    result = Value("y", TensorType(data, (1, channels, *out), layout))
    operand = Value("x", TensorType(data, (1, *image), layout))
    return Group((make_stage(result, (operand,), nest, NOWHERE, ()),), (result,)), nest


def sum_group(shape: tuple[int, ...], *, data: DType = DType.INT8, relu: bool = False) -> tuple[Group, Nest]:
    """Codes of the sums of two tensors of codes."""
    nest = pointwise(shape, lambda *at: residual(Read(0, at, data), Read(1, at, data), data, relu))
    result, *operands = (Value(name, TensorType(data, shape)) for name in ("y", "x", "x2"))
    return Group((make_stage(result, tuple(operands), nest, NOWHERE, ()),), (result,)), nest


def lookup_group(shape: tuple[int, ...], *, data: DType = DType.INT8) -> tuple[Group, Nest]:
    """Elements of a table."""
    nest = pointwise(shape, lambda *at: looked_up(Read(0, at, data), 1, data))
    result, operand, table = Value("y", TensorType(data, shape)), Value("x", TensorType(data, shape)), Value("t", TensorType(data, (256,)))
    return Group((make_stage(result, (operand, table), nest, NOWHERE, ()),), (result,)), nest


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


def meanings() -> dict[str, Callable[..., None]]:
    return {name: row.meaning for name, row in ROWS.items()}


def is_constant(value: Value) -> bool:
    return not value.name.startswith("x")


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
    "centred": {"image": (8, 4, 3), "filters": 5, "kernel": (3, 2), "pad": 1, "centred": True},
    "centred inside": {"image": (4, 2, 3), "filters": 5, "kernel": (1, 1), "centred": True},
    "uint8": {"image": (4, 5, 4), "filters": 4, "kernel": (3, 3), "pad": 1, "data": DType.UINT8},
    "uint8 weights": {"image": (4, 3, 4), "filters": 3, "kernel": (1, 1), "weight": DType.UINT8},
    "groups": {"image": (8, 5, 4), "filters": 6, "kernel": (3, 3), "pad": 1, "groups": 2},
    "groups of words": {"image": (12, 3, 3), "filters": 15, "kernel": (1, 1), "groups": 3},
    "groups of uint8": {"image": (6, 5, 4), "filters": 4, "kernel": (2, 3), "groups": 2, "data": DType.UINT8, "stride": 2},
    "several results for each channel": {"image": (5, 6, 5), "filters": 10, "kernel": (3, 3), "pad": 1, "groups": 5},
    "bounds": {"image": (8, 3, 5), "filters": 6, "kernel": (1, 1), "then": "bounds"},
    "residual": {"image": (4, 5, 4), "filters": 11, "kernel": (3, 3), "pad": 1, "then": "residual"},
    "residual of bounded codes": {"image": (8, 3, 5), "filters": 8, "kernel": (1, 1), "then": "bounds, residual, relu"},
    "residual of uint8": {"image": (8, 3, 5), "filters": 4, "kernel": (1, 1), "then": "residual", "data": DType.UINT8},
    "codes in a table": {"image": (4, 5, 4), "filters": 11, "kernel": (3, 3), "pad": 1, "then": "lookup"},
    "uint8 in a table": {"image": (8, 3, 5), "filters": 4, "kernel": (1, 1), "then": "lookup", "data": DType.UINT8},
    "all uint8": {"image": (5, 3, 4), "filters": 3, "kernel": (1, 1), "data": DType.UINT8, "weight": DType.UINT8},
}

DEPTHWISE = {
    "depthwise": {"image": (13, 6, 5), "kernel": (3, 3), "pad": 1},
    "depthwise with a stride": {"image": (4, 7, 6), "kernel": (3, 3), "pad": 1, "stride": 2},
    "depthwise, not in whole words": {"image": (7, 5, 4), "kernel": (3, 2), "pad": 1},
    "depthwise inside": {"image": (4, 5, 4), "kernel": (2, 3)},
    "depthwise with gaps": {"image": (4, 9, 8), "kernel": (2, 3), "pad": 2, "dilation": 2},
    "depthwise row": {"image": (4, 1, 9), "kernel": (1, 3)},
    "depthwise, centred": {"image": (9, 5, 4), "kernel": (3, 3), "pad": 1, "centred": True},
    "depthwise uint8": {"image": (6, 5, 4), "kernel": (3, 3), "pad": 1, "data": DType.UINT8},
    "depthwise, all uint8": {"image": (4, 5, 4), "kernel": (3, 3), "data": DType.UINT8, "weight": DType.UINT8},
}

PRODUCTS = {"vector": (1, 16, 11), "matrix": (5, 12, 4), "matrix, not in whole words": (2, 7, 3)}

POOLS = {
    "largest": {"image": (21, 5, 4), "kernel": (2, 2)},
    "largest with pads": {"image": (7, 6, 5), "kernel": (3, 3), "stride": 2, "pad": 1},
    "largest of a row": {"image": (4, 9), "kernel": (3,), "pad": 1},
    "largest and more": {"image": (6, 4, 4), "kernel": (2, 3), "then": True},
    "largest uint8": {"image": (18, 5, 5), "kernel": (3, 2), "pad": 1, "data": DType.UINT8},
}
SUMS = {
    "sums": {"shape": (3, 7)}, "sums and Relu": {"shape": (29,), "relu": True}, "sums of uint8": {"shape": (2, 3, 5), "data": DType.UINT8},
}  # fmt: skip
MEANS = {
    "means": {"image": (9, 4, 6), "kernel": (2, 2), "stride": 2},
    "means with pads": {"image": (7, 6, 5), "kernel": (3, 3), "pad": 1},
    "means of a row of uint8": {"image": (6, 9), "kernel": (4,), "stride": 2, "data": DType.UINT8},
}
LOOKUPS = {"lookups": {"shape": (5, 7)}, "lookups of uint8": {"shape": (2, 8), "data": DType.UINT8}}
LAYERS = (*CONVOLUTIONS, *DEPTHWISE, *PRODUCTS, *POOLS, *SUMS, *MEANS, *LOOKUPS)


def layer(name: str, processor: str) -> tuple[Group, Nest, ScheduledKernel]:
    """A layer of the tables with its kernel for a processor."""
    if name in CONVOLUTIONS:
        group, nest = conv_group(**CONVOLUTIONS[name])
        found = schedule_dot(group, DOT_ROWS[processor], is_constant)
        if isinstance(found, str) and CONVOLUTIONS[name].get("groups", 1) > 1:
            found = schedule_depthwise(group, DOT_ROWS[processor], is_constant)
    elif name in DEPTHWISE:
        group, nest = conv_group(**DEPTHWISE[name], filters=DEPTHWISE[name]["image"][0], depthwise=True)
        found = schedule_depthwise(group, DOT_ROWS[processor], is_constant)
    elif name in POOLS:
        group, nest = pool_group(**POOLS[name])
        found = schedule_pools(group, DOT_ROWS[processor], is_constant)
    elif name in MEANS:
        group, nest = mean_group(**MEANS[name])
        found = schedule_pools(group, DOT_ROWS["cortex-m55"], is_constant)
    elif name in LOOKUPS:
        group, nest = lookup_group(**LOOKUPS[name])
        found = schedule_code_maps(group, DOT_ROWS[processor], is_constant)
    elif name in SUMS:
        group, nest = sum_group(**SUMS[name])
        found = schedule_code_maps(group, DOT_ROWS["cortex-m55"], is_constant)
    else:
        group, nest = matmul_group(*PRODUCTS[name])
        found = schedule_dot(group, DOT_ROWS[processor], is_constant)
    assert not isinstance(found, str), found
    return group, nest, found[0]


def arrays_of(group: Group, nest: Nest, scheduled: ScheduledKernel) -> tuple[list[np.ndarray], np.ndarray]:
    """An array for each buffer of a kernel, the output's with numbers of its own, and what should stand in the output."""
    rng = np.random.default_rng(11)
    (stage,) = group.stages
    inputs = {v.name: numbers(v, rng) for v in stage.operands}
    wanted = in_memory(stage.value, evaluate_nest(nest, [inputs[v.name] for v in stage.operands], {}))
    assert len(np.unique(wanted)) > min(20, wanted.size // 8), "the codes of a test must not all saturate"
    arrays = []
    for value, pack in zip(scheduled.operands, scheduled.packs or [None] * len(scheduled.operands), strict=True):
        if value is stage.value:
            arrays.append(np.full(wanted.size, 77, wanted.dtype))
        else:
            arrays.append(in_memory(value, inputs[value.name]) if pack is None else pack.apply(inputs[value.name]))
    return arrays, wanted
