"""Operators of ONNX Runtime that its optimizer and its quantizer write. ONNX Runtime alone says what they give."""

from __future__ import annotations

import math

import numpy as np

from ..draft import Draft, Misfit, Noise, Operand
from .contraction import image, weight, window
from .quantized import scales, zero_point
from .registry import sample

ACTIVATIONS = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Clip")


@sample("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul", weight=2)
def fused_product(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=(2, 3))
    flip_a, flip_b = d.int(0, 1), d.int(0, 1)
    k, n = x.shape[-2] if flip_a else x.shape[-1], d.choose((8, 1, 3, 17))
    batch = d.choose(((), x.shape[:-2]))
    w = weight(d, x.dtype, (*batch, n, k) if flip_b else (*batch, k, n), k)
    d.add(op, x, w, transA=flip_a, transB=flip_b, alpha=d.choose((1.0, 0.5)), noise=Noise.ROUNDED)


@sample("com.microsoft::FusedGemm", weight=1)
@sample("com.microsoft::FusedConv", weight=2)
def with_activation(d: Draft, op: str) -> None:
    activation = d.choose(ACTIVATIONS)
    numbers = {"LeakyRelu": [0.1], "HardSigmoid": [0.2, 0.5], "Clip": [0.0, 1.0]}.get(activation)
    if op.endswith("Gemm"):
        x = d.tame("float32", rank=2)
        named = {"HardSigmoid": {"activation_alpha": 0.2, "activation_beta": 0.5}, "LeakyRelu": {"activation_alpha": 0.1}}
        if activation == "Clip":
            raise Misfit
        w = weight(d, "float32", (x.shape[1], d.choose((8, 3, 1))), x.shape[1])
        d.add(op, x, w, d.like("float32", w.shape[1:]), activation=activation, noise=Noise.ROUNDED, **named.get(activation, {}))
        return
    x = image(d, "float32", rank=4)
    kernel = [d.choose((3, 1))] * 2
    groups = d.choose((1, 1, x.shape[1]))
    out = groups * d.choose((1, 2)) if groups > 1 else d.choose((8, 1, 17))
    w = weight(d, "float32", (out, x.shape[1] // groups, *kernel), x.shape[1] // groups * kernel[0] ** 2)
    attrs = window(d, x.shape[2:], kernel)
    y = d.add("Conv", x, w, group=groups, noise=Noise.ROUNDED, **attrs)
    added = [d.like("float32", y.shape)] if d.chance(30) else []
    bias = d.like("float32", (out,)) if d.chance(60) or added else None
    given = (x, w, *([bias] if bias else []), *added)
    d.add(op, *given, group=groups, activation=activation, activation_params=numbers, noise=Noise.ROUNDED, **attrs)


@sample("com.microsoft::QLinearAdd", "com.microsoft::QLinearMul", weight=2)
def codes_arithmetic(d: Draft, op: str) -> None:
    x = _codes(d, *range(1, 5))
    y = d.like(x.dtype, d.choose((x.shape, x.shape[-1:], tuple(1 if d.chance(40) else n for n in x.shape))))
    if y.noise is Noise.STEPPED:
        raise Misfit
    given = [part for v in (x, y) for part in (v, scales(d), zero_point(d, x.dtype))]
    d.add(op, *given, scales(d), zero_point(d, x.dtype), noise=Noise.STEPPED)


@sample("com.microsoft::QLinearSigmoid", "com.microsoft::QLinearLeakyRelu", weight=1)
def codes_function(d: Draft, op: str) -> None:
    x = _codes(d, *range(1, 5))
    attrs = {"alpha": d.choose((0.1, 0.5))} if op.endswith("LeakyRelu") else {}
    d.add(op, x, scales(d), zero_point(d, x.dtype), scales(d), zero_point(d, x.dtype), noise=Noise.STEPPED, **attrs)


@sample("com.microsoft::QLinearSoftmax", weight=1)
def codes_softmax(d: Draft, op: str) -> None:
    x = _codes(d, 2, 3)
    scale = d.constant(np.array(1 / 100, np.float32), listed=False)  # codes of 1 that are near 255 wrap around in ONNX Runtime
    zero = d.constant(np.array(0 if x.dtype == "uint8" else -128, x.dtype), listed=False)
    d.add(op, x, scales(d), zero_point(d, x.dtype), scale, zero, axis=d.axis(x.rank), opset=13, noise=Noise.STEPPED)


@sample("com.microsoft::QLinearAveragePool", "com.microsoft::QLinearGlobalAveragePool", weight=1)
def codes_pool(d: Draft, op: str) -> None:
    x = image(d, "uint8", "int8", rank=4)
    if x.noise is Noise.STEPPED:
        raise Misfit
    last = d.int(0, 1)
    spatial = x.shape[1:3] if last else x.shape[2:]
    attrs: dict[str, object] = {"channels_last": last}
    if not op.endswith("GlobalAveragePool"):
        kernel = [d.int(1, min(n, 3)) for n in spatial]
        # With both, ONNX Runtime counts what is beyond the padding, too, unlike its AveragePool and the specification.
        attrs |= window(d, spatial, kernel, dilations=False) | d.choose(({}, {"count_include_pad": 1}, {"ceil_mode": 1}))
        attrs.pop("auto_pad", None)
    d.add(op, x, scales(d), zero_point(d, x.dtype), scales(d), zero_point(d, x.dtype), noise=Noise.STEPPED, **attrs)


@sample("com.microsoft::QLinearConcat", weight=1)
def codes_concat(d: Draft, op: str) -> None:
    x = _codes(d, *range(1, 5))
    axis = d.axis(x.rank)
    parts = [x, *(d.like(x.dtype, x.shape) for _ in range(d.int(0, 2)))]
    if any(v.noise is Noise.STEPPED for v in parts):
        raise Misfit
    given = [part for v in parts for part in (v, scales(d), zero_point(d, x.dtype))]
    d.add(op, scales(d), zero_point(d, x.dtype), *given, axis=axis, noise=Noise.STEPPED)


@sample("com.microsoft::QLinearWhere", weight=1)
def codes_choice(d: Draft, op: str) -> None:
    x = _codes(d, *range(1, 5))
    y, condition = d.like(x.dtype, x.shape), d.like("bool", x.shape)
    if y.noise is Noise.STEPPED:
        raise Misfit
    given = [part for v in (x, y) for part in (v, scales(d), zero_point(d, x.dtype))]
    d.add(op, condition, *given, scales(d), zero_point(d, x.dtype), noise=Noise.STEPPED)


@sample("com.microsoft::QGemm", weight=1)
def codes_gemm(d: Draft, op: str) -> None:
    x = _codes(d, 2)
    flip_a, flip_b = d.int(0, 1), d.int(0, 1)
    k, n = x.shape[0] if flip_a else x.shape[1], d.choose((8, 1, 17, 3))
    w_type = d.choose(("int8", "uint8")) if x.dtype == "uint8" else "int8"
    w = weight(d, w_type, (n, k) if flip_b else (k, n), 1)
    each = n if d.chance(40) else None
    bias = d.constant(np.random.default_rng(d.int(0, 99)).integers(-99, 99, n).astype(np.int32), listed=False) if d.chance(50) else None
    given = (x, scales(d), zero_point(d, x.dtype), w, scales(d, each), zero_point(d, w_type, each, centred=True), bias)
    out = (scales(d), zero_point(d, x.dtype)) if d.chance(60) else ()
    d.add(op, *given, *out, transA=flip_a, transB=flip_b, alpha=d.choose((1.0, 0.5)), noise=Noise.STEPPED)


@sample("com.microsoft::MatMulIntegerToFloat", "com.microsoft::DynamicQuantizeMatMul", weight=1)
def product_to_float(d: Draft, op: str) -> None:
    is_dynamic = op.endswith("DynamicQuantizeMatMul")
    x = d.tame("float32", rank=(2, 3)) if is_dynamic else _codes(d, 2, 3)
    n, w_type = d.choose((8, 1, 17, 3)), d.choose(("int8", "uint8"))
    w = weight(d, w_type, (x.shape[-1], n), 1)
    each = n if d.chance(40) else None
    scale = scales(d, each)
    zero = zero_point(d, w_type, each, centred=True) if d.chance(50) else None
    bias = d.like("float32", (n,)) if d.chance(50) else None
    given: list[Operand | None] = [x, w, scale, zero, bias] if is_dynamic else [x, w, scales(d), scale, zero_point(d, x.dtype), zero, bias]
    while given[-1] is None:
        given.pop()
    d.add(op, *given, noise=Noise.STEPPED if is_dynamic else Noise.ROUNDED)


@sample("com.microsoft::MatMulNBits", weight=2)
def product_of_bits(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=(2, 3))
    k, n, bits, block = x.shape[-1], d.choose((8, 1, 17, 3)), d.choose((4, 4, 8, 2)), d.choose((16, 32))
    blocks = math.ceil(k / block)
    rng = np.random.default_rng(d.int(0, 999))
    codes = d.constant(rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8), listed=False)
    scale = d.constant(rng.uniform(0.01, 0.1, (n, blocks)).astype(np.float32), listed=False)
    zeros = rng.integers(0, 256, (n, math.ceil(blocks * bits / 8))).astype(np.uint8)
    zero = [d.constant(zeros, listed=False)] if d.chance(50) else []
    d.add(op, x, codes, scale, *zero, K=k, N=n, bits=bits, block_size=block, noise=Noise.ROUNDED)


@sample("com.microsoft::GatherBlockQuantized", weight=1)
def gather_blocks(d: Draft, op: str) -> None:
    rows, width, block, bits = d.choose((6, 3)), d.choose((32, 64)), d.choose((16, 32)), d.choose((4, 8))
    rng = np.random.default_rng(d.int(0, 999))
    data = d.constant(rng.integers(0, 256, (rows, width * bits // 8)).astype(np.uint8), listed=False)
    scale = d.constant(rng.uniform(0.01, 0.1, (rows, width // block)).astype(np.float32), listed=False)
    at = d.fresh_of(rng.integers(0, rows, d.choose(((3,), (2, 2)))))
    d.add(op, data, at, scale, gather_axis=0, quantize_axis=1, block_size=block, bits=bits, noise=Noise.ROUNDED)


@sample("com.microsoft::NhwcMaxPool", weight=1)
def pool_of_rows(d: Draft, op: str) -> None:
    x = image(d, "uint8", "int8", rank=4)
    attrs = window(d, x.shape[1:3], [d.int(1, min(n, 3)) for n in x.shape[1:3]])
    if str(attrs.get("auto_pad", "")).startswith("SAME"):  # ONNX Runtime pads as if dilations were 1
        attrs.pop("dilations", None)
    d.add(op, x, **attrs)


@sample("com.microsoft::Inverse", weight=1)
def inverse(d: Draft, op: str) -> None:
    n = d.choose((2, 3, 1, 4))
    array = np.random.default_rng(d.int(0, 99)).standard_normal((*d.choose(((), (2,))), n, n)) + 3 * np.eye(n)
    d.add(op, d.fresh_of(array.astype(d.choose(("float32", "float64")))), noise=Noise.ROUNDED)


@sample("com.microsoft::CDist", weight=1)
def distances(d: Draft, op: str) -> None:
    x = d.tame("float32", "float64", rank=2)
    d.add(op, x, d.like(x.dtype, (d.choose((3, 1, 8)), x.shape[1])), metric="sqeuclidean", noise=Noise.ROUNDED)


@sample("com.microsoft::ExpandDims", "com.microsoft::UnfoldTensor", weight=1)
def shapes(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=range(1, 4))
    if op.endswith("ExpandDims"):
        d.add(op, x, d.constant(np.array(d.int(-1, x.rank), np.int32), listed=False))
        return
    axis = d.int(0, x.rank - 1)
    d.add(op, x, dim=axis, size=d.int(1, x.shape[axis]), step=d.int(1, 3))


def _codes(d: Draft, *ranks: int) -> Operand:
    return d.tame("uint8", "int8", rank=ranks, where=lambda v: v.noise is not Noise.STEPPED)
