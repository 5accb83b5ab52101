"""Sums of products of bytes give the same integers on every CPU: programs run in the kernel interpreter, with the meanings of the rows.

The targets stand for the rows: AVX2 and SSE2 (pairs of 16 bits), VNNI in 512 and 256 bits, NEON with and without dot products.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.backends.llvm.byte_rows import MEANINGS, dot_steps
from onnxc.backends.llvm.target import parse
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Graph
from onnxc.compiler.kernel.text import print_kernel
from onnxc.compiler.program.interpret import run_program

from ..lowered import program_of

ROWS = {
    "cpu:x86-64": ("maddwd.v4i32", "pairs_{}.v4i32"),
    "cpu:x86-64-v3": ("maddwd.v8i32", "pairs_{}.v8i32"),
    "cpu:x86-64-v4": ("maddwd.v16i32", "pairs_{}.v16i32"),
    "cpu:icelake-server": ("vpdpbusd.v16i32", "pairs_{}.v16i32"),
    "cpu:alderlake": ("vpdpbusd.v8i32", "pairs_{}.v8i32"),
    "cpu:aarch64,cortex-a72": ("mul.v4i32", "taps_{}.v4i32"),
    "cpu:aarch64,neoverse-n1": ("sdot.v4i32", "taps_{}.v4i32"),
    "cpu:aarch64,neoverse-v1": ("usdot.v4i32", "taps_{}.v4i32"),
}
"""The rows that a target has for dense and for depthwise sums."""

CONVS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], int]] = {
    "1x1": ("", (1, 8, 3, 5), (24, 8, 1, 1), 1),
    "3x3, odd channels": ("pads=[1,1,1,1]", (1, 6, 5, 4), (19, 6, 3, 3), 1),
    "strided": ("pads=[1,1,1,1], strides=[2,2]", (2, 5, 7, 6), (16, 5, 3, 3), 1),
    "few channels, large window": ("pads=[3,3,3,3], strides=[2,2]", (1, 3, 9, 9), (8, 3, 7, 7), 1),
    "dilated": ("pads=[2,2,2,2], dilations=[2,2]", (1, 4, 7, 7), (40, 4, 3, 3), 1),
    "depthwise": ("pads=[1,1,1,1]", (1, 32, 6, 5), (32, 1, 3, 3), 32),
    "depthwise strided": ("pads=[0,1,1,2], strides=[2,2]", (1, 48, 7, 6), (48, 1, 3, 3), 48),
    "depthwise, odd channels": ("pads=[1,1,1,1]", (1, 6, 5, 5), (6, 1, 3, 3), 6),
    "grouped": ("", (1, 8, 3, 3), (12, 4, 1, 1), 2),
}


def _model(text: str, constants: Mapping[str, np.ndarray | np.generic]) -> onnx.ModelProto:
    model: onnx.ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())
    return model


def _bytes(generator: np.random.Generator, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    info = np.iinfo(dtype)
    return generator.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def _conv(name: str, dtype: type, zero: int | None = None) -> tuple[Graph, dict[str, np.ndarray]]:
    attributes, shape, kernel, group = CONVS[name]
    generator = np.random.default_rng(1)
    constants: dict[str, np.ndarray | np.generic] = {
        "xs": np.float32(0.02), "xz": _bytes(generator, dtype, ()) if zero is None else np.array(zero, dtype),
        "w": _bytes(generator, np.int8, kernel),
        "ws": generator.uniform(0.01, 0.03, kernel[0]).astype(np.float32), "wz": np.zeros(kernel[0], np.int8),
        "ys": np.float32(0.5 * np.sqrt(np.prod(kernel[1:]))), "yz": np.array(3, dtype),
        "b": generator.integers(-3000, 3000, kernel[0]).astype(np.int32),
    }  # fmt: skip
    attributes = ", ".join(filter(None, (attributes, f"group={group}")))
    kind, extents = np.dtype(dtype).name, ",".join(map(str, shape))
    inputs = "x, xs, xz, w, ws, wz, ys, yz, b"
    text = f"g ({kind}[{extents}] x) => ({kind}[N,C,H,W] z) {{ z = QLinearConv<{attributes}>({inputs}) }}"
    return load_graph(_model(text, constants)), {"x": _bytes(generator, dtype, shape)}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cpu:alderlake", "cpu:aarch64,neoverse-n1"])
def test_convolutions(name: str, target: str, dtype: type) -> None:
    graph, inputs = _conv(name, dtype)
    np.testing.assert_array_equal(run_program(program_of(graph, target), inputs, MEANINGS)["z"], run_graph(graph, inputs)["z"])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", ["1x1", "3x3, odd channels"])
@pytest.mark.parametrize("target", ["cpu:x86-64-v2", "cpu:x86-64-v3", "cpu:x86-64-v4"])
def test_data_above_their_zero(name: str, target: str, dtype: type) -> None:
    """As an activation leaves them: sums of pairs go through 16 bits, and large pairs are split. The extremes of both factors are there."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    graph, inputs = _conv(name, dtype, zero=low)
    program = program_of(graph, target)
    assert any("maddubs" in kernel.schedule for kernel in program.kernels.values())
    shape, generator = inputs["x"].shape, np.random.default_rng(4)
    few = np.where(generator.random(shape) < 0.02, high, generator.integers(low, low + 90, shape))
    for x in (few, generator.integers(low, low + 90, shape), np.full(shape, high), np.full(shape, low)):
        given: dict[str, np.ndarray] = {"x": x.astype(dtype)}
        np.testing.assert_array_equal(run_program(program, given, MEANINGS)["z"], run_graph(graph, given)["z"])


