"""If, Loop and Scan: types of bodies and results."""

from __future__ import annotations

import onnx
import pytest
from onnx import parser

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.nodes import Graph, Node
from onnxc.compiler.kernel.nodes import Var

HEADER = '<ir_version: 10, opset_import: ["" : 17]> '


def load(text: str, **bind: int) -> Graph:
    """Load a model in ONNX text."""
    return load_graph(parser.parse_model(HEADER + text), bind=bind)


def node(graph: Graph, op: str) -> Node:
    """The node of an operator that occurs once."""
    (found,) = (n for n in graph.nodes if n.op == op)
    return found


IF = """
g (bool c, float[n, 4] x) => (float[a, b] y) {
  y = If(c) <
    then_branch = t () => (float[a, b] p) { p = Concat<axis = AXIS>(x, x) },
    else_branch = e () => (float[a, b] q) { q = Relu(x) }
  >
}
"""


def test_branches_of_different_extent_give_a_symbol() -> None:
    graph = load(IF.replace("AXIS", "1"))
    (output,) = graph.outputs
    assert output.type.shape[0] is Var("n")
    assert isinstance(output.type.shape[1], Var)
    assert output.type.shape[1].name in graph.size_symbols
    assert [region.outputs[0].type.shape[1] for region in node(graph, "If").regions] == [8, 4]


def test_branches_see_the_names_around_them_and_bound_symbols() -> None:
    graph = load(IF.replace("AXIS", "0"), n=3)
    assert [region.outputs[0].type.shape for region in node(graph, "If").regions] == [(6, 4), (3, 4)]


def test_branches_may_use_the_same_names() -> None:
    graph = load(IF.replace("AXIS", "0").replace("q", "p"))
    names = [region.outputs[0].name for region in node(graph, "If").regions]
    assert len(set(names)) == 2


def test_a_known_condition_leaves_one_branch() -> None:
    text = IF.replace("AXIS", "1").replace("(bool c, float", "(float").replace("y = If", "c = Constant<value = bool {1}>() y = If")
    graph = load(text)
    assert [n.op for n in graph.nodes] == ["Concat"]
    assert graph.outputs[0].name == "y"
    assert graph.outputs[0].type.shape == (Var("n"), 8)


def test_a_condition_on_shapes_is_known_once_they_are_bound() -> None:
    text = """
    g (float[n] x) => (float[m] y) {
      s = Shape(x) three = Constant<value_ints = [3]>() b = Equal(s, three) zero = Constant<value_ints = [0]>() c = Squeeze(b, zero)
      y = If(c) <then_branch = t () => (float[m] p) { p = Relu(x) }, else_branch = e () => (float[m, k] q) { q = Unsqueeze(x, zero) }>
    }
    """
    assert load(text, n=3).outputs[0].type.rank == 1
    assert load(text, n=4).outputs[0].type.rank == 2
    assert load(text).outputs[0].type.rank == 1  # as declared, which is checked while running
    # What comes after the node goes into its branches, where the rank is known.
    graph = load(text.replace("(float[m] y)", "(float y2)").replace("}>", "}> y2 = ReduceSum<keepdims=0>(y)"))
    assert graph.outputs[0].type.rank == 0
    assert [[n.op for n in region.nodes][-1] for n in graph.nodes if n.op == "If" for region in n.regions] == ["ReduceSum"] * 2


LOOP = """
g (int64 m, float[2, 3] x, float[3] row) => (float[a, b] y, float[c, d] z) {
  t = Constant<value = bool {1}>()
  y, z = Loop(COUNT, t, x) <
    body = b (int64 i, bool ci, float[p, q] v) => (bool co, float[r, s] w, float[3] step) {
      co = Identity(COND)  zero = Constant<value_ints = [0]>()  r2 = Unsqueeze(row, zero)
      w = BODY
      step = Relu(row)
    }
  >
}
"""


def loop(body: str, count: str = "m", condition: str = "ci") -> Graph:
    """The loop above with parts put in."""
    return load(LOOP.replace("BODY", body).replace("COUNT", count).replace("COND", condition))


def test_what_a_loop_keeps_in_shape_stays_known() -> None:
    graph = loop("Add(v, r2)")
    assert graph.outputs[0].type.shape == (2, 3)
    assert graph.outputs[0].name not in graph.size_symbols


