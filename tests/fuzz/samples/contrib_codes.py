"""Operators of ONNX Runtime on codes that stand in networks' inner parts: channels last, recurrent networks, packed floats."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Misfit, Noise
from .contraction import image, weight, window
from .quantized import scales, zero_point
from .registry import sample


@sample("com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear", weight=1)
def codes(d: Draft, op: str) -> None:
    dtype = d.choose(("uint8", "int8", "uint16", "int16"))
    there = op.endswith("::QuantizeLinear")
    x = d.tame("float32", rank=range(1, 5)) if there else d.pick(dtype, rank=range(1, 5))
    axis = d.axis(x.rank) if d.chance(40) else None
    count = None if axis is None else x.shape[axis]
    noise = Noise.STEPPED if there and x.noise else None
    d.add(op, x, scales(d, count), zero_point(d, dtype, count), axis=axis, noise=noise)


@sample("com.microsoft::QLinearConv", weight=1)
def convolution(d: Draft, op: str) -> None:
    x = image(d, "uint8", "int8", rank=4)
    if x.noise is Noise.STEPPED:
        raise Misfit
    channels, kernel, w_type = x.shape[3], [d.choose((3, 1))] * 2, "int8" if x.dtype == "int8" else d.choose(("uint8", "int8"))
    out, rng = d.choose((4, 1, 9, 16)), np.random.default_rng(d.int(0, 99))
    w = weight(d, w_type, (out, channels, *kernel), 1)
    attrs = window(d, x.shape[1:3], kernel)
    attrs.pop("auto_pad", None)
    bias = [d.constant(rng.integers(-99, 99, out).astype(np.int32), listed=False)] if d.chance(50) else []
    result = d.constant(np.array(0.5, np.float32), listed=False), zero_point(d, x.dtype)
    given = (x, scales(d), zero_point(d, x.dtype), w, scales(d), zero_point(d, w_type, centred=True), *result, *bias)
    d.add(op, *given, channels_last=1, noise=Noise.STEPPED, **attrs)


@sample("com.microsoft::DynamicQuantizeLSTM", weight=1)
def recurrent(d: Draft, op: str) -> None:
    length, batch, width, hidden = d.choose((4, 1)), d.choose((1, 2)), d.choose((5, 8)), d.choose((4, 3))
    directions, rng = d.choose((1, 2)), np.random.default_rng(d.int(0, 999))
    x = d.like("float32", (length, batch, width), fresh=70)
    w_type = d.choose(("int8", "uint8"))
    # Of seven bits: ONNX Runtime adds two products in 16 bits on processors without instructions for sums of four.
    parts = [d.constant(rng.integers(0, 64, (directions, k, 4 * hidden)).astype(w_type), listed=False) for k in (width, hidden)]
    bias = d.constant(rng.standard_normal((directions, 8 * hidden)).astype(np.float32), listed=False)
    scale = [d.constant(rng.uniform(0.005, 0.02, directions).astype(np.float32), listed=False) for _ in parts]
    zero = [d.constant(np.full(directions, 32, w_type), listed=False) for _ in parts]
    attrs = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else d.choose(("forward", "reverse"))}
    given = (x, *parts, bias, None, None, None, None, scale[0], zero[0], scale[1], zero[1])
    d.add_all(op, *given, outputs=3, noise=Noise.STEPPED, **attrs)


@sample("com.microsoft::MatMulBnb4", weight=1)
def product_of_four_bits(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=(2, 3))
    k, n, block = x.shape[-1], d.choose((8, 1, 6)), 16
    if n * k % 2:
        raise Misfit
    rng = np.random.default_rng(d.int(0, 999))
    packed = d.constant(rng.integers(0, 256, n * k // 2).astype(np.uint8), listed=False)
    scale = d.constant(rng.uniform(0.1, 1, -(-n * k // block)).astype(np.float32), listed=False)
    d.add(op, x, packed, scale, K=k, N=n, block_size=block, quant_type=d.int(0, 1), noise=Noise.ROUNDED)


@sample("com.microsoft::QEmbedLayerNormalization", weight=1)
def embedding(d: Draft, op: str) -> None:
    rng, batch, length, width = np.random.default_rng(d.int(0, 999)), d.choose((2, 1)), d.choose((5, 1)), d.choose((8, 4))
    ids, segments = (d.fresh_of(rng.integers(0, n, (batch, length)).astype(np.int32)) for n in (11, 2))
    shapes = ((11, width), (7, width), (2, width), (width,), (width,))
    tables = [d.constant(rng.integers(0, 256, shape).astype(np.uint8), listed=False) for shape in shapes]
    mask = d.fresh_of((np.arange(length) < rng.integers(1, length + 1, (batch, 1))).astype(np.int32))
    numbers = [d.constant(np.array(rng.uniform(0.01, 0.05), np.float32), listed=False) for _ in tables]
    zeros = [d.constant(np.array(rng.integers(60, 190), np.uint8), listed=False) for _ in tables]
    d.add_all(op, ids, segments, *tables, mask, *numbers, *zeros, outputs=2, epsilon=0.01, noise=Noise.ROUNDED)
