"""Replace operators that are defined by simpler ones, until only nests, kernels and control flow are left.

Runs after the passes that look for whole operators (batch normalization) and before fusion.
"""

from __future__ import annotations

from ...compiler.graph.expand import definition_of, expand
from ...compiler.graph.nodes import Graph


def decompose(graph: Graph) -> Graph:
    """Replace operators that are defined by simpler ones."""
    return expand(graph, definition_of, decompose.__name__)
