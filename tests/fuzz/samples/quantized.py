"""Quantization: single operators, and blocks as quantizers write them."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Misfit, Noise, Operand
from .contraction import image, window
from .registry import sample

CODES = ("uint8", "int8", "uint8", "int8", "int16", "uint16")


def scales(d: Draft, count: int | None = None) -> Operand:
    """One scale, or one for each of some channels; powers of two at times, so that results are exact."""
    rng = np.random.default_rng(d.int(0, 99))
    array = 2.0 ** rng.integers(-5, -1, count) if d.chance(40) else rng.uniform(0.01, 0.1, count)
    return d.constant(np.array(array, np.float32), listed=False)


def zero_point(d: Draft, dtype: str, count: int | None = None, centred: bool = False) -> Operand:
    """A zero point, or several."""
    info = np.iinfo(dtype)
    middle = (int(info.min) + int(info.max) + 1) // 2
    low = d.choose((0, 3, -7, 20)) if not centred else 0
    array = np.full(() if count is None else (count,), middle + low if dtype[0] == "u" else low)
    return d.constant(array.astype(dtype), listed=False)


def quantize(d: Draft, x: Operand, dtype: str) -> tuple[Operand, Operand, Operand]:
    """Codes of a tensor with one scale; with scale and zero point."""
    scale, zero = scales(d), zero_point(d, dtype)
    return d.add("QuantizeLinear", x, scale, zero, noise=Noise.STEPPED if x.noise else None), scale, zero


def _codes(d: Draft) -> str:
    return d.choose(CODES if d.opset >= 21 else CODES[:4])


@sample("QuantizeLinear", weight=3)
def quantize_linear(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=range(1, 5))
    dtype = _codes(d)
    if d.chance(30):
        axis = d.axis(x.rank)
        count = x.shape[axis]
        d.add(op, x, scales(d, count), zero_point(d, dtype, count), axis=axis, noise=Noise.STEPPED if x.noise else None)
        return
    quantize(d, x, dtype)


@sample("DequantizeLinear", weight=3)
def dequantize_linear(d: Draft, op: str) -> None:
    x = d.pick(*(CODES if d.opset >= 21 else CODES[:4]), rank=range(1, 5))
    if d.chance(30):
        axis = d.axis(x.rank)
        d.add(op, x, scales(d, x.shape[axis]), zero_point(d, x.dtype, x.shape[axis]), axis=axis)
        return
    d.add(op, x, scales(d), zero_point(d, x.dtype))


@sample("DynamicQuantizeLinear", weight=1)
def dynamic(d: Draft, op: str) -> None:
    x = d.tame("float32")
    d.add_all(op, x, outputs=3, noise=Noise.STEPPED if x.noise else None)


@sample("quantize and back", weight=4)
def there_and_back(d: Draft, op: str) -> None:
    """What quantizers put around every operator."""
    del op
    x = d.tame("float32")
    codes, scale, zero = quantize(d, x, _codes(d))
    y = d.add("DequantizeLinear", codes, scale, zero)
    if d.chance(60):
        y = d.add(d.choose(("Relu", "Identity", "Neg", "Abs")), y)
    if d.chance(60):
        quantize(d, y, d.choose(("uint8", "int8")))


@sample("quantized block", weight=10)
def block(d: Draft, op: str) -> None:
    """A convolution or product between quantizations, with quantized weights and an integer bias."""
    del op
    is_convolution = d.chance(60)
    x = image(d, "float32", rank=4) if is_convolution else d.tame("float32", rank=(2, 3))
    x_type, w_type = d.choose(("uint8", "int8")), d.choose(("int8", "uint8", "int8"))
    codes, scale, zero = quantize(d, x, x_type)
    rng = np.random.default_rng(d.int(0, 999))
    data = d.add("DequantizeLinear", codes, scale, zero)
    k = x.shape[1] if is_convolution else x.shape[-1]
    groups = d.choose((1, 1, k)) if is_convolution else 1
    n = k * d.choose((1, 2)) if groups > 1 else d.choose((8, 3, 16, 1, 17))
    kernel = [d.choose((3, 1))] * 2
    shape = (n, k // groups, *kernel) if is_convolution else (k, n)
    each = n if d.chance(60) else None
    w_scale, w_zero = scales(d, each), zero_point(d, w_type, each, centred=d.chance(80))
    w = rng.integers(-60, 60, shape) + (128 if w_type == "uint8" else 0)
    axis = {} if each is None else {"axis": 0 if is_convolution else 1}
    weights = d.add("DequantizeLinear", d.constant(w.astype(w_type), listed=False), w_scale, w_zero, **axis)
    if is_convolution:
        bias = []
        if d.chance(60):
            b_scale = d.constant(np.array(scale.array * w_scale.array, np.float32), listed=False)
            raw = d.constant(rng.integers(-500, 500, n).astype(np.int32), listed=False)
            bias = [d.add("DequantizeLinear", raw, b_scale, **({} if each is None else {"axis": 0}))]
        y = d.add("Conv", data, weights, *bias, group=groups, noise=Noise.ROUNDED, **window(d, x.shape[2:], kernel))
    else:
        y = d.add("MatMul", data, weights, noise=Noise.ROUNDED)
    if d.chance(40):
        y = d.add("Relu", y)
    if not y.array.size:
        raise Misfit
    spread = float(np.abs(y.array).max()) / 100 or 1.0
    y_type = d.choose(("uint8", "int8"))
    y_scale, y_zero = d.constant(np.array(spread, np.float32), listed=False), zero_point(d, y_type)
    out = d.add("QuantizeLinear", y, y_scale, y_zero, noise=Noise.STEPPED)
    d.add("DequantizeLinear", out, y_scale, y_zero)


@sample("quantized sum", weight=3)
def quantized_sum(d: Draft, op: str) -> None:
    """A residual connection between quantizations."""
    del op
    x = d.tame("float32", rank=range(1, 5))
    y = d.like("float32", x.shape)
    parts = []
    for value in (x, y):
        codes, scale, zero = quantize(d, value, d.choose(("uint8", "int8")))
        parts.append(d.add("DequantizeLinear", codes, scale, zero))
    quantize(d, d.add(d.choose(("Add", "Mul", "Sub")), *parts), d.choose(("uint8", "int8")))


@sample("QLinearMatMul", "QLinearConv", weight=3)
def qlinear(d: Draft, op: str) -> None:
    x_type = d.choose(("uint8", "int8"))
    if op == "QLinearConv":
        x = image(d, x_type, rank=4)
        n, w_type = d.choose((4, 1, 16, 9)), d.choose(("int8", "uint8")) if x_type == "uint8" else "int8"
        shape: tuple[int, ...] = (n, x.shape[1], 3, 3)
        attrs = window(d, x.shape[2:], [3, 3])
        attrs.pop("auto_pad", None)
    else:
        x, w_type, attrs = d.tame(x_type, rank=(2, 3)), x_type, {}
        n = d.choose((8, 1, 17, 3))
        shape = (x.shape[-1], n)
    rng = np.random.default_rng(d.int(0, 99))
    w = d.constant((rng.integers(-20, 20, shape) + (128 if w_type == "uint8" else 0)).astype(w_type), listed=False)
    each = n if d.chance(40) and op == "QLinearConv" else None
    y = [d.constant(np.array(0.3, np.float32), listed=False), zero_point(d, x_type)]
    bias = [d.constant(rng.integers(-99, 99, n).astype(np.int32), listed=False)] if op == "QLinearConv" and d.chance(50) else []
    if x.noise is Noise.STEPPED:
        raise Misfit
    given = (x, scales(d), zero_point(d, x.dtype), w, scales(d, each), zero_point(d, w_type, each, centred=True), *y, *bias)
    d.add(op, *given, noise=Noise.STEPPED, **attrs)
