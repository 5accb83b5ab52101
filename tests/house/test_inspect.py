"""`onnxc inspect --target`: what becomes of each node."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxc.compiler import cli
from onnxc.compiler.pipeline import Options
from onnxc.compiler.report.placement import Place, Placement, place_nodes
from onnxc.compiler.target import load_target

MODEL = """<ir_version: 10, opset_import: ["" : 21]>
g (float[n, 8] x, bool c) => (float[n, 2, 4] y, float[n, 8] z) <int64[3] shape = {0, 2, 4}, float zero = {0}> {
    product = MatMul(x, w)
    same = Identity(product)
    nothing = Add(same, zero)
    bent = Relu(nothing)
    y = Reshape(bent, shape)
    z = If(c) <then_branch = t () => (float[n, 8] a) { a = Neg(bent) }, else_branch = e () => (float[n, 8] b) { b = Exp(bent) }>
}"""


@pytest.fixture
def model():
    found = parser.parse_model(MODEL)
    found.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "w"))
    return found


def placed(model: onnx.ModelProto, target: str) -> dict[str, Placement]:
    return {node.node: node for node in place_nodes(model, load_target(target), Options()).nodes}


@pytest.mark.parametrize("target", ["cpu", "c", "cuda"])
def test_every_node_has_its_place(model, target):
    nodes = placed(model, target)
    assert list(nodes)[:6] == ["product", "same", "nothing", "bent", "y", "z"]  # in the order of the model
    assert nodes["product"].place is Place.KERNEL
    assert nodes["product"].schedule
    assert nodes["bent"].kernels == nodes["product"].kernels  # fused
    assert "product" in nodes["bent"].group
    assert nodes["same"].place is nodes["nothing"].place is Place.NOWHERE
    assert nodes["same"].reason == "not needed after simplify"
    assert nodes["y"].place in (Place.NOWHERE, Place.KERNEL)  # a view, but an output of its own
    assert nodes["z"].place is Place.CONTROL
    assert nodes["a"].place is nodes["b"].place is Place.KERNEL  # of the branches


def test_what_stops_a_compile_stands_at_its_nodes(model):
    model.graph.node[3].op_type = "NoSuchOperator"
    model.graph.node[2].op_type = "NorThis"
    found = place_nodes(model, load_target("cpu"), Options())
    nodes = {node.node: node for node in found.nodes}
    assert [problem.code for problem in found.problems] == ["E0201", "E0201"]
    assert nodes["bent"].place is nodes["nothing"].place is Place.UNSUPPORTED
    assert nodes["bent"].reason.startswith("E0201: the operator NoSuchOperator is not known")
    assert nodes["product"].place is Place.UNKNOWN


def test_a_target_that_refuses_a_node_says_where():
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[n] x) => (int64[1, m] y) { a = Relu(x) y = NonZero(a) }'
    found = place_nodes(parser.parse_model(text), load_target("c"), Options())
    assert found.problems
    assert {node.node: node.place for node in found.nodes}["a"] is not Place.KERNEL


def test_the_command_prints_a_table_and_json(model, tmp_path, capsys):
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert cli.run(["inspect", str(path), "-t", "c"]) == cli.OK
    shown = capsys.readouterr().out
    assert "on c" in shown
    assert "not needed after simplify" in shown
    assert cli.run(["inspect", str(path), "-t", "c", "--json"]) == cli.OK
    found = json.loads(capsys.readouterr().out)["placement"]
    assert found["compiles"] is True
    assert {node["node"]: node["place"] for node in found["nodes"]}["bent"] == "kernel"
