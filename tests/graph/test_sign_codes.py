"""Codes between operators get a sign where all that makes and reads them can have one."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.interpret import run_graph
from onnxc.passes.graph.sign_codes import sign_codes

from ..fusion.quantized_models import graph_of

PARAMETERS = {
    "s": np.float32(0.05), "z": np.uint8(131), "t": np.float32(0.02), "u": np.uint8(7),
    "w": np.arange(-36, 36).reshape(4, 2, 3, 3).astype(np.int8), "ws": np.float32(0.01), "wz": np.int8(0),
}  # fmt: skip
HEAD = "g (float[1,2,6,6] x) => "
LAYERS = """q = QuantizeLinear(x, s, z)
    m = MaxPool<kernel_shape=[2,2]>(q)
    d = DequantizeLinear(m, s, z)
    v = DequantizeLinear(w, ws, wz)
    c = Conv<pads=[1,1,1,1]>(d, v)
    a = QuantizeLinear(c, t, u)
    b = DequantizeLinear(a, t, u)
    h = QuantizeLinear(b, s, z)
    i = Concat<axis=1>(h, m)
    y = DequantizeLinear(i, s, z)"""
BETWEEN = f"{HEAD} (float[1,6,5,5] y) {{ {LAYERS} }}"


def unsigned(body: str) -> set[str]:
    graph = sign_codes(graph_of(body, PARAMETERS, passes=False))
    return {v.name for node in graph.nodes for v in node.outputs if v is not None and v.type.dtype is DType.UINT8}


def test_codes_between_operators() -> None:
    assert unsigned(BETWEEN) == set()


def test_results_stay_as_they_are() -> None:
    graph = graph_of(BETWEEN, PARAMETERS, passes=False)
    x = np.random.default_rng(0).uniform(-9, 9, (1, 2, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run_graph(sign_codes(graph), {"x": x})["y"], run_graph(graph, {"x": x})["y"])


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (BETWEEN.replace("5] y)", "5] y, uint8[1,4,5,5] a)"), {"a"}),
        (BETWEEN.replace("5] y)", "5] y, uint8[1,6,5,5] i)"), {"q", "m", "h", "i"}),
        (BETWEEN.replace("x) =>", "x, uint8 r) =>").replace("b = DequantizeLinear(a, t, u)", "b = DequantizeLinear(a, t, r)"), {"a"}),
        (BETWEEN.replace("b = DequantizeLinear(a, t, u)", "e = Cast<to=1>(a)\n b = Mul(e, t)"), {"a"}),
    ],
    ids=["an output", "joined in an output", "a zero point of a run", "read as a number"],
)
def test_what_others_see_has_no_sign(body: str, kept: set[str]) -> None:
    assert unsigned(body) == kept
