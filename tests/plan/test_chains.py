"""Chains of layers that run row by row: the same results to the bit, in less memory."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.backends.c.mma import ROWS
from onnxc.backends.c.target import make_target
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.program.interpret import run_program
from onnxc.compiler.program.memory_use import memory_use
from onnxc.compiler.program.nodes import Call, Program, Rows, walk_steps
from onnxc.compiler.program.stages import Group, Stage
from onnxc.compiler.target import Target
from onnxc.passes.fusion.form_groups import form_groups
from onnxc.passes.kernel.row_windows import has_own_weights
from onnxc.passes.kernel.walk_rows import RowWalk, walk_rows
from onnxc.passes.plan import form_chains

from ..lowered import graph_of
from .random_networks import random_network

MEANINGS = {name: row.meaning for name, row in ROWS.items()}


def model_of(body: str, **weights: tuple[int, ...]) -> onnx.ModelProto:
    """A model in text, with random weights of some shapes."""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> g {body}')
    rng = np.random.default_rng(1)
    for name, shape in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return model


def built(model: onnx.ModelProto, name: str) -> tuple[Target, Program]:
    target = make_target(name)
    return target, target.pipeline.build(graph_of(model, target))


def stages_of(model: onnx.ModelProto) -> list[Stage]:
    graph = graph_of(model, make_target("c"))
    return [stage for unit in form_groups(graph, GraphFacts.of(graph)) if isinstance(unit, Group) for stage in unit.stages]


def walked(model: onnx.ModelProto) -> RowWalk:
    walk = walk_rows(stages_of(model))
    assert isinstance(walk, RowWalk), walk
    return walk


def inputs_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


# --- Who asks for what ------------------------------------------------------------------------

CONV = "Conv<pads = [1, 1, 1, 1]>"


def test_a_window_of_rows_is_kept() -> None:
    walk = walked(
        model_of(f"(float[1,2,9,5] x) => (float[1,2,1,1] y) {{ a = {CONV}(x, w) b = {CONV}(a, w) y = GlobalMaxPool(b) }}", w=(2, 2, 3, 3))
    )
    assert walk.kept == (3, 1)
    assert walk.folds
    assert walk.moved_bytes == (7 * 2 * 5 * 2 * 4, 0), "two rows are moved for each row but the first and the last"


def test_a_residual_waits_for_the_branch() -> None:
    layers = f"a = {CONV}(x, w) b = {CONV}(a, w) c = {CONV}(b, w) d = {CONV}(c, w) e = Add(a, d) y = GlobalMaxPool(e)"
    walk = walked(model_of(f"(float[1,2,9,5] x) => (float[1,2,1,1] y) {{ {layers} }}", w=(2, 2, 3, 3)))
    assert walk.kept == (4, 3, 3, 1), "the sum reads a row that is one above the window of the branch"
    assert walk.pulls[1][0].delay == 1


def test_rows_that_nobody_reads_are_left_out() -> None:
    body = f"(float[1,2,13,5] x) => (float[1,2,1,1] y) {{ a = {CONV}(x, w) b = Conv<strides = [4, 1]>(a, v) y = GlobalMaxPool(b) }}"
    model = model_of(body, w=(2, 2, 3, 3), v=(2, 2, 1, 1))
    assert walked(model).skips == (True, False)
    _, program = built(model, "c:smallest-arena")
    assert any(isinstance(step, Rows) for step in program.steps)
    np.testing.assert_allclose(run_program(program, inputs_of(model))["y"], run_graph(load_graph(model), inputs_of(model))["y"], rtol=1e-5)


@pytest.mark.parametrize(("layers", "rows"), [(f"y = {CONV}(x, w)", 2), (f"a = {CONV}(x, w) y = {CONV}(a, w)", 0)])
def test_the_output_lies_over_what_has_been_read(layers: str, rows: int) -> None:
    walk = walked(model_of(f"(float[1,1,9,5] x) => (float[1,1,9,5] y) {{ {layers} }}", w=(1, 1, 3, 3)))
    assert walk.leads["x"] == rows * 5 * 4, "a second layer reads two rows ahead, and keeps what it needs"


REFUSED = {
    "transposed": "a = Relu(x) y = Transpose<perm = [0, 1, 3, 2]>(a)",
    "backwards": "a = Relu(x) y = Slice(a, last, first, axis, back)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_forward_by_rows_is_no_chain(name: str) -> None:
    model = model_of(f"(float[1,1,6,6] x) => (float[1,1,6,6] y) {{ {REFUSED[name]} }}")
    for constant, value in {"last": 5, "first": -7, "axis": 2, "back": -1}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), constant))
    graph = load_graph(model)
    stages = [s for u in form_groups(graph, GraphFacts.of(graph)) if isinstance(u, Group) for s in u.stages]
    first = stages_of(model_of("(float[1,1,6,6] x) => (float[1,1,6,6] a) { a = Relu(x) }"))[0]
    last = stages[-1]
    assert last.operands[0].name == "x", "the two were fused"
    chained = type(last)(last.value, (first.value,), last.nest)
    assert isinstance(walk_rows([first, chained]), str)


def test_channels_are_no_rows_of_a_chain() -> None:
    """A convolution that writes its channels first is one matrix product, and none channel by channel."""
    (stage,) = stages_of(model_of("(float[1,4,5,5] x) => (float[1,2,5,5] y) { y = Conv(x, w) }", w=(2, 4, 1, 1)))
    assert has_own_weights(stage, lambda v: v.name == "w")
    assert not has_own_weights(stage, lambda v: False)


# --- Results ----------------------------------------------------------------------------------


@pytest.fixture
def as_long_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains wherever they are possible, whether they save memory or not."""

    def parts(found: form_chains._Parts, _: float) -> Iterator[tuple[int, int]]:
        first = 0
        while first < found.count:
            ends = [k for k in range(first + 1, found.count) if first in found._firsts(k) and found._chain(first, k) is not None]
            yield first, max(ends, default=first)
            first = max(ends, default=first) + 1

    monkeypatch.setattr(form_chains._Parts, "split", parts)


