"""Turn the tests of a padded window into bounds of the loops over its taps.

A padded convolution reads `select(inside, x, 0)`, where `inside` says that the tap lies in the image. A tap
outside adds nothing, so a loop that leaves it out computes the same: `0 <= step * tap + rest` becomes a first
and a last tap that depend on the loops around. Elements of a row whose windows lie inside are told apart, they
need neither test nor bound. Used where there is neither memory for a halo of zeros nor a vector with a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, mul, sub
from ...compiler.kernel.builder import KernelBuilder, block
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, Const, Expr, For, LoopKind, Select, Var
from ...compiler.kernel.traverse import conjuncts, free_vars, substitute
from .loop_form import Loop, coefficient


@dataclass(frozen=True, slots=True)
class Test:
    """`step * tap + rest >= 0`."""

    tap: Var
    step: int
    rest: Expr

    def first(self, values: dict[Var, Expr]) -> Expr | None:
        """The first tap that passes, None if all do from the start."""
        if self.step < 0:
            return None
        return build.ceildiv(build.neg(self.at(values)), self.step)

    def end(self, values: dict[Var, Expr]) -> Expr | None:
        """One more than the last tap that passes, None if all do to the end."""
        if self.step > 0:
            return None
        return add(build.floordiv(self.at(values), -self.step), 1)

    def at(self, values: dict[Var, Expr]) -> Expr:
        """The rest at some values of the loops around."""
        return substitute(self.rest, values)


@dataclass(frozen=True, slots=True)
class Windows:
    """A factor without its tests, and the tests."""

    factor: Expr
    tests: tuple[Test, ...] = ()

    def range(self, tap: Loop, values: dict[Var, Expr], skip: Var | None = None) -> tuple[Expr, Expr]:
        """First tap and number of taps of a loop; tests in which `skip` occurs are known to pass."""
        var, extent = tap
        tests = [t for t in self.tests if t.tap is var and (skip is None or skip not in free_vars(t.rest))]
        first: Expr = const(0)
        end: Expr = build.index(extent)
        for test in tests:
            low, high = test.first(values), test.end(values)
            first = first if low is None else build.maximum(first, low)
            end = end if high is None else build.minimum(end, high)
        if not tests:
            return first, end
        return first, build.maximum(sub(end, first), 0)

    def inside(self, row: Loop, taps: Sequence[Loop]) -> tuple[int, int]:
        """First and one more than the last element of a row with all taps inside."""
        var, extent = row
        assert isinstance(extent, int)
        extents = dict(taps)
        first, end = 0, extent
        for test in self.tests:
            slope = coefficient(test.rest, var)
            if not isinstance(slope, Const) or slope.value == 0:
                continue
            count, step = extents[test.tap], int(slope.value)
            rest = substitute(test.rest, {var: const(0)})
            assert isinstance(count, int) and isinstance(rest, Const)
            least = int(rest.value) + min(0, test.step * (count - 1))
            if step > 0:
                first = max(first, -(least // step))
            else:
                end = min(end, least // -step + 1)
        return min(first, extent), max(min(first, extent), end)


def find_windows(
    factor: Expr, taps: Sequence[Loop], around: Sequence[Var] | None, row: Loop | None, outside: Const | None = None
) -> Windows:
    """Take the tests out of a factor or term.

    Args:
        factor: `select(inside, x, outside)`, perhaps converted; anything else has no tests.
        taps: reduction loops.
        around: variables of the loops around the tile; None for all that are no taps.
        row: the loop of which a tile holds several iterations.
        outside: what adds nothing; None for the zero of a factor.
    """
    if isinstance(factor, Cast) and outside is None:
        inner = find_windows(factor.value, taps, around, row)
        return Windows(build.cast(inner.factor, factor.dtype, factor.mode), inner.tests)
    if not (isinstance(factor, Select) and isinstance(factor.other, Const)):
        return Windows(factor)
    if factor.other is not (outside or const(0, factor.dtype)):
        return Windows(factor)
    tests: list[Test] = []
    kept: list[Expr] = []
    for condition in conjuncts(factor.cond):
        found = _test(condition, taps, around, row)
        if found is None:
            kept.append(condition)
        else:
            tests.append(found)
    return Windows(build.select(build.logical_and(*kept), factor.then, factor.other), tuple(tests))


def _test(condition: Expr, taps: Sequence[Loop], around: Sequence[Var] | None, row: Loop | None) -> Test | None:
    """A condition on one tap and the loops around, None if it is another."""
    value = _non_negative(condition)
    used = () if value is None else tuple(free_vars(value))
    mine = [tap for tap in taps if tap[0] in used]
    if value is None or len(mine) != 1 or not isinstance(mine[0][1], int):
        return None
    tap = mine[0][0]
    step = coefficient(value, tap)
    rest = substitute(value, {tap: const(0)})
    if not isinstance(step, Const) or step.value == 0 or sub(value, add(mul(step, tap), rest)) is not const(0):
        return None
    if row is not None and row[0] in used and not _is_line(rest, row):
        return None
    known = {*used} if around is None else {tap, *around, *((row[0],) if row else ())}
    return Test(tap, int(step.value), rest) if {*used} <= known else None


def _is_line(rest: Expr, row: Loop) -> bool:
    """True for a known multiple of the row's variable plus a known number."""
    slope = coefficient(rest, row[0])
    return isinstance(row[1], int) and isinstance(slope, Const) and isinstance(substitute(rest, {row[0]: const(0)}), Const)


def _non_negative(condition: Expr) -> Expr | None:
    """The index that a comparison says is not negative."""
    if not isinstance(condition, Binary) or condition.a.dtype is not build.INDEX or condition.a.lanes > 1:
        return None
    a, b = condition.a, condition.b
    return {
        BinaryOp.GE: lambda: sub(a, b),
        BinaryOp.GT: lambda: sub(sub(a, b), 1),
        BinaryOp.LE: lambda: sub(b, a),
        BinaryOp.LT: lambda: sub(sub(b, a), 1),
    }.get(condition.op, lambda: None)()


@contextmanager
def tap_loop(k: KernelBuilder, loop: Loop, count: Expr) -> Iterator[Var]:
    """A loop over some taps; its variable is bounded by all of them, however many there are."""
    var = Var(k.name(loop[0].name), build.INDEX, 1, loop[1] if isinstance(loop[1], int) else 0)
    with k.nested() as body:
        yield var
    k.emit(For(var, count, LoopKind.SERIAL, block(body)))
