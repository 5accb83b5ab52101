"""Without a heap, a size that data decide is bounded by what the model declares or by its expression, and checked."""

import shutil

import numpy as np
import pytest
from onnx import parser

import onnxc
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.nodes import Var
from onnxc.compiler.program.interpret import run_program
from onnxc.passes.plan.bound_sizes import SizeBounds

from ..lowered import program_of

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
POSITIVE = """<ir_version: 8, opset_import: ["" : 17]>
positive (float[6] x) => ({shape} y)
{{ zero = Constant<value = float {{0}}>()
  more = Greater(x, zero)
  y = Compress<axis=0>(x, more) }}"""
TWICE = """<ir_version: 8, opset_import: ["" : 17]>
twice (float[2,3] x, int64[1] axes) => (float[a,b] y)
{ s = ReduceSum<keepdims=1>(x, axes)
  o = Softmax<axis=1>(s)
  y = CumSum(o, one) }
"""
X_32 = np.random.default_rng(0).normal(size=(1, 32, 1)).astype(np.float32)
X = np.array([1, -1, 2, -2, 3, -3], np.float32)


def program_from(text: str):
    return program_of(parser.parse_model(text), "c")


def test_a_declared_extent_bounds_an_output():
    program = program_from(POSITIVE.format(shape="float[4]"))
    assert program.capacities == {0: 4}
    np.testing.assert_array_equal(run_program(program, {"x": X})["y"], [1, 2, 3])


def test_an_extent_beyond_the_declared_one_stops_the_run():
    program = program_from(POSITIVE.format(shape="float[2]"))
    with pytest.raises(CompileError, match=r"output 'y' is larger than the model declares"):
        run_program(program, {"x": X})


def test_an_operator_bounds_what_it_finds():
    program = program_from(POSITIVE.format(shape="float[n]"))
    assert program.capacities == {0: 6}
    np.testing.assert_array_equal(run_program(program, {"x": np.abs(X)})["y"], np.abs(X))


def test_what_is_made_of_it_is_bounded_too():
    program = program_from(HEAD + "(float[6] x) => (float[n] y, int64[n] a, int64[6] b, int64[n] c) { y, a, b, c = Unique(x) }")
    assert program.capacities == {0: 6, 1: 6, 3: 6}
    found = run_program(program, {"x": np.array([2, 1, 2, 2, 5, 1], np.float32)})
    assert [found[name].tolist() for name in "yabc"] == [[1, 2, 5], [1, 0, 4], [1, 0, 1, 1, 2, 0], [2, 3, 1]]


def test_an_operator_bounds_what_it_finds_in_a_region():
    program = program_from(
        HEAD
        + """(float[6] x, bool[6] more, bool c) => (float y) {
        y = If(c) <then_branch = t () => (float s) { kept = Compress<axis=0>(x, more) s = ReduceSum<keepdims=0>(kept) },
                   else_branch = e () => (float s2) { s2 = ReduceMax<keepdims=0>(x) }> }"""
    )
    assert isinstance(program.arena_bytes, int)
    assert run_program(program, {"x": X, "more": X > 1, "c": np.array(True)})["y"] == 5


def test_without_a_bound_there_is_no_program():
    text = "(int64 n) => (int64[m] y) { zero = Constant<value_int=0>() one = Constant<value_int=1>() y = Range(zero, n, one) }"
    with pytest.raises(CompileError, match="E0304"):
        program_from(HEAD + text)


def test_an_expression_bounds_what_is_in_between():
    text = TWICE.replace("{ s", "{ one = Constant<value = int64 {1}>()\n  s")
    program = program_from(text)
    assert program.capacities == {0: 6}
    assert isinstance(program.arena_bytes, int)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(run_program(program, {"x": x, "axes": np.array([1])})["y"], [[1], [1]])
    np.testing.assert_allclose(run_program(program, {"x": x, "axes": np.array([0])})["y"].shape, (1, 3))


def test_promises_do_not_hold_in_regions():
    n = Var("n")
    bounds = SizeBounds(intervals={"n": (0, 5)})
    assert bounds.largest(build.dim(build.mul(n, 4)), is_checked=True) == 20
    assert bounds.largest(build.dim(build.mul(n, 4)), is_checked=False) is None
    assert bounds.largest(build.dim(build.sub(0, n)), is_checked=True) == 0


def test_an_extent_bounds_an_expression_of_symbols():
    text = HEAD + "(float[1,32,1] x, int64 step) => (float[1,5,5,2] y) <float[8] w = {1,1,1,1,1,1,1,1}> { y = STFT(x, step, w) }"
    program = program_from(text)
    assert isinstance(program.arena_bytes, int)
    assert run_program(program, {"x": X_32, "step": np.array(6)})["y"].shape == (1, 5, 5, 2)


def test_an_extent_bounds_the_symbol_that_it_is_made_of():
    text = HEAD + "(float[1,32,1] x, int64 step, int64 length) => (float[1,5,5,2] y) { y = STFT(x, step, , length) }"
    program = program_from(text)
    assert isinstance(program.arena_bytes, int)
    for step, length in ((6, 8), (7, 4), (24, 9)):
        found = run_program(program, {"x": X_32, "step": np.array(step), "length": np.array(length)})["y"]
        wanted = [np.fft.rfft(X_32[0, k : k + length, 0]) for k in range(0, 32 - length + 1, step)]
        np.testing.assert_allclose(found[0, ..., 0] + 1j * found[0, ..., 1], wanted, atol=1e-4)
    with pytest.raises(CompileError, match="output 'y' is larger than the model declares"):
        run_program(program, {"x": X_32, "step": np.array(8), "length": np.array(10)})


def test_a_loop_collects_as_much_as_the_model_declares():
    program = program_from(
        HEAD
        + """(int64 n, float[2] x) => (float[4,2] y) {
        last, y = Loop(n, , x) <body = b (int64 i, bool go, float[2] v) => (bool on, float[2] w, float[2] out) {
            w = Add(v, v)
            out = Identity(v)
            on = Identity(go) }> }"""
    )
    assert isinstance(program.arena_bytes, int)
    x = np.array([1, 3], np.float32)
    for n in (0, 1, 4):
        np.testing.assert_array_equal(run_program(program, {"n": np.array(n), "x": x})["y"], x * 2 ** np.arange(n)[:, None])
    with pytest.raises(CompileError, match="larger than the model declares"):
        run_program(program, {"n": np.array(5), "x": x})


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_caller_gets_the_extents_that_were_found():
    model = onnxc.compile(parser.parse_model(POSITIVE.format(shape="float[4]")), "c", cache=False)
    np.testing.assert_array_equal(model.run({"x": X})["y"], [1, 2, 3])
    np.testing.assert_array_equal(model.run({"x": -np.abs(X)})["y"], np.zeros(0))
    with pytest.raises(CompileError, match="larger than the model declares"):
        model.run({"x": np.abs(X)})
