"""Loading: names, order, symbols, opsets, functions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import Limits, load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Graph
from onnxc.compiler.kernel.nodes import Var
from onnxc.compiler.ops.table import OpContext, lookup
from onnxc.compiler.strings import decode_strings

value = helper.make_tensor_value_info


def model(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX text without header."""
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "local" : 1]> {text}')


def ops(graph: Graph) -> list[str]:
    """Operators in order."""
    return [node.op for node in graph.nodes]


# Names and order


def test_nodes_out_of_order_are_sorted_and_others_left_alone() -> None:
    graph = load_graph(model("g (float[2] x) => (float[2] y) { y = Abs(b) b = Exp(a) a = Relu(x) z = Neg(x) }"))
    assert ops(graph) == ["Relu", "Exp", "Abs", "Neg"]


def test_outputs_that_are_inputs_constants_or_listed_twice() -> None:
    proto = model("g (float[2] x) => (float[2] x, float[1] w, float[2] y) <float[1] w = {3}> { y = Relu(x) }")
    proto.graph.output.append(proto.graph.output[2])
    assert [v.name for v in load_graph(proto).outputs] == ["x", "w", "y"]


def test_an_initializer_that_is_an_input_is_a_constant_unless_it_is_to_stay_open() -> None:
    proto = model("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {3, 4}> { y = Add(x, w) }")
    proto.graph.input.append(value("w", TensorProto.FLOAT, [2])) if len(proto.graph.input) < 2 else None
    assert [v.name for v in load_graph(proto).inputs] == ["x"]
    assert [v.name for v in load_graph(proto, overridable=["w"]).inputs] == ["x", "w"]


def test_places_name_model_node_operator_and_opset() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.graph.node[0].name = "first"
    loc = load_graph(proto).nodes[0].loc
    assert (loc.model, loc.node, loc.op_type, loc.opset) == ("g", "first", "Relu", 17)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_constant_nodes_with_tensors(dtype: type) -> None:
    array = np.arange(3).astype(dtype)
    node = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(array))
    proto = helper.make_model(
        helper.make_graph([node], "g", [], [value("y", 1, None)]), opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    )
    np.testing.assert_array_equal(load_graph(proto).constants["y"], array)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_int": -7}, np.int64(-7)),
        ({"value_floats": [1.0, 2.0]}, np.array([1, 2], np.float32)),
        ({"value_ints": [1, 2]}, np.array([1, 2], np.int64)),
    ],
)
def test_constant_nodes_with_values(attributes: dict[str, object], expected: np.ndarray) -> None:
    node = helper.make_node("Constant", [], ["y"], **attributes)
    proto = helper.make_model(
        helper.make_graph([node], "g", [], [value("y", 1, None)]), opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    )
    found = load_graph(proto).constants["y"]
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("attributes", [{"value_string": "é"}, {"value_strings": ["a", "", "b"]}])
def test_constant_nodes_with_strings(attributes: dict[str, str | list[str]]) -> None:
    node = helper.make_node("Constant", [], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [], [value("y", TensorProto.STRING, None)])
    found = load_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    (expected,) = attributes.values()
    text = found.texts["y"]
    assert isinstance(text, bytes)
    assert decode_strings(run_graph(found, {})["y"], text).tolist() == expected


def test_long_chains() -> None:
    nodes = [helper.make_node("Relu", [f"x{k}"], [f"x{k + 1}"]) for k in range(3000)]
    graph = helper.make_graph(nodes[::-1], "g", [value("x0", 1, [2])], [value("x3000", 1, [2])])
    assert len(load_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)).nodes) == 3000


# Symbols

DYNAMIC = "g (float[n, c] x, float[n, 4] z) => (float[n, c] y) { y = Relu(x) w = Relu(z) }"


def test_symbols_come_from_the_model_or_from_their_place() -> None:
    proto = model(DYNAMIC)
    proto.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    graph = load_graph(proto)
    assert graph.symbols == ("n", "x_1")
    assert graph.inputs[0].type.shape == (Var("n"), Var("x_1"))
    assert load_graph(proto, bind={"x_1": 3}).inputs[0].type.shape == (Var("n"), 3)


