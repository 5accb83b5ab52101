"""A model up to its program, for tests that look inside: the graph after the passes of a target, the program, its schedules."""

from __future__ import annotations

import onnx

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.nodes import Graph
from onnxc.compiler.pass_runner import run_passes
from onnxc.compiler.program.nodes import Program
from onnxc.compiler.target import Target, load_target


def graph_of(source: onnx.ModelProto | Graph, target: Target | str) -> Graph:
    """The graph after all graph passes of a target."""
    graph = source if isinstance(source, Graph) else load_graph(source)
    return run_passes(graph, _target(target).pipeline.graph_passes)


def program_of(source: onnx.ModelProto | Graph, target: Target | str) -> Program:
    """The program that a target makes of a model."""
    return _target(target).pipeline.build(graph_of(source, target))


def schedules(program: Program) -> list[str]:
    """The name of each kernel's schedule."""
    return [kernel.schedule.split("(")[0] for kernel in program.kernels.values()]


def _target(target: Target | str) -> Target:
    return load_target(target) if isinstance(target, str) else target
