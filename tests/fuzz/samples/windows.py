"""Pooling, normalizations, reductions, resizing."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Misfit, Noise
from .contraction import image, window
from .registry import sample


@sample("MaxPool", weight=6)
@sample("AveragePool", weight=6)
@sample("LpPool", weight=1)
def pool(d: Draft, op: str) -> None:
    types = ("float32", "float32", "float64", "float16")
    x = image(d, *types, *(("uint8", "int8") if op == "MaxPool" else ()))
    if x.dtype in ("uint8", "int8") and x.noise is not Noise.EXACT:
        raise Misfit
    spatial = x.shape[2:]
    kernel = [d.int(1, min(n, 4)) for n in spatial] if d.chance(60) else [2] * len(spatial)
    attrs = window(d, spatial, kernel, dilations=op == "MaxPool" or d.opset >= 19)
    if d.chance(25) and "auto_pad" not in attrs:
        attrs["ceil_mode"] = 1
    if op == "AveragePool":
        attrs["count_include_pad"] = d.int(0, 1)
    noise = None if op == "MaxPool" else Noise.ROUNDED
    # Of equal elements the evaluator takes a later one, and beyond these opsets nobody else judges.
    if op == "MaxPool" and d.chance(20) and x.noise is Noise.EXACT and d.opset <= 25:
        d.add_all(op, x, outputs=2, **attrs)
        return
    d.add(op, x, noise=noise, **attrs)


@sample("GlobalAveragePool", weight=3)
@sample("GlobalMaxPool", "GlobalLpPool", weight=1)
def global_pool(d: Draft, op: str) -> None:
    # The evaluator knows the maximum of images only.
    rank = (4,) if op != "GlobalAveragePool" else (4, 4, 3, 5)
    d.add(op, image(d, "float32", "float32", "float64", "float16", rank=rank), noise=Noise.ROUNDED)


@sample("Softmax", "LogSoftmax", weight=4)
@sample("Hardmax", weight=1)
def softmax(d: Draft, op: str) -> None:
    pick = d.exact if op == "Hardmax" else d.tame
    x = pick("float32", "float32", "float64", "float16", rank=range(1, 5))
    d.add(op, x, axis=d.axis(x.rank), noise=Noise.ROUNDED)


def has_spread(array: np.ndarray, axes: tuple[int, ...]) -> bool:
    """False for what a normalization over some axes leaves little of but rounding errors."""
    wide = array.astype(np.float64)
    return bool(array.size and np.ptp(wide, axis=axes).min() > 1e-2 * np.abs(wide).max())


@sample("LayerNormalization", weight=6)
@sample("RMSNormalization", weight=2)
def layer_norm(d: Draft, op: str) -> None:
    if op == "RMSNormalization" and d.opset < 23:
        raise Misfit
    x = d.tame("float32", "float32", "float64", "float16", rank=range(1, 5))
    axis = d.choose((-1, d.axis(x.rank)))
    shape = x.shape[axis:]
    if op == "LayerNormalization" and not has_spread(x.array, tuple(range(axis % x.rank, x.rank))):
        raise Misfit
    operands = [d.like(x.dtype, shape)]
    if op == "LayerNormalization" and d.chance(60):
        operands.append(d.like(x.dtype, shape))
    d.add(op, x, *operands, axis=axis, epsilon=0.01, noise=Noise.ROUNDED)


@sample("InstanceNormalization", weight=2)
@sample("GroupNormalization", weight=2)
def channel_norm(d: Draft, op: str) -> None:
    x = image(d, "float32", "float32", "float64")
    n = x.shape[1]
    if op == "GroupNormalization":
        if d.opset < 21:
            raise Misfit
        groups = d.choose([g for g in range(1, n + 1) if n % g == 0])
        attrs: dict[str, object] = {"num_groups": groups}
    else:
        attrs = {}
    d.add(op, x, d.like(x.dtype, (n,)), d.like(x.dtype, (n,)), epsilon=0.01, noise=Noise.ROUNDED, **attrs)


@sample("LpNormalization", "MeanVarianceNormalization", weight=1)
def norm(d: Draft, op: str) -> None:
    x = d.tame("float32", "float32", "float64", rank=(2, 3, 4))
    if op == "MeanVarianceNormalization":
        d.add(op, x, axes=sorted(d.some(range(x.rank), 1)), noise=Noise.ROUNDED)
        return
    d.add(op, d.add("Add", x, d.constant(np.array(0.5, x.dtype), listed=False)), axis=d.axis(x.rank), p=d.int(1, 2), noise=Noise.ROUNDED)


@sample("LRN", weight=1)
def local_norm(d: Draft, op: str) -> None:
    d.add(op, image(d, "float32", rank=4), size=d.choose((3, 5)), alpha=0.1, noise=Noise.ROUNDED)


@sample("ReduceMean", "ReduceSum", "ReduceMax", weight=5)
@sample("ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd", "ReduceLogSumExp", weight=1)
@sample("ReduceLogSum", weight=1)
def reduction(d: Draft, op: str) -> None:
    ints = ("int32", "int64") if op in ("ReduceSum", "ReduceMax", "ReduceMin") else ()
    x = d.tame("float32", "float32", "float32", "float64", "float16", *ints)
    if op == "ReduceLogSum":
        x = d.add("Abs", x)
    if op == "ReduceProd" and np.abs(x.array.astype(float)).max() > 3:
        raise Misfit
    attrs = {"keepdims": d.int(0, 1)} if d.chance(70) else {}
    axes: list[int] = []
    if x.rank and d.chance(85):
        axes = [a - x.rank if d.chance(25) else a for a in d.some(range(x.rank))]
    elif d.chance(30):
        attrs["noop_with_empty_axes"] = 1
    noise = Noise.ROUNDED if x.is_float else None
    if d.opset < 18 and op != "ReduceSum":
        attrs.pop("noop_with_empty_axes", None)
        d.add(op, x, noise=noise, axes=axes or None, **attrs)
        return
    d.add(op, x, *([d.ints(axes)] if axes else ()), noise=noise, **attrs)


@sample("ArgMax", "ArgMin", weight=2)
def argument(d: Draft, op: str) -> None:
    x = d.exact("float32", "float64", "int32", "int8", "uint8", rank=range(1, 5))
    d.add(op, x, axis=d.axis(x.rank), keepdims=d.int(0, 1), select_last_index=d.int(0, 1))


@sample("CumSum", weight=2)
@sample("CumProd", weight=1)
def cumulative(d: Draft, op: str) -> None:
    if op == "CumProd" and d.opset < 26:
        raise Misfit
    x = d.tame("float32", "float64", "int32", "int64", rank=range(1, 5))
    axis = d.constant(np.array(d.axis(x.rank), d.choose(("int64", "int32"))), listed=False)
    d.add(op, x, axis, exclusive=d.int(0, 1), reverse=d.int(0, 1), noise=Noise.ROUNDED if x.is_float else None)


@sample("Resize", weight=4)
def resize(d: Draft, op: str) -> None:
    x = image(d, "float32", "float32", "float64", "uint8", rank=(4, 4, 3), least=2)
    mode = d.choose(("nearest", "linear", "linear", "cubic"))
    if mode == "cubic" and (x.rank != 4 or x.dtype != "float32"):
        raise Misfit
    if x.dtype == "uint8" and mode != "nearest":
        raise Misfit
    transform = d.choose(("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"))
    attrs: dict[str, object] = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        attrs["nearest_mode"] = d.choose(("floor", "round_prefer_floor", "ceil", "round_prefer_ceil"))
    if d.chance(50):
        sizes = [*x.shape[:2], *(d.choose((n, 2 * n, n + 1, max(n // 2, 1))) for n in x.shape[2:])]
        d.add(op, x, None, None, d.ints(sizes), noise=Noise.ROUNDED, **attrs)
        return
    scales = [1.0, 1.0, *(d.choose((2.0, 1.0, 3.0, 0.5, 1.5)) for _ in x.shape[2:])]
    if transform == "pytorch_half_pixel" and any(1 < n * scale < 2 for n, scale in zip(x.shape, scales, strict=True)):
        raise Misfit  # the evaluator compares the product itself with 1, where the extent of the output, its floor, is meant
    given = d.constant(np.array(scales, np.float32), listed=False)
    d.add(op, x, None, given, noise=Noise.ROUNDED, **attrs)


@sample("squeeze and excite", weight=2)
def squeeze_and_excite(d: Draft, op: str) -> None:
    """Channels that are weighted by what a small network makes of their means."""
    del op
    x = image(d, "float32", "float32", "float64", rank=4)
    n, inner = x.shape[1], d.choose((4, 7, 8))
    y = d.add("GlobalAveragePool", x, noise=Noise.ROUNDED)
    for shape, then in (((inner, n, 1, 1), "Relu"), ((n, inner, 1, 1), "Sigmoid")):
        w = d.constant((np.random.default_rng(d.int(0, 99)).standard_normal(shape) / 2).astype(x.dtype), listed=False)
        y = d.add(then, d.add("Conv", y, w, d.like(x.dtype, shape[:1]), noise=Noise.ROUNDED), noise=Noise.ROUNDED)
    d.add("Mul", x, y)


@sample("variance", weight=2)
def variance(d: Draft, op: str) -> None:
    """Layer normalization spelled out."""
    del op
    x = d.tame("float32", "float32", "float64", rank=(2, 3, 4))
    axes = [-1] if d.chance(70) else [d.axis(x.rank)]
    mean = d.add("ReduceMean", x, d.ints(axes), keepdims=1, noise=Noise.ROUNDED)
    centred = d.add("Sub", x, mean)
    square = d.add("Pow", centred, d.constant(np.array(2, x.dtype), listed=False)) if d.chance(50) else d.add("Mul", centred, centred)
    spread = d.add("ReduceMean", square, d.ints(axes), keepdims=1, noise=Noise.ROUNDED)
    root = d.add("Sqrt", d.add("Add", spread, d.constant(np.array(0.01, x.dtype), listed=False)))
    d.add("Mul", d.add("Div", centred, root), d.like(x.dtype, x.shape[-1:]))
