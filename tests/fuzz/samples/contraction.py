"""Products of matrices and convolutions, alone and in the surroundings that schedules are made for."""

from __future__ import annotations

import math

import numpy as np

from ..draft import Draft, Misfit, Noise, Operand
from .registry import sample

WIDE = ("float32", "float32", "float32", "float32", "float64", "float16")


def weight(d: Draft, dtype: str, shape: tuple[int, ...], fan_in: int) -> Operand:
    """Random numbers of a size that keeps sums moderate; a constant, or now and then an input, or what a node makes of one."""
    if math.prod(shape) > 12000:
        raise Misfit
    rng = np.random.default_rng(d.int(0, 999))
    if dtype in ("int8", "uint8"):
        array = rng.integers(0 if dtype == "uint8" else -9, 10, shape).astype(dtype)
    else:
        array = (rng.standard_normal(shape) / math.sqrt(max(fan_in, 1))).astype(dtype)
    if d.outer is not None or not d.chance(15) or len(d.inputs) > 5:
        return d.constant(array, listed=False)
    given = d.input(array)
    return d.add("Neg", given) if dtype != "uint8" and d.chance(40) else given


@sample("MatMul", weight=12)
def product(d: Draft, op: str) -> None:
    x = d.tame(*WIDE, "int32", rank=range(1, 5))
    if x.dtype == "int32":
        x = d.add("Clip", x, *(d.constant(np.array(b, "int32"), listed=False) for b in (-99, 99)))
    if d.chance(25):
        fits = [v for v in d.visible() if v.dtype == x.dtype and v.rank >= 2 and v.shape[-2] == x.shape[-1] and v.is_tame]
        d.add(op, x, d.choose(fits[::-1]), noise=Noise.ROUNDED if x.is_float else None)
        return
    k, n = x.shape[-1], d.choose((8, 1, 3, 16, 17, 24, 33, 5))
    batch = d.choose(((), (), (), x.shape[:-2], (1,) * max(x.rank - 2, 0)))
    shape = (*batch, k, n) if d.chance(90) else (k,)
    d.add(op, x, weight(d, x.dtype, shape, k), noise=Noise.ROUNDED if x.is_float else None)


@sample("Gemm", weight=6)
def gemm(d: Draft, op: str) -> None:
    x = d.tame(*WIDE, rank=2)
    flip_a, flip_b = d.int(0, 1), d.int(0, 1)
    m, k = x.shape[::-1] if flip_a else x.shape
    n = d.choose((8, 1, 3, 16, 17, 24, 33, 5))
    w = weight(d, x.dtype, (n, k) if flip_b else (k, n), k)
    bias = d.choose((None, (n,), (1,), (m, n), (m, 1), (1, n), ()))
    attrs = {"alpha": 0.5, "beta": d.choose((2.0, 1.0, 0.0))} if d.chance(40) else {}
    d.add(op, x, w, *(() if bias is None else (d.like(x.dtype, bias),)), transA=flip_a, transB=flip_b, noise=Noise.ROUNDED, **attrs)


@sample("Einsum")
def einsum(d: Draft, op: str) -> None:
    x = d.tame("float32", "float32", "float64", rank=(2, 3, 4))
    letters = "abcd"[: x.rank]
    y = weight(d, x.dtype, (x.shape[-1], d.choose((4, 1, 7))), x.shape[-1])
    inner = letters[-1]
    out = d.choose((letters[:-1] + "z", "z" + letters[:-1], letters[1:-1] + "z", letters + "z"))
    d.add(op, x, y, equation=f"{letters},{inner}z->{out}", noise=Noise.ROUNDED)


def image(d: Draft, *dtypes: str, rank: int | tuple[int, ...] = (4, 4, 4, 3, 5), least: int = 1) -> Operand:
    """A tensor with batch, channels and one to three spatial axes."""
    rank = d.choose(rank) if isinstance(rank, tuple) else rank
    there = [v for v in d.visible() if v.dtype in dtypes and v.rank == rank and v.is_tame and v.array.size and min(v.shape[2:]) >= least]
    if there and not d.chance(10):
        return d.choose(there[::-1][:6])
    channels = d.choose((3, 1, 8, 16, 4, 5, 12, 24, 32))
    spatial = tuple(d.choose((6, 5, 4, 7, 8, 9, 11, 13)) for _ in range(rank - 2))
    shape = (d.choose((1, 1, 2, 3)), channels, *spatial)
    if math.prod(shape) > 6000 or min(spatial) < least:
        raise Misfit
    return d.fresh(d.choose(dtypes), shape)


