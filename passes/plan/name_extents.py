"""Extents that a kernel would compute become arguments of it: `floordiv(H + 1, 2)` is `extent0`.

Where extents are known only while running, those of later layers are long expressions of those of the inputs. As arguments they keep the
addresses in a kernel short, and layers that differ in nothing else share a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.nest import Nest
from ...compiler.kernel.nodes import Binary, BinaryOp, Const, Dim, Expr, Select, Var
from ...compiler.kernel.traverse import free_vars, map_expr, substitute, walk
from ...compiler.program.stages import Group, Placement, Stage, extent_symbol

_COMPUTED = frozenset({BinaryOp.FLOORDIV, BinaryOp.FLOORMOD, BinaryOp.MIN, BinaryOp.MAX})


def name_extents(group: Group) -> tuple[Group, Mapping[Var, Dim]]:
    """A group whose computed extents are symbols of its own, and what these stand for."""
    names = _Names(frozenset(v for stage in group.stages for v in (*stage.nest.axes, *stage.nest.reduce_axes, stage.nest.acc)))
    for value in group.values:
        for extent in value.type.shape:
            names.learn(extent)
    stages = tuple(map(names.stage, group.stages))
    if not names.extents:
        return group, {}
    placements = {name: Placement(names.value(p.root), names.dims(p.start)) for name, p in group.placements.items()}
    in_place = {name: names.value(value) for name, value in group.in_place.items()}
    outputs = tuple(map(names.value, group.outputs))
    return replace(group, stages=stages, outputs=outputs, placements=placements, in_place=in_place), names.extents


def in_symbols_of_program(dim: Dim, stands_for: Mapping[Var, Dim]) -> Dim:
    """An extent of a kernel by the symbols of the program."""
    return dim if isinstance(dim, int) else build.dim(substitute(dim, {symbol: build.index(e) for symbol, e in stands_for.items()}))


@dataclass(slots=True)
class _Names:
    """The symbols of one group."""

    inner: frozenset[Var]
    """What its nests define: indices of loops, and sums."""
    extents: dict[Var, Dim] = field(default_factory=dict)
    """What each symbol stands for."""
    parts: dict[Expr, Expr] = field(default_factory=dict)
    """Quotients and the like by the symbols."""
    values: dict[str, Value] = field(default_factory=dict)
    memo: dict[Expr, Expr] = field(default_factory=dict)

    def learn(self, extent: Dim) -> None:
        """Give a symbol to an extent of the form `quotient + number`, so that it does not matter which number that is."""
        if isinstance(extent, int):
            return
        parts = [e for e in walk(extent) if self._is_computed(e) and isinstance(build.sub(extent, e), Const)]
        if parts and parts[0] not in self.parts:
            self._name(parts[0], extent)

    def of(self, e: Expr) -> Expr:
        """An expression by the symbols."""
        return map_expr(e, self._leaf, self.memo)

    def dims(self, dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """Extents or indices by the symbols."""
        return tuple(d if isinstance(d, int) else build.dim(self.of(d)) for d in dims)

    def value(self, value: Value) -> Value:
        """A value with a shape by the symbols; the same one for the same value."""
        if value.name not in self.values:
            shape = self.dims(value.type.shape)
            self.values[value.name] = value if shape == value.type.shape else replace(value, type=replace(value.type, shape=shape))
        return self.values[value.name]

    def stage(self, stage: Stage) -> Stage:
        """A stage by the symbols."""
        return replace(stage, value=self.value(stage.value), operands=tuple(map(self.value, stage.operands)), nest=self._nest(stage.nest))

    def _nest(self, nest: Nest) -> Nest:
        return replace(
            nest, shape=self.dims(nest.shape), reduce_shape=self.dims(nest.reduce_shape), body=self.of(nest.body),
            finish=None if nest.finish is None else self.of(nest.finish),
        )  # fmt: skip

    def _leaf(self, e: Expr) -> Expr | None:
        if not self._is_computed(e):
            return None
        if e not in self.parts:
            self._name(e, e)
        return self.parts[e]

    def _name(self, part: Expr, extent: Expr) -> None:
        symbol = extent_symbol(len(self.extents))
        self.extents[symbol] = extent
        self.parts[part] = build.add(symbol, build.sub(part, extent))

    def _is_computed(self, e: Expr) -> bool:
        """True for a quotient, a choice or the like of symbols of the program."""
        is_such = isinstance(e, Select) or (isinstance(e, Binary) and e.op in _COMPUTED)
        if not is_such or e.dtype is not build.INDEX or e.lanes > 1:
            return False
        symbols = free_vars(e)
        is_arithmetic = all(isinstance(part, (Var, Const, Binary, Select)) for part in walk(e))
        return bool(symbols) and is_arithmetic and self.inner.isdisjoint(symbols)
