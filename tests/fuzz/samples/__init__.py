"""Samples of operators by family; importing this registers them all."""

from . import (
    contraction,
    contrib,
    contrib_codes,
    contrib_parts,
    control,
    elementwise,
    experts,
    learning,
    losses,
    movement,
    narrow,
    places,
    quantized,
    recurrent,
    selection,
    sequences,
    signals,
    strings,
    training,
    transformers,
    windows,
)  # fmt: skip
from .registry import SAMPLES, weighted

__all__ = [
    "SAMPLES", "contraction", "contrib", "contrib_codes", "contrib_parts", "control", "elementwise", "experts", "learning", "losses",
    "movement", "narrow", "places", "quantized", "recurrent", "selection", "sequences", "signals", "strings", "training",
    "transformers", "weighted", "windows",
]  # fmt: skip
