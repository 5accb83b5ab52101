"""What others make of some nodes: ONNX's reference evaluator, and ONNX Runtime where that does not know an operator or half of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.aionnx_preview_training.op_adagrad import Adagrad
from onnx.reference.ops.aionnx_preview_training.op_adam import Adam
from onnx.reference.ops.aionnx_preview_training.op_momentum import Momentum

HALF_KNOWN = frozenset({
    "LSTM", "GRU", "RNN", "NonMaxSuppression", "MaxRoiPool", "GlobalLpPool", "Scan", "SimplifiedLayerNormalization", "CategoryMapper",
    "FeatureVectorizer", "LRN", "LpNormalization", "BatchNormalization",
})  # fmt: skip
"""Operators of the specification that the evaluator does not have, or of which it leaves out attributes or operands without a word; or
that it computes wrongly: LRN over the wrong channels, LpNormalization of numbers below 0, BatchNormalization of opset 13."""


def _of_one_type(optimizer: type[OpRun]) -> type[OpRun]:
    """An optimizer of the evaluator whose results have the type of the tensors, instead of float32 or what a scalar makes of them."""

    def run(self: OpRun, *operands: np.ndarray, **attrs: object) -> tuple[np.ndarray, ...]:
        return tuple(y.astype(operands[2].dtype) for y in optimizer._run(self, *operands, **attrs))

    return type(optimizer.__name__, (optimizer,), {"_run": run})


NEWEST_OPSET = 26
"""That ONNX Runtime has. Later versions of operators take more types, so models of later opsets mean the same in it."""
OPTIMIZERS = [_of_one_type(op) for op in (Adagrad, Adam, Momentum)]


def run_nodes(nodes: Sequence[onnx.NodeProto], operands: Mapping[str, np.ndarray], wanted: Sequence[str], opset: int) -> list[Any]:
    """The values of some names; raises whatever the evaluators raise.

    Args:
        nodes: in an order in which they can run.
        operands: the arrays that the nodes read, by name.
        wanted: names of results.
        opset: version of the default domain.
    """
    inputs = [helper.make_tensor_value_info(name, type_code(array), array.shape) for name, array in operands.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    return run_model(model_of(helper.make_graph(list(nodes), "nodes", inputs, outputs), opset), operands)


def run_model(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[Any]:
    """The outputs of a model."""
    if any(node.domain == "com.microsoft" or node.op_type in HALF_KNOWN for node in all_nodes(model.graph.node)):
        try:
            return session_of(model).run(None, dict(feeds))
        except Exception:  # noqa: BLE001 (its exceptions have no common class; what the evaluator does not know either, it says)
            pass
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(model, new_ops=OPTIMIZERS).run(None, dict(feeds)))


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their regions."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g.node)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime without its optimizations, on one thread, without a log."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    known = onnx.ModelProto()
    known.CopyFrom(model)
    for entry in known.opset_import:
        entry.version = entry.version if entry.domain else min(entry.version, NEWEST_OPSET)
    return onnxruntime.InferenceSession(known.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def model_of(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    """A model that imports the domains of its nodes."""
    nodes = list(all_nodes(graph.node))
    domains = {n.domain for n in nodes}
    versions = {"": opset, "com.microsoft": 1, "ai.onnx.preview.training": 1}
    versions["ai.onnx.ml"] = 5 if any(n.op_type == "TreeEnsemble" for n in nodes) else 3
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items() if not domain or domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def type_code(array: np.ndarray) -> int:
    """ONNX's number of an element type."""
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
