"""The engines that are compared: each loads a model for a number of threads and returns a function that runs it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

Inputs: TypeAlias = dict[str, np.ndarray]
Run: TypeAlias = Callable[[], list[np.ndarray]]


def load_onnxc(path: Path, threads: int, inputs: Inputs) -> Run:
    """This compiler."""
    import onnxc

    model = onnxc.compile(str(path), target="cpu", threads=threads)
    return lambda: list(model.run(inputs).values())


def load_onnxruntime(path: Path, threads: int, inputs: Inputs) -> Run:
    """ONNX Runtime on its CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: list(session.run(None, inputs))


def load_openvino(path: Path, threads: int, inputs: Inputs) -> Run:
    """OpenVINO, in float32 as the others and tuned for latency."""
    import openvino

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(str(path))
    request = core.compile_model(model, "CPU", config).create_infer_request()
    values = [inputs[_name(port, inputs)] for port in model.inputs]

    def run() -> list[np.ndarray]:
        result = request.infer(values, share_inputs=True, share_outputs=True)
        return [result[i] for i in range(len(result))]

    return run


def _name(port: object, inputs: Inputs) -> str:
    """OpenVINO gives a tensor several names; one of them is ONNX's."""
    return next(name for name in port.get_names() if name in inputs)  # type: ignore[attr-defined]


ENGINES: Mapping[str, Callable[[Path, int, Inputs], Run]] = {
    "onnxc": load_onnxc,
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
}
