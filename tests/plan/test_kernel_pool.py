"""Each distinct kernel stands once in a program."""

from __future__ import annotations

import onnx

from onnxc.compiler.pipeline import Options, make_graph, make_program
from onnxc.compiler.program.nodes import Call, walk_steps
from onnxc.compiler.target import load_target

TEXT = """<ir_version: 9, opset_import: ["": 17]>
g (float[7] a, float[7] b, float[7] c, float[9] d) => (float[3] p, float[3] q, float[3] r, float[3] s) {
  k = Constant<value = int64[1] {3}>()
  p, i = TopK(a, k) q, j = TopK(b, k) r, l = TopK<largest = 0>(c, k) s, m = TopK(d, k)
}"""


def test_operators_that_are_loops_of_their_own_share_a_kernel() -> None:
    """Two searches of the same kind among as many elements; not one for the smallest, nor one among more."""
    target = load_target("cpu")
    program = make_program(make_graph(onnx.parser.parse_model(TEXT), target, Options(), {}), target, {})
    calls = [step.kernel for step in walk_steps(program.steps) if isinstance(step, Call)]
    assert len(calls) == 4
    assert set(calls) == set(program.kernels)
    assert len(program.kernels) == 3
