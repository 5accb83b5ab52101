"""Parts of transformers that are one operator: attention, embeddings of positions, normalized sums, gates."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Misfit, Noise, Operand
from .contraction import weight
from .registry import sample
from .windows import has_spread

HALVES = ("float32", "float32", "float32", "float16")


def _tokens(d: Draft, dtype: str, heads: int, each: int, length: int, batch: int, rank: int) -> Operand:
    return d.like(dtype, (batch, length, heads * each) if rank == 3 else (batch, heads, length, each), fresh=70)


@sample("Attention", weight=4)
def attention(d: Draft, op: str) -> None:
    """The operator of opset 23, in both layouts, with fewer heads of keys, masks and a past."""
    if d.opset < 23:
        raise Misfit
    dtype, rank = d.choose(HALVES), d.choose((4, 4, 3))
    batch, kv_heads, each = d.choose((1, 2)), d.choose((1, 2, 3)), d.choose((4, 8, 5))
    heads = kv_heads * d.choose((1, 1, 2))
    length, total, width = d.choose((4, 1, 5, 9)), d.choose((4, 5, 9, 17)), d.choose((each, each, 3))
    q = _tokens(d, dtype, heads, each, length, batch, rank)
    k, v = (_tokens(d, dtype, kv_heads, size, total, batch, rank) for size in (each, width))
    past = d.choose((0, 0, 3))
    is_causal = d.int(0, 1)
    # Of a mask of one row, the evaluator makes the first row of the causal one.
    rows = d.choose((length, length, length, length if is_causal else 1))
    shape = d.choose(((rows, total + past), (batch, 1, rows, total + past), (1, heads, rows, total + past), (1, 1, rows, total + past)))
    mask = None
    if d.chance(50):
        mask = d.like("bool", shape) if d.chance(40) else d.like(dtype, shape)
    given: list[Operand | None] = [q, k, v, mask]
    if past:
        given += [d.fresh(dtype, (batch, kv_heads, past, size)) for size in (each, width)]
    attrs: dict[str, object] = {"is_causal": is_causal, "softcap": 2.0 if d.chance(20) else None, "scale": 0.3 if d.chance(30) else None}
    if rank == 3:
        attrs |= {"q_num_heads": heads, "kv_num_heads": kv_heads}
    while given[-1] is None:
        given.pop()
    outputs = 3 if past else 1
    d.add_all(op, *given, outputs=outputs, noise=Noise.ROUNDED, **attrs)


@sample("RotaryEmbedding", weight=2)
def rotary(d: Draft, op: str) -> None:
    if d.opset < 23:
        raise Misfit
    dtype, rank = d.choose(HALVES), d.choose((4, 3))
    batch, heads, length, each = d.choose((1, 2)), d.choose((1, 2)), d.choose((4, 1, 5)), d.choose((8, 4))
    x = _tokens(d, dtype, heads, each, length, batch, rank)
    part = d.choose((0, 0, each // 2))
    half = (part or each) // 2
    attrs = {"interleaved": d.int(0, 1), "rotary_embedding_dim": part, "num_heads": heads if rank == 3 else None}
    if d.chance(50):
        tables = [d.fresh(dtype, (9, half)) for _ in range(2)]
        places = np.random.default_rng(d.int(0, 99)).integers(0, 9, (batch, length))
        d.add(op, x, *tables, d.fresh_of(places), noise=Noise.ROUNDED, **attrs)
        return
    d.add(op, x, *(d.fresh(dtype, (batch, length, half)) for _ in range(2)), noise=Noise.ROUNDED, **attrs)


@sample("TensorScatter", weight=1)
def scatter(d: Draft, op: str) -> None:
    if d.opset < 24:
        raise Misfit
    x = d.tame("float32", "float16", rank=(3, 4))
    axis = d.int(1, x.rank - 1)
    n = d.int(1, x.shape[axis])
    mode = d.choose(("linear", "circular"))
    starts = np.random.default_rng(d.int(0, 99)).integers(0, x.shape[axis] - (n if mode == "linear" else 0) + 1, x.shape[0])
    starts = np.minimum(starts, x.shape[axis] - 1)
    update = d.like(x.dtype, [n if k == axis else extent for k, extent in enumerate(x.shape)])
    d.add(op, x, update, *([d.fresh_of(starts)] if d.chance(70) else ()), axis=axis - (x.rank if d.chance(30) else 0), mode=mode)


@sample("com.microsoft::FastGelu", "com.microsoft::BiasGelu", "com.microsoft::QuickGelu", weight=1)
def gelu(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=(2, 3))
    bias = [d.like(x.dtype, x.shape[-1:])] if "Bias" in op or (op.endswith("FastGelu") and d.chance(50)) else []
    d.add(op, x, *bias, noise=Noise.ROUNDED)


@sample("com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization", weight=2)
def skip_norm(d: Draft, op: str) -> None:
    x = d.tame(*HALVES, rank=(3, 3, 2))
    width = x.shape[-1]
    skip = d.like(x.dtype, d.choose((x.shape, x.shape, (1, *x.shape[1:]), x.shape[1:]) if x.rank == 3 else (x.shape,)))
    scale = d.like(x.dtype, (width,))
    beta = [d.like(x.dtype, (width,)) if d.chance(60) else None] if op.endswith("SkipLayerNormalization") else []
    bias = [d.like(x.dtype, (width,))] if d.chance(50) else []
    if not bias and beta == [None]:
        beta = []
    if not has_spread(x.array + skip.array, (-1,)):
        raise Misfit
    d.add(op, x, skip, scale, *beta, *bias, epsilon=0.01, noise=Noise.ROUNDED)


@sample("com.microsoft::EmbedLayerNormalization", weight=1)
def embedded(d: Draft, op: str) -> None:
    batch, length, width = d.choose((1, 2)), d.choose((4, 1, 5)), d.choose((8, 5, 16))
    rng = np.random.default_rng(d.int(0, 99))
    ids = [d.fresh_of(rng.integers(0, 6, (batch, length)).astype(np.int32)) for _ in range(2)]
    has_segments = d.chance(60)
    tables = [d.fresh("float32", (rows, width)) for rows in (6, 9)] + [d.fresh("float32", (6, width)) if has_segments else None]
    d.add_all(
        op, ids[0], ids[1] if has_segments else None, *tables, d.like("float32", (width,)), d.like("float32", (width,)),
        outputs=2, epsilon=0.01, noise=Noise.ROUNDED,
    )  # fmt: skip


@sample("com.microsoft::MultiHeadAttention", weight=3)
def multi_head(d: Draft, op: str) -> None:
    batch, heads, each, length, total = d.choose((1, 2)), d.choose((1, 2, 3)), d.choose((4, 8, 5)), d.choose((4, 1, 5)), d.choose((5, 4, 9))
    q = d.like("float32", (batch, length, heads * each), fresh=70)
    k, v = (d.like("float32", (batch, total, heads * each), fresh=70) for _ in range(2))
    bias = d.like("float32", (3 * heads * each,)) if d.chance(40) else None
    mask = d.fresh_of(np.random.default_rng(d.int(0, 99)).integers(1, total + 1, batch).astype(np.int32)) if d.chance(30) else None
    added = d.like("float32", d.choose(((batch, heads, length, total), (1, heads, length, total)))) if d.chance(40) else None
    given = [q, k, v, bias, mask, added]
    while given[-1] is None:
        given.pop()
    # ONNX Runtime does not mask the last query, which would see all keys of as many as queries.
    causal = d.int(0, 1) if length >= total else 0
    d.add(op, *given, num_heads=heads, scale=0.3 if d.chance(30) else None, unidirectional=causal, noise=Noise.ROUNDED)


@sample("com.microsoft::Attention", "com.microsoft::QAttention", weight=2)
def packed_attention(d: Draft, op: str) -> None:
    batch, heads, each, length, width = d.choose((1, 2)), d.choose((1, 2)), d.choose((4, 8)), d.choose((4, 1, 5)), d.choose((8, 5))
    bias = d.like("float32", (3 * heads * each,))
    mask = None
    if d.chance(50):
        rng = np.random.default_rng(d.int(0, 99))
        kinds = (rng.integers(1, length + 1, batch), rng.integers(0, 2, (batch, length)))
        mask = d.fresh_of(d.choose(kinds).astype(np.int32))
    if op.endswith("QAttention"):
        x, w = d.like("uint8", (batch, length, width)), weight(d, "int8", (width, 3 * heads * each), width)
        scales = [d.constant(np.array(s, np.float32), listed=False) for s in (0.05, 0.02)]
        zeros = [d.constant(np.array(z, t), listed=False) for z, t in ((120, np.uint8), (0, np.int8))]
        given: list[Operand | None] = [x, w, bias, *scales, mask, *zeros]
        d.add(op, *given, num_heads=heads, unidirectional=d.int(0, 1), noise=Noise.ROUNDED)
        return
    x = d.like("float32", (batch, length, width), fresh=70)
    given = [x, weight(d, "float32", (width, 3 * heads * each), width), bias, *([mask] if mask else [])]
    d.add(op, *given, num_heads=heads, unidirectional=d.int(0, 1), noise=Noise.ROUNDED)


@sample("com.microsoft::GroupQueryAttention", weight=2)
def group_query(d: Draft, op: str) -> None:
    batch, kv_heads, each = d.choose((1, 2)), d.choose((1, 2)), d.choose((8, 16))
    heads = kv_heads * d.choose((1, 2, 3))
    length, past = d.choose(((4, 0), (1, 3), (5, 0), (1, 7)))
    total = length + past
    q = d.like("float32", (batch, length, heads * each), fresh=70)
    k, v = (d.like("float32", (batch, length, kv_heads * each), fresh=70) for _ in range(2))
    states = [d.fresh("float32", (batch, kv_heads, past, each)) for _ in range(2)]
    lengths = d.constant(np.full(batch, total - 1, np.int32), listed=False)
    tables = [d.fresh("float32", (total + 2, each // 2)) for _ in range(2)] if d.chance(50) else []
    attrs = {"do_rotary": 1 if tables else 0, "rotary_interleaved": d.int(0, 1) if tables else None}
    if d.chance(30):
        attrs["local_window_size"] = d.int(1, 5)
    d.add_all(
        op, q, k, v, *states, lengths, d.constant(np.array(total, np.int32), listed=False), *tables,
        outputs=3, num_heads=heads, kv_num_heads=kv_heads, scale=0.3 if d.chance(30) else None,
        softcap=2.0 if d.chance(20) else None, noise=Noise.ROUNDED, **attrs,
    )  # fmt: skip


@sample("com.microsoft::RotaryEmbedding", weight=1)
def contrib_rotary(d: Draft, op: str) -> None:
    batch, heads, length, each = d.choose((1, 2)), d.choose((1, 2)), d.choose((4, 1, 5)), d.choose((8, 4))
    x = d.like("float32", d.choose(((batch, length, heads * each), (batch, heads, length, each))), fresh=70)
    starts = np.array([d.int(0, 3)]) if d.chance(50) else np.random.default_rng(d.int(0, 99)).integers(0, 9, (batch, length))
    tables = [d.fresh("float32", (9, each // 2)) for _ in range(2)]
    d.add(op, x, d.fresh_of(starts), *tables, interleaved=d.int(0, 1), num_heads=heads if x.rank == 4 else None, noise=Noise.ROUNDED)