def test_accumulators_begin_with_the_bias() -> None:
    """Bias and zero point cost nothing for each pixel: the epilogue begins with the conversion to a float."""
    graph, inputs = _conv("1x1", np.int8, zero=-128)
    program = program_of(graph, "cpu:x86-64-v3")
    (text,) = (print_kernel(kernel) for kernel in program.kernels.values() if kernel.schedule.startswith("dot"))
    assert "cast.float32(load(@acc" in text and "buffer @sums" in text
    np.testing.assert_array_equal(run_program(program, inputs, MEANINGS)["z"], run_graph(graph, inputs)["z"])


def test_pairs_at_the_limit_are_exact() -> None:
    """No 16-bit sum of a pair within the limit saturates, whatever the weights are; beyond it some do."""
    for guard in {step.guard for target in ROWS for step in dot_steps(parse(target)) if step.guard is not None}:
        sums = [a * x + b * (guard.limit - x) for a in (-128, 127) for b in (-128, 127) for x in (1, 128, 255)]
        assert min(sums) >= -(1 << 15) and max(sums) < 1 << 15 and -128 * (guard.limit + 1) < -(1 << 15)


@pytest.mark.parametrize("target", ROWS)
@pytest.mark.parametrize("name", ["3x3, odd channels", "depthwise"])
def test_rows_of_targets(name: str, target: str) -> None:
    """The row is the one that the target has, and gives the same bytes."""
    graph, inputs = _conv(name, np.int8)
    program = program_of(graph, target)
    row = ROWS[target][name == "depthwise"].format("s8")
    assert any(row in kernel.schedule for kernel in program.kernels.values())
    np.testing.assert_array_equal(run_program(program, inputs, MEANINGS)["z"], run_graph(graph, inputs)["z"])


@pytest.mark.parametrize("target", ROWS)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(7, 37, 33), (1, 64, 40), (13, 3, 5)])
def test_products_with_a_zero_point_of_run_time(rows: int, depth: int, columns: int, target: str) -> None:
    """As DynamicQuantizeLinear makes it."""
    generator = np.random.default_rng(2)
    text = f"g (uint8[{rows},{depth}] x, uint8 zero) => (int32[{rows},{columns}] z) {{ z = MatMulInteger(x, w, zero) }}"
    graph = load_graph(_model(text, {"w": _bytes(generator, np.int8, (depth, columns))}))
    inputs = {"x": _bytes(generator, np.uint8, (rows, depth)), "zero": np.array(201, np.uint8)}
    program = program_of(graph, target)
    assert any(ROWS[target][0] in kernel.schedule for kernel in program.kernels.values())
    np.testing.assert_array_equal(run_program(program, inputs, MEANINGS)["z"], run_graph(graph, inputs)["z"])


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cpu:icelake-server"])
def test_products_of_unknown_rows(target: str) -> None:
    generator = np.random.default_rng(3)
    graph = load_graph(
        _model("g (uint8[N,20] x) => (int32[N,24] z) { z = MatMulInteger(x, w) }", {"w": _bytes(generator, np.int8, (20, 24))})
    )
    inputs = {"x": _bytes(generator, np.uint8, (19, 20))}
    np.testing.assert_array_equal(run_program(program_of(graph, target), inputs, MEANINGS)["z"], run_graph(graph, inputs)["z"])


def test_weights_of_a_part_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a cache that holds one tile of weights: channels go in parts, the last one narrower."""
    monkeypatch.setattr("onnxc.passes.kernel.schedule_dot_tiles.RESIDENT", 0.0)
    graph, inputs = _conv("3x3, odd channels", np.uint8)
    for target in ("cpu:x86-64", "cpu:alderlake"):
        np.testing.assert_array_equal(run_program(program_of(graph, target), inputs, MEANINGS)["z"], run_graph(graph, inputs)["z"])


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cpu:icelake-server", "cpu:aarch64,neoverse-n1"])
@pytest.mark.parametrize(("low", "high", "zero", "is_wide"), [(0, 255, 100, True), (60, 200, 130, False)])
def test_weights_with_a_zero_point(low: int, high: int, zero: int, is_wide: bool, target: str) -> None:
    """As dynamic quantization leaves them; where the differences are no bytes they take 16 bits."""
    generator = np.random.default_rng(5)
    constants = {
        "w": generator.integers(low, high, (9, 6, 3, 3), np.uint8, endpoint=True), "wz": np.uint8(zero),
        "v": generator.integers(low, high, (9, 12), np.uint8, endpoint=True), "vz": np.arange(zero - 6, zero + 6).astype(np.uint8),
    }  # fmt: skip
    text = """g (uint8[N,6,H,W] x, uint8 xz) => (int32[N,9,H,W] y, int32[N,H,W,12] z) {
      y = ConvInteger<pads=[1,1,1,1]>(x, w, xz, wz)  c = Cast<to=2>(y)  t = Transpose<perm=[0,2,3,1]>(c)
      z = MatMulInteger(t, v, xz, vz) }"""
    graph, inputs = load_graph(_model(text, constants)), {"x": _bytes(generator, np.uint8, (2, 6, 5, 4)), "xz": np.array(77, np.uint8)}
    program = program_of(graph, target)
    dots = [kernel.schedule for kernel in program.kernels.values() if kernel.schedule.startswith("dot")]
    assert len(dots) == 2 and all((".w16" in schedule) == is_wide for schedule in dots)
    found, expected = run_program(program, inputs, MEANINGS), run_graph(graph, inputs)
    for name in ("y", "z"):
        np.testing.assert_array_equal(found[name], expected[name])