@pytest.mark.parametrize("name", ["n", "x:0", "z:0"])
def test_binding_a_symbol_or_a_place_binds_it_everywhere(name: str) -> None:
    graph = load_graph(model(DYNAMIC), bind={name: 5})
    assert graph.symbols == ("c",)
    assert [v.type.shape[0] for v in (*graph.inputs, *graph.outputs)] == [5, 5, 5]


def test_bounds_are_recorded() -> None:
    assert load_graph(model(DYNAMIC), max={"x:1": 128, "n": 8}, bind={"n": 4}).bounds == {"c": 128}


@pytest.mark.parametrize(
    "options",
    [
        {"bind": {"m": 3}},
        {"bind": {"x:2": 3}},
        {"bind": {"n": -1}},
        {"bind": {"n": 2.0}},
        {"bind": {"n": True}},
        {"bind": {"n": 2, "x:0": 3}},
        {"bind": {"z:1": 5}},
        {"max": {"m": 3}},
        {"max": {"z:1": 3}},
        {"max": {"n": 3}, "bind": {"n": 4}},
    ],
)
def test_options_that_fit_no_symbol_are_refused(options: dict[str, dict[str, int]]) -> None:
    with pytest.raises(CompileError) as caught:
        load_graph(model(DYNAMIC), **options)  # type: ignore[arg-type]
    assert caught.value.code == "E0203"


def test_an_unknown_symbol_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CompileError, match="symbols: n, c;"):
        load_graph(model(DYNAMIC), bind={"batch": 3})


def test_an_integer_input_may_be_bound_to_its_value() -> None:
    proto = model("""
    g (int64 rate, float[2] x) => (float[a] y) {
      k = Constant<value_int = 8000>() c = Equal(rate, k) zero = Constant<value_ints = [0]>()
      y = If(c) <then_branch = t () => (float[2] p) { p = Relu(x) }, else_branch = e () => (float[4] q) { q = Concat<axis = 0>(x, x) }>
    }
    """)
    graph = load_graph(proto, bind={"rate": 8000})
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.outputs[0].type.shape == (2,)
    assert load_graph(proto, bind={"rate": 16000}).outputs[0].type.shape == (4,)
    with pytest.raises(CompileError, match="inputs: rate"):
        load_graph(proto, bind={"rat": 1})


# Opsets


def test_older_forms_become_the_newest() -> None:
    graph = load_graph(model("g (float[2, 1, 3] x) => (float[2, 3] y) { y = Squeeze<axes = [1]>(x) }", opset=11))
    (node,) = graph.nodes
    assert not node.attrs
    assert graph.constants[node.inputs[1].name].tolist() == [1]  # type: ignore[union-attr]
    assert node.loc.opset == 11


def test_upsample_is_resize() -> None:
    if lookup("Resize") is None:
        pytest.fail("the table has no Resize")
    graph = load_graph(
        model(
            'g (float[1, 1, 2, 3] x) => (float[1, 1, 4, 6] y) { y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(x) }', opset=8
        )
    )
    assert graph.outputs[0].type.shape == (1, 1, 4, 6)
    assert ops(graph) == ["Resize"]


def test_an_operator_that_was_withdrawn_is_not_known() -> None:
    with pytest.raises(CompileError, match="E0201") as caught:
        load_graph(model("g (float[1, 1, 2, 3] x) => (float[a, b, c, d] y) <float[4] s = {1, 1, 2, 2}> { y = Upsample(x, s) }", opset=11))
    assert "no longer" in caught.value.diagnostics[0].hint


# Functions