@pytest.mark.parametrize("codes", [False, True], ids=["floats", "codes"])
@pytest.mark.parametrize("seed", [0, 1, 9])
def test_random_networks(seed: int, codes: bool, as_long_as_possible: None) -> None:
    model = random_network(seed, codes=codes)
    inputs = inputs_of(model)
    target, rows = built(model, "c")
    whole_target, whole = built(model, "c:whole-layers")
    assert any(isinstance(step, Rows) for step in rows.steps)
    found, wanted = (t.pipeline.emit(p).runner(1).run(inputs)["y"] for t, p in ((target, rows), (whole_target, whole)))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(run_program(rows, inputs, MEANINGS)["y"], found, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, run_graph(load_graph(model), inputs)["y"], rtol=1e-3, atol=0.06 if codes else 1e-3)


# --- Memory -----------------------------------------------------------------------------------

BODY = f"""(float[1,3,24,16] x) => (float[1,8] y) {{ a = {CONV}(x, first) b = {CONV}(a, full) c = Relu(b)
    d = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(c, full) e = GlobalAveragePool(d) y = Flatten(e) }}"""
WEIGHTS = {"first": (8, 3, 3, 3), "full": (8, 8, 3, 3)}
ROW = 16 * 8 * 4


def test_a_chain_takes_rows_in_place_of_tensors() -> None:
    model = model_of(BODY, **WEIGHTS)
    target, rows = built(model, "c")
    _, whole = built(model, "c:whole-layers")
    sums = 8 * 4
    assert rows.arena_bytes == 3 * ROW + 3 * ROW + ROW // 2 + sums
    assert whole.arena_bytes > 24 * ROW
    wanted = run_graph(load_graph(model), inputs_of(model))["y"]
    np.testing.assert_allclose(target.pipeline.emit(rows).runner(1).run(inputs_of(model))["y"], wanted, rtol=1e-4, atol=1e-5)


def test_a_chain_is_one_step_whose_layers_are_told_apart() -> None:
    target, program = built(model_of(BODY, **WEIGHTS), "c:steps")
    (chain,) = (step for step in program.steps if isinstance(step, Rows))
    calls = [step for step in walk_steps(chain.body) if isinstance(step, Call)]
    assert [c.covers[0] for c in calls if c.covers and "fold" not in c.kernel] == ["a", "c", "d"] or len(calls) > 5
    use = memory_use(program)
    kept = [t for t in use.tensors if t.bytes == 3 * ROW]
    assert len(kept) == 2
    assert kept[0].first == kept[1].first and kept[0].last == kept[1].last, "all that rows touch lives while they run"
    source = target.pipeline.emit(program).files()["g.c"]
    assert b"case 0:" in bytes(source) and b"G_APART static void" in bytes(source)


def test_what_chains_cost_is_bounded() -> None:
    """A row of one position pays neither for calls nor for tiles."""
    body = "(float[1,4,200,1] x) => (float[1,4,1,1] y) { a = Conv(x, w) b = Relu(a) c = Conv(b, w) y = GlobalMaxPool(c) }"
    model = model_of(body, w=(4, 4, 1, 1))
    assert not any(isinstance(step, Rows) for step in built(model, "c")[1].steps)
    smallest = built(model, "c:smallest-arena")[1]
    assert any(isinstance(step, Rows) for step in smallest.steps)
    np.testing.assert_allclose(run_program(smallest, inputs_of(model))["y"], run_graph(load_graph(model), inputs_of(model))["y"], rtol=1e-5)
