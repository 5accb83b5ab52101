"""Extents that are computed from those of the inputs are arguments of kernels."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper, parser

import onnxc

from ..lowered import program_of

HALVES = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,8,H,W] x) => (float[N,8,P,Q] y) {
  a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
  b = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a, w)
  c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(b, w)
  d = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(c, w)
  y = ReduceMean<axes = [2, 3]>(d) }"""


def test_layers_that_differ_in_computed_extents_share_a_kernel() -> None:
    model = parser.parse_model(HALVES)
    weights = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    program = program_of(model, "cpu:x86-64-v3")
    assert sum(kernel.schedule.startswith("contract") for kernel in program.kernels.values()) == 3  # neither the first nor the last
    fixed, open_ = (onnxc.compile(model, bind=bind, cache=False) for bind in ({"N": 2, "H": 21, "W": 14}, {}))
    x = np.random.default_rng(1).standard_normal((2, 8, 21, 14)).astype(np.float32)
    np.testing.assert_allclose(open_.run({"x": x})["y"], fixed.run({"x": x})["y"], rtol=1e-5)
