"""Substitute a stage without reduction into the stages that read it, so that it needs no memory.

Runs in two rounds: first maps with one user, then cheap maps with several. A contraction takes only
movement (Transpose and the like) into its operands, since anything computed there would be repeated for
every output it meets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...compiler.kernel.nodes import Expr, Read
from ...compiler.kernel.traverse import free_vars, map_expr, walk
from ...compiler.program.stages import Stage, make_stage
from .fuse_epilogues import refuse_place
from .scaled_terms import dequantizes
from .stage_graph import StageGraph, contraction_factors, element_cost, is_movement

CHEAP = 3
"""Element cost up to which a map is computed again by each of its users rather than stored."""
LARGE_BODY = 400
"""Bodies are not grown beyond this cost: code size and compile time."""


def inline_single_use_maps(graph: StageGraph) -> None:
    """Substitute every map that one stage reads in one place, all movement, and what turns codes into numbers."""
    _inline(graph, lambda stage, users: len(users) == 1 or is_movement(stage) or dequantizes(stage))


def inline_cheap_maps(graph: StageGraph) -> None:
    """Substitute maps that cost less to compute again than to store and load."""
    _inline(graph, lambda stage, users: len(users) == 1 or element_cost(stage.nest.body) <= CHEAP)


def _inline(graph: StageGraph, wanted: Callable[[Stage, list[str]], bool]) -> None:
    users = graph.users()
    for name in list(graph.stages):
        stage = graph.stages[name]
        readers = list(users.get(name, []))  # a copy: substitution changes the lists of users
        if not stage.is_map or name in graph.needed or not readers or not wanted(stage, readers):
            continue
        refusing = [user for user in readers if refuse(stage, graph.stages[user]) is not None]
        if (refusing and not dequantizes(stage)) or _ends_a_sum(graph, stage, readers, users):
            continue
        readers = [user for user in readers if user not in refusing]
        for user in readers:
            before, after = graph.stages[user], inline(graph.stages[user], stage)
            graph.stages[user] = after
            _renew_users(users, user, before, after)
        if refusing:  # codes take less memory than numbers, so others need not wait for these
            continue
        for operand in stage.operands:
            users[operand.name].remove(name)
        del graph.stages[name]


def _ends_a_sum(graph: StageGraph, stage: Stage, readers: list[str], users: dict[str, list[str]]) -> bool:
    """True if a reduction can do a map as its epilogue and should: a quantization, or a function of its codes that other reductions read.

    Bytes are stored rather than sums, and a window that overlaps others computes nothing again.
    """
    narrow = stage.value.type.dtype.bits <= 8 and all(_is_reduced(graph, user, users) for user in readers)
    for operand in stage.operands:
        producer = graph.stages.get(operand.name)
        if producer is None or operand.name in graph.needed or users[operand.name] != [stage.value.name]:
            continue
        narrows = stage.value.type.dtype.bytes < operand.type.dtype.bytes
        is_sum = not producer.is_map or (narrow and _ends_a_sum(graph, producer, [stage.value.name], users))
        if is_sum and (narrows or narrow) and refuse_place(producer, stage) is None:
            return True
    return False


def _is_reduced(graph: StageGraph, name: str, users: dict[str, list[str]]) -> bool:
    """True for a reduction, and for what turns codes into numbers for reductions only."""
    stage = graph.stages[name]
    return not stage.is_map or (dequantizes(stage) and all(not graph.stages[user].is_map for user in users.get(name, ())))


def _renew_users(users: dict[str, list[str]], user: str, before: Stage, after: Stage) -> None:
    """Follow a change of a stage's operands: substitution may add some, and fold others away (`where(c, a, a) == a`)."""
    for operand in before.operands:
        if operand not in after.operands and user in users.get(operand.name, []):
            users[operand.name].remove(user)
    for operand in after.operands:
        known = users.setdefault(operand.name, [])
        if user not in known:
            known.append(user)


def refuse(producer: Stage, user: Stage) -> str | None:
    """Why a map may not be substituted into a user; None if it may."""
    if contraction_factors(user.nest) is not None and any(r in _term_reads(user) for r in user.reads(producer.value)):
        if not user.value.type.layout.is_plain:
            return "the contraction reads blocks"
        return None if is_movement(producer) else "computed in the operand of a contraction"
    cost = element_cost(producer.nest.body)
    reads = user.reads(producer.value)
    if len(reads) > 1 and cost * len(reads) > 2 * CHEAP:
        return "read at several places"
    if not user.is_map and cost > CHEAP and _repeats(producer, user, reads):
        return "evaluated several times by the reduction"
    if user.is_map and cost > CHEAP and _is_of_channels(user, reads) and _repeats(producer, user, reads):
        return "evaluated again for every pixel"
    if element_cost(user.nest.result) + cost > LARGE_BODY:
        return "the user is large already"
    return None


def _term_reads(user: Stage) -> set[Expr]:
    return {e for e in walk(user.nest.body) if isinstance(e, Read)}


def _is_of_channels(user: Stage, reads: tuple[Read, ...]) -> bool:
    """True if what is read follows the channels of a user whose channels are its innermost loop: no loop is left to compute it before."""
    layout = user.value.type.layout
    return layout.block > 1 and all(user.nest.axes[layout.axis] in free_vars(*read.indices) for read in reads)


def _repeats(producer: Stage, user: Stage, reads: tuple[Read, ...]) -> bool:
    """True if the user reads an element of the producer more than once: not every axis takes part."""
    axes = {a for a, d in zip(user.nest.axes + user.nest.reduce_axes, user.nest.shape + user.nest.reduce_shape, strict=True) if d != 1}
    return any(axes - set(free_vars(*read.indices)) for read in reads)


def inline(user: Stage, producer: Stage) -> Stage:
    """Replace the reads of `producer` in `user` by what it computes."""
    position = user.operands.index(producer.value)
    operands = tuple(v for v in dict.fromkeys((*user.operands, *producer.operands)) if v != producer.value)
    numbers = [-1 if v == producer.value else operands.index(v) for v in user.operands]
    inner = [operands.index(v) for v in producer.operands]
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if not isinstance(e, Read):
            return None
        indices = tuple(map_expr(i, leaf, memo) for i in e.indices)
        return _element(producer, inner, indices) if e.operand == position else Read(numbers[e.operand], indices, e.dtype)

    nest = user.nest
    finish = None if nest.finish is None else map_expr(nest.finish, leaf, memo)
    nest = replace(nest, body=map_expr(nest.body, leaf, memo), finish=finish)
    return make_stage(user.value, operands, nest, user.loc, producer.covers + user.covers)


def _element(producer: Stage, numbers: list[int], indices: tuple[Expr, ...]) -> Expr:
    """What a map computes at some indices, its operands renumbered."""
    if indices == producer.nest.axes and numbers == list(range(len(numbers))):
        return producer.nest.body
    values: dict[Expr, Expr] = dict(zip(producer.nest.axes, indices, strict=True))
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if isinstance(e, Read):
            return Read(numbers[e.operand], tuple(map_expr(i, leaf, memo) for i in e.indices), e.dtype)
        return values.get(e)

    return map_expr(producer.nest.body, leaf, memo)
