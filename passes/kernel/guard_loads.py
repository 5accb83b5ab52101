"""Turn loads in the branches of a select into masked loads.

Runs first of the kernel passes of targets that evaluate both branches (`llvm`): a select promises that
loads in the branch not taken are not performed. Loads that are certainly inside their buffer stay as
they are, since performing them does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...compiler.kernel import build
from ...compiler.kernel.build import TRUE, logical_and, logical_not, range_of
from ...compiler.kernel.nodes import Broadcast, Expr, Kernel, Lane, Load, Select, Stmt
from ...compiler.kernel.traverse import children, map_expr, map_statement


def guard_loads(kernel: Kernel) -> Kernel:
    """Return the kernel with every load that must not always run under its own mask."""
    guard = _Guard()
    return replace(kernel, body=guard.statement(kernel.body))


@dataclass(frozen=True, slots=True, eq=False)
class _Context:
    """Where an expression stands: the condition under which it is evaluated, and what is evaluated anyway."""

    condition: Expr
    outer: _Context | None = None
    always: frozenset[Expr] = frozenset()
    """Expressions that the context around evaluates in any case; they need no condition of this one."""


class _Guard:
    """One kernel; shared expressions are rebuilt once for each context they stand in."""

    def __init__(self) -> None:
        self._root = _Context(TRUE)
        self._branches: dict[tuple[_Context, Expr, bool], _Context] = {}
        self._plain: dict[Expr, _Context] = {}
        self._memo: dict[tuple[Expr, _Context], Expr] = {}
        self._open: dict[Expr, bool] = {}
        self._always: dict[Expr, frozenset[Expr]] = {}

    def statement(self, stmt: Stmt) -> Stmt:
        """Rebuild one statement."""
        return map_statement(stmt, lambda e: self.under(e, self._root), self.statement)

    def under(self, e: Expr, context: _Context) -> Expr:
        """`e` as it stands in a context."""
        if not self._has_open_load(e):
            return e
        while context.outer is not None and e in context.always:
            context = context.outer
        found = self._memo.get((e, context))
        if found is None:
            found = self._memo[e, context] = self._rebuild(e, context)
        return found

    def _has_open_load(self, e: Expr) -> bool:
        """True if some load is not certainly inside its buffer."""
        found = self._open.get(e)
        if found is None:
            found = (isinstance(e, Load) and not _is_inside(e)) or any(map(self._has_open_load, children(e)))
            self._open[e] = found
        return found

    def _evaluated(self, e: Expr) -> frozenset[Expr]:
        """Parts with loads that are evaluated whenever `e` is: all but the branches of selects."""
        found = self._always.get(e)
        if found is None:
            parts = (e.cond,) if isinstance(e, Select) else children(e)
            found = frozenset((e,)).union(*(self._evaluated(part) for part in parts if self._has_open_load(part)))
            self._always[e] = found
        return found

    def _rebuild(self, e: Expr, context: _Context) -> Expr:
        match e:
            case Select():
                then, other = (self._branch(context, e.cond, holds) for holds in (True, False))
                return build.select(self.under(e.cond, context), self.under(e.then, then), self.under(e.other, other))
            case Load():
                return self._load(e, context)
            case Broadcast() if context.condition.lanes > 1:
                if isinstance(context.condition, Broadcast):
                    return build.broadcast(self.under(e.value, self._alone(context.condition.value)), e.lanes)
                return self.under(_spread(e.value, e.lanes), context)
            case Lane() if context.condition is not TRUE:
                return Lane(self.under(e.vector, self._alone(build.broadcast(context.condition, e.vector.lanes))), e.index)
        parts = {c: self.under(c, context) for c in children(e)}
        return map_expr(e, lambda node: None if node is e else parts[node])

    def _branch(self, context: _Context, cond: Expr, holds: bool) -> _Context:
        """The context of a select's branch: made once, so that what several selects share is rebuilt once."""
        found = self._branches.get((context, cond, holds))
        if found is None:
            mask = self.under(cond, context)
            always = self._evaluated(cond) if self._has_open_load(cond) else frozenset[Expr]()
            found = _Context(logical_and(context.condition, mask if holds else logical_not(mask)), context, always)
            self._branches[context, cond, holds] = found
        return found

    def _alone(self, condition: Expr) -> _Context:
        return self._plain.setdefault(condition, _Context(condition))

    def _load(self, e: Load, context: _Context) -> Expr:
        condition = context.condition
        at = self.under(e.index, context)
        mask = None if e.mask is None else self.under(e.mask, context)
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
