"""The com.microsoft forms of movement operators against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx.parser import parse_model

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph


@pytest.mark.parametrize(
    ("call", "outputs", "operand"),
    [
        ("ExpandDims(x, k)", "float[a, b, c] y", np.array([-1], np.int32)),
        ("Pad(x, k)", "float[a, b] y", np.array([1, 0, 2, 1])),
        ("Pad<mode='edge'>(x, k)".replace("'", '"'), "float[a, b] y", np.array([1, 0, 2, 1])),
        ("Trilu(x, k)", "float[a, b] y", np.array(1)),
    ],
)
def test_same_as_onnx_runtime(rng, call, outputs, operand):
    compare(call, "y", outputs, {"x": rng.standard_normal((3, 4)).astype(np.float32), "k": operand})


def test_unique(rng):
    feeds = {"x": rng.integers(0, 4, 9).astype(np.float32)}
    compare("Unique(x)", "y, at, count", "float[a] y, int64[b] at, int64[c] count", feeds)


def compare(call, names, outputs, feeds):
    kinds = {"float32": "float", "int32": "int32", "int64": "int64"}
    inputs = ", ".join(f"{kinds[str(v.dtype)]}[{','.join(map(str, v.shape))}] {k}" for k, v in feeds.items())
    inputs = inputs.replace("[] ", " ")
    text = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g ({inputs}) => ({outputs}) {{
        {names} = com.microsoft.{call}
    }}"""
    model = parse_model(text).SerializeToString()
    expected = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
    found = run_graph(load_graph(model), feeds)
    for result, wanted in zip(found.values(), expected, strict=True):
        assert result.dtype == wanted.dtype
        np.testing.assert_array_equal(result, wanted)