def window(d: Draft, spatial: tuple[int, ...], kernel: list[int], dilations: bool = True) -> dict[str, object]:
    """Strides, dilations and pads for a kernel."""
    n = len(spatial)
    attrs: dict[str, object] = {"kernel_shape": kernel}
    dilation = [d.choose((1, 1, 2, 3)) for _ in range(n)] if dilations and d.chance(30) else [1] * n
    if d.chance(45):
        attrs["strides"] = [d.choose((2, 1, 3)) for _ in range(n)]
    if any(k > 1 for k in dilation):
        attrs["dilations"] = dilation
    kind = d.choose(("none", "same", "odd", "auto"))
    if kind == "same":
        half = [(k - 1) * s // 2 for k, s in zip(kernel, dilation, strict=True)]
        attrs["pads"] = half + half
    elif kind == "odd":
        attrs["pads"] = [d.int(0, k - 1) for k in kernel * 2]
    elif kind == "auto":
        attrs["auto_pad"] = d.choose(("SAME_UPPER", "SAME_LOWER", "VALID"))
    return attrs


@sample("Conv", weight=16)
def convolution(d: Draft, op: str) -> None:
    x = image(d, *WIDE)
    channels, spatial = x.shape[1], x.shape[2:]
    kernel = [d.choose((3, 1, 2, 5)) for _ in spatial] if d.chance(40) else [d.choose((3, 1))] * len(spatial)
    groups = d.choose((1, 1, 1, channels, d.choose([g for g in range(1, channels + 1) if channels % g == 0])))
    out = groups * d.choose((1, 2, 3)) if groups > 1 else d.choose((8, 1, 3, 16, 17, 24, 32, 5))
    attrs = window(d, spatial, kernel)
    fan_in = channels // groups * math.prod(kernel)
    w = weight(d, x.dtype, (out, channels // groups, *kernel), fan_in)
    bias = [d.like(x.dtype, (out,))] if d.chance(50) else []
    y = d.add(op, x, w, *bias, group=groups, noise=Noise.ROUNDED, **attrs)
    follow(d, y, x)


def follow(d: Draft, y: Operand, x: Operand) -> None:
    """What stands behind convolutions in networks."""
    for _ in range(d.int(0, 2)):
        kind = d.choose(("relu", "norm", "scale", "residual", "clip", "swish"))
        if kind == "relu":
            y = d.add("Relu", y)
        elif kind == "clip" and y.is_float:
            y = d.add("Clip", y, *(d.constant(np.array(b, y.dtype), listed=False) for b in (0, 6)))
        elif kind == "swish":
            y = d.add("Mul", y, d.add("Sigmoid", y, noise=Noise.ROUNDED))
        elif kind == "residual" and x.shape == y.shape:
            y = d.add("Add", y, x)
        elif kind == "scale":
            y = d.add(d.choose(("Add", "Mul")), y, d.like(y.dtype, (y.shape[1], *[1] * (y.rank - 2))))
        elif kind == "norm" and y.dtype == "float32":
            y = batch_norm(d, y)


def batch_norm(d: Draft, x: Operand) -> Operand:
    """Batch normalization with random statistics."""
    rng = np.random.default_rng(d.int(0, 99))
    n = x.shape[1]
    parts = [rng.standard_normal(n), rng.standard_normal(n), rng.standard_normal(n) / 4, rng.random(n) + 0.5]
    given = [d.constant(p.astype(x.dtype), listed=False) for p in parts]
    return d.add("BatchNormalization", x, *given, noise=Noise.ROUNDED)


@sample("BatchNormalization", weight=4)
def batch_normalization(d: Draft, op: str) -> None:
    del op
    batch_norm(d, d.tame("float32", "float64", rank=(2, 3, 4, 5)))


@sample("ConvTranspose", weight=4)
def transposed_convolution(d: Draft, op: str) -> None:
    x = image(d, "float32", "float32", "float64")
    channels, spatial = x.shape[1], x.shape[2:]
    groups = d.choose([1, 1, 1] + [g for g in range(1, channels + 1) if channels % g == 0])
    out = d.choose((1, 3, 4, 8))
    kernel = [d.choose((3, 2, 1, 4)) for _ in spatial]
    attrs: dict[str, object] = {"kernel_shape": kernel}
    strides = [d.choose((1, 2, 3)) for _ in spatial]
    if any(s > 1 for s in strides):
        attrs |= {"strides": strides, "output_padding": [d.int(0, s - 1) for s in strides]}
    if d.chance(20):
        attrs["dilations"] = [d.choose((1, 2)) for _ in spatial]
    if d.chance(40):
        attrs["pads"] = [d.int(0, k - 1) for k in kernel * 2]
    w = weight(d, x.dtype, (channels, out, *kernel), channels // groups)
    bias = [d.like(x.dtype, (out * groups,))] if d.chance(50) else []
    y = d.add(op, x, w, *bias, group=groups, noise=Noise.ROUNDED, **attrs)
    follow(d, y, x)


@sample("attention", weight=4)
def attention(d: Draft, op: str) -> None:
    """Heads of attention as exporters write them."""
    del op
    x = d.tame("float32", "float32", "float16", rank=3)
    b, length, width = x.shape
    heads, each = d.choose((1, 2, 3)), d.choose((4, 8, 5, 16))

    def projected(perm: list[int]) -> Operand:
        y = d.add("MatMul", x, weight(d, x.dtype, (width, heads * each), width), noise=Noise.ROUNDED)
        if d.chance(50):
            y = d.add("Add", y, d.like(x.dtype, (heads * each,)))
        return d.add("Transpose", d.add("Reshape", y, d.ints([0, 0, heads, each])), perm=perm)

    q, k, v = projected([0, 2, 1, 3]), projected([0, 2, 3, 1]), projected([0, 2, 1, 3])
    scores = d.add("MatMul", q, k, noise=Noise.ROUNDED)
    scores = d.add("Mul", scores, d.constant(np.array(each**-0.5, x.dtype), listed=False))
    if d.chance(50):
        mask = d.constant(np.where(np.tri(length), 0, -1e4).astype(x.dtype)) if d.chance(50) else d.like(x.dtype, (b, 1, 1, length))
        scores = d.add("Add", scores, mask)
    y = d.add("MatMul", d.add("Softmax", scores, axis=-1, noise=Noise.ROUNDED), v, noise=Noise.ROUNDED)
    y = d.add("Reshape", d.add("Transpose", y, perm=[0, 2, 1, 3]), d.ints([0, 0, heads * each]))
    d.add("Add", d.add("MatMul", y, weight(d, x.dtype, (heads * each, width), each), noise=Noise.ROUNDED), x)


@sample("MatMulInteger", "ConvInteger", weight=3)
def integer_product(d: Draft, op: str) -> None:
    types = ("uint8", "int8")
    x = d.exact(*types, rank=(2, 3)) if op == "MatMulInteger" else image(d, "uint8", rank=4)
    if x.noise is not Noise.EXACT:
        raise Misfit
    w_type = d.choose(types) if op == "MatMulInteger" else "uint8"
    if op == "MatMulInteger":
        w = weight(d, w_type, (x.shape[-1], d.choose((8, 1, 17, 3))), 1)
        attrs: dict[str, object] = {}
    else:
        w = weight(d, w_type, (d.choose((4, 1, 16, 9)), x.shape[1], 3, 3), 1)
        attrs = window(d, x.shape[2:], [3, 3])
        attrs.pop("auto_pad", None)
    zeros = [d.constant(np.array(d.int(0, 5), t), listed=False) for t in (x.dtype, w_type)][: d.int(0, 2)]
    d.add(op, x, w, *zeros, **attrs)
