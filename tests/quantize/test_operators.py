"""Quantized operators on all targets against ONNX Runtime, to the bit: as it runs their graph, or the one that it makes of it."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxc

from .operator_cases import CODES, DEQUANTIZED, Case
from .operators import Operators

TYPES = [
    ("cpu", "uint8", "int8"), ("cpu", "int8", "uint4"), ("cpu", "uint16", "int16"), ("cpu", "int16", "int8"),
    ("c", "int8", "int8"), ("c", "uint8", "int8"), ("c", "int16", "int4"), ("cuda:shim", "uint8", "uint8"),
]  # fmt: skip
TIES = 1
"""Means of 16-bit codes between two of them: sums of floats, of which none is right."""


def operators(data: str, weight: str) -> tuple[Operators, dict[str, tuple[int, int]]]:
    """The model of all cases for some types, and which outputs belong to each."""
    bytes_ = data in ("uint8", "int8") and weight in ("uint8", "int8")
    cases: Mapping[str, Case] = DEQUANTIZED | (CODES if bytes_ else {})
    m, places = Operators(data, weight, np.random.default_rng(5)), {}
    for name, case in cases.items():
        if name not in unknown(data, weight):
            first = len(m.outputs)
            case(m)
            places[name] = (first, len(m.outputs))
    return m, places


def unknown(data: str, weight: str) -> Iterable[str]:
    """Cases whose operators ONNX Runtime does not have for some types."""
    if (data, weight) in (("int8", "uint8"),):
        return CODES
    return ("QAttention",) if data == "int8" else ()


@functools.cache
def results(target: str, data: str, weight: str) -> list[np.ndarray]:
    """What a target makes of the model of all cases."""
    m, _ = operators(data, weight)
    return list(onnxc.compile(m.model(), target=target).run(m.inputs).values())


def reference(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], level: str) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, dict(inputs))
    return found


def differs(found: np.ndarray, wanted: np.ndarray) -> bool:
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if found.dtype.kind == "f":
        return not np.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    tie = TIES if found.dtype.itemsize == 2 else 0
    return bool((np.abs(found.astype(np.int64) - wanted.astype(np.int64)) > tie).any())


@pytest.mark.parametrize(("target", "data", "weight"), TYPES)
def test_results_are_those_of_onnx_runtime(target: str, data: str, weight: str) -> None:
    if target == "cuda:shim" and not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("no C++ compiler is installed")
    m, places = operators(data, weight)
    model = m.model()
    found = results(target, data, weight)
    wanted = [reference(model, m.inputs, level) for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL")]
    wrong = [
        name for name, (first, last) in places.items()
        if any(all(differs(found[k], results[k]) for results in wanted) for k in range(first, last))
    ]  # fmt: skip
    assert not wrong


def test_codes_have_the_same_bytes_on_processors_and_in_c() -> None:
    _, places = operators("uint8", "int8")
    both = results("cpu", "uint8", "int8"), results("c", "uint8", "int8")
    same = [one.dtype.kind == "f" or one.tobytes() == other.tobytes() for one, other in zip(*both, strict=True)]
    assert not [name for name, (first, last) in places.items() if not all(same[first:last])]
