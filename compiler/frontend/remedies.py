"""What to do about operators that are known by name and not supported: most were made for one machine by an optimizer."""

from __future__ import annotations

from collections.abc import Mapping

MICROSOFT = "com.microsoft"

DOMAINS: Mapping[str, str] = {
    "com.microsoft.nchwc": "the model was optimized for one CPU: export it again, or optimize it with ORT_ENABLE_EXTENDED at most",
    "com.ms.internal.nhwc": "the model was optimized for one engine: export it again, or optimize it with ORT_ENABLE_EXTENDED at most",
    "com.microsoft.dml": "the model was optimized for DirectML: export it again",
    "com.microsoft.experimental": "export the model with released operators",
    "org.pytorch.aten": "PyTorch's exporter found no ONNX operator: export with a newer opset, or with dynamo=True",
    "pkg.onnxscript.torch_lib": "give the model the functions of this domain, as PyTorch's exporter does",
}
"""By domain."""

_SEARCH = "export the decoder by itself, and choose the tokens in a loop around it (docs/generate-text.md)"
_PACKED = "export the model with padded batches: attention with packed sequences is for one kind of GPU"
_SPARSE = "make the sparse tensor dense before the product"
_FP8 = "quantize the weights to 4 or 8 bit integers (MatMulNBits)"
_FOLDED = "the model was optimized for one kind of GPU: export it again without fusing its products"
_RECURRENT = "export the recurrence with Scan or Loop of the default domain"
_SUMS = "use MatMulInteger, Mul or ReduceSum of the default domain, after Cast"
_ORDERED = "the model was optimized for one kind of GPU: export it again with QuantizeLinear and DequantizeLinear"

_NAMES: Mapping[str, tuple[str, ...]] = {
    "the node holds a program for another engine: take the model that it was made of": ("EPContext", "Snpe"),
    _SEARCH: ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
    _PACKED: ("PackedAttention", "PackedMultiHeadAttention", "PagedAttention", "RemovePadding", "RestorePadding", "SparsePagedAttention",
              "PackedSparseAttentionIndexer", "SparseAttentionIndexer", "DynamicSparseAttention", "VarlenCausalConvWithState"),
    _SPARSE: ("SparseToDenseMatMul",),
    _FP8: ("GemmFloat8", "MatMulBlockQuantizedFp4Weight", "MatMulBlockQuantizedFp8Weight", "QuantizeBFP", "DequantizeBFP"),
    _ORDERED: (
        "QOrderedAttention", "QOrderedGelu", "QOrderedLayerNormalization", "QOrderedLongformerAttention", "QOrderedMatMul",
        "QuantizeWithOrder", "DequantizeWithOrder",
    ),
    "use MatMulNBits, which says what it computes": ("MatMulFpQ4",),
    _FOLDED: ("MatMulNBitsMlp", "MatMulNBitsQkv", "GemmaRotaryEmbedding", "RelativePositionBias", "GatedRelativePositionBias"),
    _RECURRENT: ("LinearAttention", "LinearAttentionGate", "GatedDeltaNet", "AttnLSTM"),
    "use Dropout": ("BitmaskDropout", "BitmaskBiasDropout"),
    _SUMS: ("MatMulInteger16", "MulInteger", "ReduceSumInteger"),
    "use GroupQueryAttention or Attention of the default domain": (
        "SparseAttention", "LongformerAttention", "DecoderAttention", "DecoderMaskedSelfAttention",
    ),
}  # fmt: skip
"""Remedies for operators of com.microsoft."""

OPERATORS: Mapping[str, str] = {f"{MICROSOFT}::{name}": remedy for remedy, names in _NAMES.items() for name in names}
"""By the operator's key."""


def remedy(op: str, domain: str) -> str | None:
    """What to do about an operator without a row; None if nothing particular is known."""
    return OPERATORS.get(op) or DOMAINS.get(domain)
