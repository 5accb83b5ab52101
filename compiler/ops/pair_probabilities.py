"""Probabilities of classes from those of pairs of classes, as support vector machines have them.

Method 2 of T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability estimates for multi-class classification by pairwise coupling", 2004, with the
iteration that LIBSVM runs: minimize p' Q p on the simplex, one coordinate after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, add, const, div, load, mul, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, LoopKind
from .scatter import Buffers
from .table import INTERNAL, Imperative, OpContext, OpDef, register

PRECISION = 0.005
ROUNDS = 100
CLIP = 1e-7
"""Distance of the probabilities of pairs from 0 and 1."""


def _type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (ctx.shape(0)[0], ctx.int_attr("classes")))]


@dataclass(frozen=True, slots=True)
class _State:
    """One row's problem in a kernel: Q (row by row), Q p, and p, which is the result."""

    k: KernelBuilder
    count: int
    q: Buffer
    qp: Buffer
    p: Buffer
    pqp: Buffer

    def q_at(self, t: Expr | int, j: Expr | int) -> Expr:
        return load(self.q, add(mul(build.as_expr(t, INDEX), self.count), j))

    @contextmanager
    def each(self, name: str) -> Iterator[Expr]:
        with self.k.loop(name, self.count) as t:
            yield t


def _couple(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (pairs,), (out,), count = inputs, outputs, ctx.int_attr("classes")
    assert pairs is not None and out is not None
    dtype, pair_count = pairs.dtype, count * (count - 1) // 2
    with (
        k.loop("row", ctx.shape(0)[0], LoopKind.PARALLEL) as row,
        k.local(dtype, count * count, "q") as q,
        k.local(dtype, count, "qp") as qp,
        k.local(dtype, count, "p") as p,
        k.local(dtype, 1, "pqp") as pqp,
        k.local(INDEX, 1, "rounds") as rounds,
    ):
        state = _State(k, count, q, qp, p, pqp)
        _fill(state, lambda pair: load(pairs, add(mul(row, pair_count), pair)))
        k.store(rounds, 0, 0)
        with k.repeat(build.lt(load(rounds, 0), max(ROUNDS, count))):
            _multiply(state)
            with k.local(dtype, 1, "error") as error:
                k.store(error, 0, 0.0)
                with state.each("t") as t:
                    k.store(error, 0, build.maximum(load(error, 0), build.absolute(sub(load(qp, t), load(pqp, 0)))))
                with k.when(build.lt(load(error, 0), PRECISION / count)):
                    k.store(rounds, 0, max(ROUNDS, count))
                with k.otherwise():
                    _improve(state)
                    k.store(rounds, 0, add(load(rounds, 0), 1))
        with state.each("t") as t:
            k.store(out, add(mul(row, count), t), load(p, t))


def _fill(s: _State, pair_at: Callable[[int], Expr]) -> None:
    """Q of the pairs' probabilities r: the sum of r[j, t]^2 on the diagonal, -r[j, t] r[t, j] beside it; p is even at first."""
    zero = const(0.0, s.q.dtype)
    with s.each("t") as t:
        s.k.store(s.p, t, 1.0 / s.count)
        s.k.store(s.q, mul(t, s.count + 1), zero)
    for pair, (i, j) in enumerate(combinations(range(s.count), 2)):
        first = build.clamp(pair_at(pair), CLIP, 1.0 - CLIP)
        with s.k.let(first, "first") as r, s.k.let(sub(const(1.0, r.dtype), r), "second") as rest:
            s.k.store(s.q, i * s.count + i, add(s.q_at(i, i), mul(rest, rest)))
            s.k.store(s.q, j * s.count + j, add(s.q_at(j, j), mul(r, r)))
            for at in (i * s.count + j, j * s.count + i):
                s.k.store(s.q, at, build.neg(mul(r, rest)))


def _multiply(s: _State) -> None:
    """Q p and p' Q p."""
    s.k.store(s.pqp, 0, 0.0)
    with s.each("t") as t:
        s.k.store(s.qp, t, 0.0)
        with s.each("j") as j:
            s.k.store(s.qp, t, add(load(s.qp, t), mul(s.q_at(t, j), load(s.p, j))))
        s.k.store(s.pqp, 0, add(load(s.pqp, 0), mul(load(s.p, t), load(s.qp, t))))


def _improve(s: _State) -> None:
    """Solve for each coordinate, and scale so that p adds up to 1 again."""
    one, two = const(1.0, s.q.dtype), const(2.0, s.q.dtype)
    with s.each("t") as t, s.k.let(div(sub(load(s.pqp, 0), load(s.qp, t)), s.q_at(t, t)), "step") as step:
        s.k.store(s.p, t, add(load(s.p, t), step))
        with s.k.let(add(one, step), "scale") as scale:
            grown = add(load(s.pqp, 0), mul(step, add(mul(step, s.q_at(t, t)), mul(two, load(s.qp, t)))))
            s.k.store(s.pqp, 0, div(div(grown, scale), scale))
            with s.each("j") as j:
                s.k.store(s.qp, j, div(add(load(s.qp, j), mul(step, s.q_at(t, j))), scale))
                s.k.store(s.p, j, div(load(s.p, j), scale))


register(OpDef("CouplePairs", _type, Imperative(_couple), INTERNAL, doc="probabilities of the first class of each pair -> of all classes"))
