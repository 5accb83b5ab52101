"""Take the loop over groups out of the form of a grouped convolution: what is left is a sum for one group.

    out[g * R + r] = sum over (channels of group g, window) of data x weights[g * R + r]

With one data channel a group (a depthwise convolution with R results for each channel), the loop over `r` is taken out instead:
what is left is a depthwise convolution, whose results lie R apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ...compiler.kernel import build
from ...compiler.kernel.builder import KernelBuilder, block
from ...compiler.kernel.nodes import For, Load, LoopKind, Scope
from ...compiler.kernel.traverse import walk
from .contraction_form import split_grouped_axis
from .loop_form import Loop, LoopForm, stride


def without_groups(form: LoopForm) -> tuple[LoopForm, Loop | None]:
    """The form for one group, in which the variable of the loop that was taken out is free; that loop, None if there are no groups."""
    split = split_grouped_axis(form)
    if split is form:
        return form, None
    place = next(k for k, (new, old) in enumerate(zip(split.axes, form.axes, strict=False)) if new is not old)
    group, member = split.axes[place : place + 2]
    data = [at for at in walk(split.term) if isinstance(at, Load) and at.buffer.scope is not Scope.CONST]
    taken = member if any(stride(at.index, group[0]) == 1 for at in data) else group
    return replace(split, axes=tuple(loop for loop in split.axes if loop is not taken)), taken


@contextmanager
def each_group(k: KernelBuilder, group: Loop | None) -> Iterator[None]:
    """The loop that was taken out, around a block."""
    if group is None:
        yield
        return
    with k.nested() as body:
        yield
    k.emit(For(group[0], build.index(group[1]), LoopKind.SERIAL, block(body)))
