"""What `make demo` runs: two models compiled for this CPU, run, compared with a reference, and timed.

ResNet-50 comes with the onnx package. Its official weights are constants, for which all classes come out alike, so it runs once
against the official output and once with random weights against ONNX Runtime. The BERT encoder is built here with random weights
and compared with ONNX's reference evaluator.
"""

from __future__ import annotations

import sys
import time
from statistics import median

import numpy as np
import onnx
import onnxruntime
from bert_encoder import Size, build, sample_inputs
from light_models import light_models, official_case, seeded_model
from onnx.reference import ReferenceEvaluator

import onnxc


def show(name: str, model: object, inputs: dict[str, np.ndarray], expected: list[np.ndarray], rtol: float, atol: float) -> bool:
    """Compile, run, compare and time one model; True if it is within the tolerances."""
    started = time.perf_counter()
    compiled = onnxc.compile(model, target="cpu", cache=False)
    compile_seconds = time.perf_counter() - started
    outputs = list(compiled.run(inputs).values())
    times = []
    for _ in range(20):
        started = time.perf_counter()
        compiled.run(inputs)
        times.append(time.perf_counter() - started)
    passed = all(a.dtype == e.dtype and np.allclose(a, e, rtol=rtol, atol=atol) for a, e in zip(outputs, expected, strict=True))
    error = max(float(np.abs(a - e).max()) for a, e in zip(outputs, expected, strict=True))
    print(f"{name}: compiled in {compile_seconds:.2f} s, runs in {median(times) * 1e3:.2f} ms,", end=" ")
    print(f"largest error {error:.2g}: {'ok' if passed else 'WRONG'}")
    return passed


def run_onnxruntime(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, inputs)]


def main() -> int:
    """Run the demo; exit code 1 if an output is wrong."""
    resnet = light_models()["resnet50"]
    image, expected = official_case(resnet)
    passed = show("ResNet-50, official weights", str(resnet), image, expected, rtol=1e-3, atol=1e-7)
    random_resnet = seeded_model(resnet)
    passed &= show("ResNet-50, random weights", random_resnet, image, run_onnxruntime(random_resnet, image), rtol=1e-3, atol=1e-3)
    bert = build(Size(layers=4))
    inputs = sample_inputs()
    expected = [np.asarray(output) for output in ReferenceEvaluator(bert).run(None, inputs)]
    passed &= show("BERT encoder, 4 layers", bert, inputs, expected, rtol=1e-3, atol=1e-4)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
