"""Types of eight bits and fewer that have no arithmetic: casts, and codes with one scale, many, or one for each block."""

from __future__ import annotations

import numpy as np
from onnx import helper

from ..content import FLOATS8, INTS2, INTS4, NARROW
from ..draft import Draft, Misfit, Noise, Operand
from .contraction import weight
from .quantized import CODES
from .registry import sample

CODED = ("uint8", "int8", "int4", "uint4", "int4", "uint4", "int2", "uint2", *FLOATS8, "float4_e2m1fn")


def _code(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


@sample("cast to narrow", weight=3)
def narrowed(d: Draft, op: str) -> None:
    """There, and often back."""
    del op
    to = d.choose(list(NARROW))
    if d.opset < NARROW[to]:
        raise Misfit
    is_integer = to in INTS4 or to in INTS2
    x = d.exact("float32", "float32", "float16", *(("int8", "uint8", "int32") if is_integer else ()))
    if is_integer:  # what is outside is not defined
        low, high = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}[to]
        bounds = [d.constant(np.array(max(b, 0) if x.dtype[0] == "u" else b, x.dtype), listed=False) for b in (low, high)]
        x = d.add("Clip", x, *bounds)
    elif to == "float8_e8m0fnu":  # a power of two: no sign
        x = d.add("Add", d.add("Abs", x), d.constant(np.array(0.5, x.dtype), listed=False))
    attrs = {"saturate": d.int(0, 1)} if to in FLOATS8 and d.chance(60) else {}
    y = d.add("Cast", x, to=_code(to), **attrs)
    if d.chance(60):
        d.add("Cast", y, to=_code(d.choose(("float32", "float16", "float32", "bfloat16"))))


@sample("cast from narrow", weight=2)
def widened(d: Draft, op: str) -> None:
    del op
    x = d.pick(*NARROW)
    is_integer = x.dtype in INTS4 or x.dtype in INTS2
    d.add("Cast", x, to=_code(d.choose(("float32", "float32", "float16", *(("int8", "int32", "uint8") if is_integer else ())))))


def _zeros(d: Draft, dtype: str, shape: tuple[int, ...]) -> list[Operand]:
    """Zero points, or none; those of floats are zero."""
    if d.chance(40) or dtype == "float4_e2m1fn":
        return []
    rng = np.random.default_rng(d.int(0, 99))
    if dtype in FLOATS8:
        return [d.constant(np.zeros(shape, dtype), listed=False)]
    low, high = (-2, 2) if dtype == "int2" else (0, 4) if dtype in INTS2 else (-5, 6) if dtype[0] == "i" else (0, 12)
    return [d.constant(np.asarray(rng.integers(low, high, shape)).astype(np.int8).astype(dtype), listed=False)]


def _coded(d: Draft) -> str:
    dtype = d.choose(CODED)
    if d.opset < max(NARROW.get(dtype, 0), 21):
        raise Misfit
    return dtype


def _scales(d: Draft, shape: tuple[int, ...]) -> Operand:
    rng = np.random.default_rng(d.int(0, 99))
    array = 2.0 ** rng.integers(-3, 1, shape) if d.chance(50) else rng.uniform(0.1, 1, shape)
    return d.constant(np.asarray(array, np.float32), listed=False) if d.chance(80) else d.fresh_of(np.asarray(array, np.float32))


def _layout(d: Draft, x: Operand) -> tuple[tuple[int, ...], dict[str, object]]:
    """The shape of scales, and the attributes that say how they belong to `x`."""
    kind = d.choose(("blocks", "blocks", "one", "axis"))
    if kind == "one" or not x.rank:
        return (), {}
    axis = d.axis(x.rank)
    n = x.shape[axis]
    if kind == "axis":
        return (n,), {"axis": axis}
    size = d.choose([k for k in (2, 3, 4, 8, 16, 1, n) if k and n % k == 0] or [1])
    at = axis % x.rank
    return (*x.shape[:at], n // size, *x.shape[at + 1 :]), {"axis": axis, "block_size": size}


@sample("DequantizeLinear of narrow codes", weight=4)
def from_codes(d: Draft, op: str) -> None:
    del op
    dtype = _coded(d)
    x = d.pick(dtype, rank=range(1, 5)) if d.chance(50) else d.fresh(dtype, d.shape())
    shape, attrs = _layout(d, x)
    d.add("DequantizeLinear", x, _scales(d, shape), *_zeros(d, dtype, shape), **attrs)


@sample("QuantizeLinear to narrow codes", weight=4)
def to_codes(d: Draft, op: str) -> None:
    """And back, most often."""
    del op
    dtype = _coded(d)
    x = d.tame("float32", rank=range(1, 5))
    shape, attrs = _layout(d, x)
    scale, zeros = _scales(d, shape), _zeros(d, dtype, shape)
    given = {} if zeros else {"output_dtype": _code(dtype)}
    y = d.add("QuantizeLinear", x, scale, *zeros, noise=Noise.STEPPED if x.noise else None, **given, **attrs)
    if d.chance(70):
        d.add("DequantizeLinear", y, scale, *zeros, **attrs)


@sample("product with coded weights", weight=4)
def weight_only(d: Draft, op: str) -> None:
    """What quantizers of language models write: weights in blocks along the summed axis."""
    del op
    x = d.tame("float32", "float32", "float16", rank=(2, 3))
    k, n, dtype = x.shape[-1], d.choose((8, 1, 16, 17, 33)), d.choose(("int4", "uint4", "int8", "uint8", *INTS2))
    if d.opset < max(NARROW.get(dtype, 0), 21) or k * n > 12000:
        raise Misfit
    rng = np.random.default_rng(d.int(0, 999))
    codes = weight(d, dtype, (k, n), 1) if dtype in CODES else d.constant(d.content(dtype, (k, n)), listed=False)
    size = d.choose([b for b in (16, 8, 4, 2, 32, 1) if k % b == 0])
    shape = d.choose((((k // size, n), {"axis": 0, "block_size": size}), ((n,), {"axis": 1}), ((), {})))
    scale = d.constant(np.asarray(rng.uniform(0.02, 0.1, shape[0]), x.dtype), listed=False)
    w = d.add("DequantizeLinear", codes, scale, *_zeros(d, dtype, shape[0]), **shape[1])
    if d.chance(25):
        w = d.add("Identity", w) if d.chance(50) else d.add("Transpose", d.add("Transpose", w, perm=[1, 0]), perm=[1, 0])
    d.add("MatMul", x, w, noise=Noise.ROUNDED)
