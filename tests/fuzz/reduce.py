"""Makes a model with a fault small: outputs that are not needed go, and nodes whose results can be given as inputs.

Hypothesis shrinks the choices that made a model; this works on the model itself, where a node in the middle can go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from .draft import Sample
from .evaluate import run_model
from .prune import pruned, with_outputs


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
    return pruned(replace(sample, model=model, inputs={**sample.inputs, **{name: values[name] for name in names}}))


def _all_values(sample: Sample) -> dict[str, np.ndarray]:
    """Every value of the model, as others compute it; empty if they cannot tell."""
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in names)
    try:
        found = run_model(model, sample.inputs)
    except Exception:  # noqa: BLE001 (then the model stays as it is)
        return {}
    return {name: array for name, array in zip(names, found, strict=True) if isinstance(array, np.ndarray)}
