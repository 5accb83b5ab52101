"""The attention operators of com.microsoft and rotary embedding against ONNX Runtime."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

MICROSOFT = "com.microsoft"


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int32)


@pytest.mark.parametrize("mask", [None, ints([1, 1, 0], [1, 1, 1]), ints(2, 3), ints(2, 3, 1, 0)])
@pytest.mark.parametrize("attrs", [{}, {"unidirectional": 1}, {"scale": 0.3}])
def test_attention(runtime, rng, mask, attrs):
    runtime("Attention", [normal(rng, 2, 3, 8), normal(rng, 8, 24), normal(rng, 24), mask], {"num_heads": 2, **attrs}, domain=MICROSOFT)


@pytest.mark.parametrize("mask", [ints(2), ints(3, 1)])
def test_what_a_mask_is_of_may_be_known_while_running(runtime, rng, mask):
    """An end, or an end and a start: the batch decides."""
    symbolic = {0: ["b", "s", 8]}
    inputs = [normal(rng, 1, 3, 8), normal(rng, 8, 24), normal(rng, 24), mask]
    runtime("Attention", inputs, {"num_heads": 2}, domain=MICROSOFT, constants=[1, 2, 3], symbolic=symbolic)


def test_attention_with_past(runtime, rng):
    inputs = [normal(rng, 2, 3, 8), normal(rng, 8, 24), normal(rng, 24), None, normal(rng, 2, 2, 2, 5, 4)]
    runtime("Attention", inputs, {"num_heads": 2, "unidirectional": 1}, domain=MICROSOFT, outputs=2)


def test_multi_head(runtime, rng):
    q, k, v = normal(rng, 2, 3, 8), normal(rng, 2, 5, 8), normal(rng, 2, 5, 8)
    mask = ints([1, 1, 0, 1, 1], [1, 1, 1, 1, 1])
    symbolic = {0: ["b", "s", 8], 1: ["b", "t", 8], 2: ["b", "t", 8]}
    runtime("MultiHeadAttention", [q, k, normal(rng, 2, 5, 6)], {"num_heads": 2}, domain=MICROSOFT)
    runtime("MultiHeadAttention", [q, k, v], {"num_heads": 2}, domain=MICROSOFT, symbolic=symbolic)
    runtime("MultiHeadAttention", [q, k, v, normal(rng, 24), mask, normal(rng, 1, 2, 3, 5)], {"num_heads": 2}, domain=MICROSOFT)


def test_queries_see_keys_from_the_first_on(runtime, rng):
    """Without a past, query i sees keys 0 to i, also if there are more queries than keys."""
    q, k, v = normal(rng, 2, 5, 8), normal(rng, 2, 3, 8), normal(rng, 2, 3, 8)
    symbolic = {0: ["b", "s", 8], 1: ["b", "t", 8], 2: ["b", "t", 8]}
    for declared in (None, symbolic):
        runtime("MultiHeadAttention", [q, k, v], {"num_heads": 2, "unidirectional": 1}, domain=MICROSOFT, symbolic=declared)


def test_multi_head_with_past(runtime, rng):
    q, k, v = (normal(rng, 2, 3, 8) for _ in range(3))
    inputs = [q, k, v, None, None, None, normal(rng, 2, 2, 4, 4), normal(rng, 2, 2, 4, 4)]
    runtime("MultiHeadAttention", inputs, {"num_heads": 2, "unidirectional": 1}, domain=MICROSOFT, outputs=3)


def test_decoder_attention(runtime, check, rng):
    """One new token: a buffer with room against ONNX Runtime; its CPU has no growing cache and no keys of an encoder."""
    query, key, value = (normal(rng, 2, 1, 8) for _ in range(3))
    past, bias = [normal(rng, 2, 2, 5, 4) for _ in range(2)], normal(rng, 24)
    mask, attrs = ints([1, 0, 1, 1], [1, 1, 1, 1]), {"num_heads": 2, "past_present_share_buffer": 1}
    name = "DecoderMaskedMultiHeadAttention"
    runtime(name, [query, key, value, mask, None, *past, ints(3)], attrs, domain=MICROSOFT, outputs=3)
    runtime(name, [query, key, value, None, None, *past, ints(4), None, None, bias], attrs, domain=MICROSOFT, outputs=3)

    def attended(keys, values):
        scores = query.reshape(2, 1, 2, 4).transpose(0, 2, 1, 3) @ keys.transpose(0, 1, 3, 2) / 2
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        return (weights @ values).transpose(0, 2, 1, 3).reshape(2, 1, 8)

    keys, values = (np.concatenate([p, x.reshape(2, 1, 2, 4).transpose(0, 2, 1, 3)], 2) for p, x in zip(past, (key, value), strict=True))
    wanted = [attended(keys, values), keys, values]
    grown, packed = {"num_heads": 2}, np.concatenate([query, key, value], 2)
    check(name, [query, key, value, None, None, *past], grown, domain=MICROSOFT, outputs=3, expected=wanted, rtol=1e-5)
    check(name, [packed, None, None, None, None, *past], grown, domain=MICROSOFT, outputs=3, expected=wanted, rtol=1e-5)
    check(name, [query, *past], grown, domain=MICROSOFT, expected=[attended(*past)], rtol=1e-5)


def test_decoder_attention_refuses_beams(check, rng):
    query, past = normal(rng, 1, 1, 8), normal(rng, 1, 2, 5, 4)
    with pytest.raises(CompileError, match="cache_indirection"):
        inputs = [query, query, query, None, None, past, past, ints(3), ints(1), np.zeros((1, 1, 5), np.int32)]
        check("DecoderMaskedMultiHeadAttention", inputs, {"num_heads": 2}, domain=MICROSOFT, expected=[])


def test_multi_head_with_room_in_the_cache(check, rng):
    query, key, value = (normal(rng, 1, 2, 8) for _ in range(3))
    past_key, past_value = (normal(rng, 1, 2, 6, 4) for _ in range(2))

    def heads(x):
        return x.reshape(1, 2, 2, 4).transpose(0, 2, 1, 3)

    keys, values = past_key.copy(), past_value.copy()
    keys[:, :, 3:5], values[:, :, 3:5] = heads(key), heads(value)
    scores = heads(query) @ keys[:, :, :5].transpose(0, 1, 3, 2) / 2
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = (weights @ values[:, :, :5]).transpose(0, 2, 1, 3).reshape(1, 2, 8)
    inputs = [query, key, value, None, None, None, past_key, past_value, ints(3)]
    check("MultiHeadAttention", inputs, {"num_heads": 2}, domain=MICROSOFT, outputs=3, expected=[wanted, keys, values], rtol=1e-5)


def test_packed_operands_equal_separate_ones(check, rng):
    packed = normal(rng, 2, 3, 2, 3, 4)
    q, k, v = (packed[:, :, :, i].transpose(0, 2, 1, 3) for i in range(3))
    scores = q @ k.transpose(0, 1, 3, 2) / 2
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = (weights @ v).transpose(0, 2, 1, 3).reshape(2, 3, 8)
    check("MultiHeadAttention", [packed], {"num_heads": 2}, domain=MICROSOFT, expected=[wanted], rtol=1e-5)


@pytest.mark.parametrize("attrs", [{}, {"local_window_size": 2}, {"softcap": 2.0}, {"smooth_softmax": 1}, {"scale": 0.2}])
@pytest.mark.parametrize("is_prompt", [True, False])
def test_grouped_queries(runtime, rng, attrs, is_prompt):
    sequence, past, lengths, total = (3, 0, (2, 1), 3) if is_prompt else (1, 6, (5, 3), 6)
    q, k, v = normal(rng, 2, sequence, 32), normal(rng, 2, sequence, 16), normal(rng, 2, sequence, 16)
    caches = [normal(rng, 2, 2, past, 8) for _ in range(2)]
    heads = {"num_heads": 4, "kv_num_heads": 2}
    runtime("GroupQueryAttention", [q, k, v, *caches, ints(*lengths), ints(total)], {**heads, **attrs}, domain=MICROSOFT, outputs=3)


def test_grouped_queries_packed_and_rotated(runtime, rng):
    caches = [normal(rng, 2, 2, 6, 16) for _ in range(2)]
    inputs = [normal(rng, 2, 1, 128), None, None, *caches, ints(5, 3), ints(6), normal(rng, 16, 8), normal(rng, 16, 8)]
    attrs = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}
    runtime("GroupQueryAttention", inputs, attrs, domain=MICROSOFT, outputs=3)


def test_the_head_of_grouped_queries_must_be_known(runtime, rng):
    inputs = [*[normal(rng, 1, 4, 8)] * 3, *[normal(rng, 1, 1, 0, 8)] * 2, ints(3), ints(4)]
    attrs, symbolic = {"num_heads": 1, "kv_num_heads": 1, "scale": 0.5}, {k: ["b", "s", "w"] for k in range(3)}
    with pytest.raises(CompileError, match=r"E0204.*the size of a head must be known"):
        runtime("GroupQueryAttention", inputs, attrs, domain=MICROSOFT, outputs=3, symbolic=symbolic)


@pytest.mark.parametrize("shown", [1, 2])
def test_scores_of_grouped_queries(runtime, rng, shown):
    inputs = [normal(rng, 2, 3, 32), normal(rng, 2, 3, 16), normal(rng, 2, 3, 16), None, None, ints(2, 2), ints(3)]
    attrs = {"num_heads": 4, "kv_num_heads": 2, "qk_output": shown}
    runtime(
        "GroupQueryAttention", inputs, attrs, domain=MICROSOFT, outputs=4, symbolic={i: ["b", "s", w] for i, w in enumerate((32, 16, 16))}
    )


def test_grouped_queries_refuse_heads_that_do_not_divide(check):
    x = np.zeros((1, 1, 12), np.float32)
    with pytest.raises(CompileError, match="E0203"):
        inputs = [x, x, x, None, None, ints(0), ints(1)]
        check("GroupQueryAttention", inputs, {"num_heads": 3, "kv_num_heads": 2}, domain=MICROSOFT, outputs=3, expected=[])


ROTATED = [
    ((2, 3, 16), {}),
    ((2, 3, 16), {"interleaved": 1}),
    ((2, 2, 3, 8), {}),
    ((2, 3, 24), {"num_heads": 2, "rotary_embedding_dim": 8}),
]


@pytest.mark.parametrize("positions", [np.array([2]), np.array([[2, 3, 4], [0, 1, 2]])])
@pytest.mark.parametrize(("shape", "attrs"), ROTATED)
def test_microsoft_rotary(runtime, rng, shape, attrs, positions):
    runtime("RotaryEmbedding", [normal(rng, *shape), positions, normal(rng, 16, 4), normal(rng, 16, 4)], attrs, domain=MICROSOFT)


@pytest.mark.parametrize("attrs", [{}, {"mrope_layout": 1}, {"interleaved": 1}])
@pytest.mark.parametrize(("shape", "heads"), [((2, 2, 5, 16), 0), ((2, 5, 48), 3)])
def test_rotary_by_sections(runtime, rng, shape, heads, attrs):
    positions, angles = rng.integers(0, 20, (3, 2, 5)), (normal(rng, 20, 8), normal(rng, 20, 8))
    attrs = {"mrope_section": [3, 3, 2], "num_heads": heads, **attrs}
    runtime("MRotaryEmbedding", [normal(rng, *shape), positions, *angles], attrs, domain=MICROSOFT)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary(check, rng, interleaved):
    x, cos, sin, at = normal(rng, 2, 4, 3, 8), normal(rng, 16, 4), normal(rng, 16, 4), np.array([[2, 3, 4], [0, 1, 2]])
    check("RotaryEmbedding", [x, cos, sin, at], {"interleaved": interleaved}, rtol=1e-5)
    check("RotaryEmbedding", [normal(rng, 2, 3, 32), cos[at], sin[at]], {"interleaved": interleaved, "num_heads": 4}, rtol=1e-5)


def test_embedding(runtime, rng):
    words, positions, segments, gamma, beta = (normal(rng, n, 8) if n else normal(rng, 8) for n in (10, 6, 2, 0, 0))
    ids, kinds, mask = (rng.integers(0, n, (2, 4)).astype(np.int32) for n in (10, 2, 2))
    inputs = [ids, kinds, words, positions, segments, gamma, beta, mask]
    runtime("EmbedLayerNormalization", inputs, domain=MICROSOFT, outputs=2, rtol=1e-4)
