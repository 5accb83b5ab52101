"""Operators of ONNX Runtime that move, choose, gate or count: forms of ONNX's own, and parts of networks."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Noise
from .contraction import image, weight, window
from .registry import sample
from .windows import has_spread


@sample("com.microsoft::Pad", "com.microsoft::Trilu", "com.microsoft::GatherND", "com.microsoft::Unique", weight=1)
def moved(d: Draft, op: str) -> None:
    if op.endswith("Unique"):
        d.add_all(op, d.exact("float32", rank=1), outputs=3)
        return
    x = d.pick("float32", "float32", "float64", "int64", rank=range(2, 4), where=lambda v: v.array.size > 0)
    if op.endswith("Trilu"):
        d.add(op, x, d.constant(np.array(d.int(-3, 3)), listed=False), upper=d.int(0, 1))
    elif op.endswith("Pad"):
        mode = d.choose(("constant", "edge"))
        d.add(op, x, d.ints([d.int(0, 2) for _ in range(2 * x.rank)]), mode=mode)
    else:
        depth = d.int(1, x.rank)
        rng = np.random.default_rng(d.int(0, 99))
        found = np.stack([rng.integers(0, n, 3) for n in x.shape[:depth]], -1)
        d.add(op, x, d.constant(found, listed=False))


@sample("com.microsoft::Range", weight=1)
def counted(d: Draft, op: str) -> None:
    dtype = d.choose(("int64", "int32", "float32"))
    start, limit, step = d.choose(((0, 9, 1), (5, -4, -2), (1, 8, 3), (3, 3, 1)))
    d.add(op, *(d.constant(np.array(v, dtype), listed=False) for v in (start, limit, step)))


@sample("com.microsoft::GridSample", weight=1)
def grid_sample(d: Draft, op: str) -> None:
    x = image(d, "float32", rank=4)
    grid = np.random.default_rng(d.int(0, 999)).uniform(-1.2, 1.2, (x.shape[0], d.choose((3, 1)), d.choose((4, 1)), 2))
    attrs = {"mode": d.choose(("bilinear", "nearest", "bicubic")), "padding_mode": d.choose(("zeros", "border", "reflection"))}
    d.add(op, x, d.fresh_of(grid.astype(np.float32)), align_corners=d.int(0, 1), noise=Noise.ROUNDED, **attrs)


@sample("com.microsoft::CropAndResize", weight=1)
def crop_and_resize(d: Draft, op: str) -> None:
    x = image(d, "float32", rank=4)
    count, rng = d.int(1, 3), np.random.default_rng(d.int(0, 99))
    boxes = np.sort(rng.uniform(-0.2, 1.2, (count, 2, 2)), 1).reshape(count, 4).astype(np.float32)
    which = d.constant(rng.integers(0, x.shape[0], count).astype(np.int32), listed=False)
    size = d.constant(np.array([d.int(1, 4), d.int(1, 4)], np.int32), listed=False)
    d.add(op, x, d.fresh_of(boxes), which, size, mode=d.choose(("bilinear", "nearest")), extrapolation_value=0.5, noise=Noise.ROUNDED)


@sample("com.microsoft::MaxpoolWithMask", weight=1)
def masked_pool(d: Draft, op: str) -> None:
    x = image(d, "float32", rank=(3, 4, 5))
    spatial = x.shape[2:]
    mask = np.random.default_rng(d.int(0, 99)).integers(0, 4, (1, 1, *spatial)).astype(np.int32)
    attrs = window(d, spatial, [d.int(1, min(n, 3)) for n in spatial], dilations=False)
    d.add(op, x, d.fresh_of(mask), **attrs)


@sample("com.microsoft::NGramRepeatBlock", weight=1)
def repeated(d: Draft, op: str) -> None:
    rng, rows = np.random.default_rng(d.int(0, 999)), d.choose((2, 1, 3))
    ids = d.fresh_of(rng.integers(0, 3, (rows, d.choose((8, 1, 5)))))
    d.add(op, ids, d.like("float32", (rows, 5)), ngram_size=d.int(1, 4))


@sample("com.microsoft::BifurcationDetector", weight=1)
def bifurcation(d: Draft, op: str) -> None:
    rng = np.random.default_rng(d.int(0, 999))
    source, current = d.fresh_of(rng.integers(0, 3, d.int(2, 6))), d.fresh_of(rng.integers(0, 3, d.int(1, 4)))
    at = d.int(0, source.shape[0] - 1)
    predicted = [d.fresh_of(rng.integers(0, 3, source.shape[0] - at + 1))] if d.chance(60) else []
    d.add_all(op, source, current, d.fresh_of(np.array(at)), *predicted, outputs=2)


@sample("com.microsoft::GatedAdd", "com.microsoft::ScaledSiLU", "com.microsoft::Gelu", weight=1)
def gates(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=range(1, 4))
    if op.endswith("ScaledSiLU"):
        d.add(op, x, alpha=0.75, noise=Noise.ROUNDED)
    elif op.endswith("Gelu"):
        d.add(op, x, noise=Noise.ROUNDED)
    else:
        d.add(op, x, d.like("float32", x.shape), d.like("float32", (*x.shape[:-1], 1)), noise=Noise.ROUNDED)


@sample("SimplifiedLayerNormalization", "com.microsoft::GatedRMSNorm", weight=1)
def root_mean_square(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=range(2, 4), where=lambda v: has_spread(v.array, (v.rank - 1,)))
    if op.endswith("GatedRMSNorm"):
        width = d.choose([k for k in (x.shape[-1], 4, 2) if x.shape[-1] % k == 0])
        attrs: dict[str, object] = {"activation": d.choose(("silu", "sigmoid")), "epsilon": 0.01}
        d.add(op, x, d.like("float32", (width,)), d.like("float32", x.shape), noise=Noise.ROUNDED, **attrs)
        return
    d.add(op, x, d.like("float32", x.shape[-1:]), axis=-1, epsilon=0.01, noise=Noise.ROUNDED)


@sample("com.microsoft::CausalConvWithState", weight=1)
def causal_convolution(d: Draft, op: str) -> None:
    batch, channels, length, taps = d.choose((1, 2)), d.choose((6, 1, 8)), d.choose((5, 1, 9)), d.choose((4, 1, 3))
    x = d.like("float32", (batch, channels, length), fresh=70)
    dilation = d.choose((1, 1, 2))
    state = [d.fresh("float32", (batch, channels, (taps - 1) * dilation))] if d.chance(60) and taps > 1 else []
    attrs = {"activation": d.choose((None, "silu")), "dilation": dilation if dilation > 1 else None}
    bias = d.like("float32", (channels,))
    d.add_all(op, x, weight(d, "float32", (channels, 1, taps), taps), bias, *state, outputs=2, noise=Noise.ROUNDED, **attrs)


@sample("com.microsoft::MRotaryEmbedding", weight=1)
def rotary_by_sections(d: Draft, op: str) -> None:
    batch, heads, length = d.choose((1, 2)), d.choose((1, 2)), d.choose((5, 1))
    x = d.like("float32", d.choose(((batch, heads, length, 16), (batch, length, heads * 16))), fresh=70)
    places = d.fresh_of(np.random.default_rng(d.int(0, 99)).integers(0, 20, (3, batch, length)))
    attrs = {
        "mrope_section": [3, 3, 2],
        "num_heads": heads if x.rank == 3 else 0,
        **d.choose(({}, {"mrope_layout": 1}, {"interleaved": 1})),
    }
    d.add(op, x, places, *(d.fresh("float32", (20, 8)) for _ in range(2)), noise=Noise.ROUNDED, **attrs)
