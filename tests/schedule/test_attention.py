"""Attention in one kernel: in the kernel interpreter for machines with different vectors, as machine code, and when it is chosen."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

import onnxc
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.program.interpret import run_program
from onnxc.passes.kernel import schedule_attention, vector_factor

from ..lowered import program_of, schedules

V3 = "cpu:x86-64-v3"
HEADS = """a = Constant<value_ints=[1,{n},3,5]>()
 q4 = Reshape(q, a)
 qh = Transpose<perm=[0,2,1,3]>(q4)
 k4 = Reshape(k, a)
 kh = Transpose<perm=[0,2,3,1]>(k4)
 v4 = Reshape(v, a)
 vh = Transpose<perm=[0,2,1,3]>(v4)
 s = MatMul(qh, kh)
 p = Softmax(s)
 o = MatMul(p, vh)
 ot = Transpose<perm=[0,2,1,3]>(o)
 b = Constant<value_ints=[1,{n},15]>()
 z = Reshape(ot, b)"""
MODELS = {
    "one head": """g (float[7,4] q, float[4,18] k, float[18,24] v) => (float[7,24] z) {
        s = MatMul(q, k)
        p = Softmax(s)
        z = MatMul(p, v) }""",
    "scale and mask": """g (float[2,2,7,4] q, float[2,2,4,10] k, float[2,2,10,12] v, float[2,1,1,10] m) => (float[2,2,7,12] z) {
        s = MatMul(q, k)
        c = Constant<value_float=0.35>()
        t = Mul(s, c)
        u = Add(t, m)
        p = Softmax(u)
        z = MatMul(p, v) }""",
    "heads between tokens": f"g (float[1,7,15] q, float[1,7,15] k, float[1,7,15] v) => (float[1,7,15] z) {{ {HEADS.format(n=7)} }}",
    "shared keys": """g (float[2,2,8,4] q, float[2,1,4,17] k, float[2,1,17,12] v) => (float[2,2,8,12] z) {
        s = MatMul(q, k)
        p = Softmax(s)
        z = MatMul(p, v) }""",
    "causal": """g (float[1,2,9,12] q, float[1,1,9,12] k, float[1,1,9,12] v) => (float[1,2,9,12] z) {
        z = Attention<is_causal=1>(q, k, v) }""",
    "any lengths": """g (float[B,2,N,4] q, float[B,2,4,M] k, float[B,2,M,12] v) => (float[B,2,N,12] z) {
        s = MatMul(q, k)
        p = Softmax(s)
        z = MatMul(p, v) }""",
    "result used at once": """g (float[7,4] q, float[4,18] k, float[18,24] v, float[24] b) => (float[7,24] z) {
        s = MatMul(q, k)
        p = Softmax(s)
        o = MatMul(p, v)
        y = Add(o, b)
        z = Relu(y) }""",
}
EXTENTS = {"B": 2, "N": 7, "M": 11}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few scores too, in small blocks."""
    monkeypatch.setattr(schedule_attention, "MIN_SCORES", 1)
    monkeypatch.setattr(schedule_attention, "MAX_ROWS", 6)


def model(text: str) -> onnx.ModelProto:
    made: onnx.ModelProto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]>\n{text}')
    return made


def inputs_of(made: onnx.ModelProto) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(4)
    shapes = {v.name: [d.dim_value or EXTENTS[d.dim_param] for d in v.type.tensor_type.shape.dim] for v in made.graph.input}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("one head", "cpu:x86-64-v4"), ("heads between tokens", V3), ("shared keys", V3), ("causal", V3), ("any lengths", V3),
        ("scale and mask", "cpu:aarch64,cortex-a72"),
    ],
)  # fmt: skip
def test_rows_go_through_both_products_in_one_kernel(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_factor, "MANY_ROWS", 1)
    monkeypatch.setattr(vector_factor, "L1_SHARE", 1)
    monkeypatch.setattr(vector_factor, "FAR", 1)
    made = model(MODELS[name])
    inputs = inputs_of(made)
    built = program_of(made, target)
    assert "attention" in schedules(built)
    np.testing.assert_allclose(run_program(built, inputs)["z"], run_graph(load_graph(made), inputs)["z"], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_machine_code_computes_the_graph(name: str, threads: int) -> None:
    made = model(MODELS[name])
    inputs = inputs_of(made)
    expected = run_graph(load_graph(made), inputs)["z"]
    found = onnxc.compile(made, threads=threads, cache=False).run(inputs)["z"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


OTHERS = {
    "scores are an output": """g (float[13,8] q, float[8,21] k, float[21,16] v) => (float[13,16] z, float[13,21] p) {
        s = MatMul(q, k)
        p = Softmax(s)
        z = MatMul(p, v) }""",
    "two readers": """g (float[13,8] q, float[8,21] k, float[21,16] v, float[21,16] w) => (float[13,16] z, float[13,16] y) {
        s = MatMul(q, k)
        p = Softmax(s)
        z = MatMul(p, v)
        y = MatMul(p, w) }""",
    "softmax over columns": """g (float[13,8] q, float[8,21] k, float[21,16] v) => (float[13,16] z) {
        s = MatMul(q, k)
        p = Softmax<axis=0>(s)
        z = MatMul(p, v) }""",
    "rows become columns": """g (float[13,8] q, float[8,21] k, float[13,16] v) => (float[21,16] z) {
        s = MatMul(q, k)
        p = Softmax(s)
        t = Transpose(p)
        z = MatMul(t, v) }""",
    "product with itself": """g (float[13,8] q, float[8,13] k) => (float[13,13] z) {
        s = MatMul(q, k)
        p = Softmax(s)
        z = MatMul(p, p) }""",
}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", OTHERS)
def test_what_others_need_is_not_joined(name: str) -> None:
    made = model(OTHERS[name])
    inputs = inputs_of(made)
    built = program_of(made, V3)
    assert "attention" not in schedules(built)
    for key, expected in run_graph(load_graph(made), inputs).items():
        np.testing.assert_allclose(run_program(built, inputs)[key], expected, rtol=1e-4, atol=1e-5)


def test_scores_of_many_tokens_never_exist() -> None:
    made = model("""g (float[1,4,600,16] q, float[1,4,16,600] k, float[1,4,600,16] v) => (float[1,4,600,16] z) {
        s = MatMul(q, k)
        p = Softmax(s)
        z = MatMul(p, v) }""")
    built = program_of(made, V3)
    assert "attention" in schedules(built)
    assert isinstance(built.arena_bytes, int) and built.arena_bytes < 4 * 600 * 600 * 4 / 2
