"""Samples of operators by family; importing this registers them all."""

from . import contraction, control, elementwise, movement, quantized, selection, windows
from .registry import SAMPLES, weighted

__all__ = ["SAMPLES", "contraction", "control", "elementwise", "movement", "quantized", "selection", "weighted", "windows"]
