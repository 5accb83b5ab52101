"""Random numbers: their distribution, their seed, and that all targets draw the same ones."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxc
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph

COUNT = 8000
SOURCES = {
    "RandomUniform": ({"shape": [COUNT], "low": -1.0, "high": 3.0}, 1.0, 4 / 12**0.5),
    "RandomNormal": ({"shape": [COUNT], "mean": 2.0, "scale": 0.5}, 2.0, 0.5),
    "RandomUniformLike": ({"low": 0.0, "high": 1.0, "dtype": 11}, 0.5, 12**-0.5),
    "RandomNormalLike": ({"dtype": 1}, 0.0, 1.0),
    "Bernoulli": ({"dtype": 1}, 0.25, (0.25 * 0.75) ** 0.5),
}


def model_of(op: str, seed: float | None = 5.0, count: int = COUNT) -> onnx.ModelProto:
    attrs = {**SOURCES[op][0], **({} if seed is None else {"seed": seed})}
    if "shape" in attrs:
        attrs["shape"] = [count]
    inputs = [] if "shape" in attrs else ["x"]
    node = helper.make_node(op, inputs, ["y"], **attrs)
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [count])] if inputs else []
    graph = helper.make_graph([node], "random", given, [helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def feeds(op: str, count: int = COUNT) -> dict[str, np.ndarray]:
    return {} if "shape" in SOURCES[op][0] else {"x": np.full(count, 0.25, np.float32)}


@pytest.mark.parametrize("op", SOURCES)
def test_mean_and_deviation(op):
    _, mean, deviation = SOURCES[op]
    found = onnxc.compile(model_of(op), cache=False).run(feeds(op))["y"].astype(np.float64)
    assert found.shape == (COUNT,)
    assert abs(found.mean() - mean) < 5 * deviation / COUNT**0.5
    assert abs(found.std() - deviation) < 0.03 * deviation
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize("op", SOURCES)
def test_all_targets_draw_the_same(op):
    model, given = model_of(op, count=67), feeds(op, 67)
    expected = run_graph(load_graph(model), given)["y"]
    for target in ("cpu", *(("c",) if shutil.which("gcc") else ())):
        found = onnxc.compile(model, target, cache=False).run(given)["y"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", SOURCES)
def test_a_seed_decides(op):
    given = feeds(op, 64)
    first, same, other = (onnxc.compile(model_of(op, seed, 64), cache=False).run(given)["y"] for seed in (1.0, 1.0, 2.0))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_multinomial_draws_classes_by_their_weights():
    node = helper.make_node("Multinomial", ["x"], ["y"], sample_size=COUNT, seed=3.0)
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])]
    graph = helper.make_graph([node], "random", given, [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    weights = np.array([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2]])
    found = onnxc.compile(model, cache=False)(np.log(weights).astype(np.float32))
    shares = np.stack([(found == k).mean(1) for k in range(3)], 1)
    np.testing.assert_allclose(shares, weights, atol=0.03)
