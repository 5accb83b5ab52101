"""The order of units and writing in place: what takes the least memory, and what may be written over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from onnxc.compiler.dtypes import DType
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Node, TensorType, Value
from onnxc.compiler.program.interpret import run_program
from onnxc.compiler.program.nodes import Call, Place, Program
from onnxc.compiler.program.stages import NodeUnit
from onnxc.passes.plan import order_units as search
from onnxc.passes.plan.order_units import order_units
from onnxc.passes.plan.places import ArenaUse

from ..lowered import program_of

HEADER = '<ir_version: 10, opset_import: ["" : 18]> '


def unit(name: str, size: int, *inputs: str) -> NodeUnit:
    """A unit that makes a tensor of some bytes."""
    values = tuple(Value(other, TensorType(DType.INT8, (1,))) for other in inputs)
    return NodeUnit(Node("Made", values, (Value(name, TensorType(DType.INT8, (size,))),)))


def chosen(units: list[NodeUnit], kept: str) -> list[str]:
    """Names of what the units make, in the order that is chosen."""
    names = [u.node.outputs[0].name for u in units]
    before = {k: {names.index(v.name) for v in u.node.inputs if v.name in names} for k, u in enumerate(units)}
    order = order_units(units, before, range(len(units)), ArenaUse(lambda v: v.type.shape[0], (), kept.split()))
    return [names[k] for k in order]


def peak(units: list[NodeUnit], order: list[str], kept: str) -> int:
    """The most bytes that live at one time, counted in another way: what was made and is still read."""
    by_name = {u.node.outputs[0].name: u.node for u in units}
    worst = 0
    for k, name in enumerate(order):
        later = {v.name for other in order[k:] for v in by_name[other].inputs} | {*kept.split()}
        alive = {other for other in order[: k + 1] if other in later} | {name}
        worst = max(worst, sum(by_name[other].outputs[0].type.shape[0] for other in alive))
    return worst


def test_a_branch_is_finished_before_the_next_one_begins():
    units = [unit("a", 10), unit("b", 90, "a"), unit("c", 90, "a"), unit("d", 10, "b"), unit("e", 10, "c"), unit("f", 10, "d", "e")]
    assert chosen(units, "f") == ["a", "b", "d", "c", "e", "f"]


def test_the_larger_intermediate_comes_first():
    units = [unit("a", 4), unit("b", 20, "a"), unit("c", 10, "b"), unit("d", 60, "a"), unit("e", 2, "d"), unit("f", 4, "c", "e")]
    assert chosen(units, "f") == ["a", "d", "e", "b", "c", "f"]


def test_an_order_that_is_as_good_stays():
    units = [unit("a", 10), unit("b", 10, "a"), unit("c", 10, "a"), unit("d", 10, "b", "c")]
    assert chosen(units, "d") == ["a", "b", "c", "d"]


GRAPHS = st.lists(st.tuples(st.integers(1, 50), st.sets(st.integers(1, 4), max_size=3)), min_size=2, max_size=9)


def made_of(shape) -> list[NodeUnit]:
    return [unit(f"v{k}", size, *(f"v{k - back}" for back in sorted(backs) if back <= k)) for k, (size, backs) in enumerate(shape)]


@settings(deadline=None, max_examples=60)
@given(GRAPHS)
def test_no_order_takes_less(shape):
    units = made_of(shape)
    last = f"v{len(units) - 1}"
    found = chosen(units, last)
    assert sorted(found) == sorted(f"v{k}" for k in range(len(units)))
    assert peak(units, found, last) == min(peak(units, order, last) for order in orders(units))


def orders(units, done: tuple[str, ...] = ()):
    """All orders in which some units may run."""
    names = [u.node.outputs[0].name for u in units]
    if len(done) == len(units):
        yield list(done)
    for u, name in zip(units, names, strict=True):
        if name not in done and all(v.name in done for v in u.node.inputs):
            yield from orders(units, (*done, name))


@settings(deadline=None, max_examples=60)
@given(GRAPHS)
def test_graphs_that_are_too_large_to_search_get_no_worse(shape):
    units = made_of(shape)
    last, given_order = f"v{len(units) - 1}", [f"v{k}" for k in range(len(units))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "MAX_STATES", 1)
        found = chosen(units, last)
    position = {name: k for k, name in enumerate(found)}
    assert all(position[v.name] < position[u.node.outputs[0].name] for u in units for v in u.node.inputs)
    assert peak(units, found, last) <= peak(units, given_order, last)


# --- In place ---------------------------------------------------------------------------------


def program_from(text: str) -> Program:
    return program_of(parser.parse_model(HEADER + text), "c:whole-layers")


def check(text: str, *shapes: tuple[int, ...], arena_bytes: int) -> Program:
    """A program must give what the graph means, and take this much memory."""
    program = program_from(text)
    rng = np.random.default_rng(0)
    inputs = {v.name: rng.standard_normal(shape).astype(np.float32) for v, shape in zip(program.inputs, shapes, strict=True)}
    wanted = run_graph(load_graph(parser.parse_model(HEADER + text)), inputs)
    found = run_program(program, inputs)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    assert program.arena_bytes == arena_bytes
    return program


def test_a_sum_is_written_over_the_residual_that_ends():
    """The residual lives on while `b` is computed of it, and `d` needs no third place."""
    program = check(
        """g (float[1, 4, 8, 8] x, float[4, 4, 3, 3] w, float[4, 4, 3, 3] v) => (float[1, 4, 4, 4] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            b = Conv<pads = [1, 1, 1, 1]>(a, v)
            c = Conv<pads = [1, 1, 1, 1]>(b, w)
            d = Add(c, a)
            y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(d, v) }""",
        (1, 4, 8, 8), (4, 4, 3, 3), (4, 4, 3, 3),
        arena_bytes=2 * 1024,
    )  # fmt: skip
    assert len(program.steps) == 4


def test_what_a_convolution_makes_follows_what_it_reads():
    """`b` is computed of neighbours in `a`: it ends two rows and a pixel above what is still read of `a`."""
    check(
        """g (float[1, 4, 8, 8] x, float[4, 4, 3, 3] w) => (float[1, 4, 8, 8] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            b = Conv<pads = [1, 1, 1, 1]>(a, w)
            y = Conv<pads = [1, 1, 1, 1]>(b, w) }""",
        (1, 4, 8, 8), (4, 4, 3, 3),
        arena_bytes=1024 + (2 * 8 + 1) * 16,
    )  # fmt: skip


def test_an_input_with_later_users_stays():
    """`c` may not be written over `a`, which the last sum reads."""
    check(
        """g (float[4, 64] x, float[64, 64] w) => (float[4, 64] y) {
            a = MatMul(x, w)
            b = MatMul(a, w)
            s = Tanh(b)
            c = Add(s, a)
            d = MatMul(c, w)
            y = Sub(d, a) }""",
        (4, 64), (64, 64),
        arena_bytes=2 * 1024,
    )  # fmt: skip


def test_a_transposed_residual_is_not_written_over():
    """The last four rows of `c` read the columns of `a` from the twelfth on."""
    check(
        """g (float[16, 16] x, float[16, 16] w) => (float[16, 16] y) {
            a = MatMul(x, w)
            t = Transpose<perm = [1, 0]>(a)
            b = MatMul(a, w)
            c = Add(b, t)
            y = MatMul(c, w) }""",
        (16, 16), (16, 16),
        arena_bytes=1024 + 1024 - 12 * 4,
    )  # fmt: skip


def test_a_kernel_in_place_has_one_buffer_for_both():
    program = check(
        """g (float[1, 30] x, float[30, 30] w) => (float[1, 30] y) {
            a = MatMul(x, w)
            b = MatMul(a, w)
            c = MatMul(b, w)
            d = Add(c, a)
            y = MatMul(d, w) }""",
        (1, 30), (30, 30),
        arena_bytes=2 * 120,
    )  # fmt: skip
    calls = [step for step in program.steps if isinstance(step, Call)]
    assert [sum(s.place is Place.ARENA for s in call.buffers) for call in calls] == [1, 2, 2, 1]
    assert [len(program.kernels[call.kernel].buffers) for call in calls] == [3, 3, 3, 3]


def test_rows_are_written_over_the_rows_that_they_are_made_of():
    check(
        """g (float[16, 16] x, float[16, 16] w) => (float[16, 16] y) {
            a = MatMul(x, w)
            b = Softmax(a)
            y = MatMul(b, w) }""",
        (16, 16), (16, 16),
        arena_bytes=1024,
    )  # fmt: skip
    check(
        """g (float[16, 16] x, float[16, 16] w) => (float[16, 16] y) <int64[1] last = {-1}, int64[1] first = {-17}, int64[1] axis = {1}> {
            a = MatMul(x, w)
            s = ReduceSum(a, axis)
            r = Slice(a, last, first, axis, last)
            b = Div(r, s)
            y = MatMul(b, w) }""",
        (16, 16), (16, 16),
        arena_bytes=2048,
    )  # fmt: skip


def test_outputs_that_are_views_are_written_where_the_caller_wants_them():
    program = check(
        """g (float[1, 8, 8, 3] x, float[4, 3, 3, 3] w) => (float[1, 6, 6, 4] y) {
            a = Transpose<perm = [0, 3, 1, 2]>(x)
            b = Conv(a, w)
            c = Relu(b)
            y = Transpose<perm = [0, 2, 3, 1]>(c) }""",
        (1, 8, 8, 3), (4, 3, 3, 3),
        arena_bytes=0,
    )  # fmt: skip
    assert len(program.steps) == 1
