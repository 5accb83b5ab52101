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


def test_squeeze_of_all_axes_refuses_an_extent_that_turns_out_to_be_1() -> None:
    model = onnxc.compile(
        parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[n,2] x) => (float[m] y) { y = Squeeze(x) }')
    )
    assert model.run({"x": np.ones((3, 2), np.float32)})["y"].shape == (3, 2)
    with pytest.raises(onnxc.CompileError, match="name the axes"):
        model.run({"x": np.ones((1, 2), np.float32)})


def test_a_slope_goes_with_an_input_without_elements() -> None:
    model = onnxc.compile(
        parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[n,m] x, float[k] s) => (float[n,m] y) { y = PRelu(x, s) }')
    )
    assert model(np.ones((2, 0), np.float32), np.ones(1, np.float32)).shape == (2, 0)
    with pytest.raises(onnxc.CompileError, match="the slope does not broadcast"):
        model(np.ones((2, 1), np.float32), np.ones(3, np.float32))
