"""Operators of object detection: suppression of boxes and pooling of regions."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx.parser import parse_model

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph


def compare(text, feeds, rtol=2e-6):
    model = parse_model(text).SerializeToString()
    expected = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
    found = run_graph(load_graph(model), feeds)
    for result, wanted in zip(found.values(), expected, strict=True):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=rtol, atol=1e-6)


def boxes_of(rng, batches, count, centered):
    first = rng.uniform(0, 8, (batches, count, 2))
    second = rng.uniform(1, 5, (batches, count, 2))
    return np.concatenate([first, second if centered else first + second], axis=2).astype(np.float32)


@pytest.mark.parametrize("centered", [0, 1])
@pytest.mark.parametrize("limit", [0, 2, 100])
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_suppression(rng, centered, limit, threshold):
    text = f"""<ir_version: 8, opset_import: ["" : 13]> g
        (float[2, 20, 4] boxes, float[2, 3, 20] scores, int64[1] limit, float[1] overlap, float[1] threshold) => (int64[n, 3] y) {{
        y = NonMaxSuppression<center_point_box={centered}>(boxes, scores, limit, overlap, threshold)
    }}"""
    feeds = {
        "boxes": boxes_of(rng, 2, 20, centered),
        "scores": rng.uniform(0, 1, (2, 3, 20)).astype(np.float32),
        "limit": np.array([limit]),
        "overlap": np.array([0.3], np.float32),
        "threshold": np.array([threshold], np.float32),
    }
    compare(text, feeds)


def test_corners_in_any_order_are_the_same_box(rng):
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[1, 12, 4] boxes, float[1, 1, 12] scores) => (int64[n, 3] y) {
        limit = Constant<value_ints=[9]>()
        overlap = Constant<value_floats=[0.2]>()
        y = NonMaxSuppression(boxes, scores, limit, overlap)
    }"""
    boxes = boxes_of(rng, 1, 12, centered=False)
    boxes[0, ::2] = boxes[0, ::2][:, [2, 3, 0, 1]]
    compare(text, {"boxes": boxes, "scores": rng.uniform(0, 1, (1, 1, 12)).astype(np.float32)})


def regions(rng, count, columns):
    corners = np.sort(rng.uniform(-2, 22, (count, 2, 2)), axis=1).reshape(count, 4)
    return np.concatenate([rng.integers(0, 2, (count, 1)), corners], axis=1)[:, 5 - columns :].astype(np.float32)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
def test_roi_align(check, rng, mode, ratio, coordinates):
    x = rng.uniform(0, 1, (2, 3, 9, 11)).astype(np.float32)
    attrs = {"mode": mode, "sampling_ratio": ratio, "coordinate_transformation_mode": coordinates}
    attrs |= {"output_height": 3, "output_width": 2, "spatial_scale": 0.5}
    check("RoiAlign", [x, regions(rng, 5, 4), rng.integers(0, 2, 5)], attrs, rtol=1e-5)


def test_roi_align_of_older_opsets(rng):
    text = """<ir_version: 8, opset_import: ["" : 10]> g (float[2, 3, 9, 11] x, float[4, 4] r, int64[4] b) => (float[4, 3, 2, 2] y) {
        y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, r, b)
    }"""
    x = rng.uniform(0, 1, (2, 3, 9, 11)).astype(np.float32)
    compare(text, {"x": x, "r": regions(rng, 4, 4) / 2, "b": rng.integers(0, 2, 4)}, rtol=1e-5)


def test_max_roi_pool(rng):
    text = """<ir_version: 8, opset_import: ["" : 13]> g (float[2, 3, 9, 11] x, float[5, 5] r) => (float[5, 3, 3, 4] y) {
        y = MaxRoiPool<pooled_shape=[3, 4], spatial_scale=0.5>(x, r)
    }"""
    compare(text, {"x": rng.standard_normal((2, 3, 9, 11)).astype(np.float32), "r": np.abs(regions(rng, 5, 5))})
