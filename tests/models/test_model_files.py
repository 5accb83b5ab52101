"""Real models with inputs and expected outputs, where there is a folder of them.

`ONNXC_TEST_MODELS` names the folder, else `shared/models` beside the project. Each model is a file
`NAME.onnx` with `NAME.testdata.npz`, whose keys are `in<k>:<input>` and `out<k>:<output>`; a file may hold
several runs, one after another. Without a folder these tests are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import onnxc

FOLDER = Path(os.environ.get("ONNXC_TEST_MODELS", Path(__file__).resolve().parents[3] / "shared" / "models"))
MAX_BYTES = 4 << 20
"""Larger models are left to the benchmarks."""

REFUSED = {
    "microsoft__genai_tiny_gpt2": "the test data's mask does not fit its other inputs, which a check finds",
}
"""Models that are expected to be refused, and why."""
TOLERANCES = {"fp16": (2e-2, 5e-3), "int8": (0.0, 40.0), "qdq": (2e-2, 0.3), "qoperator": (2e-2, 0.3), "dynq": (2e-2, 0.1)}
"""(relative to the largest output, absolute), by a part of the name; (2e-4, 2e-5) for the others."""


def models() -> list[Path]:
    """The model files that are small enough, by name."""
    found = [*FOLDER.glob("*.onnx"), *FOLDER.glob("exported/*.onnx")]
    with_data = (p for p in found if p.with_suffix(".testdata.npz").exists())
    return sorted((p for p in with_data if p.stat().st_size <= MAX_BYTES), key=lambda p: p.stem)


def runs(path: Path) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Inputs and expected outputs by name of each run in a model's data; outputs that are no tensors are not there."""
    data = np.load(path.with_suffix(".testdata.npz"), allow_pickle=False)
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    for key in data.files:
        kind, name = key.split(":", 1)
        if kind.startswith("in") and name in inputs:
            yield inputs, outputs
            inputs, outputs = {}, {}
        if kind.startswith("in"):
            inputs[name] = data[key]
        else:
            outputs[name] = data[key]
    yield inputs, outputs


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no folder of models at {FOLDER.name}")
@pytest.mark.parametrize("path", models(), ids=lambda p: p.stem)
def test_model_computes_what_is_expected(path: Path) -> None:
    if path.stem in REFUSED:
        with pytest.raises(onnxc.CompileError):
            model = onnxc.compile(path, threads=1)
            model.run(next(runs(path))[0])
        return
    model = onnxc.compile(path, threads=1)
    relative, absolute = next((t for part, t in TOLERANCES.items() if part in path.stem), (2e-4, 2e-5))
    for inputs, expected in runs(path):
        outputs = model.run(inputs)
        for name, wanted in expected.items():
            found = outputs[name]
            if wanted.dtype.kind == "U":
                assert found.tolist() == wanted.tolist()
                continue
            assert found.dtype.kind == wanted.dtype.kind  # some references were computed in a wider type
            assert found.shape == wanted.shape
            if wanted.dtype.kind in "fiu" and wanted.size:
                limit = absolute + relative * float(np.abs(wanted.astype(np.float64)).max())
                np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=0, atol=limit)
