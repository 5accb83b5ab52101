"""Remove operators that do nothing and merge pairs that one operator can do; runs after constants are folded.

The rules stand in tables: `arithmetic_rules.py`, `movement_rules.py`, `merge_pad.py`.
"""

from __future__ import annotations

from ...compiler.graph.nodes import Graph
from ...compiler.rewrite.rules import Rule, apply_rules
from .arithmetic_rules import ARITHMETIC_RULES
from .drop_padding_taps import TAP_RULES
from .merge_pad import PAD_RULES
from .movement_rules import MOVEMENT_RULES

SIMPLIFY_RULES: tuple[Rule, ...] = (*ARITHMETIC_RULES, *MOVEMENT_RULES, *PAD_RULES, *TAP_RULES)


def simplify(graph: Graph) -> Graph:
    """Remove operators that do nothing."""
    return apply_rules(graph, SIMPLIFY_RULES, simplify.__name__)
