"""The road from a float model to a quantized one.

Read and fold (the compiler's own frontend and passes) -> normalize -> equalize -> plan -> observe -> ranges -> choose what
stays float -> correct biases -> insert codes -> measure -> write an ONNX model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..diagnostics import CompileError
from ..graph.nodes import Graph
from ..graph.to_onnx import to_onnx
from ..pipeline import Model, Options, make_graph
from ..target import load_target
from .choose import choose_float, is_met
from .equalize import equalize
from .execute import runner
from .faces import integer_faces
from .histogram import merged, observe
from .insert_qdq import Quantized, insert_qdq
from .measure import Distance, compare
from .normalize import normalize
from .options import AUTOMATIC, Budget, QuantizeOptions
from .parameters import Parameters, of_range
from .plan import Plan, make_plan
from .ranges import choose_range
from .report import LayerReport, QuantizeReport, describe_options, finite, output_report
from .samples import Batch, Calibration, read_samples
from .shadow import Study, study_layers

if TYPE_CHECKING:
    import onnx

FOLDED = "fold_batch_norm"
"""The pass after which the graph is taken: constants and batch norms are folded, nothing is decomposed yet."""


CLEANING = "eliminate_dead_code"
"""The pass that removes what nothing uses any more."""
QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """What a quantization gives."""

    model: onnx.ModelProto
    """In QDQ form."""
    graph: Graph
    """The same before it was written."""
    report: QuantizeReport


def quantize_model(
    source: Model, calibration: Calibration, options: QuantizeOptions, compile_options: Options | None = None
) -> QuantizedModel:
    """Quantize a float model.

    Args:
        source: the model.
        calibration: samples of its inputs.
        options: how.
        compile_options: extents of symbolic dimensions and the like.

    Raises:
        CompileError: for faults of the model; E0701 for data that do not fit; E0702 if nothing can be quantized.
    """
    from ... import __version__

    graph = read_float_graph(source, compile_options or Options())
    batches = read_samples(calibration, graph.inputs, options.most_samples)
    found, report = _Work(graph, batches, options).quantize()
    final = found.quantized.graph
    if options.integer_io:
        final = integer_faces(final, found.quantized.decoded, found.parameters)
    return QuantizedModel(to_onnx(final, __version__), final, report)


def read_float_graph(source: Model, compile_options: Options) -> Graph:
    """The graph that is quantized: folded by the compiler's own passes, then normalized.

    Raises:
        CompileError: for faults of the model; E0702 if it is quantized already.
    """
    target = load_target("cpu")
    graph = make_graph(source, target, compile_options, {}, FOLDED)
    codes = next((node for node in graph.nodes if node.op in QUANTIZED), None)
    if codes is not None:
        raise CompileError("E0702", "the model is quantized already", codes.loc, hint="give the float model that it was made of")
    (clean,) = [step for step in target.pipeline.graph_passes if step.name == CLEANING][:1]
    return clean.run(normalize(graph))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A quantization by one method."""

    options: QuantizeOptions
    plan: Plan
    parameters: Mapping[str, Parameters]
    study: Study
    corrections: Mapping[str, np.ndarray]
    quantized: Quantized
    outputs: Mapping[str, Distance]

    @property
    def worst_db(self) -> float:
        """Ratio of signal to noise of the output that is worst off."""
        return min((d.sqnr_db for d in self.outputs.values() if d.rows or d.signal), default=math.inf)


