"""Schedules keep the meaning of the graph: programs run in the kernel interpreter, which checks every access.

Each model is compiled for machines with different vectors, so that tiles for AVX-512 and NEON are tested
where neither can run. Programs are run as the schedules make them and once more after the kernel passes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.program.interpret import run_program
from onnxc.passes.kernel import contraction_plan

from ..lowered import program_of

TARGETS = ("cpu:x86-64-v4", "cpu:x86-64-v3", "cpu:aarch64,cortex-a72", "c:cortex-m4", "c:cortex-m0")

MODELS: dict[str, tuple[str, dict[str, tuple[float, ...]]]] = {
    "map": ("g (float[3,37] x, float[37] y) => (float[3,37] z) { a = Add(x, y)\n z = Relu(a) }", {}),
    "map dynamic": ("g (float[N,19] x) => (float[N,19] z) { a = Mul(x, x)\n z = Relu(a) }", {}),
    "sum along": ("g (float[5,70] x) => (float[5,1] z) { a = Constant<value_ints=[1]>()\n z = ReduceSum(x, a) }", {}),
    "max across": ("g (float[9,21] x) => (float[1,21] z) { a = Constant<value_ints=[0]>()\n z = ReduceMax(x, a) }", {}),
    "softmax": ("g (float[4,33] x) => (float[4,33] z) { z = Softmax(x) }", {}),
    "vectors of all sizes": ("g (float[3,63] x) => (float[3,63] z) { s = LogSoftmax(x)\n z = Tanh(s) }", {}),
    "softmax over channels": ("g (float[2,5,3,16] x) => (float[2,5,3,16] z) { z = Softmax<axis=1>(x) }", {}),
    "softmax over channels, odd rows": ("g (float[2,5,3,7] x) => (float[2,5,3,7] z) { z = Softmax<axis=1>(x) }", {}),
    "argument over channels": ("g (float[1,6,4,8] x) => (int64[1,1,4,8] z) { z = ArgMax<axis=1>(x) }", {}),
    "recurrent": (
        "g (float[3,5,4] x) => (float[3,2,5,9] z) { z = LSTM<hidden_size=9, direction=\"bidirectional\">(x, w, r) }",
        {"w": (2, 36, 4), "r": (2, 36, 9)},
    ),
    "running total across": (
        "g (float[2,5,16] x) => (float[2,5,16] z) { a = Constant<value_ints=[1]>()\n z = CumSum<exclusive=1>(x, a) }", {},
    ),
    "squares, odd columns": (
        "g (float[3,4,6] x) => (float[3,6] z) { a = Constant<value_ints=[1]>()\n z = ReduceSumSquare<keepdims=0>(x, a) }", {},
    ),
    "squares of a size": ("g (float[3,N] x) => (float[N] z) { a = Constant<value_ints=[0]>()\n z = ReduceL2<keepdims=0>(x, a) }", {}),
    "softmax dynamic": ("g (float[N,M] x) => (float[N,M] z) { z = Softmax(x) }", {}),
    "layer norm": ("g (float[4,24] x) => (float[4,24] z) { z = LayerNormalization(x, s, b) }", {"s": (24,), "b": (24,)}),
    "product": ("g (float[13,9] x) => (float[13,35] z) { a = MatMul(x, w)\n b = Add(a, c)\n z = Relu(b) }", {"w": (9, 35), "c": (35,)}),
    "product one row": ("g (float[1,20] x) => (float[1,70] z) { z = MatMul(x, w) }", {"w": (20, 70)}),
    "product narrow": ("g (float[10,6] x) => (float[10,3] z) { z = MatMul(x, w) }", {"w": (6, 3)}),
    "product dynamic": ("g (float[N,9] x) => (float[N,35] z) { z = MatMul(x, w) }", {"w": (9, 35)}),
    "product of inputs": ("g (float[2,7,5] x, float[2,5,18] y) => (float[2,7,18] z) { z = MatMul(x, y) }", {}),
    "product transposed": (
        "g (float[2,7,5] x, float[2,18,5] y) => (float[2,7,18] z) { t = Transpose<perm=[0,2,1]>(y)\n z = MatMul(x, t) }", {},
    ),
    "product transposed dynamic": (
        "g (float[2,N,5] x, float[2,M,5] y) => (float[2,N,M] z) { t = Transpose<perm=[0,2,1]>(y)\n z = MatMul(x, t) }", {},
    ),
    "conv": ("g (float[1,3,7,6] x) => (float[1,16,7,6] z) { a = Conv<pads=[1,1,1,1]>(x, w)\n z = Relu(a) }", {"w": (16, 3, 3, 3)}),
    "conv strided": ("g (float[1,16,7,5] x) => (float[1,8,4,3] z) { z = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w) }", {"w": (8, 16, 3, 3)}),
    "conv 1x1 residual": (
        "g (float[1,16,5,5] x) => (float[1,16,5,5] z) { a = Conv(x, w, b)\n z = Add(a, x) }", {"w": (16, 16, 1, 1), "b": (16,)},
    ),
    "conv padded channels": (
        "g (float[1,11,4,5] x) => (float[1,5,4,5] z) { a = Conv<pads=[1,1,1,1]>(x, w)\n b = Relu(a)\n z = Conv(b, v) }",
        {"w": (19, 11, 3, 3), "v": (5, 19, 1, 1)},
    ),
    "depthwise padded channels": (
        "g (float[1,11,4,4] x) => (float[1,11,4,4] z) { z = Conv<pads=[1,1,1,1], group=11>(x, w) }", {"w": (11, 1, 3, 3)},
    ),
    "depthwise": ("g (float[1,16,6,7] x) => (float[1,16,6,7] z) { z = Conv<pads=[1,1,1,1], group=16>(x, w) }", {"w": (16, 1, 3, 3)}),
    "grouped": ("g (float[1,12,4,4] x) => (float[1,9,4,4] z) { z = Conv<group=3>(x, w) }", {"w": (9, 4, 1, 1)}),
    "conv dilated": ("g (float[1,4,9,8] x) => (float[1,6,7,8] z) { z = Conv<pads=[1,2,1,2], dilations=[2,2]>(x, w) }", {"w": (6, 4, 3, 3)}),
    "conv strided and padded": (
        "g (float[1,2,11,9] x) => (float[1,8,4,5] z) { z = Conv<pads=[0,2,2,1], strides=[3,2]>(x, w) }", {"w": (8, 2, 4, 4)},
    ),
    "conv window larger than the image": (
        "g (float[1,3,3,2] x) => (float[1,4,3,2] z) { z = Conv<pads=[2,2,2,2]>(x, w) }", {"w": (4, 3, 5, 5)},
    ),
    "conv 1d padded": ("g (float[2,3,13] x) => (float[2,5,13] z) { z = Conv<pads=[2,2]>(x, w) }", {"w": (5, 3, 5)}),
    "conv 1d": ("g (float[1,4,30] x) => (float[1,16,28] z) { z = Conv(x, w) }", {"w": (16, 4, 3)}),
    "conv dynamic": ("g (float[N,3,H,W] x) => (float[N,16,P,Q] z) { z = Conv<pads=[1,1,1,1]>(x, w) }", {"w": (16, 3, 3, 3)}),
    "pool": ("g (float[1,16,6,6] x) => (float[1,16,3,3] z) { z = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x) }", {}),
    "nearest doubled": (
        "g (float[1,2,4,9] x) => (float[1,2,8,18] z) { z = Resize<coordinate_transformation_mode=\"asymmetric\">(x, , s) }",
        {"s": (1.0, 1.0, 2.0, 2.0)},
    ),
    "nearest by a fraction": (
        "g (float[1,2,4,9] x) => (float[1,2,6,15] z) { z = Resize(x, , s) }", {"s": (1.0, 1.0, 1.7, 1.7)},
    ),
    "linear": ("g (float[2,13] x) => (float[2,22] z) { z = Resize<mode=\"linear\">(x, , s) }", {"s": (1.0, 1.7)}),
    "reflected": ("g (float[3,12] x) => (float[3,19] z) { p = Constant<value_ints=[0,3,0,4]>()\n z = Pad<mode=\"reflect\">(x, p) }", {}),
    "concat in place": (
        """g (float[1,16,4,4] x) => (float[1,64,4,4] z) {
            a = Conv<pads=[1,1,1,1]>(x, w)
            b = Relu(a)
            c = Concat<axis=1>(b, x)
            d = Conv(c, v)
            z = Concat<axis=1>(c, d) }""",
        {"w": (16, 16, 3, 3), "v": (32, 32, 1, 1)},
    ),
}  # fmt: skip
EXTENTS = {"N": 3, "M": 21, "H": 6, "W": 5}


def _model(text: str, constants: Mapping[str, tuple[float, ...]]) -> onnx.ModelProto:
    """A model with random constants of these shapes; what are no extents are the numbers of a constant."""
    model: onnx.ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    generator = np.random.default_rng(1)
    for name, shape in constants.items():
        values = np.array(shape) if isinstance(shape[0], float) else generator.standard_normal(tuple(map(int, shape)))
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_program_computes_the_graph(name: str, target: str) -> None:
    graph = load_graph(_model(*MODELS[name]))
    generator = np.random.default_rng(2)
    shapes = {v.name: [d if isinstance(d, int) else EXTENTS[d.name] for d in v.type.shape] for v in graph.inputs}  # type: ignore[union-attr]
    inputs = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    expected = run_graph(graph, inputs)
    found = run_program(program_of(graph, target), inputs)
    for key, array in expected.items():
        np.testing.assert_allclose(found[key], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_long_reduction_is_divided(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    """As for a cache that holds little: sums wait in the output between the parts."""
    for name, value in {"RESIDENT": 0.001, "DEPTH_PART": 0.01, "MIN_ROWS": 1}.items():
        monkeypatch.setattr(contraction_plan, name, value)
    text = "g (float[1,32,4,5] x) => (float[1,16,4,5] z) { a = Conv<pads=[1,1,1,1]>(x, w, b)\n z = Relu(a) }"
    constants: dict[str, tuple[int, ...]] = {"w": (16, 32, 3, 3), "b": (16,)}
    if not bias:
        text, constants = text.replace(", b)", ")"), {"w": (16, 32, 3, 3)}
    graph = load_graph(_model(text, constants))
    inputs = {"x": np.random.default_rng(3).standard_normal((1, 32, 4, 5)).astype(np.float32)}
    expected = run_graph(graph, inputs)["z"]
    program = program_of(graph, "cpu:x86-64-v3")
    assert any("depth=" in kernel.schedule for kernel in program.kernels.values())
    np.testing.assert_allclose(run_program(program, inputs)["z"], expected, rtol=1e-4, atol=1e-5)


def test_padding_of_blocks_holds_zeros() -> None:
    # 19 channels in blocks of 8: what reads the last block relies on the zeros behind channel 19.
    program = program_of(_model(*MODELS["conv padded channels"]), "cpu:x86-64-v3")
    x = np.full((1, 11, 4, 5), np.nan, np.float32)
    x[0, :, 0, 0] = 1.0
    assert np.isnan(run_program(program, {"x": x})["z"]).any()
    assert np.isfinite(run_program(program, {"x": np.ones_like(x)})["z"]).all()