def test_what_a_loop_changes_becomes_a_symbol_inside_and_another_outside() -> None:
    graph = loop("Concat<axis = 0>(v, r2)")
    (body,) = node(graph, "Loop").regions
    inside, outside = body.inputs[2].type.shape, graph.outputs[0].type.shape
    assert inside[1] == outside[1] == 3
    assert isinstance(inside[0], Var)
    assert isinstance(outside[0], Var)
    assert inside[0] is not outside[0]
    assert outside[0].name in graph.size_symbols
    assert inside[0].name in body.symbols
    assert body.outputs[1].type.shape[0] is not inside[0]


def test_a_known_trip_count_is_the_length_of_what_is_collected() -> None:
    graph = load(
        LOOP.replace("BODY", "Add(v, r2)")
        .replace("COUNT", "five")
        .replace("COND", "ci")
        .replace("{\n  t =", "{ five = Constant<value_int = 5>() t =", 1)
    )
    assert graph.outputs[1].type.shape == (5, 3)


def test_a_trip_count_read_while_running_is_a_length_too_but_not_if_the_loop_may_stop() -> None:
    running = loop("Add(v, r2)").outputs[1].type.shape[0]
    assert not isinstance(running, (int, Var))  # max(m, 0)
    stopping = LOOP.replace("BODY", "Add(v, r2)").replace("COUNT", "m").replace("Identity(COND)", "Not(ci)")
    graph = load(stopping)
    length = graph.outputs[1].type.shape[0]
    assert isinstance(length, Var)
    assert length.name in graph.size_symbols


def test_a_loop_may_not_change_rank_or_element_type() -> None:
    with pytest.raises(CompileError, match="rank 2 and rank 3"):
        loop("Unsqueeze(v, zero)")
    with pytest.raises(CompileError, match="float32 and int64"):
        loop("Cast<to = 7>(v)")


def test_a_body_with_too_few_inputs_is_refused() -> None:
    with pytest.raises(CompileError, match="the body has 3 inputs, 2 are needed"):
        load(LOOP.replace("BODY", "Add(v, r2)").replace("(COUNT, t, x)", "(m, t)").replace("COND", "ci"))


def test_widening_reaches_the_regions_of_regions() -> None:
    text = """
    g (int64 m, float[2] x, bool c) => (float[a] y) {
      t = Constant<value = bool {1}>()
      y = Loop(m, t, x) <
        body = b (int64 i, bool ci, float[p] v) => (bool co, float[r] w) {
          co = Identity(ci)
          w = If(c) <then_branch = th () => (float[k] e) { e = Concat<axis = 0>(v, x) }, else_branch = o () => (float[k] f) { f = Relu(v) }>
        }
      >
    }
    """
    (body,) = node(load(text), "Loop").regions
    grown = body.inputs[2].type.shape[0]
    assert isinstance(grown, Var)
    inner = next(n for n in body.nodes if n.op == "If")
    assert inner.regions[1].outputs[0].type.shape == (grown,)
    assert inner.regions[1].nodes[0].inputs[0].type.shape == (grown,)  # type: ignore[union-attr]


SCAN = """
g (float[3] s, float[2, n, 5] x) => (float[3] t, float[a, b] y) {
  t, y = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [AXIS]>(s, x) <
    body = b (float[3] v, float[2, 5] e) => (float[3] w, float[2] o) {
      w = Relu(v)  k = Constant<value_ints = [1]>()  o = ReduceSum<keepdims = 0>(e, k)
    }
  >
}
"""


@pytest.mark.parametrize(("axis", "shape"), [("0", (Var("n"), 2)), ("1", (2, Var("n"))), ("-1", (2, Var("n")))])
def test_a_scan_cuts_and_stacks_along_its_axes(axis: str, shape: tuple[object, ...]) -> None:
    graph = load(_merged(SCAN.replace("AXIS", axis)))
    assert node(graph, "Scan").regions[0].inputs[1].type.shape == (2, 5)
    assert [o.type.shape for o in graph.outputs] == [(3,), shape]


def test_axes_of_a_scan_are_checked() -> None:
    for wrong in ("7", "-3", "0, 0"):
        with pytest.raises(CompileError, match="scan_output_axes"):
            load(_merged(SCAN.replace("AXIS", wrong)))


def _merged(text: str) -> str:
    """ONNX text takes attributes in one list, before or after the operands."""
    head, _, rest = text.partition("Scan<")
    given, _, rest = rest.partition(">(s, x) <")
    return f"{head}Scan(s, x) <{given},{rest}"


def test_nodes_of_a_region_may_not_be_used_outside() -> None:
    model = parser.parse_model(HEADER + IF.replace("AXIS", "0"))
    model.graph.node.append(onnx.helper.make_node("Relu", ["p"], ["leak"]))
    with pytest.raises(CompileError, match="'p' has no definition"):
        load_graph(model)
