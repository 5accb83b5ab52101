"""Models of opsets before 7: operands that broadcast from an axis, and slopes by channel."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph


def model(text: str, opset: int) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 3, opset_import: ["" : {opset}]> {text}')


def test_the_second_operand_starts_at_its_axis() -> None:
    """Opset 6: `axis` and `broadcast` are attributes."""
    old = model("g (float[2, 3, 4] x, float[3] b) => (float[2, 3, 4] y) { y = Add<axis = 1, broadcast = 1>(x, b) }", 6)
    x, b = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array([10, 20, 30], np.float32)
    np.testing.assert_array_equal(run_graph(load_graph(old), {"x": x, "b": b})["y"], x + b[:, None])


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 3)])
def test_prelu_slopes_belong_to_channels(shape: tuple[int, ...]) -> None:
    """The slope of opset 6 lies on axis 1, also where it would fit on the last axis."""
    text = f"g (float[{', '.join(map(str, shape))}] x, float[3] s) => (float[{', '.join(map(str, shape))}] y) {{ y = PRelu(x, s) }}"
    x, s = -np.ones(shape, np.float32), np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(run_graph(load_graph(model(text, 6)), {"x": x, "s": s})["y"], x * s[:, None])


def test_newer_models_are_not_touched() -> None:
    """From opset 7 on a slope broadcasts from the right."""
    x, s = -np.ones((2, 3, 3), np.float32), np.array([1, 2, 3], np.float32)
    graph = load_graph(model("g (float[2, 3, 3] x, float[3] s) => (float[2, 3, 3] y) { y = PRelu(x, s) }", 7))
    np.testing.assert_array_equal(run_graph(graph, {"x": x, "s": s})["y"], x * s)


def test_what_cannot_be_converted_is_an_error_of_the_model() -> None:
    """The converter does not know operators that never existed."""
    with pytest.raises(CompileError) as caught:
        load_graph(model("g (float[2] x) => (float[2] y) { y = Frobnicate(x) }", 6))
    assert caught.value.diagnostics[0].code in ("E0105", "E0201")
