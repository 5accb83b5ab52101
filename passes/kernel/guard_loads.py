"""Turn loads in the branches of a select into masked loads.

Runs first of the kernel passes of targets that evaluate both branches (`llvm`): a select promises that
loads in the branch not taken are not performed. Loads that are certainly inside their buffer stay as
they are, since performing them does no harm.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.kernel import build
from ...compiler.kernel.build import TRUE, logical_and, logical_not, range_of
from ...compiler.kernel.nodes import Broadcast, Expr, Kernel, Lane, Load, Select, Stmt
from ...compiler.kernel.traverse import children, map_expr, map_statement


def guard_loads(kernel: Kernel) -> Kernel:
    """Return the kernel with every load that must not always run under its own mask."""
    guard = _Guard()
    return replace(kernel, body=guard.statement(kernel.body))


class _Guard:
    """One kernel; shared expressions are rebuilt once for each condition they stand under."""

    def __init__(self) -> None:
        self._memo: dict[tuple[Expr, Expr], Expr] = {}
        self._loads: dict[Expr, bool] = {}

    def statement(self, stmt: Stmt) -> Stmt:
        """Rebuild one statement."""
        return map_statement(stmt, lambda e: self.under(e, TRUE), self.statement)

    def under(self, e: Expr, condition: Expr) -> Expr:
        """`e` as it stands where only `condition` is known to hold."""
        if not self._has_load(e):
            return e
        found = self._memo.get((e, condition))
        if found is None:
            found = self._memo[e, condition] = self._rebuild(e, condition)
        return found

    def _has_load(self, e: Expr) -> bool:
        found = self._loads.get(e)
        if found is None:
            found = self._loads[e] = isinstance(e, Load) or any(map(self._has_load, children(e)))
        return found

    def _rebuild(self, e: Expr, condition: Expr) -> Expr:
        match e:
            case Select():
                cond = self.under(e.cond, condition)
                then = self.under(e.then, logical_and(condition, cond))
                other = self.under(e.other, logical_and(condition, logical_not(cond)))
                return build.select(cond, then, other)
            case Load():
                return self._load(e, condition)
            case Broadcast() if condition.lanes > 1:
                scalar = condition.value if isinstance(condition, Broadcast) else None
                if scalar is not None:
                    return build.broadcast(self.under(e.value, scalar), e.lanes)
                return self.under(_spread(e.value, e.lanes), condition)
            case Lane() if condition is not TRUE:
                return Lane(self.under(e.vector, build.broadcast(condition, e.vector.lanes)), e.index)
        parts = {c: self.under(c, condition) for c in children(e)}
        return map_expr(e, lambda node: None if node is e else parts[node])

    def _load(self, e: Load, condition: Expr) -> Expr:
        at = self.under(e.index, condition)
        mask = None if e.mask is None else self.under(e.mask, condition)
        if condition is TRUE or _is_inside(e):
            return Load(e.buffer, at, mask)
        mask = condition if mask is None else logical_and(mask, condition)
        return Load(e.buffer, at, build.broadcast(mask, max(mask.lanes, at.lanes)))


def _is_inside(e: Load) -> bool:
    """True if the index certainly lies in the buffer."""
    found = range_of(e.index) if e.index.lanes == 1 else None
    return found is not None and isinstance(e.buffer.size, int) and found[0] >= 0 and found[1] < e.buffer.size


def _spread(e: Expr, lanes: int) -> Expr:
    """A scalar expression as the vector of `lanes` equal values, with its loads done lane by lane."""

    def leaf(node: Expr) -> Expr | None:
        if isinstance(node, Load):
            mask = None if node.mask is None else build.broadcast(node.mask, lanes)
            return Load(node.buffer, build.broadcast(node.index, lanes), mask)
        return build.broadcast(node, lanes) if not children(node) else None

    return build.broadcast(map_expr(e, leaf), lanes)
