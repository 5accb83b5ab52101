"""Take a loop out of a map that changes only where its elements are stored: rows that are equal are computed once.

An enlarged image repeats its rows: `i // 2` of a loop over `i` is `o` in two loops over `o` and `r` with `i = 2 * o + r`. The loop over
`r` then goes inside the vector loop, around the stores alone. Stands before the schedule of rows, for targets with vectors.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.kernel.traverse import free_vars
from .loop_form import Loop, LoopForm, collapse
from .split_loops import split_loop

MAX_REPEATED = 8
"""Rows that are stored together: as many streams of stores as a core follows."""


def take_repeated(form: LoopForm) -> tuple[LoopForm, Loop] | None:
    """The form without the loop, and the loop; None if there is none."""
    if form.combine is not None:
        return None
    for place, loop in enumerate(form.axes[:-1]):
        found = split_loop(form, loop)
        if found is None:
            continue
        split, (outer, inner) = found
        if inner[1] in range(MAX_REPEATED + 1) and inner[0] not in free_vars(split.result):
            rest = replace(split, axes=(*form.axes[:place], outer, *form.axes[place + 1 :]))
            return collapse((rest,))[0][0], inner
    return None
