"""Judges outputs against a reference, and runs the references: ONNX's own evaluator, or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..diagnostics import CompileError
from ..record.nodes import OutputError

REFERENCES = ("onnx", "onnxruntime")
_NEWER_OPSET = 21
"""To which a model goes that the reference evaluator does not take as it is."""


def run_reference(reference: str, model: Path, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Run a model with a reference and return its outputs and the name with version of what ran.

    Raises:
        CompileError: E0303 if the reference is not installed, E0601 if it cannot run the model.
    """
    try:
        return _run_onnx(model, inputs) if reference == "onnx" else _run_onnxruntime(model, inputs)
    except ImportError as error:
        raise CompileError("E0303", f"{reference} is not installed", hint=f"pip install {reference}") from error
    except Exception as error:
        raise CompileError("E0601", f"the reference {reference} cannot run the model: {error}") from error


def compare_outputs(
    expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray], rtol: float, atol: float
) -> tuple[OutputError, ...]:
    """Compare all expected outputs: same type, same shape, and |actual - expected| <= atol + rtol * |expected|.

    For integers the relative tolerance does not count: with an absolute one below 1 they must be equal.
    """
    return tuple(_compare(name, array, actual.get(name), rtol, atol) for name, array in expected.items())


def _compare(name: str, expected: np.ndarray, actual: np.ndarray | None, rtol: float, atol: float) -> OutputError:
    wrong = OutputError(name, float("inf"), float("inf"), False)
    if actual is None or actual.shape != expected.shape or actual.dtype != expected.dtype:
        return wrong
    if expected.dtype.kind == "O":
        return OutputError(name, 0.0, 0.0, True) if bool((actual == expected).all()) else wrong
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    x, y = np.asarray(actual).astype(wide), np.asarray(expected).astype(wide)
    rtol = 0.0 if expected.dtype.kind in "iub" else rtol
    with np.errstate(all="ignore"):
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        gap = np.where(same, 0.0, np.abs(x - y))
        gap = np.where(np.isnan(gap), np.inf, gap)
        relative = np.where(gap == 0, 0.0, gap / np.abs(y))
        passed = bool((same | (np.isfinite(y) & (gap <= atol + rtol * np.abs(y)))).all())
    return OutputError(name, float(gap.max(initial=0.0)), float(relative.max(initial=0.0)), passed)


def _run_onnx(model: Path, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    import onnx
    from onnx import version_converter
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(str(model))
    except RuntimeError:  # it has some operators in newer versions only, such as DequantizeLinear
        evaluator = ReferenceEvaluator(version_converter.convert_version(onnx.load(model), _NEWER_OPSET))
    outputs = evaluator.run(None, dict(inputs))
    return _named(list(map(str, evaluator.output_names)), outputs), f"onnx.reference {onnx.__version__}"


def _run_onnxruntime(model: Path, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Its rewrites of quantized graphs round otherwise than the operators of the model: outputs differ by several steps.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return _named(names, session.run(names, dict(inputs))), f"onnxruntime {onnxruntime.__version__}"


def _named(names: list[str], outputs: object) -> dict[str, np.ndarray]:
    assert isinstance(outputs, list | tuple)
    return {name: np.asarray(array) for name, array in zip(names, outputs, strict=True)}
