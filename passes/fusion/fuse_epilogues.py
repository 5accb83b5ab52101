"""Fuse what the only user of a reduction or contraction computes into its epilogue: bias, activation, residual, scale.

The user must read the reduction at its own indices, possibly permuted, so that every element is used
exactly once. The user's work then happens on the accumulator, while it is in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...compiler.kernel.nest import Nest
from ...compiler.kernel.nodes import Expr, Read, Var
from ...compiler.kernel.traverse import map_expr, substitute
from ...compiler.program.stages import Stage, make_stage
from .same_bytes import has_same_order
from .stage_graph import StageGraph, contraction_factors


def fuse_epilogues(graph: StageGraph) -> None:
    """Fuse users into reductions, later reductions first, until nothing fits."""
    users = graph.users()
    for name in reversed(list(graph.stages)):
        stage = graph.stages.get(name)
        if stage is None or not stage.is_map:
            continue
        for operand in reversed(stage.operands):
            producer = graph.stages.get(operand.name)
            if producer is None or operand.name in graph.needed or refuse(producer, stage, users[operand.name]) is not None:
                continue
            # The fused stage takes the user's place in the order, where all operands are known.
            graph.stages[name] = fuse(producer, stage)
            del graph.stages[operand.name]
            _update(users, graph.stages[name], producer)
            break


def _update(users: dict[str, list[str]], fused: Stage, producer: Stage) -> None:
    """`fused` reads what the producer read."""
    for operand in producer.operands:
        readers = users[operand.name]
        readers.remove(producer.value.name)
        if operand in fused.operands and fused.value.name not in readers:
            readers.append(fused.value.name)


def refuse(producer: Stage, user: Stage, readers: Sequence[str]) -> str | None:
    """Why `user` may not become the epilogue of `producer`, which `readers` read; None if it may."""
    if producer.is_map:
        return "the producer has no reduction"
    if len(readers) != 1:
        return "the producer has other users"
    return refuse_place(producer, user)


def refuse_place(producer: Stage, user: Stage) -> str | None:
    """Why `user` cannot do its work where `producer` stores; None if it can."""
    reads = user.reads(producer.value)
    if len(reads) != 1:
        return "the user reads several elements"
    is_other_layout = producer.value.type.layout.block != user.value.type.layout.block
    if is_other_layout and contraction_factors(producer.nest) is not None:
        if not has_same_order(producer.value.type, reads[0], user.value.type, user.nest):
            return "the user writes another layout than the contraction runs in"
    if axis_order(producer.nest, user.nest, reads[0].indices) is None:
        return "the user reads at other indices than its own"
    return None


def axis_order(producer: Nest, user: Nest, indices: tuple[Expr, ...]) -> dict[Var, Expr] | None:
    """The producer's axes in terms of the user's, None if that is not one to one."""
    extents = dict(zip(user.axes, user.shape, strict=True))
    found: set[Expr] = set()
    for at, extent in zip(indices, producer.shape, strict=True):
        if extent == 1 and not isinstance(at, Var):
            continue
        if not isinstance(at, Var) or at in found or (extents.get(at) is not extent and extents.get(at) != extent):
            return None
        found.add(at)
    if any(extent != 1 and axis not in found for axis, extent in extents.items()):
        return None
    return dict(zip(producer.axes, indices, strict=True))


def fuse(producer: Stage, user: Stage) -> Stage:
    """The producer's reduction with the user's element stored, over the user's axes."""
    (read,) = user.reads(producer.value)
    axes: dict[Var, Expr] = dict(zip(producer.nest.axes, read.indices, strict=True))
    position = user.operands.index(producer.value)
    shift = len(producer.operands)
    result = substitute(producer.nest.result, axes)

    def leaf(e: Expr) -> Expr | None:
        if not isinstance(e, Read):
            return None
        if e.operand == position:
            return result
        return Read(e.operand + shift, tuple(map_expr(i, leaf) for i in e.indices), e.dtype)

    nest = replace(
        producer.nest,
        axes=user.nest.axes,
        shape=user.nest.shape,
        body=substitute(producer.nest.body, axes),
        finish=map_expr(user.nest.body, leaf),
        dtype=user.nest.dtype,
    )
    return make_stage(user.value, producer.operands + user.operands, nest, user.loc, producer.covers + user.covers)
