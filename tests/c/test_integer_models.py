"""Models with integer contractions as C: the fast rows are chosen, also for extents that a run decides."""

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import onnxc

MODELS = {
    "matmul": (
        """<ir_version: 8, opset_import: ["" : 17]>
        integers (int8[N,20] x) => (int32[N,7] y) { y = MatMulInteger(x, w) }""",
        {"w": (20, 7)},
        (5, 20),
    ),
    "convolution": (
        """<ir_version: 8, opset_import: ["" : 17]>
        integers (int8[N,4,6,5] x) => (int32[N,3,6,5] y) { y = ConvInteger<pads=[1,1,1,1]>(x, w) }""",
        {"w": (3, 4, 3, 3)},
        (3, 4, 6, 5),
    ),
    "strides": (
        """<ir_version: 8, opset_import: ["" : 17]>
        integers (uint8[1,5,9,8] x) => (int32[1,6,5,4] y) { y = ConvInteger<pads=[1,1,1,1], strides=[2,2]>(x, w) }""",
        {"w": (6, 5, 3, 3)},
        (1, 5, 9, 8),
    ),
    "zero point of a run": (
        """<ir_version: 8, opset_import: ["" : 17]>
        integers (uint8[1,4,6,5] x, uint8 z) => (int32[1,3,6,5] y) { y = ConvInteger<pads=[1,1,1,1]>(x, w, z) }""",
        {"w": (3, 4, 3, 3)},
        (1, 4, 6, 5),
    ),
    "stack of matrices": (
        """<ir_version: 8, opset_import: ["" : 17]>
        integers (uint8[2,N,12] x) => (int32[2,N,4] y) { y = MatMulInteger(x, w) }""",
        {"w": (12, 4)},
        (2, 3, 12),
    ),
}


def build(name: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    text, weights, shape = MODELS[name]
    model, rng = parser.parse_model(text), np.random.default_rng(3)
    for key, extents in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.integers(-128, 128, extents).astype(np.int8), key))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    limits = np.iinfo(dtype)
    inputs = {"x": rng.integers(limits.min, limits.max + 1, shape).astype(dtype)}
    return model, inputs | ({"z": np.array(131, dtype)} if len(model.graph.input) > 1 else {})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["c", "c:cortex-m55"])
def test_integer_contractions(name: str, target: str) -> None:
    model, inputs = build(name)
    compiled = onnxc.compile(model, target=target)
    (found,) = compiled.run(inputs).values()
    (wanted,) = ReferenceEvaluator(model).run(None, inputs)
    np.testing.assert_array_equal(found, wanted)
    source = next(data for file, data in compiled.artifact.files().items() if file.endswith(".c"))
    assert b"onnxc_dot_" in source
