"""The text form of the graph IR: what is printed parses back to the same graph."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError, Loc
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.builder import GraphBuilder
from onnxc.compiler.graph.nodes import Graph, Layout, Node, Quant, TensorType, Value
from onnxc.compiler.graph.parse import parse_graph
from onnxc.compiler.graph.text import print_graph
from onnxc.compiler.graph.verify import verify
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.nodes import BinaryOp, Var

TEXT = """\
graph "net"(%x: float32[N, 3], %"a name": int64[2]) {
  const %b: float32[3] = [0.5, 1.0, -inf]
  const %w:0: float32[5, 5] = blob "d8b3a32fc1551da9"
  %y: float32[N, 3] = Add(%x, %b)
  %z: float32["a name[0]", "a name[1]"] = "com.microsoft::Thing"(%y, _, %w:0) {axes = (0, -1), f = 2.0, to = int8, mode = "a b"}
  _, %t: float32[N, 3] = Two(%y)
  data "a name[0]" = %"a name" 0
  return %y, %z
}
"""
ARRAYS = {"w:0": np.arange(25, dtype=np.float32).reshape(5, 5)}


def same_text(graph: Graph, **options: bool) -> None:
    text = print_graph(graph, **options)
    assert print_graph(parse_graph(text, graph.constants), **options) == text


def test_text_parses_back() -> None:
    graph = parse_graph(TEXT.replace("d8b3a32fc1551da9", _digest()), ARRAYS)
    assert print_graph(graph, locs=False) == TEXT.replace("d8b3a32fc1551da9", _digest())
    assert graph.nodes[1].attrs["axes"] == (0, -1) and graph.nodes[1].attrs["to"] is DType.INT8
    assert isinstance(graph.nodes[1].attrs["f"], float)
    assert graph.nodes[2].outputs[0] is None


def _digest() -> str:
    from onnxc.compiler.graph.text import digest

    return digest(ARRAYS["w:0"])


N, M = Var("N"), Var("data[0]")
EXTENTS = [
    build.add(build.mul(N, 3), 1),
    build.mul(build.add(N, 1), M),
    build.floordiv(build.add(N, -2), 2),
    build.floormod(N, build.index(M)),
    build.maximum(build.minimum(N, M), 1),
    build.select(build.compare(BinaryOp.LT, N, 0), build.add(N, M), N),
    build.mul(build.mul(N, N), 4),
    build.sub(N, build.floordiv(N, 2)),
]


@pytest.mark.parametrize("extent", EXTENTS, ids=range(len(EXTENTS)))
def test_an_extent_parses_back_to_the_same_expression(extent: object) -> None:
    value = Value("x", TensorType(DType.FLOAT32, (extent,)))  # type: ignore[arg-type]
    graph = Graph("g", (value,), (value,), (), {})
    assert parse_graph(print_graph(graph)).inputs[0].type.shape[0] is extent


@pytest.mark.parametrize("dtype", [d for d in DType if d.kind.value not in ("string", "complex")], ids=lambda d: d.label)
def test_constants_keep_their_bits(dtype: DType) -> None:
    array = np.array([0, 1, 0.5 if dtype.is_float else 1]).astype(dtype.numpy).reshape(3, 1)
    graph = Graph("g", (), (Value("c", TensorType(dtype, (3, 1))),), (), {"c": array})
    back = parse_graph(print_graph(graph)).constants["c"]
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_attributes_keep_their_types() -> None:
    attrs = {
        "i": 3, "f": 1e-30, "nan": float("nan"), "s": 'quote " and \n', "b": b"\x00\xff", "none": None, "empty": (),
        "fs": (1.0, 2.5), "ss": ("a", "b"), "t": np.array([[1, 2]], np.int8), "d": DType.BFLOAT16,
        "e": np.zeros((0, 2), ml_dtypes.bfloat16),
    }  # fmt: skip
    value = Value("y", TensorType(DType.FLOAT32, ()))
    graph = Graph("g", (), (value,), (Node("Op", (), (value,), attrs),), {})
    same_text(graph)
    back = parse_graph(print_graph(graph)).nodes[0].attrs
    assert [type(v) for v in back.values()] == [type(v) for v in attrs.values()]
    assert back["s"] == attrs["s"] and back["b"] == attrs["b"]


def test_layout_quantization_and_place_are_kept() -> None:
    type_ = TensorType(DType.INT8, (1, 32), Layout(1, 16, (0, 0)), Quant((0.5,), (3,), None, DType.INT8))
    halo = TensorType(DType.INT8, (1, 32), Layout(0, 1, (0, 1)), Quant((0.5, 1.0), (3, 4), 1, DType.INT8))
    y = Value("y", halo)
    graph = Graph("g", (Value("x", type_),), (y,), (Node("Op", (), (y,), {}, (), Loc("m.onnx", "n", "Op", "a pass")),), {})
    back = parse_graph(print_graph(graph, locs=True))
    assert back.inputs[0].type == type_ and back.outputs[0].type == halo
    assert back.nodes[0].loc == graph.nodes[0].loc


def test_regions_see_the_values_around_them() -> None:
    outer = GraphBuilder("outer")
    x = outer.input("x", TensorType(DType.FLOAT32, (2,)))
    inner = GraphBuilder("then", outer)
    region = inner.finish([inner.op("Add", x, inner.const(1.0))])
    y = Value("y", x.type)
    graph = Graph("outer", (x,), (y,), (Node("If", (x,), (y,), {}, (region, region)),), {})
    same_text(graph)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('graph "g"() {\n return %x }', "line 2: 'x' is not defined"),
        ('graph "g"(%x: float33[]) { return %x }', "'float33' is not an element type"),
        ('graph "g"() { const %c: int8[9] = blob "00" return }', "constant 'c' is not given"),
        ('graph "g"() { return } more', "expected the end"),
        ('graph "g"() { $ return }', "an unknown character"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        parse_graph(text)
    assert caught.value.code == "E0102"


def test_a_built_graph_prints_and_verifies() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType(DType.FLOAT32, (N, 3)))
    rows = builder.op("Gather", builder.op("Shape", x), builder.const([0]), axis=0)
    graph = builder.finish([builder.op("Reshape", x, builder.op("Concat", rows, builder.const([3, 1]), axis=0))])
    verify(graph)
    same_text(graph)
