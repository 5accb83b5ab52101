"""The order of the passes over the graph IR that all targets share."""

from __future__ import annotations

from ...compiler.graph.nodes import Graph
from ...compiler.pass_runner import Pass
from .decompose import decompose
from .eliminate_common_subexpressions import eliminate_common_subexpressions
from .eliminate_dead_code import eliminate_dead_code
from .fold_batch_norm import fold_batch_norm
from .fold_constants import fold_constants
from .move_quantization import move_quantization
from .simplify import simplify

GRAPH_PASSES: tuple[Pass[Graph], ...] = (
    Pass(fold_constants),
    Pass(simplify),
    Pass(eliminate_dead_code),
    Pass(fold_batch_norm),
    Pass(decompose),
    Pass(move_quantization),
    Pass(fold_constants),
    Pass(simplify),
    Pass(fold_batch_norm),
    Pass(eliminate_common_subexpressions),
    Pass(eliminate_dead_code),
)
