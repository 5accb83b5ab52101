"""Parts of a model: some of its outputs, with what they need."""

from __future__ import annotations

from dataclasses import replace

import onnx

from .draft import Sample, needed_nodes, used_names


def with_outputs(sample: Sample, names: tuple[str, ...]) -> Sample:
    """The model with some of its outputs only, and what they need."""
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    graph = model.graph
    outputs = [v for v in graph.output if v.name in names]
    del graph.output[:]
    graph.output.extend(outputs)
    return pruned(replace(sample, model=model, expected={n: sample.expected[n] for n in names}, noise={n: sample.noise[n] for n in names}))


def pruned(sample: Sample) -> Sample:
    """The model without nodes, inputs and constants that no output needs; the model itself is changed."""
    graph = sample.model.graph
    kept = needed_nodes(graph.node, set(sample.expected))
    used = {name for name, _ in used_names(kept)} | set(sample.expected)
    for field, items in ((graph.node, kept), (graph.input, [v for v in graph.input if v.name in used])):
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(copies)
    constants = [c for c in graph.initializer if c.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    return replace(sample, inputs={k: v for k, v in sample.inputs.items() if k in used})
