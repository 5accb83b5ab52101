"""If, Loop and Scan as steps of programs, against what they mean."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

X = np.arange(6, dtype=np.float32).reshape(2, 3)
TRUE, FALSE = np.array(True), np.array(False)


def count(n: int) -> np.ndarray:
    return np.array(n, np.int64)


# If

IF = """
g (bool c, float[n, 3] x) => (float[a, 3] y, float[n, 3] z) {
  y, z = If(c) <
    then_branch = t () => (float[a, 3] p, float[n, 3] r) { p = Concat<axis = 0>(x, x) r = Neg(x) },
    else_branch = e () => (float[a, 3] q, float[n, 3] s) { q = Relu(x) s = Identity(x) }
  >
}
"""


@pytest.mark.parametrize("flag", [True, False])
def test_branches_of_different_extent(model, flag):
    model(IF).check({"c": np.array(flag), "x": X}, np.concatenate([X, X]) if flag else X, -X if flag else X)


def test_an_extent_that_a_branch_decided_is_used_afterwards(model):
    text = IF.replace("=> (float[a, 3] y, float[n, 3] z)", "=> (float[b, 3] w, int64[2] shape)").replace(
        "  >\n}", "  >\n w = Concat<axis = 0>(y, z) shape = Shape(y) }"
    )
    compiled = model(text)
    compiled.check({"c": TRUE, "x": X}, np.concatenate([X, X, -X]), [4, 3])
    compiled.check({"c": FALSE, "x": X}, np.concatenate([X, X]), [2, 3])


def test_a_branch_inside_a_branch(model):
    compiled = model("""
        g (bool c, bool d, float[n] x) => (float[n] y) {
          y = If(c) <
            then_branch = t () => (float[n] p) {
              p = If(d) <then_branch = tt () => (float[n] a) { a = Neg(x) }, else_branch = te () => (float[n] b) { b = Exp(x) }>
            },
            else_branch = e () => (float[n] q) { q = Identity(x) }
          >
        }""")
    x = X.reshape(-1)
    compiled.check({"c": TRUE, "d": TRUE, "x": x}, -x)
    compiled.check({"c": TRUE, "d": FALSE, "x": x}, np.exp(x))
    compiled.check({"c": FALSE, "d": FALSE, "x": x}, x)


def test_branches_that_give_the_same_memory_twice(model):
    compiled = model("""
        g (bool c, float[n] x, int64[1] k) => (float[a] y, float[b] z) {
          y, z = If(c) <
            then_branch = t () => (float[a] p, float[b] r) { p = Expand(x, k) r = Identity(p) },
            else_branch = e () => (float[a] q, float[b] s) { q = Identity(x) s = Identity(x) }
          >
        }""")
    x = np.ones(1, np.float32)
    compiled.check({"c": TRUE, "x": x, "k": np.array([4])}, np.ones(4), np.ones(4))
    compiled.check({"c": FALSE, "x": x, "k": np.array([4])}, x, x)


# Loop

LOOP = """
g (int64 m, bool t, float[2, 3] x, float[3] row) => (float[a, b] y, float[c, d] z) {
  y, z = Loop(m, t, x) <
    body = b (int64 i, bool ci, float[p, q] v) => (bool co, float[r, s] w, float[3] step) {
      zero = Constant<value_ints = [0]>()  limit = Constant<value_int = LIMIT>()
      co = Less(i, limit) r2 = Unsqueeze(row, zero)
      w = BODY
      f = Cast<to = 1>(i) step = Add(row, f)
    }
  >
}
"""
ROW = np.array([1, 2, 3], np.float32)


def loop(body: str, limit: int = 100) -> str:
    return LOOP.replace("BODY", body).replace("LIMIT", str(limit))


def steps(rounds: int) -> np.ndarray:
    return ROW + np.arange(rounds, dtype=np.float32)[:, None]


@pytest.mark.parametrize("rounds", [0, 1, 5, 40])
def test_a_value_that_keeps_its_shape(model, rounds):
    model(loop("Add(v, r2)")).check({"m": count(rounds), "t": TRUE, "x": X, "row": ROW}, X + rounds * ROW, steps(rounds))


@pytest.mark.parametrize("rounds", [0, 1, 7])
def test_a_value_that_grows(model, rounds):
    expected = np.concatenate([X, *[ROW[None]] * rounds])
    model(loop("Concat<axis = 0>(v, r2)")).check({"m": count(rounds), "t": TRUE, "x": X, "row": ROW}, expected, steps(rounds))


def test_the_condition_ends_a_loop_before_the_count(model):
    compiled = model(loop("Add(v, r2)", limit=3))
    compiled.check({"m": count(50), "t": TRUE, "x": X, "row": ROW}, X + 4 * ROW, steps(4))
    compiled.check({"m": count(50), "t": FALSE, "x": X, "row": ROW}, X, steps(0))


def test_a_loop_without_a_count(model):
    compiled = model(loop("Add(v, r2)", limit=9).replace("(int64 m, bool t,", "(bool t,").replace("Loop(m, t", 'Loop("", t'))
    compiled.check({"t": TRUE, "x": X, "row": ROW}, X + 10 * ROW, steps(10))


def test_a_loop_of_known_count_needs_no_heap(model):
    text = loop("Add(v, r2)").replace("(int64 m, bool t,", "(").replace("co = Less(i, limit)", "co = Identity(ci)")
    text = text.replace("y, z = Loop(m", "m = Constant<value_int = 6>() y, z = Loop(m").replace("Loop(m, t", 'Loop(m, ""')
    compiled = model(text)
    assert compiled.program.heaps == 0
    compiled.check({"x": X, "row": ROW}, X + 6 * ROW, steps(6))


def test_values_that_change_places(model):
    compiled = model("""
        g (int64 m, float[2] x, float[2] y) => (float[2] u, float[2] v) {
          u, v = Loop(m, "", x, y) <
            body = b (int64 i, bool ci, float[2] p, float[2] q) => (bool co, float[2] r, float[2] s) {
              co = Identity(ci) r = Identity(q) s = Identity(p)
            }
          >
        }""")
    x, y = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    compiled.check({"m": count(2), "x": x, "y": y}, x, y)
    compiled.check({"m": count(3), "x": x, "y": y}, y, x)


def test_values_that_change_shape_and_places(model):
    compiled = model("""
        g (int64 m, float[a] x, float[b] y) => (float[c] u, float[d] v) {
          u, v = Loop(m, "", x, y) <
            body = b (int64 i, bool ci, float[e] p, float[f] q) => (bool co, float[h] r, float[j] s) {
              co = Identity(ci) r = Identity(q) s = Concat<axis = 0>(p, q)
            }
          >
        }""")
    x, y = np.array([1, 2], np.float32), np.array([3], np.float32)
    u, v = x, y
    for rounds in range(5):
        compiled.check({"m": count(rounds), "x": x, "y": y}, u, v)
        u, v = v, np.concatenate([u, v])


def test_a_loop_in_a_loop_that_starts_anew(model):
    compiled = model("""
        g (int64 m, float[2] x) => (float[2] y) {
          y = Loop(m, "", x) <
            body = b (int64 i, bool ci, float[2] v) => (bool co, float[2] w) {
              co = Identity(ci)
              w = Loop(i, "", v) <
                body = c (int64 j, bool cj, float[2] p) => (bool ck, float[2] q) { ck = Identity(cj) e = Add(p, x) q = Add(e, v) }
              >
            }
          >
        }""")
    x = np.array([1, 2], np.float32)
    expected = x
    for i in range(4):
        v = expected
        for _ in range(i):
            expected = expected + x + v
    compiled.check({"m": count(4), "x": x}, expected)


def test_slices_of_different_shapes_are_refused(model):
    compiled = model("""
        g (int64 m, float[2] x) => (float[a, b] z) {
          y, z = Loop(m, "", x) <
            body = b (int64 i, bool ci, float[p] v) => (bool co, float[q] w, float[r] step) {
              co = Identity(ci) w = Concat<axis = 0>(v, x) step = Neg(v)
            }
          >
        }""")
    x = np.array([1, 2], np.float32)
    compiled.check({"m": count(1), "x": x}, -x[None])
    for run in (compiled.interpreted, compiled.native):
        with pytest.raises(CompileError, match="'z' have different shapes") as caught:
            run({"m": count(2), "x": x})
        assert caught.value.code == "E0402"


def test_an_extent_read_in_each_round(model):
    compiled = model("""
        g (int64 m, float[1] x) => (float[1] y, int64[n] sizes) {
          one = Constant<value_ints = [1]>()
          y, s = Loop(m, "", x) <
            body = b (int64 i, bool ci, float[1] v) => (bool co, float[1] w, int64[1] size) {
              co = Identity(ci) zero = Constant<value_ints = [0]>()
              r = Reshape(i, one) wide = Expand(v, r) size = Shape(wide)
              sum = ReduceSum<keepdims = 1>(wide, zero) w = Add(v, sum)
            }
          >
          flat = Constant<value_ints = [-1]>() sizes = Reshape(s, flat)
        }""")
    y = np.ones(1, np.float32)
    for i in range(5):
        y = y + i * y
    compiled.check({"m": count(5), "x": np.ones(1, np.float32)}, y, np.arange(5))


# Scan

SCAN = """
g (float[n, 3] x, float[3] begin) => (float[3] last, float[a, b] sums) {
  last, sums = Scan(begin, x) <
    num_scan_inputs = 1 ATTRIBUTES,
    body = b (float[3] s, float[3] v) => (float[3] t, float[3] u) { t = Add(s, v) u = Identity(t) }
  >
}
"""


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("turned", [False, True])
def test_scan(model, backward, axis, turned):
    attributes = f", scan_input_directions = [{int(backward)}], scan_output_axes = [{axis}], scan_output_directions = [{int(turned)}]"
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    sums = np.cumsum(x[::-1] if backward else x, 0)
    model(SCAN.replace("ATTRIBUTES", attributes)).check(
        {"x": x, "begin": np.zeros(3, np.float32)}, sums[-1], np.moveaxis(sums[::-1] if turned else sums, 0, axis)
    )


def test_scan_along_the_last_axis(model):
    text = SCAN.replace("ATTRIBUTES", ", scan_input_axes = [1]").replace("float[n, 3] x", "float[3, n] x")
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    model(text).check({"x": x, "begin": np.zeros(3, np.float32)}, x.sum(1), np.cumsum(x, 1).T)


def test_scanned_inputs_of_different_length_are_refused(model):
    compiled = model("""
        g (float[n] x, float[k] y) => (float[m] z) {
          z = Scan(x, y) <num_scan_inputs = 2, body = b (float a, float c) => (float d) { d = Add(a, c) }>
        }""")
    x = np.arange(4, dtype=np.float32)
    compiled.check({"x": x, "y": x}, 2 * x)
    with pytest.raises(CompileError, match="different numbers of steps"):
        compiled.native({"x": x, "y": x[:3]})
