"""Small quantized models in text, and what their groups compute: the meaning of nests, without any target."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper, parser

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Graph
from onnxc.compiler.kernel.evaluate import evaluate_nest
from onnxc.compiler.program.stages import Group, Known, Stage, Unit, View
from onnxc.passes.fusion.fixed_point import Numerics
from onnxc.passes.fusion.form_groups import form_groups
from onnxc.passes.fusion.options import FusionOptions
from onnxc.passes.graph.pipeline import GRAPH_PASSES

MICROSOFT = '"com.microsoft" : 1'
Arrays = Mapping[str, np.ndarray]


def graph_of(body: str, constants: Arrays, passes: bool = True) -> Graph:
    """The graph of a model in text, after the graph passes if wanted."""
    model: onnx.ModelProto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21, {MICROSOFT}]>\n{body}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())
    graph = load_graph(model)
    for graph_pass in GRAPH_PASSES if passes else ():
        graph = graph_pass.run(graph)
    return graph


def units_of(graph: Graph, numerics: Numerics = Numerics.ONNX) -> list[Unit]:
    return form_groups(graph, GraphFacts.of(graph), FusionOptions(numerics))


def stages_of(body: str, constants: Arrays) -> list[Stage]:
    """All stages of a model's groups, in order."""
    return [stage for unit in units_of(graph_of(body, constants)) if isinstance(unit, Group) for stage in unit.stages]


def run_units(graph: Graph, inputs: Arrays, numerics: Numerics = Numerics.ONNX) -> dict[str, np.ndarray]:
    """The outputs of a graph by the nests of its groups."""
    arrays = {**graph.constants, **inputs}
    for unit in units_of(graph, numerics):
        match unit:
            case Known(value=value, array=array):
                arrays[value.name] = array
            case View(value=value, source=source):
                arrays[value.name] = arrays[source.name].reshape(value.type.static_shape)
            case Group(stages=stages):
                for stage in stages:
                    arrays[stage.value.name] = evaluate_nest(stage.nest, [arrays[v.name] for v in stage.operands], {})
    return {value.name: arrays[value.name] for value in graph.outputs}


def fused_and_defined(body: str, constants: Arrays, inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The first output of a model as its groups compute it, and as its operators define it."""
    graph = graph_of(body, constants)
    name = graph.outputs[0].name
    return run_units(graph, inputs)[name], run_graph(graph_of(body, constants, passes=False), inputs)[name]
