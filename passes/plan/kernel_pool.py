"""The kernels of a program, each distinct one once.

Groups of equal structure are recognized before they are scheduled: their nests are made of interned
expressions over equally named axes, so equality is a comparison of a few objects. Kernels that come from
other sources, and have the same arguments, are compared by their text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...compiler.diagnostics import NOWHERE
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim, For, Kernel, LoopKind
from ...compiler.kernel.text import print_kernel
from ...compiler.kernel.verify import verify
from ...compiler.pass_runner import Pass, Verify, run_passes
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.watch import KERNELS, is_wanted, show

Scheduled = tuple[tuple[str, ScheduledKernel], ...]


class KernelPool:
    """Names and finished kernels."""

    def __init__(self, passes: tuple[Pass[Kernel], ...]) -> None:
        self.passes = passes
        self.kernels: dict[str, Kernel] = {}
        self._first: dict[object, Kernel | None] = {}
        """The first kernel with arguments like these, before the passes; None once its text is among the names."""
        self._names: dict[str, str] = {}
        self._groups: dict[object, tuple[Scheduled, tuple[Value, ...]]] = {}

    def schedule(
        self,
        group: Group,
        schedule: Callable[[Group, Callable[[Value], bool]], Sequence[ScheduledKernel]],
        is_constant: Callable[[Value], bool],
    ) -> tuple[Scheduled, dict[str, Value]]:
        """Schedule a group, or find the schedule of an equal one.

        Returns:
            The named kernels, and what stands for the values of the group that they were made for.
        """
        values = _with_roots(group)
        key = _group_key(group, values, is_constant)
        if key not in self._groups:
            kernels = tuple((self.add(s.kernel), s) for s in schedule(group, is_constant))
            self._groups[key] = kernels, values
        kernels, known = self._groups[key]
        return kernels, {old.name: new for old, new in zip(known, values, strict=True)}

    def add(self, kernel: Kernel) -> str:
        """Finish a kernel by the target's passes; returns its name in the program."""
        kernel, arguments = replace(kernel, name=f"{kernel.name}{len(self.kernels)}"), _arguments(kernel)
        if arguments not in self._first:
            self._first[arguments] = kernel
        else:
            first = self._first[arguments]
            if first is not None:
                self._names[_text(first)], self._first[arguments] = first.name, None
            known = self._names.setdefault(_text(kernel), kernel.name)
            if known != kernel.name:
                return known
        self._finish(kernel)
        return kernel.name

    def _finish(self, kernel: Kernel) -> None:
        show(KERNELS, f"{kernel.name}.scheduled.kernel", lambda: print_kernel(kernel))
        self.kernels[kernel.name] = run_passes(kernel, self.passes, (Verify(_check),) if is_wanted(KERNELS) else ())
        show(KERNELS, f"{kernel.name}.lowered.kernel", lambda: print_kernel(self.kernels[kernel.name]))


def _arguments(kernel: Kernel) -> object:
    """The same for kernels of the same text, but cheaper: texts are printed only where this does not tell kernels apart."""
    return tuple((buffer.dtype, buffer.size) for buffer in kernel.buffers), len(kernel.symbols)


def _text(kernel: Kernel) -> str:
    """The same for kernels that do the same, in which only names differ."""
    return print_kernel(replace(kernel, name="kernel", schedule="", loc=NOWHERE))


def _check(kernel: Kernel, after: str) -> None:
    """Check the invariants of a kernel that a pass made; only where kernels are shown, since it takes time."""
    faults = verify(kernel).faults
    assert not faults, f"kernel {kernel.name} is not valid after {after}: {'; '.join(faults)}"


def _group_key(group: Group, values: tuple[Value, ...], is_constant: Callable[[Value], bool]) -> object:
    number = {value: k for k, value in enumerate(values)}
    stages = tuple((stage.nest, tuple(number[v] for v in stage.operands), number[stage.value]) for stage in group.stages)
    types = tuple((value.type, is_constant(value)) for value in values)
    roots = tuple((number[v], number[group.placements[v.name].root]) for v in group.values if v.name in group.placements)
    in_place = tuple((number[v], number[group.in_place[v.name]]) for v in group.outputs if v.name in group.in_place)
    return stages, types, tuple(number[v] for v in group.outputs), group.rows, roots, in_place


def _with_roots(group: Group) -> tuple[Value, ...]:
    """The values of a group, then the roots that they lie in."""
    roots = (group.placements[v.name].root for v in group.values if v.name in group.placements)
    return tuple(dict.fromkeys((*group.values, *roots)))


def parallel_extent(kernel: Kernel) -> Dim:
    """Extent of a kernel's parallel loop, 1 if it has none."""
    body = kernel.body
    return build.dim(body.extent) if isinstance(body, For) and body.kind is LoopKind.PARALLEL else 1
