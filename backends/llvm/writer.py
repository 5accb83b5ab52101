"""Collects the text of one LLVM function and knows which expressions already have a value.

Values are cached by expression (expressions are interned) in scopes that follow the dominance of
blocks: what is computed inside a loop or branch is forgotten when it ends. An expression that reads
memory is reused only while no store to one of its buffers can have happened since.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import cast, get_args

from ...compiler.kernel.build import INDEX, add, const, from_terms, index_terms, mul
from ...compiler.kernel.nodes import Binary, Buffer, Const, Expr, Load, Scope, Var
from ...compiler.kernel.traverse import children, rebuild
from .features import CpuFeatures

_NOTHING: frozenset[Buffer] = frozenset()


@dataclass(frozen=True, slots=True)
class _Level:
    """A variable that is being replaced, and what expressions become whose innermost such variable it is."""

    depth: int
    value: Expr
    memo: dict[Expr, Expr] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Split:
    """An index as `rest + sum of factor * variable`: an unrolled copy changes only the second part, to a constant."""

    rest: Expr
    factors: tuple[tuple[Var, int], ...]


class Writer:
    """Text of one function in the making."""

    def __init__(self, features: CpuFeatures) -> None:
        self.features = features
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.pointers: dict[Buffer, str] = {}
        self.block = "entry"
        self._count = 0
        self._scopes: list[dict[Hashable, tuple[str, int, frozenset[Buffer]]]] = [{}]
        self._clock = 0
        self._stored: dict[Buffer, int] = {}
        self._reads: dict[Expr, frozenset[Buffer]] = {}
        self._index: dict[Expr, bool] = {}
        self._vars: dict[Expr, frozenset[Var]] = {}
        self._bound: set[Var] = set()
        self._env: dict[Var, _Level] = {}
        self._depth = 0
        self._splits: dict[tuple[Expr, frozenset[Var]], _Split | None] = {}
        self.index_vars: set[Var] = set()

    # --- Text ---------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {text}")

    def let(self, text: str) -> str:
        """Append an instruction and return the name of its result."""
        self._count += 1
        name = f"%t{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def once(self, text: str) -> str:
        """The result of an instruction that has the same one whenever it is repeated."""
        return self.find(text) or self.keep(text, self.let(text))

    def label(self, hint: str) -> str:
        """Return a new name for a block."""
        self._count += 1
        return f"{hint}{self._count}"

    def start(self, block: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{block}:")
        self.block = block

    def jump(self, block: str) -> None:
        """End the basic block with a jump, and begin the target."""
        self.line(f"br label %{block}")
        self.start(block)

    # --- Values of expressions ----------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Values found inside are forgotten at the end."""
        self._scopes.append({})
        try:
            yield
        finally:
            self._scopes.pop()

    def find(self, key: Hashable) -> str | None:
        """The value of an expression (or other key) if it has one that still holds."""
        for scope in reversed(self._scopes):
            found = scope.get(key)
            if found is not None:
                value, stamp, reads = found
                if not reads or all(self._stored.get(buffer, 0) <= stamp for buffer in reads):
                    return value
        return None

    def keep(self, key: Hashable, value: str) -> str:
        """Remember a value, and return it."""
        reads = self.reads(cast(Expr, key)) if isinstance(key, _EXPRESSIONS) else _NOTHING
        self._scopes[-1][key] = value, self._clock, reads
        return value

    def touch(self, buffers: Iterable[Buffer]) -> None:
        """Values read from these buffers no longer hold."""
        self._clock += 1
        for buffer in buffers:
            self._stored[buffer] = self._clock

    def reads(self, e: Expr) -> frozenset[Buffer]:
        """The writable buffers that an expression reads."""
        found = self._reads.get(e)
        if found is None:
            found = _NOTHING.union(*(self.reads(c) for c in children(e)))
            if isinstance(e, Load) and e.buffer.scope is not Scope.CONST:
                found |= {e.buffer}
            self._reads[e] = found
        return found

    def is_index(self, e: Expr) -> bool:
        """True if an expression is made of loop variables, symbols and constants only: it cannot overflow."""
        found = self._index.get(e)
        if found is None:
            found = not isinstance(e, Load) and (not isinstance(e, Var) or e in self.index_vars) and all(map(self.is_index, children(e)))
            self._index[e] = found
        return found

    # --- Variables ----------------------------------------------------------------------------

    def resolve(self, e: Expr) -> Expr:
        """The expression with the variables of unrolled loops replaced."""
        if not self._env:
            return e
        bound = self._vars_of(e) & self._env.keys()
        if not bound:
            return e
        if isinstance(e, Var):
            return self._env[e].value
        memo = max(map(self._env.__getitem__, bound), key=_depth).memo
        found = memo.get(e)
        if found is None:
            found = memo[e] = self._replaced(e, bound)
        return found

    def _replaced(self, e: Expr, bound: frozenset[Var]) -> Expr:
        if isinstance(e, Binary) and e.dtype is INDEX and e.lanes == 1:
            known = frozenset(v for v in bound if isinstance(self._env[v].value, Const))
            split = self._split(e, known) if known else None
            if split is not None:
                offset: Expr = const(0)
                for v, factor in split.factors:
                    offset = add(offset, mul(self._env[v].value, factor))
                return add(self.resolve(split.rest), offset)
        return rebuild(e, self.resolve)

    def _split(self, e: Expr, known: frozenset[Var]) -> _Split | None:
        """Split an index by some variables, None if it is not linear in them; remembered for the other unrolled copies."""
        key = e, known
        if key not in self._splits:
            terms = index_terms(e)
            factors = tuple((t[0], c) for t, c in terms.items() if len(t) == 1 and isinstance(t[0], Var) and t[0] in known)
            rest = {t: c for t, c in terms.items() if not (len(t) == 1 and t[0] in known)}
            is_linear = all(self._vars_of(f).isdisjoint(known) for t in rest for f in t)
            self._splits[key] = _Split(from_terms(rest), factors) if is_linear else None
        return self._splits[key]

    def _vars_of(self, e: Expr) -> frozenset[Var]:
        found = self._vars.get(e)
        if found is None:
            found = frozenset({e}) if isinstance(e, Var) else frozenset[Var]().union(*map(self._vars_of, children(e)))
            self._vars[e] = found
        return found

    @contextmanager
    def replacing(self, var: Var, value: Expr) -> Iterator[None]:
        """`var` stands for `value` inside."""
        saved = self._env
        self._env = {**saved, var: _Level(self._depth, value)}
        self._depth += 1
        try:
            yield
        finally:
            self._env = saved
            self._depth -= 1

    @contextmanager
    def binding(self, var: Var, is_index: bool = False) -> Iterator[Var]:
        """Give a variable a value inside; yields it under a name of its own if the name was taken before."""
        fresh = var
        while fresh in self._bound:
            self._count += 1
            fresh = Var(f"{var.name}'{self._count}", var.dtype, var.lanes, var.bound)
        self._bound.add(fresh)
        if is_index:
            self.index_vars.add(fresh)
        if fresh is var and var not in self._env:
            yield var
            return
        with self.replacing(var, fresh):
            yield fresh


_EXPRESSIONS = get_args(Expr)
_depth = attrgetter("depth")
