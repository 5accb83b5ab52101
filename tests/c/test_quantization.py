"""Where the scales of inputs and outputs are found, and where they must not be."""

import pytest
from onnx import parser

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.program.quantization import find_quantization

CONSTANTS = (
    "<float s = {0.5}, float t = {0.25}, int8 z = {3}, int8 o = {0}, uint8 u = {128}, int64[1] a = {0},"
    " int8[4,4] w = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, float[4] v = {1, 2, 3, 4}, int8[4] vz = {0, 0, 0, 0}>"
)


def found(types: str, body: str) -> dict[str, tuple[float, int]]:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {types} {CONSTANTS} {{ {body} }}')
    quants = find_quantization(load_graph(model))
    return {name: (quant.scale[0], quant.zero_point[0]) for name, quant in quants.items()}


@pytest.mark.parametrize(
    ("types", "body", "expected"),
    [
        ("(int8[1,4] x) => (float[1,4] y)", "y = DequantizeLinear(x, s, z)", {"x": (0.5, 3)}),
        ("(int8[1,4] x) => (float[1,4] y)", "y = DequantizeLinear(x, s)", {"x": (0.5, 0)}),
        ("(float[1,4] x) => (uint8[1,4] y)", "y = QuantizeLinear(x, t, u)", {"y": (0.25, 128)}),
        ("(float[1,4] x) => (uint8[1,4] y)", "y = QuantizeLinear(x, t)", {"y": (0.25, 0)}),
        ("(int8[4,4] x) => (int8[4,4] y)", "y = QLinearMatMul(x, s, z, w, t, o, t, o)", {"x": (0.5, 3), "y": (0.25, 0)}),
        ("(int8[4,4] x) => (int8[4,4] y)", "y = QLinearMatMul(w, t, o, x, s, z, t, o)", {"x": (0.5, 3), "y": (0.25, 0)}),
        ("(int8[1,4] x) => (float[4,1] y)", "k = Transpose(x) l = Identity(k) y = DequantizeLinear(l, s, z)", {"x": (0.5, 3)}),
        ("(float[1,4] x) => (int8[1,1,4] y)", "q = QuantizeLinear(x, s, z) y = Unsqueeze(q, a)", {"y": (0.5, 3)}),
        ("(int8[1,4] x) => (float[1,4] y, float[1,4] k)", "y = DequantizeLinear(x, s, z) k = DequantizeLinear(x, s, z)", {"x": (0.5, 3)}),
        ("(int8[4] x) => (int8[4] y)", "y = Identity(x)", {}),
    ],
)
def test_scales_that_the_model_states(types: str, body: str, expected: dict[str, tuple[float, int]]) -> None:
    assert found(types, body) == expected


@pytest.mark.parametrize(
    ("types", "body"),
    [
        ("(int8[1,4] x) => (float[1,4] y, float[1,4] k)", "y = DequantizeLinear(x, s, z) k = DequantizeLinear(x, t, z)"),
        ("(int8[1,4] x) => (float[1,4] y)", "y = DequantizeLinear<axis=1>(x, v, vz)"),
        ("(int8[1,4] x, float r) => (float[1,4] y)", "y = DequantizeLinear(x, r, z)"),
        ("(int8[1,4] x) => (int8[1,4] y)", "y = Add(x, x)"),
        ("(int8[1,4] x) => (int8[4] y)", "k = Gather(w, a) m = Add(x, k) y = Squeeze(m)"),
    ],
)
def test_scales_that_are_several_or_none(types: str, body: str) -> None:
    assert found(types, body) == {}
