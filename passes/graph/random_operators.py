"""The operators whose result is not a function of their inputs: never folded, never merged."""

from __future__ import annotations

RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)
