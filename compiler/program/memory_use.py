"""What a program takes of a device: its temporary tensors with their lives, the layers with most of them, weights, stack, code.

Looked at after the memory plan. Sizes are those of the buffers that kernels are called with; a tensor that data decide
counts with what the plan reserves for it, one with symbolic extents with the most that the user allows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..diagnostics import NOWHERE, Loc
from ..kernel.bounds import largest
from ..kernel.nodes import Alloc, Buffer, Dim, Extern, Kernel, Store
from ..kernel.traverse import statement_exprs, walk, walk_statements
from .nodes import Branch, Call, Copy, Place, Program, Repeat, Rows, Step, Storage

CODE_BYTES_PER_EXPRESSION = 6
"""Measured on nine models for Cortex-M4: 3 to 7 bytes for each distinct expression with gcc -O2, 4 to 14 with -O3."""
CODE_BYTES_PER_ROW = 400
"""Of a function of the backend that kernels call."""
CODE_BYTES_PER_CALL = 32
FRAME_BYTES = 512
"""What the functions of a run keep on the stack beside the local arrays; 60 to 464 bytes were measured, most with vectors."""


@dataclass(slots=True)
class Tensor:
    """A temporary tensor, with the layers that it lives through."""

    loc: Loc
    """The node that makes it."""
    bytes: int
    offset: int
    """Where it lies in the arena; tensors that live together overlap only where one is made instead of another."""
    first: int
    """Number of the layer that makes it."""
    last: int
    """Number of the last layer that touches it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A constant of the program."""

    bytes: int
    loc: Loc
    """The first node that reads it."""
    layer: int
    """Number of that node's layer."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a program takes."""

    layers: tuple[Loc, ...]
    """The node of each call, in order."""
    tensors: tuple[Tensor, ...]
    weights: tuple[Weights, ...]
    arena_bytes: int
    stack_bytes: int
    """Local arrays of the kernel that has most of them, and an estimate of all else that lies on the stack."""
    weight_bytes: int
    code_bytes: int
    """Estimated: nobody knows before the C compiler has run."""

    @property
    def ram_bytes(self) -> int:
        """Arena and stack; inputs and outputs are the caller's."""
        return self.arena_bytes + self.stack_bytes

    @property
    def flash_bytes(self) -> int:
        """Weights and estimated code."""
        return self.weight_bytes + self.code_bytes

    def live(self, layer: int) -> list[Tensor]:
        """The tensors that live while a layer runs, largest first."""
        return sorted((t for t in self.tensors if t.first <= layer <= t.last), key=lambda t: (-t.bytes, t.first))

    def live_bytes(self, layer: int) -> int:
        """Bytes of the arena that these tensors cover."""
        covered = end = 0
        for tensor in sorted(self.live(layer), key=lambda t: t.offset):
            covered += max(0, tensor.offset + tensor.bytes - max(end, tensor.offset))
            end = max(end, tensor.offset + tensor.bytes)
        return covered

    @property
    def peak(self) -> int:
        """Number of the layer with the most live bytes."""
        return max(range(len(self.layers)), key=self.live_bytes, default=0)


def memory_use(program: Program) -> MemoryUse:
    """What a program takes whose arena has a size that is known."""
    assert isinstance(program.arena_bytes, int)
    collector = _Collector(program)
    collector.visit(program.steps)
    weights = tuple(Weights(constant.nbytes, *collector.readers.get(k, (NOWHERE, 0))) for k, constant in enumerate(program.constants))
    return MemoryUse(
        tuple(collector.layers),
        tuple(collector.tensors.values()),
        weights,
        program.arena_bytes,
        stack_bytes(program.kernels.values()),
        sum(w.bytes for w in weights),
        CODE_BYTES_PER_CALL * len(collector.layers) + code_bytes(program.kernels.values()),
    )


