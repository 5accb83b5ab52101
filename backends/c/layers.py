"""The layers of a program: calls of kernels in the order in which they stand, with names for a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.program.nodes import Branch, Call, Program, Repeat, Rows, Step, walk_steps

NAME_LENGTH = 40
"""Of a longer name of a node, what a layer's name takes."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a kernel."""

    name: str
    """The ONNX nodes that it computes, or its kernel's name if it computes none."""
    call: Call


def layers_of(program: Program) -> tuple[Layer, ...]:
    """All calls in the order of their text; those of branches and loops included."""
    return tuple(Layer(layer_name(step), step) for step in walk_steps(program.steps) if isinstance(step, Call))


def layer_name(step: Call) -> str:
    """What a layer is called: after the first and the last of its nodes."""
    ends = dict.fromkeys((step.covers[0], step.covers[-1])) if step.covers else {step.loc.node or step.kernel: None}
    return "..".join(name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}_" for name in ends)


def stages(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps cut into pieces that run one layer each; what precedes a layer goes with it.

    A branch, a loop, and layers that run row by row are one piece.
    """
    pieces: list[list[Step]] = []
    pending: list[Step] = []
    for step in steps:
        pending.append(step)
        if isinstance(step, Call | Branch | Repeat | Rows):
            pieces.append(pending)
            pending = []
    if pending and pieces:
        pieces[-1] += pending
    elif pending:
        pieces.append(pending)
    return pieces
