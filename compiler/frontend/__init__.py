"""From an ONNX model to the graph IR: loading, limits, functions, opset adaptors."""

from __future__ import annotations

from .limits import Limits
from .load import load_graph

__all__ = ["Limits", "load_graph"]