def function(name: str, nodes: list[onnx.NodeProto], **options: object) -> onnx.FunctionProto:
    """A function of one input `a` and one output `b`."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["b"], nodes, imports, **options)  # type: ignore[arg-type]


def test_functions_are_inlined_and_outputs_keep_the_callers_names() -> None:
    proto = model("g (float[2] x) => (float[2] y) { t = local.twice(x) y = local.twice(t) }")
    inner = [helper.make_node("Relu", ["a"], ["m"]), helper.make_node("Exp", ["m"], ["b"])]
    proto.functions.append(function("twice", inner))
    graph = load_graph(proto)
    assert ops(graph) == ["Relu", "Exp"] * 2
    names = [node.outputs[0].name for node in graph.nodes]  # type: ignore[union-attr]
    assert names[1::2] == ["t", "y"]
    assert len(set(names)) == 4


def test_attributes_reach_the_body_with_defaults_and_through_regions() -> None:
    concat = helper.make_node("Concat", ["a", "a"], ["b"])
    concat.attribute.add(name="axis", type=onnx.AttributeProto.INT, ref_attr_name="side")
    proto = model("g (float[2, 3] x) => (float[n, m] y, float[k, l] z) { y = local.pair<side = 1>(x) z = local.pair(x) }")
    proto.functions.append(function("pair", [concat], attribute_protos=[helper.make_attribute("side", 0)]))
    assert [v.type.shape for v in load_graph(proto).outputs] == [(2, 6), (4, 3)]


def test_a_function_does_not_see_the_names_of_its_caller() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = local.f(x) }")
    proto.functions.append(function("f", [helper.make_node("Add", ["a", "x"], ["b"])]))
    with pytest.raises(CompileError, match="'x' has no definition in the function 'f'"):
        load_graph(proto)


def test_a_function_that_returns_its_input_is_no_obstacle() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = local.f(x) }")
    proto.functions.append(helper.make_function("local", "f", ["a"], ["a"], [], [helper.make_opsetid("", 17)]))
    assert [v.name for v in load_graph(proto).outputs] == ["y"]


@pytest.mark.parametrize("op", ["HammingWindow", "AffineGrid", "NegativeLogLikelihoodLoss", "CenterCropPad"])
def test_bodies_of_the_specification_stand_in_for_operators_without_a_row(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxc.compiler.frontend import coverage, importer

    inputs = {"HammingWindow": [("x", TensorProto.INT64, [])], "AffineGrid": [("x", 1, [2, 2, 3])]}.get(op, [("x", 1, [3, 5])])
    extra = {"AffineGrid": ("s", [2, 3, 4, 5]), "CenterCropPad": ("s", [2, 2]), "NegativeLogLikelihoodLoss": ("s", [1, 0, 2])}.get(op)
    constants = [numpy_helper.from_array(np.array(extra[1], np.int64), extra[0])] if extra else []
    node = helper.make_node(op, ["x", "s"] if extra else ["x"], ["y"], **({"reduction": "none"} if op.startswith("Neg") else {}))
    graph = helper.make_graph([node], "g", [value(*i) for i in inputs], [value("y", 1, None)], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    for module in (coverage, importer):
        monkeypatch.setattr(module, "lookup", lambda key: None if key == op else lookup(key))
    loaded = load_graph(proto)
    assert op not in ops(loaded)
    assert loaded.outputs[0].name == "y"
    expected = {"AffineGrid": (2, 4, 5, 2), "CenterCropPad": (2, 2), "NegativeLogLikelihoodLoss": (3,)}
    if op in expected:
        assert loaded.outputs[0].type.shape == expected[op]


def test_unknown_operators_in_functions_are_found_before_anything_is_built() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = local.f(x) }")
    proto.functions.append(function("f", [helper.make_node("Frobnicate", ["a"], ["b"])]))
    with pytest.raises(CompileError, match=r"Frobnicate is not known, opset 17 \(in the body of local::f\)"):
        load_graph(proto)


def test_limits_are_not_negative() -> None:
    with pytest.raises(ValueError, match="limit rank is negative"):
        Limits(rank=-1)


def test_a_fault_of_the_table_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    row = lookup("Relu")
    assert row is not None

    def broken(ctx: OpContext) -> list[object]:
        raise ZeroDivisionError(ctx.node.op)

    from dataclasses import replace

    from onnxc.compiler.graph import builder

    monkeypatch.setattr(builder, "lookup", lambda key: replace(row, infer=broken))  # type: ignore[arg-type]
    with pytest.raises(CompileError) as caught:
        load_graph(model("g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    assert caught.value.code == "E0901"
    assert "'y'" in str(caught.value)
