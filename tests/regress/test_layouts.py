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


def _fix_weight(model: onnx.ModelProto, w: np.ndarray) -> None:
    del model.graph.input[1]
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
