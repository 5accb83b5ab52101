"""What a program takes of a device: its temporary tensors with their lives, the layers with most of them, weights, stack, code.

Looked at after the memory plan. Sizes are those of the buffers that kernels are called with; a tensor that data decide
counts with what the plan reserves for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..diagnostics import NOWHERE, Loc
from ..kernel.bounds import Bounds
from ..kernel.build import index
from ..kernel.nodes import Alloc, Buffer, Dim, Kernel, Store
from ..kernel.traverse import statement_exprs, walk, walk_statements
from .nodes import Branch, Call, Copy, Place, Program, Repeat, Step, Storage

CODE_BYTES_PER_EXPRESSION = 10
"""Measured on eight models for Cortex-M4: 4 to 7 bytes with gcc -O2, 7 to 17 with -O3."""
CODE_BYTES_PER_CALL = 32


@dataclass(slots=True)
class Tensor:
    """A temporary tensor, with the layers that it lives through."""

    loc: Loc
    """The node that makes it."""
    bytes: int
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
    """Local arrays of the kernel that has most of them."""
    weight_bytes: int
    code_bytes: int
    """Estimated: nobody knows before the C compiler has run."""

    @property
    def ram_bytes(self) -> int:
        """Arena and local arrays; inputs and outputs are the caller's."""
        return self.arena_bytes + self.stack_bytes

    @property
    def flash_bytes(self) -> int:
        """Weights and estimated code."""
        return self.weight_bytes + self.code_bytes

    def live(self, layer: int) -> list[Tensor]:
        """The tensors that live while a layer runs, largest first."""
        return sorted((t for t in self.tensors if t.first <= layer <= t.last), key=lambda t: (-t.bytes, t.first))

    @property
    def peak(self) -> int:
        """Number of the layer with the most live bytes."""
        return max(range(len(self.layers)), key=lambda k: sum(t.bytes for t in self.live(k)), default=0)


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
        max((_stack_bytes(kernel) for kernel in program.kernels.values()), default=0),
        sum(w.bytes for w in weights),
        CODE_BYTES_PER_CALL * len(collector.layers) + sum(map(code_bytes, program.kernels.values())),
    )


def code_bytes(kernel: Kernel) -> int:
    """Estimated size of a kernel's machine code on a small processor."""
    return CODE_BYTES_PER_EXPRESSION * sum(1 for s in walk_statements(kernel.body) for _ in walk(*statement_exprs(s)))


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
                        self._touch(storage, _most(size), max(0, len(self.layers) - 1), NOWHERE)
                case Branch(then=then, other=other):
                    self.visit(then)
                    self.visit(other)
                case Repeat(body=body):
                    self._loop(body)
                case _:
                    pass

    def _loop(self, body: Sequence[Step]) -> None:
        """What lives across an end of a loop lives in all of its rounds."""
        begin = len(self.layers)
        self.visit(body)
        end = len(self.layers) - 1
        for tensor in self.tensors.values():
            if tensor.first < begin <= tensor.last:
                tensor.last = max(tensor.last, end)

    def _call(self, step: Call) -> None:
        kernel, number = self.program.kernels[step.kernel], len(self.layers)
        stored = {s.buffer for s in walk_statements(kernel.body) if isinstance(s, Store)}
        self.layers.append(step.loc)
        for storage, buffer in sorted(zip(step.buffers, kernel.buffers, strict=True), key=lambda pair: pair[1] in stored):
            if storage.place is Place.WEIGHTS:
                self.readers.setdefault(storage.index, (step.loc, number))
            self._touch(storage, _bytes(buffer), number, step.loc)

    def _touch(self, storage: Storage, size: int, layer: int, loc: Loc) -> None:
        if storage.place is not Place.ARENA:
            return
        found = self.tensors.setdefault(storage.index, Tensor(loc, size, layer, layer))
        found.last, found.bytes = max(found.last, layer), max(found.bytes, size)


def _stack_bytes(kernel: Kernel) -> int:
    return sum(_bytes(s.buffer) for s in walk_statements(kernel.body) if isinstance(s, Alloc))


def _bytes(buffer: Buffer) -> int:
    return _most(buffer.size) * buffer.dtype.bytes


def _most(size: Dim) -> int:
    """A size, or the most that it can be; 0 if that is not known."""
    found = Bounds().of(index(size))
    return 0 if found is None or found[1] >= 1 << 40 else max(0, found[1])
