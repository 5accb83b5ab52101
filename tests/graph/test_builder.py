"""The builder infers types as nodes are added, and carries shapes through arithmetic on them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.builder import GraphBuilder
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Graph, TensorType, Value
from onnxc.compiler.graph.verify import InvalidGraph, verify
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.nodes import Var

N, H = Var("N"), Var("H")
F = DType.FLOAT32


@pytest.fixture
def b() -> GraphBuilder:
    return GraphBuilder("g")


def image(b: GraphBuilder) -> Value:
    return b.input("x", TensorType(F, (N, 3, H, H)))


def test_contents_follow_shape_arithmetic(b: GraphBuilder) -> None:
    shape = b.op("Shape", image(b))
    height = b.op("Gather", shape, b.const(2), axis=0)
    twice = b.op("Mul", height, b.const(2))
    assert b.contents(shape) == (N, 3, H, H)
    assert b.contents(twice) == (build.mul(H, 2),)
    assert b.contents(b.op("Div", b.op("Add", twice, b.const(1)), b.const(2))) == (H,)
    assert b.contents(b.op("Sub", twice, twice)) == (0,)


def test_contents_follow_floats_that_are_exact(b: GraphBuilder) -> None:
    height = b.op("Cast", b.op("Gather", b.op("Shape", image(b)), b.const(2), axis=0), to=1)

    def scaled(factor: float, rounding: str) -> tuple[object, ...] | None:
        return b.contents(b.op("Cast", b.op(rounding, b.op("Mul", height, b.const(factor))), to=7))

    assert scaled(2.0, "Floor") == (build.mul(H, 2),)
    assert scaled(0.5, "Floor") == (build.floordiv(H, 2),)
    assert scaled(0.5, "Ceil") == (build.neg(build.floordiv(build.neg(H), 2)),)
    assert scaled(1 / 3, "Floor") is None


def test_elements_that_need_nothing_unknown_are_known(b: GraphBuilder) -> None:
    """What is added at the ends of a tensor, though the tensor itself is not known; a sum with it is not known anywhere."""
    x = b.input("v", TensorType(DType.INT64, (2,)))
    padded = b.op("Pad", x, b.const([1, 1]), b.const(7))
    assert b.facts.elements(padded) == (build.const(7), None, None, build.const(7))
    assert set(b.facts.elements(b.op("Add", x, b.const(1))) or ()) <= {None}


def test_a_comparison_with_a_size_is_decided_by_its_sign(b: GraphBuilder) -> None:
    shape = b.op("Concat", b.op("Shape", image(b), end=1), b.const([-1]), axis=0)
    assert b.contents(b.op("Where", b.op("Equal", shape, b.const(-1)), b.const(7), shape)) == (N, 7)
    assert b.contents(b.op("Max", shape, b.const(0))) == (N, 0)


def test_known_content_of_narrow_integers_wraps(b: GraphBuilder) -> None:
    total = b.op("Add", b.const([100], DType.INT8), b.const([100], DType.INT8))
    assert b.contents(total) == (-56,)


def test_unknown_content_becomes_symbols_of_its_source(b: GraphBuilder) -> None:
    sizes = b.input("sizes", TensorType(DType.INT64, (2,)))
    shape = b.op("Concat", b.op("Add", sizes, b.const(1)), b.const([4]), axis=0)
    first, second = Var("sizes[0]"), Var("sizes[1]")
    assert b.contents(shape) is None
    assert b.run_time_contents(shape) == (build.add(first, 1), build.add(second, 1), 4)
    graph = b.finish([b.op("Expand", b.const(1.0), shape)])
    assert graph.data_symbols == {"sizes[0]": ("sizes", 0), "sizes[1]": ("sizes", 1)}
    assert run_graph(graph, {"sizes": np.array([1, 2])})["Expand"].shape == (2, 3, 4)
    assert GraphFacts.of(graph).run_time_contents(shape) == (build.add(first, 1), build.add(second, 1), 4)


def test_a_data_symbol_may_be_negative(b: GraphBuilder) -> None:
    sizes = b.input("sizes", TensorType(DType.INT64, (1,)))
    (clamped,) = b.run_time_contents(b.op("Max", sizes, b.const(0)))
    assert clamped is build.maximum(Var("sizes[0]"), 0)


def test_a_size_that_a_node_finds_is_a_symbol_of_the_graph(b: GraphBuilder) -> None:
    found = b.op("NonZero", b.input("x", TensorType(F, (2, 3))))
    graph = b.finish([found])
    ((symbol, place),) = graph.size_symbols.items()
    assert found.type.shape == (2, Var(symbol)) and place == (found.name, 0)
    verify(graph)
    x = np.array([[0, 1, 0], [2, 0, 3]], np.float32)
    np.testing.assert_array_equal(run_graph(graph, {"x": x})[found.name], np.stack(np.nonzero(x)))


def test_an_unknown_operator_is_refused(b: GraphBuilder) -> None:
    with pytest.raises(CompileError, match="Frobnicate") as caught:
        b.op("Frobnicate", image(b))
    assert caught.value.code == "E0201"


def test_names_are_unique_in_a_graph_and_its_regions(b: GraphBuilder) -> None:
    inner = GraphBuilder("body", b)
    names = [b.op("Relu", image(b)).name, b.op("Relu", image(b)).name, inner.input("x", TensorType(F, ())).name]
    assert names == ["Relu", "Relu.1", "x.2"]


def test_small_constants_are_shared(b: GraphBuilder) -> None:
    assert b.const([1, 2]) is b.const(np.array([1, 2]))
    assert b.const([1, 2]) is not b.const([1.0, 2.0])
    assert b.const(0.0) is not b.const(-0.0)


def test_a_region_is_typed_again_for_other_inputs(b: GraphBuilder) -> None:
    scale = b.op("Exp", b.input("scale", TensorType(F, (3,))))
    inner = GraphBuilder("body", b)
    region = inner.finish([inner.op("Mul", inner.input("v", TensorType(F, (1, 3))), scale)])
    wider = b.region(region, [TensorType(F, (N, 3))])
    assert wider.outputs[0] == Value(region.outputs[0].name, TensorType(F, (N, 3)))
    assert b.region(region, [TensorType(F, (1, 3))]) is region


def test_unused_constants_are_left_out(b: GraphBuilder) -> None:
    b.const([1, 2])
    assert b.finish([b.op("Add", image(b), b.const(1.0))]).constants.keys() == {"const.1"}


def broken(b: GraphBuilder) -> list[tuple[Graph, str]]:
    x = image(b)
    y = b.op("Relu", x)
    z = b.op("Exp", y)
    graph = b.finish([z])
    first, second = graph.nodes
    other = Value("x", TensorType(F, (1,)))
    return [
        (graph.with_nodes((second, first)), "'Relu' is used before it is defined"),
        (graph.with_nodes((first, first, second)), "'Relu' is defined twice"),
        (graph.with_nodes((first.with_inputs(other), second)), "'x' has type"),
        (graph.with_nodes((first.with_inputs(x, None), second)), "trailing absent"),
        (graph.with_nodes((first, second), (z, z)), "two outputs"),
    ]


@pytest.mark.parametrize("case", range(5))
def test_verify_finds_what_is_broken(b: GraphBuilder, case: int) -> None:
    graph, message = broken(b)[case]
    with pytest.raises(InvalidGraph, match=f"(?s)after some_pass.*{message}"):
        verify(graph, "some_pass")


def test_an_input_that_does_not_fit_is_refused(b: GraphBuilder) -> None:
    x = image(b)
    graph = b.finish([b.op("Relu", x)])
    with pytest.raises(CompileError) as caught:
        run_graph(graph, {"x": np.zeros((1, 3, 4, 5), np.float32)})
    assert caught.value.code == "E0401"
