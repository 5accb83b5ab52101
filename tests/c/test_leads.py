"""Outputs that follow their input in the same memory: kernels give the same as with memory of their own."""

import numpy as np
import pytest
from onnx import numpy_helper, parser

import onnxc
from onnxc.backends.c.print import print_kernel_c
from onnxc.backends.c.target import make_target
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.parse import parse_kernel
from onnxc.compiler.kernel.text import print_kernel
from onnxc.compiler.program.interpret import run_program
from onnxc.compiler.program.stages import ScheduledKernel

from ..lowered import program_of
from .byte_layers import DOT_ROWS, LAYERS, LOOKUPS, SUMS, arrays_of, layer, meanings
from .conftest import Run

LEADS = {"pointwise": 2 * 6, "matrix": 2 * 4, "depthwise": (5 + 2) * 13, "depthwise with a stride": 3 * 4, "depthwise row": 4}
"""By hand: how far what is written ends above the begin of what may still be read. Rows take one pixel of a depthwise
convolution, two of the others."""


def lead_of(scheduled: ScheduledKernel) -> int | None:
    """The lead of the data."""
    return dict(zip((v.name for v in scheduled.operands), scheduled.leads, strict=False)).get("x")


def test_leads_of_layers() -> None:
    found = {name: lead_of(layer(name, "any")[2]) for name in LAYERS}
    assert LEADS.items() <= found.items()
    assert found["vector"] is None
    assert sum(lead is None for name, lead in found.items() if name not in {*SUMS, *LOOKUPS}) <= 3, "maps are made in place"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("processor", DOT_ROWS)
def test_layers_in_the_memory_of_their_data(name: str, processor: str, run_c: Run) -> None:
    group, nest, scheduled = layer(name, processor)
    lead = lead_of(scheduled)
    if lead is None:
        assert not scheduled.kernel.overlapping
        return
    arrays, wanted = arrays_of(group, nest, scheduled)
    x, y = (next(b for v, b in zip(scheduled.operands, scheduled.kernel.buffers, strict=True) if v.name == name) for name in ("x", "y"))
    assert {x, y} <= scheduled.kernel.overlapping
    for run in (lambda kernel, memory: run_kernel(kernel, memory, {}, meanings()), lambda kernel, memory: run_c(kernel, memory, {})):
        memory = dict(zip(scheduled.kernel.buffers, (a.copy() for a in arrays), strict=True))
        arena = np.zeros(lead + memory[x].size + memory[y].size, memory[y].dtype)
        given, made = arena[lead:][: memory[x].size], arena[: memory[y].size]
        given[:] = memory[x]
        run(scheduled.kernel, memory | {x: given, y: made})
        np.testing.assert_array_equal(made, wanted)


def test_tensors_without_elements_have_no_lead() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> none (float[3,0,5] x) => (float[3,0,5] y) { y = Trilu(x) }'
    assert onnxc.compile(parser.parse_model(text), "c").run({"x": np.zeros((3, 0, 5), np.float32)})["y"].shape == (3, 0, 5)


def test_arguments_that_overlap_are_not_restricted() -> None:
    scheduled = layer("pointwise", "any")[2]
    text = print_kernel(scheduled.kernel)
    again = parse_kernel(text)
    overlaps = [b in scheduled.kernel.overlapping for b in scheduled.kernel.buffers]
    assert [b in again.overlapping for b in again.buffers] == overlaps
    assert overlaps.count(True) == 2
    head = print_kernel_c(scheduled.kernel).split("void dot(")[1].split(")")[0]
    assert ["restrict" not in parameter for parameter in head.split(",")] == overlaps


CHAINS = {
    "depthwise and pointwise": """a = Conv<pads = [1, 1, 1, 1]>(x, first)
        b = Conv<pads = [1, 1, 1, 1], group = 8>(a, deep)
        c = Conv(b, point)
        d = Conv<pads = [1, 1, 1, 1], strides = [2, 2], group = 8>(c, deep)
        e = Conv(d, wide)
        y = GlobalAveragePool(e)""",
    "pools": """a = Conv<pads = [1, 1, 1, 1]>(x, first)
        b = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)
        c = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(b)
        d = Conv<pads = [1, 1, 1, 1]>(c, full)
        e = Conv(d, point)
        y = GlobalAveragePool(e)""",
}
WEIGHTS = {"first": (8, 3, 3, 3), "deep": (8, 1, 3, 3), "point": (8, 8, 1, 1), "wide": (16, 8, 1, 1), "full": (8, 8, 3, 3)}
LARGEST = 4 * 8 * 12 * 12


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_floats_take_little_more_than_their_largest_tensor(name: str) -> None:
    channels = 16 if "wide" in CHAINS[name] else 8
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18]> g (float[1,3,12,12] x) => (float[1,{channels},1,1] y) {{ {CHAINS[name]} }}'
    )
    rng = np.random.default_rng(0)
    for weight, shape in WEIGHTS.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), weight))
    graph, target = load_graph(model), make_target("c:whole-layers")
    inputs = {"x": rng.standard_normal((1, 3, 12, 12)).astype(np.float32)}
    wanted = run_graph(graph, inputs)["y"]
    program = program_of(graph, target)
    for found in (run_program(program, inputs), target.pipeline.emit(program).runner(1).run(inputs)):
        np.testing.assert_allclose(found["y"], wanted, rtol=1e-4, atol=1e-4)
    assert LARGEST < program.arena_bytes < 1.7 * LARGEST