class _Work:
    """One quantization on its way."""

    def __init__(self, graph: Graph, batches: Sequence[Batch], options: QuantizeOptions) -> None:
        self.batches, self.options = batches, options
        self.graph, self.equalized = equalize(graph) if options.equalize else (graph, 0)
        _check_names(self.graph, options.keep_float)
        plan = self.plan = self._plan(frozenset())
        if not any(layer.is_contraction for layer in plan.layers):
            raise CompileError("E0702", "the model has no convolution or product of matrices in float32 that could be quantized")
        self.exact = runner(self.graph, tuple(dict.fromkeys((*plan.shared, *(layer.output.name for layer in (*plan.layers, *plan.kept))))))
        self.histograms = observe(self.exact, list(plan.shared), batches)

    def quantize(self) -> tuple[_Attempt, QuantizeReport]:
        """Quantize by the method that is asked for, or that turns out best."""
        methods = AUTOMATIC if self.options.method == "auto" else (self.options.method,)
        attempts = [self._attempt(replace(self.options, method=method), self.plan) for method in methods]
        best = max(attempts, key=lambda attempt: attempt.worst_db)
        if self.options.budget is not None and not is_met(self.options.budget, best.outputs):
            best = self._within(self.options.budget, best)
        return best, self._report(best)

    def _within(self, budget: Budget, attempt: _Attempt) -> _Attempt:
        """Keep layers in float until the budget is met."""
        layers = [layer for layer in self.plan.layers if layer.is_contraction]
        tried: dict[frozenset[str], _Attempt] = {}

        def evaluate(kept: frozenset[str]) -> Mapping[str, Distance]:
            if kept not in tried:
                tried[kept] = self._attempt(attempt.options, self._plan(kept), attempt.study)
            return tried[kept].outputs

        chosen = choose_float(layers, attempt.study.distances, budget, evaluate)
        if len(chosen) == len(layers):
            raise CompileError("E0702", f"no layer can be quantized within the accuracy budget of {budget}")
        evaluate(chosen)
        return tried[chosen]

    def _plan(self, kept: frozenset[str]) -> Plan:
        return make_plan(self.graph, self.options.keep_float | kept, self.options.integer_io)

    def _attempt(self, options: QuantizeOptions, plan: Plan, study: Study | None = None) -> _Attempt:
        """Quantize by one method; what is known of the layers may come from an attempt with more of them."""
        parameters = self._parameters(plan, options)
        study = study_layers(self.graph, plan, parameters, options.per_channel, self.batches) if study is None else study
        corrections = study.mean_errors if options.correct_bias else {}
        quantized = insert_qdq(self.graph, plan, parameters, options.per_channel, corrections)
        names = {value.name: self._partner(quantized, value.name) for value in self.graph.outputs}
        outputs = compare(self.exact, runner(quantized.graph, tuple(names.values())), names, self.batches)
        return _Attempt(options, plan, parameters, study, corrections, quantized, outputs)

    def _parameters(self, plan: Plan, options: QuantizeOptions) -> dict[str, Parameters]:
        """Scale and zero point of each value that becomes codes."""
        found: dict[str, Parameters] = {}
        for names in plan.members.values():
            low, high = choose_range(merged([self.histograms[name] for name in names]), options)
            found |= dict.fromkeys(names, of_range(low, high, options.activations, options.symmetric))
        return found

    def _partner(self, quantized: Quantized, name: str) -> str:
        return quantized.decoded.get(name, name)

    def _report(self, attempt: _Attempt) -> QuantizeReport:
        plan, quantized = attempt.plan, attempt.quantized
        layers = sorted((*plan.layers, *plan.kept), key=lambda layer: self.graph.nodes.index(layer.node))
        pairs = {layer.output.name: self._partner(quantized, layer.output.name) for layer in layers}
        found = compare(self.exact, runner(quantized.graph, tuple(pairs.values())), pairs, self.batches)
        lines = []
        for layer in layers:
            name, is_quantized = layer.output.name, layer in plan.layers
            alone = attempt.study.distances.get(name) if is_quantized else None
            own_db = None if alone is None else finite(alone.sqnr_db)
            lines.append(LayerReport(layer.name, layer.node.op, name, is_quantized, own_db, finite(found[name].sqnr_db)))
        return QuantizeReport(
            describe_options(attempt.options),
            attempt.options.activations.label,
            attempt.options.per_channel,
            self.equalized,
            sum(1 for layer in plan.layers if layer.result.name in attempt.corrections),
            len(self.batches),
            tuple(lines),
            tuple(output_report(name, distance) for name, distance in attempt.outputs.items()),
            _constant_bytes(self.graph),
            _constant_bytes(quantized.graph),
        )


def _check_names(graph: Graph, names: frozenset[str]) -> None:
    """E0702 for nodes that the model does not have."""
    known = {v.name for node in graph.nodes for v in node.outputs if v is not None} | {node.loc.node for node in graph.nodes}
    unknown = sorted(names - known)
    if unknown:
        raise CompileError(
            "E0702", f"the model has no node '{unknown[0]}' to keep in float", hint="give the name of a node or of its output"
        )


def _constant_bytes(graph: Graph) -> int:
    return sum(array.nbytes for array in graph.constants.values())


def quantize(source: Model, calibration: Calibration, **choices: object) -> onnx.ModelProto:
    """Quantize a float model to 8 bit integers in QDQ form.

    Args:
        source: path of an ONNX file, its bytes, or a model.
        calibration: a `.npz` file or a folder of samples, arrays by input with the samples along the first axis, or a
            mapping for each sample.
        choices: fields of `compiler.quantize.options.QuantizeOptions`.

    Returns:
        The quantized model.

    Raises:
        CompileError: for faults of the model or the data.
    """
    return quantize_model(source, calibration, replace(QuantizeOptions(), **choices)).model  # type: ignore[arg-type]
