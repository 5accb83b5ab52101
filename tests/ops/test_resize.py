"""Resize against the reference evaluator: every mode, coordinate rule and way to give the size."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model

import onnxc
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.kernel.nodes import Read
from onnxc.compiler.kernel.traverse import walk
from onnxc.compiler.ops.table import Nests, context, lookup

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric", "pytorch_half_pixel")


def scales(*values):
    return np.array([1, 1, *values], np.float32)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [(2, 3), (0.5, 0.75), (1.3, 0.6)])
def test_scales(check, rng, mode, coordinates, scale):
    x = rng.standard_normal((1, 2, 4, 6)).astype(np.float32)
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check("Resize", [x, None, scales(*scale)], attrs, constants=[2], rtol=2e-5)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
def test_sizes(check, rng, mode, coordinates, known):
    x = rng.standard_normal((1, 2, 5, 6)).astype(np.float32)
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates, "axes": [2, 3]}
    check("Resize", [x, None, None, np.array([7, 4])], attrs, constants=[3] if known else [], rtol=2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_scales_known_only_at_run_time(check, rng, mode):
    check("Resize", [rng.standard_normal((1, 1, 4, 5)).astype(np.float32), None, scales(1.5, 2)], {"mode": mode}, rtol=2e-5)


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scale", [2.0, 0.5, 1.75, 3.0])
def test_rounding(check, coordinates, rounding, scale):
    x = np.arange(10, dtype=np.float32)
    attrs = {"nearest_mode": rounding, "coordinate_transformation_mode": coordinates}
    check("Resize", [x, None, np.array([scale], np.float32)], attrs, constants=[2])


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scale", [(0.6, 0.4), (0.5, 2.0)])
@pytest.mark.parametrize("outside", [0, 1])
@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
def test_antialiasing(check, rng, mode, scale, outside, known):
    x = rng.standard_normal((1, 1, 9, 8)).astype(np.float32)
    attrs = {"mode": mode, "antialias": 1, "exclude_outside": outside}
    check("Resize", [x, None, scales(*scale)], attrs, constants=[2] if known else [], rtol=2e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_antialiasing_to_sizes_known_only_at_run_time(check, rng, mode, coordinates):
    x = rng.integers(-100, 100, (1, 1, 9, 8)).astype(np.int8) if coordinates == "asymmetric" else rng.random((1, 1, 9, 8))
    attrs = {"mode": mode, "antialias": 1, "coordinate_transformation_mode": coordinates}
    check("Resize", [x, None, None, np.array([1, 1, 5, 3])], attrs, rtol=2e-5)


@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
def test_antialiasing_a_crop(check, known):
    x, roi = np.arange(6, dtype=np.float32).reshape(1, 1, 1, 6), np.array([0, 0, 0, -0.2, 1, 1, 1, 0.6], np.float32)
    attrs = {"mode": "linear", "antialias": 1, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    expected = np.array([[[[9, 1, 3]]]], np.float32)
    check("Resize", [x, roi, None, np.array([1, 1, 1, 3])], attrs, constants=[3] if known else [], expected=[expected])


def test_cubic_without_outside(check, rng):
    x = rng.standard_normal((1, 1, 4, 4)).astype(np.float32)
    attrs = {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}
    check("Resize", [x, None, scales(0.8, 2)], attrs, constants=[2], rtol=2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_crop(check, rng, mode):
    x = rng.standard_normal((1, 1, 6, 6)).astype(np.float32)
    roi = np.array([0.1, -0.3, 0.8, 1.2], np.float32)
    attrs = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "axes": [2, 3], "extrapolation_value": 9.0}
    check("Resize", [x, roi, None, np.array([3, 5])], attrs, constants=[3], rtol=2e-5)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
def test_aspect_ratio(check, rng, policy, known):
    x = rng.standard_normal((1, 1, 4, 6)).astype(np.float32)
    attrs = {"keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    check("Resize", [x, None, None, np.array([7, 8])], attrs, constants=[3] if known else [])


def test_upsample(check, rng):
    x = rng.standard_normal((1, 2, 3, 2)).astype(np.float32)
    expected = x.repeat(2, axis=2).repeat(3, axis=3)
    check("Upsample", [x], {"scales": [1.0, 1.0, 2.0, 3.0]}, opset=7, expected=[expected])
    check("Upsample", [x, scales(2, 3)], opset=9, constants=[1], expected=[expected])
    check("Resize", [x, scales(2, 3)], opset=10, constants=[1], expected=[expected])


def test_small_integers_are_rounded_and_saturated(check):
    x = np.array([0, 255, 0, 255], np.uint8)
    for mode in ("linear", "cubic"):
        check("Resize", [x, None, np.array([2], np.float32)], {"mode": mode}, constants=[2])


def test_a_decimal_scale_is_the_fraction_that_it_stands_for(check):
    x = np.arange(10, dtype=np.float32)
    attrs = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    expected = x[np.arange(16) * 5 // 8]
    check("Resize", [x, None, np.array([1.6], np.float32)], attrs, constants=[2], expected=[expected])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_symbolic_extents(rng, mode):
    text = f"""<ir_version: 8, opset_import: ["" : 19]> g (float[n, 1, h, w] x) => (y) {{
        scales = Constant<value_floats=[1.0, 1.0, 2.0, 2.0]>()
        y = Resize<mode="{mode}", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , scales)
    }}"""
    graph = load_graph(parse_model(text).SerializeToString())
    x = rng.standard_normal((2, 1, 3, 4)).astype(np.float32)
    found = run_graph(graph, {"x": x})["y"]
    assert found.shape == (2, 1, 6, 8)
    np.testing.assert_allclose(found[:, :, ::2, ::2], x)


def test_doubling_is_a_division_of_the_index():
    text = """<ir_version: 8, opset_import: ["" : 19]> g (float[1, 1, 4, 4] x) => (y) {
        scales = Constant<value_floats=[1.0, 1.0, 2.0, 2.0]>()
        y = Resize(x, , scales)
    }"""
    graph = load_graph(parse_model(text).SerializeToString())
    node = next(n for n in graph.nodes if n.op == "Resize")
    row = lookup("onnxc::Resample")
    assert row is not None
    assert isinstance(row.define, Nests)
    (nest,) = row.define.build(context(node, GraphFacts.of(graph)))
    assert nest is not None
    assert isinstance(nest.body, Read)
    assert not any(e.dtype.is_float for index in nest.body.indices for e in walk(index))


@pytest.mark.parametrize("scale", [0.35, 0.7, 1.3])
def test_extents_are_those_of_the_scale_as_stored(scale):
    """0.7 is a little less in float32, so 10 elements become 6, whether or not their number is known."""
    text = '<ir_version: 9, opset_import: ["": 18]> g (float[1, EXTENT] x) => (float[a, b] y) { y = Resize<mode="linear">(x, , s) }'
    found = []
    for extent in ("10", "n"):
        model = parse_model(text.replace("EXTENT", extent))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, scale], np.float32), "s"))
        found.append(onnxc.compile(model, threads=1)(np.zeros((1, 10), np.float32)).shape)
    assert found == [(1, int(np.floor(10 * float(np.float32(scale)))))] * 2
