"""Winograd's algorithm in integers gives the sums of the convolution, and is taken where it saves instructions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.backends.llvm.byte_rows import MEANINGS
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.program.interpret import run_program
from onnxc.compiler.program.nodes import Program
from onnxc.passes.kernel import schedule_winograd_integers
from onnxc.passes.kernel.winograd_integers import winograd_integers

from ..lowered import program_of


@pytest.mark.parametrize("m", [2, 3, 4])
def test_algorithm(m: int) -> None:
    """Each output times the known factor, also where sums wrap in 32 bits."""
    algorithm = winograd_integers(m)
    data, outputs = np.array(algorithm.data_matrix, np.int64), np.array(algorithm.output_matrix, np.int64)
    generator = np.random.default_rng(m)
    square, weights = generator.integers(-128, 128, (algorithm.products, algorithm.products)), generator.integers(-128, 128, (3, 3))
    expected = [[(square[i : i + 3, j : j + 3] * weights).sum() for j in range(m)] for i in range(m)]
    products = algorithm.transform_taps(weights).astype(np.int64) * (data @ square @ data.T)
    wrapped = (outputs @ (products << 20 >> 20) @ outputs.T).astype(np.int32)
    np.testing.assert_array_equal((wrapped * np.int32(algorithm.inverse)) >> np.array(algorithm.shifts, np.int32), expected)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_growth_bounds_the_transforms(m: int) -> None:
    algorithm = winograd_integers(m)
    rows = np.array(algorithm.data_matrix, np.int64)
    both = np.einsum("ia,jb->ijab", rows, rows).reshape(algorithm.products**2, -1)
    worst = max(np.maximum(both, 0).sum(1).max(), np.maximum(-both, 0).sum(1).max())
    assert worst <= algorithm.growth and algorithm.growth * 255 < 1 << 15


def _program(
    shape: tuple[int, ...], channels: int, attributes: str, dtype: type, target: str
) -> tuple[Program, dict[str, np.ndarray], np.ndarray]:
    generator = np.random.default_rng(5)
    info = np.iinfo(dtype)
    constants = {
        "xs": np.float32(0.02), "xz": np.array(info.min + 7, dtype),
        "w": generator.integers(-128, 128, (channels, shape[1], 3, 3)).astype(np.int8),
        "ws": generator.uniform(0.01, 0.03, channels).astype(np.float32), "wz": np.zeros(channels, np.int8),
        "ys": np.float32(0.5 * np.sqrt(9 * shape[1])), "yz": np.array(3, dtype),
        "b": generator.integers(-3000, 3000, channels).astype(np.int32),
    }  # fmt: skip
    kind, extents = np.dtype(dtype).name, ",".join(map(str, shape))
    operator = f"QLinearConv<{attributes}>(x, xs, xz, w, ws, wz, ys, yz, b)"
    text = f'<ir_version: 9, opset_import: ["" : 18]> g ({kind}[{extents}] x) => ({kind}[N,C,H,W] z) {{ z = {operator} }}'
    model: onnx.ModelProto = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())
    graph = load_graph(model)
    inputs: dict[str, np.ndarray] = {"x": generator.integers(info.min, info.max, shape, endpoint=True).astype(dtype)}
    expected = run_graph(graph, inputs)["z"]
    return program_of(graph, target), inputs, expected


@pytest.mark.parametrize(
    ("shape", "channels", "attributes", "size"),
    [
        ((1, 16, 8, 8), 16, "pads=[1,1,1,1]", 4),
        ((2, 16, 4, 4), 12, "pads=[1,1,1,1]", 2),
        ((1, 16, 7, 8), 20, "pads=[0,1,1,0]", 3),
        ((1, 18, 4, 4), 16, "pads=[1,1,1,1]", 2),
    ],
)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_convolutions(
    shape: tuple[int, ...], channels: int, attributes: str, size: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several images, squares that reach beyond the image, channels that do not fill vectors."""
    monkeypatch.setattr(schedule_winograd_integers, "GAIN", 2)  # such small ones need not be faster
    program, inputs, expected = _program(shape, channels, attributes, dtype, "cpu:x86-64-v3")
    assert any(kernel.schedule.startswith(f"winograd(outputs={size},") for kernel in program.kernels.values())
    np.testing.assert_array_equal(run_program(program, inputs, MEANINGS)["z"], expected)


@pytest.mark.parametrize(
    "attributes", ["pads=[1,1,1,1], strides=[2,2]", "pads=[2,2,2,2], dilations=[2,2]", "pads=[1,1,1,1], strides=[1,2]"]
)
def test_other_windows_run_as_they_are(attributes: str) -> None:
    program, inputs, expected = _program((1, 16, 8, 8), 16, attributes, np.int8, "cpu:x86-64-v3")
    assert not any(kernel.schedule.startswith("winograd") for kernel in program.kernels.values())
    np.testing.assert_array_equal(run_program(program, inputs, MEANINGS)["z"], expected)
