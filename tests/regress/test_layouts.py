"""Tensors in blocks of channels beside tensors in row-major order."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser

import onnxc


def test_a_pool_in_row_major_order_whose_result_goes_into_blocks() -> None:
    """The copy into blocks walks other rows than the pool, so that both are kernels of their own."""
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[1, 16, 11, 11] x, float[64, 16, 3, 3] w) => (float[1, 64, 3, 3] y, float[1, 16, 5, 5] p) {
            n = LRN<size = 5>(x)
            p = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(n)
            y = Conv(p, w)
        }""")
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((1, 16, 11, 11)).astype(np.float32), rng.standard_normal((64, 16, 3, 3)).astype(np.float32)
    _fix_weight(model, w)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})
    found = onnxc.compile(model, threads=1, cache=False)(x)
    for result, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


def _fix_weight(model: onnx.ModelProto, w: np.ndarray, name: str = "w") -> None:
    model.graph.input.remove(next(value for value in model.graph.input if value.name == name))
    model.graph.initializer.append(numpy_helper.from_array(w, name))


def test_what_a_region_uses_is_in_row_major_order() -> None:
    """A convolution may not write blocks of channels where an If reads its result by name."""
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[1, 16, 6, 6] x, float[64, 16, 3, 3] w, bool c) => (float[1, 64, 4, 4] y, float[1, 64, 4, 4] p) {
            a = Conv(x, w)
            p = Relu(a)
            y = If(c) <then_branch = t () => (float[1, 64, 4, 4] s) { s = Neg(a) },
                       else_branch = e () => (float[1, 64, 4, 4] s) { s = Exp(a) }>
        }""")
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((1, 16, 6, 6)).astype(np.float32), rng.standard_normal((64, 16, 3, 3)).astype(np.float32) / 16
    _fix_weight(model, w)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for target in ("cpu", "c"):
        compiled = onnxc.compile(model, target=target, threads=1, cache=False)
        for c in (True, False):
            for result, wanted in zip(compiled(x, np.array(c)), session.run(None, {"x": x, "c": np.array(c)}), strict=True):
                np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


def test_channels_that_are_joined_are_written_in_place() -> None:
    """Pieces of other widths than the whole, one of them copied since it is an input; the whole and a piece are read."""
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[1, 16, 12, 12] x, float[24, 16, 3, 3] w, float[8, 40, 1, 1] v, float[8, 24, 1, 1] u) => (float[1, 16, 12, 12] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            b = Concat<axis = 1>(x, a)
            c = Conv(b, v)
            d = Conv(a, u)
            y = Concat<axis = 1>(d, c)
        }""")
    rng = np.random.default_rng(4)
    shapes = {"w": (24, 16, 3, 3), "v": (8, 40, 1, 1), "u": (8, 24, 1, 1)}
    for name, shape in shapes.items():
        _fix_weight(model, rng.standard_normal(shape).astype(np.float32) / 8, name)
    x = rng.standard_normal((1, 16, 12, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    for target in ("cpu", "c"):
        found = onnxc.compile(model, target=target, threads=1, cache=False)(x)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_dequantized_weights_of_fewer_channels_than_a_block() -> None:
    """They are no computed floats that are packed in each run: codes are summed, and there are none for channels that fill up a block."""
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (uint8[1, 3, 6, 6] x, int8[1, 3, 3, 3] w) => (float[1, 1, 4, 4] y) <float s = {0.5}, uint8 z = {128}, int8 none = {0}> {
            data = DequantizeLinear(x, s, z)
            weights = DequantizeLinear(w, s, none)
            sums = Conv(data, weights)
            y = Softplus(sums)
        }""")
    rng = np.random.default_rng(4)
    x, w = rng.integers(0, 256, (1, 3, 6, 6)).astype(np.uint8), rng.integers(-9, 9, (1, 3, 3, 3)).astype(np.int8)
    _fix_weight(model, w)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(onnxc.compile(model, threads=1, cache=False)(x), expected, rtol=1e-4, atol=1e-4)
