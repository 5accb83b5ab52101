"""Layers of codes take few instructions beside their products: bounds, so that no layer falls back to element by element."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.backends.c.emulator.boards import ARM
from onnxc.compiler import cli

from .test_emulator import needs

MODEL = """<ir_version: 10, opset_import: ["" : 21]>
layers (int8[1,16,16,16] x) => (float[1,16,7,7] y) {
    d = DequantizeLinear(x, s, zx)
    v = DequantizeLinear(w, ws, zw)
    c = Conv(d, v)
    q = QuantizeLinear(c, s, z)
    e = DequantizeLinear(q, s, z)
    l = LeakyRelu<alpha=0.1>(e)
    a = QuantizeLinear(l, t, z)
    b = DequantizeLinear(a, t, z)
    p = AveragePool<kernel_shape=[2,2]>(b)
    m = QuantizeLinear(p, t, z)
    n = DequantizeLinear(m, t, z)
    k = DequantizeLinear(f, ws, zw)
    o = Conv<kernel_shape=[3,3], strides=[2,2]>(n, k)
    r = QuantizeLinear(o, s, z)
    y = DequantizeLinear(r, s, z) }"""
BOUNDS = {"conv": (1.0, 2.9), "means": (14.0, 36.0)}
"""Instructions for a product of the first convolution and for an element of the pool, on the Cortex-M55 and on the Cortex-M4."""


@pytest.mark.parametrize(("column", "processor"), [(0, "cortex-m55"), (1, "cortex-m4")])
def test_unsigned_codes_with_functions_and_windows(column: int, processor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs(ARM)
    model, rng = parser.parse_model(MODEL), np.random.default_rng(3)
    scales = {"s": np.float32(0.0317), "t": np.float32(0.0271), "ws": np.float32(0.00123)}
    constants = scales | {"z": np.uint8(121), "zx": np.int8(3), "zw": np.int8(0)}
    constants |= {n: rng.integers(-127, 128, (16, 16, k, k)).astype(np.int8) for n, k in (("w", 1), ("f", 3))}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())
    onnx.save(model, path := tmp_path / "layers.onnx")
    assert cli.run(["verify", str(path), "-t", f"c:{processor},whole-layers", "--on", "qemu", "--json"]) == cli.OK
    found = json.loads(capsys.readouterr().out)
    assert found["match"] is True
    layers = {layer["nodes"][-1]: layer["instructions"] for layer in found["instructions"]["layers"]}
    assert layers["a"] < BOUNDS["conv"][column] * 16 * 16 * 16 * 16
    assert layers["m"] < BOUNDS["means"][column] * 16 * 15 * 15
