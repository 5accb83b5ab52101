"""Sequences and optionals, from Python lists to Python lists: compiled, and by the reference semantics of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import onnxc
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.signature import Signature
from onnxc.compiler.program.aggregates import Packer, unpack
from onnxc.compiler.program.interface import Port

HEADER = '<ir_version: 10, opset_import: ["" : 18]> '


class Model:
    """A model in ONNX text."""

    def __init__(self, text: str) -> None:
        self.proto = parser.parse_model(HEADER + text)
        self.compiled = onnxc.compile(self.proto, cache=False, threads=1)

    def run(self, **inputs: Any) -> list[Any]:
        """What the machine code gives."""
        return list(self.compiled.run(inputs).values())

    def interpreted(self, inputs: Mapping[str, Any]) -> list[Any]:
        """What the graph means."""
        graph = load_graph(self.proto)
        signature = graph.signature
        if signature is None:
            return list(run_graph(graph, dict(inputs)).values())
        ports = [Port(v.name, v.type.dtype, v.type.shape) for v in graph.inputs]
        return list(unpack(signature, run_graph(graph, Packer(signature, ports).pack(inputs))).values())

    def check(self, expected: list[Any] | None = None, **inputs: Any) -> None:
        """Both ways, against what is expected or the reference evaluator."""
        wanted = ReferenceEvaluator(self.proto).run(None, dict(inputs)) if expected is None else expected
        same(self.run(**inputs), wanted)
        same(self.interpreted(inputs), wanted)

    def fails(self, message: str, **inputs: Any) -> None:
        with pytest.raises(onnxc.CompileError, match=message):
            self.run(**inputs)


def same(found: Any, wanted: Any) -> None:
    if wanted is None:
        assert found is None
    elif isinstance(wanted, list):
        assert isinstance(found, list)
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            same(a, b)
    else:
        assert (found.shape, found.dtype) == (np.shape(wanted), np.asarray(wanted).dtype)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.fixture(scope="module")
def model() -> Callable[[str], Model]:
    return Model


def floats(*extents: int, begin: float = 0.0) -> np.ndarray:
    return (np.arange(np.prod(extents, dtype=int), dtype=np.float32) + np.float32(begin)).reshape(extents)


RAGGED = [floats(3), floats(0), floats(2, begin=10)]


def test_positions_that_are_known_only_while_running(model):
    m = model("""g (seq(float[N]) s, int64 i) => (float[M] y, seq(float) e, seq(float) j, int64 n) {
        y = SequenceAt(s, i)  e = SequenceErase(s, i)  j = SequenceInsert(s, y, i)  n = SequenceLength(s) }""")
    for i in (0, 1, 2, -1, -3):
        at = RAGGED[i]
        rest = [x for k, x in enumerate(RAGGED) if k != i % 3]
        m.check([at, rest, [*RAGGED[: i % 3], at, *RAGGED[i % 3 :]], np.array(3)], s=RAGGED, i=np.array(i))
    for i in (3, -4):
        m.fails("SequenceAt 'y': the position is not in the sequence", s=RAGGED, i=np.array(i))
    m.fails("not in the sequence", s=[], i=np.array(0))


def test_inserting_behind_the_end_is_allowed_and_further_is_not(model):
    m = model("g (seq(int64) s, int64[2, 1] t, int32 i) => (seq(int64) j) { j = SequenceInsert(s, t, i) }")
    t = np.array([[1], [2]])
    m.check([[t]], s=[], t=t, i=np.array(0, np.int32))
    m.check([[np.array(7), t]], s=[np.array(7)], t=t, i=np.array(1, np.int32))  # tensors of different ranks
    m.fails("SequenceInsert 'j'", s=[np.array(7)], t=t, i=np.array(2, np.int32))


@pytest.mark.parametrize(("axis", "new"), [(0, 0), (1, 0), (-1, 0), (0, 1), (1, 1), (-1, 1)])
def test_concat(model, axis, new):
    m = model(f"g (seq(float[N, M]) s) => (y) {{ y = ConcatFromSequence<axis = {axis}, new_axis = {new}>(s) }}")
    m.check(s=[floats(2, 3), floats(2, 3, begin=9)])
    m.fails("ConcatFromSequence 'y': the sequence is empty", s=[])
    m.fails("differ", s=[floats(2, 3), floats(3, 2)])


def test_concat_of_different_extents_along_the_axis(model):
    m = model("g (seq(float[N, M]) s) => (float[A, B] y) { y = ConcatFromSequence<axis = 1>(s) }")
    m.check(s=[floats(2, 3), floats(2, 0), floats(2, 1, begin=9)])


SPLIT = """g (float[N, M] x, int64 c, int64[K] p) => (seq(float) a, seq(float) b, seq(float) d) {
    a = SplitToSequence<axis = 1>(x, c)  b = SplitToSequence<axis = 0>(x, p)  d = SplitToSequence<axis = 1, keepdims = 0>(x) }"""


def test_split_into_a_number_of_parts_that_is_known_only_while_running(model):
    m = model(SPLIT)
    m.check(x=floats(3, 5), c=np.array(2), p=np.array([1, 0, 2]))
    m.check(x=floats(2, 1), c=np.array(9), p=np.array([2]))
    m.fails("SplitToSequence 'a': the parts of the split must not be empty", x=floats(3, 5), c=np.array(0), p=np.array([3]))
    for sizes in ([1, 1], [4, -1], []):
        m.fails("SplitToSequence 'b': the parts of the split do not add up", x=floats(3, 5), c=np.array(1), p=np.array(sizes, np.int64))


def test_a_known_length_leaves_no_trace(model):
    text = """g (float[2] x, float[3] y) => (float[3] z, int64 n, float[5] c) {
        one = Constant<value = int64 {1}>()  e = SequenceEmpty()  s = SequenceInsert(e, x)  t = SequenceInsert(s, y)
        z = SequenceAt(t, one)  n = SequenceLength(t)  c = ConcatFromSequence<axis = 0>(t) }"""
    assert {node.op for node in load_graph(parser.parse_model(HEADER + text)).nodes} == {"Identity", "Concat"}
    model(text).check(x=floats(2), y=floats(3))


def test_a_known_position_outside_is_refused_when_compiling(model):
    with pytest.raises(onnxc.CompileError, match="position 2 is not in a sequence of 1") as caught:
        model("""g (float[2] x) => (float[2] z) { two = Constant<value = int64 {2}>()
            s = SequenceConstruct(x)  z = SequenceAt(s, two) }""")
    assert caught.value.code == "E0203"


def test_sequences_that_nested_loops_fill(model):
    m = model("""g (int64 n, float[K] x) => (seq(float) s) {
      t = Constant<value = bool {1}>()  e = SequenceEmpty()
      s = Loop(n, t, e) <body = b(int64 i, bool c, seq(float) q) => (bool co, seq(float) r) {
        co = Identity(c)  one = Constant<value = int64 {1}>()  m = Add(i, one)
        r = Loop(m, c, q) <body = d(int64 j, bool c2, seq(float) q2) => (bool c3, seq(float) r2) {
          c3 = Identity(c2)  l = SequenceLength(q2)  f = Cast<to = 1>(l)  y = Add(x, f)  r2 = SequenceInsert(q2, y) }> }> }""")
    for n in (0, 1, 3, -2):
        count = n * (n + 1) // 2 if n > 0 else 0
        m.check([[np.array([k, k + 0.5], np.float32) for k in range(count)]], n=np.array(n), x=np.array([0, 0.5], np.float32))


def test_a_loop_that_begins_empty_and_reads_what_it_wrote(model):
    m = model("""g (int64 n, float[K] x) => (seq(float) s) {
      t = Constant<value = bool {1}>()  e = SequenceEmpty()
      s = Loop(n, t, e) <body = b(int64 i, bool c, seq(float) q) => (bool co, seq(float) r) {
        co = Identity(c)  z = Constant<value = int64 {0}>()  f = Equal(i, z)  last = Constant<value = int64 {-1}>()
        y = If(f) <then_branch = p() => (float[A] u) { u = Identity(x) },
                   else_branch = o() => (float[B] v) { l = SequenceAt(q, last)  v = Concat<axis = 0>(l, x) }>
        r = SequenceInsert(q, y) }> }""")
    x = floats(2)
    m.check([[np.tile(x, k + 1) for k in range(3)]], n=np.array(3), x=x)


def test_branches_with_sequences_of_different_lengths(model):
    m = model("""g (bool c, float[K] x) => (seq(float) s, int64 l) {
      s = If(c) <then_branch = a() => (seq(float) p) { p = SequenceConstruct(x) },
                 else_branch = b() => (seq(float) q) { q = SequenceConstruct(x, x) }>  l = SequenceLength(s) }""")
    for c in (True, False):
        m.check([[floats(2)] * (1 if c else 2), np.array(1 if c else 2)], c=np.array(c), x=floats(2))


RANKS = """g (bool c, float[N] x) => (y, int64[R] s, float[N] z) {
  zero = Constant<value_ints = [0]>()
  t = If(c) <then_branch = a() => (p) { p = Unsqueeze(x, zero) }, else_branch = e() => (q) { q = Relu(x) }>
  y = Neg(t)  s = Shape(t)  flat = Constant<value_ints = [-1]>()  z = Reshape(t, flat) }"""


def test_branches_of_different_ranks(model):
    m = model(RANKS)
    x = np.array([-1, 2], np.float32)
    m.check([-x[None], np.array([1, 2]), x], c=np.array(True), x=x)
    m.check([-np.maximum(x, 0), np.array([2]), np.maximum(x, 0)], c=np.array(False), x=x)


def test_a_declared_rank_makes_a_tensor_of_it_and_is_checked(model):
    m = model(RANKS.replace("(y,", "(float[A] y,").replace("y = Neg(t)", "y = Neg(t)"))
    m.check(c=np.array(False), x=floats(2))
    m.fails("another rank than 1", c=np.array(True), x=floats(2))


def test_what_needs_the_rank_goes_into_the_branches(model):
    m = model(RANKS.replace("y = Neg(t)", "y = Transpose(t)"))
    x = np.array([-1, 2], np.float32)
    m.check([x[:, None], np.array([1, 2]), x], c=np.array(True), x=x)
    m.check([np.maximum(x, 0), np.array([2]), np.maximum(x, 0)], c=np.array(False), x=x)


def test_a_branch_with_which_the_rest_makes_no_sense_is_refused_while_running(model):
    m = model(RANKS.replace("(y,", "(float[A,B] y,").replace("y = Neg(t)", "u = Transpose(t) y = Concat<axis=1>(u, u)"))
    x = np.array([-1, 2], np.float32)
    m.check([np.stack([x, x], axis=1), np.array([1, 2]), x], c=np.array(True), x=x)
    m.fails("the other branch does not fit: axis 1 is out of range for rank 1", c=np.array(False), x=x)


def test_several_ranks_that_follow_each_other(model):
    """As an exporter writes the loop over a tensor that may lack its batch axis."""
    m = model("""g (float[N,K] x) => (float[N,K] y) {
      one = Constant<value_ints = [1]>()  two = Constant<value = int64 {2}>()  zero = Constant<value_ints = [0]>()
      n = Shape<start=0, end=1>(x)  alone = Equal(n, one)  c = Squeeze(alone)
      t = If(c) <then_branch = a() => (p) { p = Squeeze(x, zero) }, else_branch = e() => (q) { q = Identity(x) }>
      r = Shape(t)  l = Size(r)  has_batch = Equal(l, two)
      u = If(has_batch) <then_branch = f() => (v) { v = Identity(t) }, else_branch = h() => (w) { w = Unsqueeze(t, zero) }>
      y = Softmax(u) }""")
    for n in (1, 3):
        m.check(x=floats(n, 4))


@pytest.mark.parametrize(
    "body",
    [
        "y = Squeeze(x)",
        "h = Constant<value = float {0.5}>() z = Squeeze(x) w = Sigmoid(z) y = Mul(w, h)",
        "z = Squeeze(x) y = Softmax<axis = -1>(z)",
        "z = Squeeze(x) w = Relu(z) v = Squeeze(w) u = ReduceSum<keepdims = 0>(v) y = Add(u, z)",
    ],
)
def test_an_extent_that_may_be_one_decides_the_rank(model, body):
    """The rank that the model declares is that of the example it was traced with."""
    m = model(f"g (float[N,3,1] x) => (float[M] y) {{ {body} }}")
    for n in (1, 2):
        m.check(x=floats(n, 3, 1))


def test_a_squeeze_that_does_not_fit_what_follows_is_refused_while_running(model):
    m = model("g (float[N,3,1] x) => (float[3,N] y) { z = Squeeze(x) w = Transpose<perm = [1, 0]>(z) y = Neg(w) }")
    m.check(x=floats(2, 3, 1))
    m.fails("axis 0 has one element", x=floats(1, 3, 1))


def test_an_operator_that_needs_the_rank_says_so(model):
    with pytest.raises(onnxc.CompileError, match="Transpose 'y': the rank of input 0 is known only while running"):
        model("""g (float[N] x, int64 k) => (y) {
          zero = Constant<value_ints = [0]>()  w = Unsqueeze(x, zero)
          s = SequenceConstruct(x, w)  t = SequenceAt(s, k)  y = Transpose(t) }""")


def test_optionals(model):
    m = model("""g (optional(float[N]) o, bool c) => (optional(float[N]) r, bool h) {
      h = OptionalHasElement(o)
      r = If(c) <then_branch = a() => (p) { p = Identity(o) }, else_branch = b() => (q) { q = Optional() }> }""")
    x = floats(2)
    m.check([x, np.array(True)], c=np.array(True), o=x)
    m.check([None, np.array(True)], c=np.array(False), o=x)
    for c in (True, False):
        m.check([None, np.array(False)], c=np.array(c), o=None)
    assert m.run(c=np.array(True)) == [None, np.array(False)]  # an optional may be left out


@pytest.mark.parametrize("shape", ["4", "N"])
def test_an_empty_optional_has_no_element(model, shape):
    m = model(f"g (optional(float[{shape}]) o) => (float[{shape}] r) {{ r = OptionalGetElement(o) }}")
    m.check([floats(4)], o=floats(4))
    m.fails("OptionalGetElement 'r': the optional has no element", o=None)


def test_an_optional_sequence(model):
    m = model("""g (optional(seq(float[N])) o, float[K] x) => (seq(float) r) {
      h = OptionalHasElement(o)
      s = If(h) <then_branch = a() => (p) { p = OptionalGetElement(o) }, else_branch = b() => (q) { q = SequenceEmpty() }>
      r = SequenceInsert(s, x) }""")
    m.check([[*RAGGED, floats(1)]], o=RAGGED, x=floats(1))
    m.check([[floats(1)]], o=None, x=floats(1))


def test_a_map_over_sequences_uses_values_around_it(model):
    m = model("""g (seq(float[N]) s, float[K] x, float y) => (seq(float[N]) r, seq(int64[1]) d) {
      two = Constant<value = float {2}>()  k = Mul(y, two)
      r, d = SequenceMap(s, x) <body = b(float[N] e, float[K] f) => (float[N] g, int64[1] h) {
        m = ReduceSum<keepdims = 0>(f)  n = Mul(e, m)  g = Add(n, k)  h = Shape(e) }> }""")
    x, y = floats(3), np.float32(5)
    m.check([[a * 3 + 10 for a in RAGGED], [np.array([a.size]) for a in RAGGED]], s=RAGGED, x=x, y=np.array(y))


def test_inputs_that_are_no_sequences_of_the_model(model):
    m = model("g (seq(float[N, 2]) s) => (int64 n) { n = SequenceLength(s) }")
    m.check([np.array(0)], s=[])
    m.check([np.array(2)], s=(floats(1, 2), floats(0, 2)))
    for given, message in (
        (floats(2), "input 's' is ndarray, the model wants a sequence"),
        (None, "input 's' is NoneType"),
        ([floats(2)], r"tensor 0 of input 's' has shape \[2\], the model wants \[\?, 2\]"),
        ([floats(1, 3)], r"has shape \[1, 3\]"),
        ([np.zeros((1, 2))], "tensor 0 of input 's' has type float64"),
    ):
        m.fails(message, s=given)
    with pytest.raises(onnxc.CompileError, match="input 's' is missing"):
        m.run()


def test_a_saved_model_knows_its_sequences(model, tmp_path):
    m = model("g (seq(float[A]) s, float[K] x) => (seq(float) p, seq(float) q) { p = Identity(s)  q = SequenceConstruct(x, x) }")
    m.compiled.save(tmp_path / "model", libraries=False)
    loaded = onnxc.load(tmp_path / "model")
    same(list(loaded(RAGGED, floats(1))), [RAGGED, [floats(1), floats(1)]])
    assert loaded.input_names == ("s", "x")


def test_c_has_no_memory_for_sequences_of_any_length():
    proto = parser.parse_model(HEADER + "g (seq(float[A]) s, int64 i) => (float[B] x) { x = SequenceAt(s, i) }")
    with pytest.raises(onnxc.CompileError, match="SequenceAt 'x': a tensor's size is known only while running") as caught:
        onnxc.compile(proto, target="c", cache=False)
    assert caught.value.code == "E0304"


def test_plain_models_have_no_signature():
    proto = parser.parse_model(HEADER + "g (float[A] x) => (float[A] y) { y = Relu(x) }")
    assert load_graph(proto).signature is None
    assert Signature((), ()).is_plain
    assert isinstance(proto, onnx.ModelProto)
