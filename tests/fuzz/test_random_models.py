"""Random models against ONNX Runtime and the reference evaluator, a small dose of what `make fuzz` runs for hours.

The dose is the same in every run: what is new is found by `make fuzz`, not by whoever changes something else.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from .draft import Noise, Sample
from .oracles import Tally, Targets, find_fault, run_onnxruntime
from .strategy import samples

CASES = sorted((Path(__file__).parent / "cases").glob("*.onnx"))
DOSES = [
    pytest.param({"cpu": (1, 2)}, 50, id="cpu"),
    pytest.param({"c": (1,)}, 8, id="c", marks=pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")),
    pytest.param({"cuda:shim": (1,)}, 2, id="cuda", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")),
]


@pytest.mark.parametrize(("targets", "models"), DOSES)
def test_random_models_compute_what_others_do(targets: Targets, models: int) -> None:
    tally = Tally()

    phases = [Phase.generate, Phase.shrink]

    @settings(max_examples=models, derandomize=True, phases=phases, suppress_health_check=list(HealthCheck), deadline=None)
    @given(samples())
    def check(sample: Sample) -> None:
        assert not find_fault(sample, targets, tally)

    check()
    assert tally.compared > models // 2, tally  # most models are legal, and not refused


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_what_was_found_once_stays_right(path: Path) -> None:
    """Findings of `make fuzz`: a model, and its inputs in a `.npz` file."""
    model = onnx.load(path)
    with np.load(path.with_suffix(".npz")) as data:
        inputs = {name: data[name] for name in data.files}
    names = [value.name for value in model.graph.output]
    sample = Sample(model, inputs, {name: np.empty(0) for name in names}, dict.fromkeys(names, Noise.ROUNDED))
    expected = run_onnxruntime(sample)
    assert isinstance(expected, dict), expected
    assert not find_fault(Sample(model, inputs, expected, sample.noise), {"cpu": (1, 2)}, Tally())
