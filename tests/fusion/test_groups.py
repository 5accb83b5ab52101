"""What fuses with what: models in text, and the groups that become of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.graph.nodes import Graph
from onnxc.compiler.program.stages import Group, NodeUnit, Unit, View
from onnxc.passes.fusion.form_groups import form_groups
from onnxc.passes.graph.pipeline import GRAPH_PASSES


def graph_of(body: str, **constants: tuple[int, ...]) -> Graph:
    """The graph of a model in text after the graph passes; constants are given by their shapes."""
    model: onnx.ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]>\n{body}')
    generator = np.random.default_rng(0)
    for name, shape in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name))
    graph = load_graph(model)
    for graph_pass in GRAPH_PASSES:
        graph = graph_pass.run(graph)
    return graph


def describe(unit: Unit) -> str:
    """One line for a unit: what it makes for others."""
    match unit:
        case Group(stages=stages, outputs=outputs):
            return f"group of {len(stages)}: {' '.join(v.name for v in outputs)}"
        case View(value=value, source=source):
            return f"view: {value.name} of {source.name}"
        case NodeUnit(node=node):
            return f"node: {node.op}"


def groups(body: str, **constants: tuple[int, ...]) -> list[str]:
    """The units of a model, in order."""
    graph = graph_of(body, **constants)
    return [describe(unit) for unit in form_groups(graph, GraphFacts.of(graph))]


def test_chain_of_maps_is_one_group() -> None:
    body = "g (float[4,8] x, float[8] y) => (float[4,8] z) { a = Add(x, y)\n b = Relu(a)\n c = Exp(b)\n z = Mul(c, x) }"
    assert groups(body) == ["group of 1: z"]


def test_epilogue_of_a_product_takes_bias_activation_and_residual() -> None:
    body = """g (float[4,8] x, float[4,6] r) => (float[4,6] z) {
        a = MatMul(x, w)
        b = Add(a, c)
        d = Relu(b)
        z = Add(d, r) }"""
    assert groups(body, w=(8, 6), c=(6,)) == ["group of 1: z"]


def test_product_with_two_users_stays_alone() -> None:
    body = "g (float[4,8] x) => (float[4,6] y, float[4,6] z) { a = MatMul(x, w)\n y = Relu(a)\n z = Exp(a) }"
    assert sorted(groups(body, w=(8, 6))) == ["group of 1: a", "group of 1: y", "group of 1: z"]


def test_softmax_is_one_group_of_rows() -> None:
    body = "g (float[4,8] x) => (float[4,8] z) { a = Mul(x, x)\n z = Softmax<axis=-1>(a) }"
    (unit,) = form_groups(graph := graph_of(body), GraphFacts.of(graph))
    assert isinstance(unit, Group)
    assert unit.rows == 1
    assert [v.name for v in unit.outputs] == ["z"]


def test_layer_norm_is_one_group_of_rows() -> None:
    body = "g (float[2,4,8] x) => (float[2,4,8] z) { z = LayerNormalization<axis=-1>(x, s, b) }"
    (unit,) = form_groups(graph := graph_of(body, s=(8,), b=(8,)), GraphFacts.of(graph))
    assert isinstance(unit, Group)
    assert unit.rows == 2


def test_transpose_goes_into_the_operand_of_a_product() -> None:
    body = "g (float[2,8,4] x, float[2,8,6] y) => (float[2,4,6] z) { t = Transpose<perm=[0,2,1]>(x)\n z = MatMul(t, y) }"
    assert groups(body) == ["group of 1: z"]


def test_computed_operand_of_a_product_is_stored() -> None:
    body = "g (float[4,8] x) => (float[4,6] z) { t = Tanh(x)\n z = MatMul(t, w) }"
    assert groups(body, w=(8, 6)) == ["group of 1: t", "group of 1: z"]


def test_reshape_is_a_view() -> None:
    body = "g (float[4,8] x) => (float[32] z) { a = Exp(x)\n s = Constant<value_ints=[32]>()\n b = Reshape(a, s)\n z = Relu(b) }"
    assert groups(body) == ["group of 1: a", "view: b of a", "group of 1: z"]


def test_concatenation_is_written_by_its_producers() -> None:
    body = """g (float[64,32] x) => (float[192,32] z) {
        a = Exp(x)
        b = Relu(x)
        z = Concat<axis=0>(a, b, x) }"""
    made = groups(body)
    assert len(made) == 3
    assert not any(line.endswith(": z") for line in made)


def test_groups_stay_convex() -> None:
    # The sum of a row meets a product of the same row: joining both ends would need the product in between.
    body = """g (float[4,4] x) => (float[4,4] z) {
        axes = Constant<value_ints=[1]>()
        s = ReduceSum<keepdims=1>(x, axes)
        d = Div(x, s)
        m = MatMul(d, w)
        z = Mul(m, s) }"""
    graph = graph_of(body, w=(4, 4))
    seen: set[str] = set()
    for unit in form_groups(graph, GraphFacts.of(graph)):
        assert isinstance(unit, Group)
        inside = {stage.value.name for stage in unit.stages}
        for stage in unit.stages:
            outside = {v.name for v in stage.operands} - inside - set(graph.constants) - {"x"}
            assert outside <= seen, f"{stage.value.name} is computed before {outside - seen}"
        seen |= inside


@pytest.mark.parametrize("length", [300])
def test_long_chains_fuse_into_bounded_groups(length: int) -> None:
    lines = "\n".join(f"v{i + 1} = Tanh(v{i})" for i in range(length))
    made = groups(f"g (float[4] v0) => (float[4] v{length}) {{ {lines} }}")
    assert 1 <= len(made) <= length


def test_what_makes_bytes_of_a_sum_goes_with_the_sum() -> None:
    """Not into the pool that reads them: four times the memory would lie between the two."""
    body = """g (float[1,3,6,6] x, float s, int8 z) => (float[1,4,3,3] y) {
        a = Conv(x, w)
        r = Relu(a)
        q = QuantizeLinear(r, s, z)
        d = DequantizeLinear(q, s, z)
        y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(d) }"""
    assert groups(body, w=(4, 3, 1, 1)) == ["group of 1: q", "group of 1: y"]


def test_both_operands_of_a_quantized_sum_are_bytes() -> None:
    body = """g (float[1,3,6,6] x, float s, int8 z) => (int8[1,4,6,6] y) {
        a = Conv(x, v)
        b = Conv(x, w)
        p = QuantizeLinear(a, s, z)
        q = QuantizeLinear(b, s, z)
        c = DequantizeLinear(p, s, z)
        d = DequantizeLinear(q, s, z)
        e = Add(c, d)
        y = QuantizeLinear(e, s, z) }"""
    assert sorted(groups(body, v=(4, 3, 1, 1), w=(4, 3, 1, 1))) in (["group of 1: p", "group of 1: y"], ["group of 1: q", "group of 1: y"])
