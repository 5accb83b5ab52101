"""Samples of operators by family; importing this registers them all."""

from . import (
    contraction,
    contrib,
    control,
    elementwise,
    learning,
    losses,
    movement,
    places,
    quantized,
    recurrent,
    selection,
    sequences,
    signals,
    transformers,
    windows,
)  # fmt: skip
from .registry import SAMPLES, weighted

__all__ = [
    "SAMPLES", "contraction", "contrib", "control", "elementwise", "learning", "losses", "movement", "places", "quantized", "recurrent",
    "selection", "sequences", "signals", "transformers", "weighted", "windows",
]  # fmt: skip
