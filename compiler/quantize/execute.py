"""Runs a graph on this machine with any of its values as outputs: the compiler's own CPU target does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..graph.nodes import Graph
from ..pass_runner import run_passes
from ..pipeline import make_program
from ..target import load_target

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""Inputs by name to values by name."""


def runner(graph: Graph, names: Sequence[str]) -> Run:
    """Compile a graph so that it gives these values, besides its outputs.

    Args:
        graph: the graph.
        names: values of its nodes; those of inputs and constants are left out.
    """
    made = {v.name: v for node in graph.nodes for v in node.outputs if v is not None}
    outputs = {v.name: v for v in graph.outputs} | {name: made[name] for name in names if name in made}
    target = load_target("cpu")
    shown = run_passes(graph.with_nodes(graph.nodes, tuple(outputs.values())), target.pipeline.graph_passes)
    runnable = target.pipeline.emit(make_program(shown, target, {})).runner(None)
    return lambda inputs: runnable.run(inputs)
