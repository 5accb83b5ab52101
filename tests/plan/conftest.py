"""Runs models in ONNX text through the whole pipeline: interpreted as a program, and as machine code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from onnx import parser

from onnxc.compiler.program.interpret import run_program
from onnxc.compiler.program.nodes import Program
from onnxc.compiler.target import Target, load_target

from ..lowered import program_of

HEADER = '<ir_version: 10, opset_import: ["" : 18]> '
Arrays = Mapping[str, np.ndarray]


class Model:
    """A model in ONNX text, compiled for this machine."""

    def __init__(self, text: str) -> None:
        self.target: Target = load_target("cpu")
        self.program: Program = program_of(parser.parse_model(HEADER + text), self.target)
        self._runner = self.target.pipeline.emit(self.program).runner(1)

    def interpreted(self, inputs: Arrays) -> list[np.ndarray]:
        """The outputs that the program interpreter finds."""
        return list(run_program(self.program, inputs).values())

    def native(self, inputs: Arrays) -> list[np.ndarray]:
        """The outputs of the machine code."""
        return list(self._runner.run(inputs).values())

    def check(self, inputs: Arrays, *expected: object) -> None:
        """Both ways must give what is expected, with the same shapes."""
        for results in (self.interpreted(inputs), self.native(inputs)):
            assert len(results) == len(expected)
            for found, wanted in zip(results, expected, strict=True):
                np.testing.assert_allclose(found, np.asarray(wanted), rtol=1e-6)
                assert found.shape == np.shape(wanted)


@pytest.fixture
def model() -> Callable[[str], Model]:
    """Compile a model in ONNX text."""
    return Model
