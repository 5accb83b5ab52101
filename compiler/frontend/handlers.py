"""Operators that the frontend takes apart itself, because they take or make more than tensors, or look at other nodes."""

from __future__ import annotations

from collections.abc import Mapping

from .gradient import GRADIENT_HANDLERS
from .maps import MAP_HANDLERS
from .sequences import SEQUENCE_HANDLERS, Handler

HANDLERS: Mapping[str, Handler] = {**SEQUENCE_HANDLERS, **MAP_HANDLERS, **GRADIENT_HANDLERS}
"""By the key of the operator."""
