"""Winograd's algorithm in floats: the matrices, the schedule in the kernel interpreter, and when it is chosen."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnxc
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.program.interpret import run_program
from onnxc.passes.kernel import plan_winograd_floats
from onnxc.passes.kernel.winograd_floats import POINTS, winograd_floats

from ..lowered import program_of, schedules

V3 = "cpu:x86-64-v3"
CONVOLUTIONS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "whole tiles": ("g (float[1,16,8,4] x) => (float[1,16,8,4] z) { z = Conv<pads=[1,1,1,1]>(x, w) }", {"w": (16, 16, 3, 3)}),
    "partial tiles": (
        "g (float[2,16,5,3] x) => (float[2,16,5,3] z) { a = Conv<pads=[1,1,1,1]>(x, w, b)\n z = Relu(a) }",
        {"w": (16, 16, 3, 3), "b": (16,)},
    ),
    "without padding": ("g (float[1,16,6,4] x) => (float[1,32,4,2] z) { z = Conv(x, w) }", {"w": (32, 16, 3, 3)}),
    "residual": (
        "g (float[1,16,4,4] x) => (float[1,16,4,4] z) { a = Conv<pads=[1,1,1,1]>(x, w)\n b = Add(a, x)\n z = Relu(b) }",
        {"w": (16, 16, 3, 3)},
    ),
    "padded channels": (
        "g (float[1,19,4,5] x) => (float[1,11,4,5] z) { a = Relu(x)\n z = Conv<pads=[1,1,1,1]>(a, w) }", {"w": (11, 19, 3, 3)},
    ),
    "window of five": ("g (float[1,16,3,4] x) => (float[1,16,3,4] z) { z = Conv<pads=[2,2,2,2]>(x, w) }", {"w": (16, 16, 5, 5)}),
    "into a concatenation": (
        """g (float[1,16,4,4] x) => (float[1,32,4,4] z) {
            a = Conv<pads=[1,1,1,1]>(x, w)
            b = Conv<pads=[1,1,1,1]>(a, v)
            c = Concat<axis=1>(a, b)
            z = Relu(c) }""",
        {"w": (16, 16, 3, 3), "v": (16, 16, 3, 3)},
    ),
}  # fmt: skip
INTERPRETED = (
    ("partial tiles", V3), ("padded channels", V3), ("residual", "cpu:aarch64,cortex-a72"), ("without padding", "cpu:x86-64-v4"),
)  # fmt: skip


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions too, with scratch memory for few tiles."""
    monkeypatch.setattr(plan_winograd_floats, "GAIN", 1e9)
    monkeypatch.setattr(plan_winograd_floats, "MIN_TILES", 1)
    monkeypatch.setattr(plan_winograd_floats, "L2_SHARE", 0.1)


def model(text: str, constants: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    made: onnx.ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    generator = np.random.default_rng(1)
    for name, shape in constants.items():
        made.graph.initializer.append(numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name))
    return made


@pytest.mark.parametrize(("products", "taps"), [(n, r) for n in POINTS for r in range(2, n)])
def test_the_matrices_filter_exactly(products: int, taps: int):
    f = winograd_floats(products - taps + 1, taps)
    data, weights = [Fraction(k * k - 3 * k + 1) for k in range(products)], [Fraction(2 * k - 3, 5) for k in range(taps)]

    def times(matrix, vector):
        return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]

    found = times(f.output_matrix, [a * b for a, b in zip(times(f.tap_matrix, weights), times(f.data_matrix, data), strict=True)])
    assert found == [sum(data[k + i] * weights[i] for i in range(taps)) for k in range(f.outputs)]


@pytest.mark.parametrize(("name", "target"), INTERPRETED)
def test_the_interpreter_finds_no_fault(name: str, target: str, always: None):
    made = model(*CONVOLUTIONS[name])
    built = program_of(made, target)
    assert "winograd" in schedules(built)
    inputs, expected = example(made)
    np.testing.assert_allclose(run_program(built, inputs)["z"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_machine_code_computes_the_convolution(name: str, threads: int, always: None):
    made = model(*CONVOLUTIONS[name])
    inputs, expected = example(made)
    found = onnxc.compile(made, threads=threads, cache=False).run(inputs)["z"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("images", [0, 1, 5])
def test_images_may_be_as_many_as_a_run_says(images: int, always: None):
    made = model("g (float[N,16,5,6] x) => (float[N,16,5,6] z) { a = Conv<pads=[1,1,1,1]>(x, w)\n z = Add(a, x) }", {"w": (16, 16, 3, 3)})
    built = program_of(made, V3)
    assert "winograd" in schedules(built)
    inputs = {"x": np.random.default_rng(2).standard_normal((images, 16, 5, 6)).astype(np.float32)}
    expected = run_graph(load_graph(made), inputs)["z"]
    results = [onnxc.compile(made, threads=threads, cache=False).run(inputs)["z"] for threads in (1, 3)]
    for found in (*results, *([run_program(built, inputs)["z"]] if images == 1 else [])):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def example(made: onnx.ModelProto) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs, and what the graph makes of them."""
    shape = [d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim]
    inputs = {"x": np.random.default_rng(2).standard_normal(shape).astype(np.float32)}
    return inputs, run_graph(load_graph(made), inputs)["z"]


LARGE = "g (float[1,64,30,27] x) => (float[1,48,30,27] z) { a = Conv<pads=[1,1,1,1]>(x, w, b)\n z = Relu(a) }"
LARGE_WEIGHTS = {"w": (48, 64, 3, 3), "b": (48,)}


def test_the_error_is_that_of_a_few_roundings():
    made = model(LARGE, LARGE_WEIGHTS)
    inputs, exact = example(made)
    found = onnxc.compile(made, cache=False).run(inputs)["z"]
    assert np.abs(found - exact).max() < 4e-6 * np.abs(exact).max()


def test_large_convolutions_are_chosen_and_others_are_not():
    assert "winograd" in schedules(program_of(model(LARGE, LARGE_WEIGHTS), V3))
    assert "winograd" not in schedules(program_of(model(LARGE, LARGE_WEIGHTS), f"{V3},-winograd"))
    for text, weights in (
        ("g (float[1,64,30,30] x) => (float[1,64,15,15] z) { z = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w) }", (64, 64, 3, 3)),
        ("g (float[1,64,30,30] x) => (float[1,64,30,30] z) { z = Conv<pads=[2,2,2,2], dilations=[2,2]>(x, w) }", (64, 64, 3, 3)),
        ("g (float[1,64,30,30] x) => (float[1,64,30,30] z) { z = Conv<pads=[1,1,1,1], group=64>(x, w) }", (64, 1, 3, 3)),
        ("g (float[1,64,30,30] x) => (float[1,64,30,30] z) { z = Conv<pads=[0,1,0,1]>(x, w) }", (64, 64, 1, 3)),
        ("g (float[1,3,30,30] x) => (float[1,64,30,30] z) { z = Conv<pads=[1,1,1,1]>(x, w) }", (64, 3, 3, 3)),
        ("g (float[1,64,H,W] x) => (float[1,64,P,Q] z) { z = Conv<pads=[1,1,1,1]>(x, w) }", (64, 64, 3, 3)),
    ):
        assert "winograd" not in schedules(program_of(model(text, {"w": weights}), V3)), text
