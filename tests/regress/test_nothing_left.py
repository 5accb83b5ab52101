"""Convolutions of which nothing comes out, and extents that turn out to be 1 while running."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

import onnxc


@pytest.mark.parametrize("target", ["cpu", "c"])
@pytest.mark.parametrize(("shape", "expected"), [((1, 8, 2, 4), (1, 8, 0, 2)), ((2, 2, 2, 2), (2, 8, 0, 0)), ((0, 8, 6, 6), (0, 8, 4, 4))])
def test_convolutions_without_outputs(shape: tuple[int, ...], expected: tuple[int, ...], target: str) -> None:
    ends = [",".join(map(str, extents)) for extents in (shape, expected)]
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{ends[0]}] x) => (float[{ends[1]}] y) {{ y = Conv(x, w) }}'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, shape[1], 3, 3), np.float32), "w"))
    assert onnxc.compile(model, target, cache=False).run({"x": np.ones(shape, np.float32)})["y"].shape == expected


def test_squeeze_of_all_axes_with_two_unknown_extents_asks_for_the_first_one() -> None:
    model = onnxc.compile(
        parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[n,m,2] x) => (float[k] y) { y = Squeeze(x) }')
    )
    for shape, expected in (((3, 4, 2), (3, 4, 2)), ((1, 4, 2), (4, 2))):
        assert model.run({"x": np.ones(shape, np.float32)})["y"].shape == expected
    with pytest.raises(onnxc.CompileError, match="name the axes"):
        model.run({"x": np.ones((3, 1, 2), np.float32)})


def test_a_slope_goes_with_an_input_without_elements() -> None:
    model = onnxc.compile(
        parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[n,m] x, float[k] s) => (float[n,m] y) { y = PRelu(x, s) }')
    )
    assert model(np.ones((2, 0), np.float32), np.ones(1, np.float32)).shape == (2, 0)
    with pytest.raises(onnxc.CompileError, match="the slope does not broadcast"):
        model(np.ones((2, 1), np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize("name", ["i0", "k1", "p.1", "t.3", "shift0", "shift1", "extent0", "acc", "s0"])
def test_dimensions_may_be_called_as_the_indices_of_loops_are(name: str) -> None:
    text = "g (float[N,A,B] x) => (float[N,C,B] y) { a = Relu(x) b = Neg(x) y = Concat<axis=1>(a, b) }"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = name
    x = np.linspace(-1, 1, 30, dtype=np.float32).reshape(2, 3, 5)
    expected = np.concatenate([np.maximum(x, 0), -x], axis=1)
    for bind in ({}, {name: 3}):
        np.testing.assert_array_equal(onnxc.compile(model, cache=False, bind=bind).run({"x": x})["y"], expected)