def code_bytes(kernels: Collection[Kernel]) -> int:
    """Estimated size of the machine code of kernels on a small processor."""
    rows = {s.name for kernel in kernels for s in walk_statements(kernel.body) if isinstance(s, Extern)}
    return CODE_BYTES_PER_ROW * len(rows) + sum(CODE_BYTES_PER_EXPRESSION * _expressions(kernel) for kernel in kernels)


def _expressions(kernel: Kernel) -> int:
    """Distinct expressions; what unrolled statements share counts once."""
    return sum(1 for _ in walk(*(e for s in walk_statements(kernel.body) for e in statement_exprs(s))))


def stack_bytes(kernels: Iterable[Kernel]) -> int:
    """What a run takes of the stack: local arrays are known, the rest is estimated."""
    return FRAME_BYTES + max((_local_bytes(kernel) for kernel in kernels), default=0)


class _Collector:
    """Walks the steps in order and notes who touches which storage."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.layers: list[Loc] = []
        self.tensors: dict[int, Tensor] = {}
        self.readers: dict[int, tuple[Loc, int]] = {}

    def visit(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case Call():
                    self._call(step)
                case Copy(target=target, source=source, bytes=size):
                    for storage in (source, target):
                        self._touch(storage, _most(size, self.program.bounds), max(0, len(self.layers) - 1), NOWHERE)
                case Branch(then=then, other=other):
                    self.visit(then)
                    self.visit(other)
                case Repeat(body=body):
                    self._loop(body)
                case Rows(body=body):
                    self._rows(body)
                case _:
                    pass

    def _loop(self, body: Sequence[Step]) -> None:
        """What lives across an end of a loop lives in all of its iterations."""
        begin = len(self.layers)
        self.visit(body)
        end = len(self.layers) - 1
        for tensor in self.tensors.values():
            if tensor.first < begin <= tensor.last:
                tensor.last = max(tensor.last, end)

    def _rows(self, body: Sequence[Step]) -> None:
        """All that rows touch lives until the last of their layers."""
        begin = len(self.layers)
        self.visit(body)
        for tensor in self.tensors.values():
            if tensor.last >= begin:
                tensor.first, tensor.last = min(tensor.first, begin), len(self.layers) - 1

    def _call(self, step: Call) -> None:
        kernel, number = self.program.kernels[step.kernel], len(self.layers)
        stored = {s.buffer for s in walk_statements(kernel.body) if isinstance(s, Store)}
        given = zip(kernel.symbols, step.symbols, strict=True)
        bounds = {s.name: most for s, extent in given if (most := largest(extent, self.program.bounds)) is not None}
        self.layers.append(step.loc)
        for storage, buffer in sorted(zip(step.buffers, kernel.buffers, strict=True), key=lambda pair: pair[1] in stored):
            if storage.place is Place.WEIGHTS:
                self.readers.setdefault(storage.index, (step.loc, number))
            self._touch(storage, _bytes(buffer, bounds), number, step.loc)

    def _touch(self, storage: Storage, size: int, layer: int, loc: Loc) -> None:
        if storage.place is not Place.ARENA:
            return
        offset = storage.offset if isinstance(storage.offset, int) else 0
        found = self.tensors.setdefault(storage.index, Tensor(loc, size, offset, layer, layer))
        found.last, found.bytes = max(found.last, layer), max(found.bytes, size)


def _local_bytes(kernel: Kernel) -> int:
    return sum(_bytes(s.buffer) for s in walk_statements(kernel.body) if isinstance(s, Alloc))


def _bytes(buffer: Buffer, bounds: Mapping[str, int] = MappingProxyType({})) -> int:
    return _most(buffer.size, bounds) * buffer.dtype.bytes


def _most(size: Dim, bounds: Mapping[str, int]) -> int:
    """A size, or the most that it can be if symbols are bounded; 0 if that is not known."""
    found = largest(size, bounds)
    return 0 if found is None or found >= 1 << 40 else found
