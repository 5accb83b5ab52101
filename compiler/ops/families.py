"""The list of operator families: every file of this folder that adds rows to the table."""

from __future__ import annotations

from importlib import import_module

FAMILIES = (
    "activation",
    "arithmetic",
    "attention",
    "cast",
    "comparison",
    "constant",
    "contraction",
    "contrib_attention",
    "contrib_embedding",
    "contrib_fused",
    "contrib_gqa",
    "contrib_matmul",
    "contrib_quantized",
    "control",
    "convolution",
    "cumulative",
    "deformable",
    "einsum",
    "extreme",
    "features",
    "functions",
    "grid",
    "indexing",
    "layer_norm",
    "layout",
    "linear_models",
    "loss",
    "matrix",
    "movement",
    "ngrams",
    "normalization",
    "optional",
    "padding",
    "pooling",
    "quantize",
    "quantized",
    "recurrent",
    "recurrent_cells",
    "reduction",
    "resize",
    "roi",
    "rotary",
    "scatter",
    "selection",
    "shape",
    "signal",
    "slicing",
    "softmax",
    "suppression",
    "topk",
    "training",
    "trees",
    "unique",
    "unpool",
    "window",
)


def load() -> None:
    """Import all families, which registers their rows."""
    for family in FAMILIES:
        import_module(f".{family}", __package__)
