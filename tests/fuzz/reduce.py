"""Makes a model with a fault small: outputs that are not needed go, and nodes whose results can be given as inputs.

Hypothesis shrinks the choices that made a model; this works on the model itself, where a node in the middle can go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from .draft import Sample, needed_nodes, used_names


def reduced(sample: Sample, is_faulty: Callable[[Sample], bool]) -> Sample:
    """A smaller model for which `is_faulty` still holds."""
    for name in list(sample.expected):
        alone = with_outputs(sample, (name,))
        if len(sample.expected) > 1 and is_faulty(alone):
            sample = alone
            break
    values = _all_values(sample)
    if not values:
        return sample
    for node in list(sample.model.graph.node):
        if node not in sample.model.graph.node or any(name not in values for name in node.output if name):
            continue
        smaller = _without(sample, node, values)
        if smaller is not None and is_faulty(smaller):
            sample = smaller
    return sample


def with_outputs(sample: Sample, names: tuple[str, ...]) -> Sample:
    """The model with some of its outputs only, and what they need."""
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    graph = model.graph
    outputs = [v for v in graph.output if v.name in names]
    del graph.output[:]
    graph.output.extend(outputs)
    return _pruned(replace(sample, model=model, expected={n: sample.expected[n] for n in names}, noise={n: sample.noise[n] for n in names}))


def _without(sample: Sample, node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> Sample | None:
    """The model with what a node makes as inputs; None if these are outputs."""
    names = [name for name in node.output if name]
    if any(name in sample.expected for name in names):
        return None
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    model.graph.node.remove(node)
    for name in names:
        array = values[name]
        model.graph.input.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
    return _pruned(replace(sample, model=model, inputs={**sample.inputs, **{name: values[name] for name in names}}))


def _pruned(sample: Sample) -> Sample:
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


def _all_values(sample: Sample) -> dict[str, np.ndarray]:
    """Every value of the model, as the reference evaluator computes it; empty if it cannot tell."""
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in names)
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, dict(sample.inputs))
    except Exception:  # noqa: BLE001 (then the model stays as it is)
        return {}
    return {name: array for name, array in zip(names, found, strict=True) if isinstance(array, np.ndarray)}
