"""Models that are well-formed protobuf and wrong in every other way: one clear error each, never a traceback."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import Limits, load_graph

from .models import doubling_functions, from_text, good, nested_ifs, node_model, recursive_function

Change = Callable[[onnx.ModelProto], object]


def _tensor(model: onnx.ModelProto) -> onnx.TensorProto:
    return model.graph.initializer[0]


def _raw(model: onnx.ModelProto, data: bytes) -> None:
    _tensor(model).ClearField("float_data")
    _tensor(model).raw_data = data


def _sparse(model: onnx.ModelProto, dims: list[int], indices: list[int]) -> None:
    values = numpy_helper.from_array(np.ones(len(indices), np.float32), "sparse")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices, np.int64), "at"), dims)
    )


def _untyped_attribute(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="alpha", type=AttributeProto.INT)
    attribute.f = 1.0


ONE = onnx.TensorShapeProto.Dimension(dim_value=1)

# fmt: off
SPOILED: dict[str, tuple[str, Change]] = {
    "duplicate output": ("E0102", lambda m: m.graph.node.append(helper.make_node("Abs", ["x"], ["s"]))),
    "duplicate input": ("E0102", lambda m: m.graph.input.append(m.graph.input[0])),
    "duplicate initializer": ("E0102", lambda m: m.graph.initializer.append(_tensor(m))),
    "output that is an input": ("E0102", lambda m: m.graph.node.append(helper.make_node("Abs", ["w"], ["x"]))),
    "undefined name": ("E0102", lambda m: m.graph.node[0].input.__setitem__(0, "nowhere")),
    "undefined output": ("E0102", lambda m: m.graph.output[0].__setattr__("name", "nowhere")),
    "cycle": ("E0102", lambda m: m.graph.node[0].input.__setitem__(0, "y")),
    "self loop": ("E0102", lambda m: m.graph.node[0].input.__setitem__(0, "s")),
    "no operator": ("E0102", lambda m: m.graph.node[0].__setattr__("op_type", "")),
    "operator with a domain in its name": ("E0102", lambda m: m.graph.node[0].__setattr__("op_type", "a::Add")),
    "unknown operator": ("E0201", lambda m: m.graph.node[0].__setattr__("op_type", "Frobnicate")),
    "unknown domain": ("E0201", lambda m: m.graph.node[0].__setattr__("domain", "no.such")),
    "missing input": ("E0205", lambda m: m.graph.node[0].input.pop()),
    "absent required input": ("E0205", lambda m: m.graph.node[0].input.__setitem__(0, "")),
    "too many inputs": ("E0205", lambda m: m.graph.node[0].input.append("x")),
    "too many outputs": ("E0205", lambda m: m.graph.node[0].output.append("more")),
    "unknown attribute": ("E0203", lambda m: m.graph.node[0].attribute.append(helper.make_attribute("colour", 3))),
    "attribute twice": ("E0102", lambda m: m.graph.node[0].attribute.extend([helper.make_attribute("a", 3)] * 2)),
    "attribute of two types": ("E0102", _untyped_attribute),
    "raw data too short": ("E0102", lambda m: _raw(m, b"\0" * 15)),
    "raw data too long": ("E0102", lambda m: _raw(m, b"\0" * 17)),
    "data twice": ("E0102", lambda m: _tensor(m).__setattr__("raw_data", b"\0" * 16)),
    "too few elements": ("E0102", lambda m: _tensor(m).float_data.pop()),
    "wrong field": ("E0102", lambda m: _tensor(m).int64_data.append(1)),
    "negative dimension": ("E0102", lambda m: _tensor(m).dims.__setitem__(0, -4)),
    "overflowing dimensions": ("E0103", lambda m: _tensor(m).dims.extend([1 << 40, 1 << 40])),
    "overflowing dimensions around a zero": ("E0103", lambda m: _tensor(m).dims.extend([0, 1 << 62, 1 << 62])),
    "rank": ("E0103", lambda m: _tensor(m).dims.extend([1] * 100)),
    "unknown element type": ("E0202", lambda m: _tensor(m).__setattr__("data_type", 99)),
    "undefined element type": ("E0202", lambda m: _tensor(m).__setattr__("data_type", 0)),
    "segment": ("E0102", lambda m: _tensor(m).segment.__setattr__("begin", 3)),
    "external data in memory": ("E0104", lambda m: _tensor(m).ClearField("float_data") or _tensor(m).__setattr__("data_location", 1)),
    "sparse index out of range": ("E0102", lambda m: _sparse(m, [4], [7])),
    "sparse index negative": ("E0102", lambda m: _sparse(m, [4], [-1])),
    "sparse index twice": ("E0102", lambda m: _sparse(m, [4], [1, 1])),
    "sparse bomb": ("E0103", lambda m: _sparse(m, [1 << 16, 1 << 16], [7])),
    "no opset": ("E0102", lambda m: m.ClearField("opset_import")),
    "two opsets": ("E0102", lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 18))),
    "old opset": ("E0105", lambda m: m.opset_import[0].__setattr__("version", 6)),
    "future opset": ("E0105", lambda m: m.opset_import[0].__setattr__("version", 1000)),
    "negative opset": ("E0105", lambda m: m.opset_import[0].__setattr__("version", -1)),
    "future IR version": ("E0105", lambda m: m.__setattr__("ir_version", 1000)),
    "no IR version": ("E0101", lambda m: m.ClearField("ir_version")),
    "no graph": ("E0101", lambda m: m.ClearField("graph")),
    "input without a type": ("E0202", lambda m: m.graph.input[0].ClearField("type")),
    "input without a rank": ("E0202", lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
    "input without an element type": ("E0202", lambda m: m.graph.input[0].type.tensor_type.ClearField("elem_type")),
    "input of negative extent": ("E0102", lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", -7)),
    "input of huge rank": ("E0103", lambda m: m.graph.input[0].type.tensor_type.shape.dim.extend([ONE] * 99)),
    "input of huge size": ("E0103", lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].__setattr__("dim_value", 1 << 62)),
    "mixed element types": ("E0202", lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.INT32)),
    "element type not allowed": ("E0202", lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.STRING)),
    "shapes that do not broadcast": ("E0203", lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 5)),
}
# fmt: on

MADE: dict[str, tuple[str, Callable[[], onnx.ModelProto]]] = {
    "function that calls itself": ("E0106", recursive_function),
    "functions that double": ("E0103", lambda: doubling_functions(64)),
    "deep regions": ("E0103", lambda: nested_ifs(30)),
    "axis out of range": ("E0203", lambda: node_model("Concat", 2, axis=7)),
    "attribute of the wrong type": ("E0203", lambda: node_model("Concat", 2, axis="one")),
    "missing attribute": ("E0203", lambda: node_model("Concat", 2)),
    "permutation": ("E0203", lambda: node_model("Transpose", perm=[0, 0, 1])),
    "expansion": (
        "E0103",
        lambda: from_text("g (float[1] x) => (float[a] y) { s = Constant<value_ints = [9999999999999]>() y = Expand(x, s) }"),
    ),
}


def refusal(source: object, **options: object) -> CompileError:
    """The error of a load that must fail, checked for the form that every error has."""
    with pytest.raises(CompileError) as caught:
        load_graph(source, **options)  # type: ignore[arg-type]
    (problem,) = caught.value.diagnostics
    assert problem.message
    text = str(caught.value)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text) < 2000
    return caught.value


def test_the_model_that_is_spoiled_below_loads() -> None:
    graph = load_graph(good())
    assert [node.op for node in graph.nodes] == ["Add", "Relu"]


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_model_is_refused(name: str) -> None:
    code, change = SPOILED[name]
    model = good()
    change(model)
    assert refusal(model).code == code


@pytest.mark.parametrize("name", MADE)
def test_a_made_up_model_is_refused(name: str) -> None:
    code, make = MADE[name]
    assert refusal(make()).code == code


def test_the_functions_and_regions_above_load_when_there_are_few() -> None:
    assert len(load_graph(doubling_functions(4)).nodes) == 16
    assert load_graph(nested_ifs(5)).nodes[0].op == "If"


@pytest.mark.parametrize("limit", ["model_bytes", "nodes", "rank", "tensor_bytes", "constant_bytes"])
def test_every_limit_holds(limit: str) -> None:
    data = good().SerializeToString()
    error = refusal(data, limits=Limits(**{limit: 1}))
    assert error.code == "E0103"
    assert limit in str(error)


def test_all_unknown_operators_are_named_at_once() -> None:
    model = from_text("g (float[2] x) => (float[2] y) { a = Foo(x) b = Bar(a) c = Relu(b) y = Baz(c) }")
    with pytest.raises(CompileError) as caught:
        load_graph(model)
    assert [d.code for d in caught.value.diagnostics] == ["E0201"] * 3
    assert [d.loc.op_type for d in caught.value.diagnostics] == ["Foo", "Bar", "Baz"]
    assert all("opset 17" in d.message and d.hint for d in caught.value.diagnostics)


@pytest.mark.parametrize(
    "name", ["*/ int main(){}", '"quote"', "new\nline", "\x1b[31mred", "../../etc/passwd", "x" * 1_000_000, "int", "%s%n", "é\u202e"]
)
def test_a_name_may_be_anything(name: str) -> None:
    model = good()
    model.graph.node[0].name = name
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = name
    assert load_graph(model).nodes[0].outputs[0].name == name  # type: ignore[union-attr]
    model.graph.node[0].op_type = "Frobnicate"
    refusal(model)


def test_a_name_that_is_not_text_is_refused() -> None:
    data = good().SerializeToString().replace(b"good", b"g\xff\xfed")
    assert refusal(data).code in ("E0101", "E0102")
