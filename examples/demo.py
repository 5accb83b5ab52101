"""What `make demo` runs: two models compiled for this CPU, run, compared with a reference, and timed.

ResNet-50 comes with the onnx package, with its official input and output; the BERT encoder is built here with seeded weights
and compared with ONNX's reference evaluator.
"""

from __future__ import annotations

import sys
import time
from statistics import median

import numpy as np
from bert_encoder import Size, build, sample_inputs
from light_models import light_models, official_case
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


def main() -> int:
    """Run the demo; exit code 1 if an output is wrong."""
    resnet = light_models()["resnet50"]
    passed = show("ResNet-50 [1, 3, 224, 224]", str(resnet), *official_case(resnet), rtol=1e-3, atol=1e-7)
    bert = build(Size(layers=4))
    inputs = sample_inputs()
    expected = [np.asarray(output) for output in ReferenceEvaluator(bert).run(None, inputs)]
    passed &= show("BERT encoder, 4 layers [1, 128]", bert, inputs, expected, rtol=1e-3, atol=1e-4)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
