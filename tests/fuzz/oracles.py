"""Whether the compiler computes what others do: ONNX Runtime and ONNX's reference evaluator are asked, two of three must agree.

A result that fits neither of them is a finding, and so is a model that is refused although ONNX Runtime runs it.
A result that fits one of them is taken for right: both have faults of their own. What only one of them knows, that one judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

import onnxc
from onnxc.compiler.diagnostics import CompileError

from .content import FLOATS8, NARROW, STRING
from .draft import Noise, Sample
from .evaluate import session_of
from .ports import original, plain_feeds, with_plain_ports
from .prune import with_outputs

Tensors = Mapping[str, np.ndarray]
Targets = Mapping[str, Sequence[int]]
"""Numbers of threads by target."""

TOLERANCE = {"float64": 1e-6, "float32": 2e-4, "float16": 1e-2, "bfloat16": 6e-2}
TOLERANCE |= dict.fromkeys(FLOATS8, 0.25) | {"float4_e2m1fn": 0.5, "float8_e8m0fnu": 1.0}
"""Of values with rounding errors, relative to the largest element; narrow ones are cast from such values, one step apart."""
STEPPED_TOLERANCE = 0.05
CODES_APART = 3
"""How many steps integers may lie apart that are quantized from values with rounding errors."""
REFUSALS = {"c": ("E0302", "E0304", "E0204"), "cuda:shim": ("E0302", "E0304", "E0204")}
"""What other targets may refuse: working memory of unknown size, operators that need a heap."""

NEED_EXTENTS = {
    "Attention": "the size of a head",
    "Det": "rows of the matrices, which are worked on in memory of a fixed size",
    "GRU": "hidden units, for the order of the weights",
    "LSTM": "hidden units, for the order of the weights",
    "RNN": "hidden units, for the order of the weights",
    "RotaryEmbedding": "the size of a head",
    "ai.onnx.ml::LinearClassifier": "the number of features",
    "com.microsoft::Attention": "the width of the weights",
    "com.microsoft::GroupQueryAttention": "the size of a head",
    "com.microsoft::Inverse": "rows of the matrices, which are worked on in memory of a fixed size",
    "com.microsoft::MultiHeadAttention": "the hidden size",
    "com.microsoft::QAttention": "the width of the weights",
    "com.microsoft::RotaryEmbedding": "the size of a head",
}
"""What must be known when compiling by operator: an input of which it is open is refused on every target (E0204)."""


@dataclass(slots=True)
class Tally:
    """What became of the models that were tried."""

    models: int = 0
    compared: int = 0
    refused: int = 0
    """By all: the evaluator and ONNX Runtime do not run them either, or another target may refuse."""
    against: dict[str, int] = field(default_factory=dict)
    """Outputs that agreed with only one of the others although both ran them, by that other and the operator that made the output."""
    operators: dict[str, int] = field(default_factory=dict)
    """Models by the operators that they have, in regions, too."""

    def count(self, model: onnx.ModelProto) -> None:
        """Note a model that is tried."""
        self.models += 1
        for key in operators_of(model.graph):
            self.operators[key] = self.operators.get(key, 0) + 1


def find_fault(sample: Sample, targets: Targets, tally: Tally) -> str:
    """What is wrong with the compiler's results for a model, empty if nothing is.

    Args:
        sample: the model with inputs and the evaluator's results.
        targets: targets, each with the numbers of threads to run it on.
        tally: counts what happened.
    """
    tally.count(sample.model)
    runtime = run_onnxruntime(sample)
    runs_elsewhere = isinstance(runtime, dict) and len(runtime) == len(sample.expected)
    others = {"onnx.reference": sample.expected} | ({"onnxruntime": runtime} if isinstance(runtime, dict) else {})
    for target, threads in targets.items():
        try:
            compiled = onnxc.compile(sample.model, target, cache=False)
            for count in threads:
                with np.errstate(all="ignore"):
                    found = onnxc.CompiledModel(compiled.target, compiled.artifact, count).run(sample.inputs)
                tally.compared += 1
                if fault := _fault_of_outputs(found, others, sample, tally):
                    return f"{target}, {count} threads: {fault}"
        except CompileError as error:
            may_refuse = error.code in REFUSALS.get(target, ()) or _is_refused_everywhere(error, sample)
            if error.code == "E0901" or (runs_elsewhere and not may_refuse):
                return f"{target}: refused: {error}"
            tally.refused += 1
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a fault)
            return f"{target}: {type(error).__name__}: {error}"
    return ""


def _fault_of_outputs(found: Tensors, others: Mapping[str, Tensors], sample: Sample, tally: Tally) -> str:
    """The outputs that agree with none of the others, unless these do not agree either."""
    wrong: list[str] = []
    maker = {name: node.op_type for node in sample.model.graph.node for name in node.output}
    for name, noise in sample.noise.items():
        wanted = {other: np.asarray(results[name]) for other, results in others.items() if name in results}
        faults = {other: difference(np.asarray(found[name]), array, noise) for other, array in wanted.items()}
        against = [other for other, fault in faults.items() if fault]
        if len(against) == 2 and difference(wanted[against[0]], wanted[against[1]], noise):
            against = ["all three differ"]
        elif len(against) == len(wanted):
            wrong.append(f"{name}: " + "; ".join(f"{fault} ({other})" for other, fault in faults.items()))
            continue
        for other in against:
            key = f"{other}: {maker[name]}"
            tally.against[key] = tally.against.get(key, 0) + 1
    return ", ".join(wrong)


def _is_refused_everywhere(error: CompileError, sample: Sample) -> bool:
    if error.code == "E0204" and error.diagnostics[0].loc.op_type in NEED_EXTENTS:
        return True
    if error.code == "E0402" and "do not broadcast" in str(error) and any(0 in array.shape for array in sample.expected.values()):
        return True  # two open extents of which one is 0 and one 1: the larger one is their common extent on every target
    return error.code in ("E0204", "E0402") and _reads_ranks(sample)


def _reads_ranks(sample: Sample) -> bool:
    """True if the rank of a value may depend on what is known only while the model runs.

    No target compiles that; where a Squeeze has no axes, the first extent that is not known may be 1, but no other one.
    """
    squeezes = any(node.op_type == "Squeeze" and len(node.input) < 2 for node in sample.model.graph.node)
    return squeezes or any(array.dtype.name in ("int64", "int32") for array in sample.inputs.values())


def run_onnxruntime(sample: Sample) -> dict[str, np.ndarray] | str:
    """The results of ONNX Runtime without its optimizations; what it says if it refuses."""
    try:
        return _run_session(sample)
    except Exception as error:  # noqa: BLE001 (its exceptions have no common class)
        if len(sample.expected) == 1:
            return str(error)
    # One operator that it does not have stops all: the other outputs may be had one by one.
    found: dict[str, np.ndarray] = {}
    for name in sample.expected:
        alone = run_onnxruntime(with_outputs(sample, (name,)))
        found |= alone if isinstance(alone, dict) else {}
    return found or "it runs none of the outputs"


def _run_session(sample: Sample) -> dict[str, np.ndarray]:
    session = session_of(with_plain_ports(sample.model))
    taken = {value.name for value in session.get_inputs()}
    results = session.run(None, {name: array for name, array in plain_feeds(sample.inputs).items() if name in taken})
    return original(sample.model, dict(zip((value.name for value in session.get_outputs()), results, strict=True)))


def difference(found: np.ndarray, wanted: np.ndarray, noise: Noise) -> str:
    """How one tensor differs from another."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype.name == STRING:
        return _shown(found, wanted, np.asarray(found != wanted))
    if wanted.dtype.name not in TOLERANCE:
        apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        wrong = apart > (CODES_APART if noise is Noise.STEPPED else 0)
        return _shown(found, wanted, wrong)
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if noise is Noise.EXACT:
        share = 1e-6 if wanted.itemsize > 2 else 0 if wanted.dtype.name in NARROW else TOLERANCE[wanted.dtype.name]
        limit = np.zeros_like(b) + share * np.abs(b)
    else:
        finite = np.abs(b[np.isfinite(b)])
        share = STEPPED_TOLERANCE if noise is Noise.STEPPED else TOLERANCE[wanted.dtype.name]
        limit = np.full_like(b, share * max(float(finite.max(initial=0.0)), 1e-3))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if noise is not Noise.EXACT:  # what is about to overflow may have done so
        most = _LARGEST.get(wanted.dtype.name, np.inf) / 8
        same |= (np.abs(a) > most) & (np.abs(b) > most) | np.isnan(b) & (np.abs(a) > most)
    with np.errstate(invalid="ignore"):
        return _shown(found, wanted, ~(same | (np.abs(a - b) <= limit)))


_LARGEST = {"float64": 1e300, "float32": 3e38, "float16": 6e4, "bfloat16": 3e38}


def _shown(found: np.ndarray, wanted: np.ndarray, wrong: np.ndarray) -> str:
    if not wrong.any():
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {wrong.size} differ, at {list(first)} {found[first]} instead of {wanted[first]}"


def operators_of(graph: onnx.GraphProto) -> set[str]:
    """Keys in the operator table of all nodes of a graph and its regions."""
    found = {f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in graph.node}
    return found.union(*(operators_of(attribute.g) for node in graph.node for attribute in node.attribute if attribute.HasField("g")))


def describe(model: onnx.ModelProto) -> str:
    """A model as text, with its weights."""
    return onnx.printer.to_text(model)
