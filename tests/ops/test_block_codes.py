"""Weights of few bits beside MatMulNBits: MatMulBnb4 and GatherBlockQuantized against ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

MICROSOFT = "com.microsoft"


def codes(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def scales(rng, *shape):
    return rng.uniform(0.1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("kind", [0, 1])
def test_bnb4(runtime, rng, kind):
    n, k, block = 6, 32, 16
    attrs = {"N": n, "K": k, "block_size": block, "quant_type": kind}
    inputs = [rng.standard_normal((2, 3, k)).astype(np.float32), codes(rng, n * k // 2), scales(rng, n * k // block)]
    runtime("MatMulBnb4", inputs, attrs, domain=MICROSOFT, constants=(1, 2))


def test_bnb4_not_transposed(check, rng):
    """FP4: a sign, and one of eight numbers; the first code of a byte is in its high bits."""
    numbers = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], np.float32)
    n, k, block = 4, 32, 16
    packed, scale = codes(rng, n * k // 2), scales(rng, n * k // block)
    code = np.stack([packed >> 4, packed & 15], -1).reshape(-1)
    weights = (np.where(code < 8, 1, -1) * numbers[code & 7] * scale.repeat(block)).reshape(n, k)
    x = rng.standard_normal((3, n)).astype(np.float32)
    attrs = {"N": n, "K": k, "block_size": block, "quant_type": 0, "transB": 0}
    check("MatMulBnb4", [x, packed, scale], attrs, domain=MICROSOFT, expected=[(x @ weights).astype(np.float32)], rtol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("has_zeros", [False, True])
def test_gathered_bytes(runtime, rng, bits, has_zeros):
    """Rows of a table of embeddings; negative indices count from the end."""
    rows, width, block = 5, 64, 32
    table, indices = codes(rng, rows, width * bits // 8), np.array([[0, 4], [-1, 2]])
    zeros = codes(rng, rows, width // block * bits // 8) if has_zeros else None
    attrs = {"block_size": block, "bits": bits, "gather_axis": 0, "quantize_axis": 1}
    inputs = [table, indices, scales(rng, rows, width // block), *([zeros] if has_zeros else [])]
    runtime("GatherBlockQuantized", inputs, attrs, domain=MICROSOFT, constants=(0, 2, 3)[: 3 if has_zeros else 2])


@pytest.mark.parametrize(("gather", "quantize"), [(0, 1), (1, 2)])
def test_gathered_small_integers(runtime, rng, gather, quantize):
    shape, block = ((5, 32), 16) if gather == 0 else ((2, 3, 32), 16)
    table = rng.integers(-8, 8, shape).astype(ml_dtypes.int4)
    of_scales = tuple(d // block if k == quantize else d for k, d in enumerate(shape))
    inputs = [table, np.array([2, 0]), scales(rng, *of_scales), rng.integers(-8, 8, of_scales).astype(ml_dtypes.int4)]
    attrs = {"block_size": block, "gather_axis": gather, "quantize_axis": quantize}
    runtime("GatherBlockQuantized", inputs, attrs, domain=MICROSOFT, constants=(0, 2, 3))
    runtime("GatherBlockQuantized", inputs[:3], attrs, domain=MICROSOFT, constants=(0, 2))


def test_what_is_outside_is_zero(check, rng):
    table, indices = codes(rng, 3, 16), np.array([7, 1])
    wanted = (table.astype(np.float32) - 128) * 0.5
    inputs = [table, indices, np.full((3, 1), 0.5, np.float32)]
    attrs = {"block_size": 16, "bits": 8}
    check("GatherBlockQuantized", inputs, attrs, domain=MICROSOFT, expected=[np.stack([np.zeros_like(wanted[0]), wanted[1]])])


def test_groups_of_rows(runtime, rng):
    """Blocks of a matrix whose rows were sorted: `g_idx` says which block a row belongs to."""
    n, k, block = 6, 64, 32
    inputs = [rng.standard_normal((2, k)).astype(np.float32), codes(rng, n, k // block, 16), scales(rng, n * k // block), None]
    attrs = {"N": n, "K": k, "bits": 4, "block_size": block}
    sorted_groups = (np.arange(k) // block).astype(np.int32)
    mixed = rng.permutation(sorted_groups)
    for groups in (sorted_groups, mixed):
        runtime("MatMulNBits", [*inputs, groups], attrs, domain=MICROSOFT, constants=(1, 2, 4), rtol=1e-4)


def test_refusals(check, rng):
    x, weights = np.zeros((1, 32), np.float32), codes(rng, 1, 1, 16)
    with pytest.raises(CompileError, match="bits is 3"):
        check("MatMulNBits", [x, weights, scales(rng, 1)], {"N": 1, "K": 32, "bits": 3, "block_size": 32}, domain=MICROSOFT, expected=[])
    with pytest.raises(CompileError, match="one kind of GPU"):
        attrs = {"N": 1, "K": 32, "bits": 4, "block_size": 32, "weight_prepacked": 1}
        check("MatMulNBits", [x, weights, scales(rng, 1)], attrs, domain=MICROSOFT, expected=[])
    with pytest.raises(CompileError, match="quant_type is 2"):
        attrs = {"N": 1, "K": 32, "block_size": 16, "quant_type": 2}
        check("MatMulBnb4", [x, codes(rng, 16), scales(rng, 2)], attrs, domain=MICROSOFT, expected=[])
