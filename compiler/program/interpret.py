"""Runs a program step by step in Python: the reference for the printers of programs, and the finder of wild accesses.

Kernels run in the kernel interpreter, which checks each access against the size of its buffer; here each
buffer is checked against the storage that it is given. Memory that nothing wrote holds a pattern that is NaN
in every float type. Slow by design; a program may be interpreted before or after a target's kernel passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..graph.nodes import Value
from ..kernel import build
from ..kernel.expr_functions import AccessError
from ..kernel.interpret import ExternMeaning, evaluate, run_kernel
from ..kernel.nodes import Buffer, Dim
from .nodes import Allocate, Branch, Call, Check, Copy, Free, Move, Place, Program, ReadSymbol, Repeat, Rows, SetSymbol, Step, Storage

UNWRITTEN = 0xFF
"""Content of every byte of fresh memory."""


def run_program(
    program: Program, inputs: Mapping[str, np.ndarray], externs: Mapping[str, ExternMeaning] | None = None
) -> dict[str, np.ndarray]:
    """Execute a program.

    Args:
        program: any program whose memory is assigned.
        inputs: an array for each input by name, of its type and a shape that fits.
        externs: meanings of `Extern` instructions, by name.

    Returns:
        The outputs by name.

    Raises:
        CompileError: E0402 if a check fails.
        AccessError: if a kernel or a copy reaches outside of its memory, which is a fault of the compiler.
    """
    machine = _Machine(program, inputs, externs or {})
    machine.run(program.steps)
    return {value.name: machine.output(k, value) for k, value in enumerate(program.outputs)}


class _Machine:
    """Memory and symbols of one run."""

    def __init__(self, program: Program, inputs: Mapping[str, np.ndarray], externs: Mapping[str, ExternMeaning]) -> None:
        self.program, self.externs = program, externs
        arrays = [np.ascontiguousarray(inputs[v.name]) for v in program.inputs]
        self.symbols: dict[str, int] = {s.symbol.name: arrays[s.input].shape[s.axis] for s in program.symbols}
        self.inputs = [_bytes(a) for a in arrays]
        self.weights = [_bytes(np.asarray(a)) for a in program.constants]
        self.outputs = [_fresh(self.room(k, v)) for k, v in enumerate(program.outputs)]
        self.arena = _fresh(self.value(program.arena_bytes))
        self.heaps: list[np.ndarray | None] = [None] * program.heaps

    def value(self, e: Dim) -> int:
        """Value of an expression over symbols."""
        return int(evaluate(build.index(e), self.symbols)) if not isinstance(e, int) else e

    def size(self, value: Value) -> int:
        """Bytes of a tensor in row-major order."""
        return self.value(build.product((*value.type.shape, value.type.dtype.bytes)))

    def room(self, position: int, value: Value) -> int:
        """Bytes that the caller provides for an output."""
        if position in self.program.heap_outputs:
            return 0
        capacity = self.program.capacities.get(position)
        return self.size(value) if capacity is None else capacity * value.type.dtype.bytes

    def output(self, position: int, value: Value) -> np.ndarray:
        """An output as the caller gets it."""
        heap = self.program.output_heaps.get(position)
        memory = self.outputs[position] if heap is None else self.memory(heap)
        shape = tuple(self.value(d) for d in value.type.shape)
        return _view(memory, value.type.dtype, int(np.prod(shape, dtype=np.int64)), value.name).reshape(shape)

    def memory(self, storage: Storage) -> np.ndarray:
        """The bytes of a storage, to the end of the memory that it is in."""
        match storage.place:
            case Place.INPUT:
                return self.inputs[storage.index]
            case Place.OUTPUT:
                return self.outputs[storage.index]
            case Place.WEIGHTS:
                return self.weights[storage.index]
            case Place.ARENA:
                return self.arena[self.value(storage.offset) :]
            case Place.HEAP:
                found = self.heaps[storage.index]
                if found is None:
                    raise AccessError(f"heap variable {storage.index} holds nothing")
                return found

    # --- Steps --------------------------------------------------------------------------------

    def run(self, steps: Iterable[Step]) -> None:
        """Execute steps in order."""
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        """Execute one step."""
        match step:
            case Call():
                self.call(step)
            case Copy():
                self.copy(step)
            case SetSymbol(symbol=symbol, value=e):
                self.symbols[symbol.name] = self.value(e)
            case ReadSymbol(symbol=symbol, source=source, element=element, dtype=dtype):
                self.symbols[symbol.name] = int(_view(self.memory(source), dtype, element + 1, symbol.name)[element])
            case Check(cond=cond, message=message):
                if not self.value(cond):
                    raise CompileError("E0402", message)
            case Allocate(heap=heap, bytes=size):
                self.heaps[heap.index] = _fresh(max(1, self.value(size)))
            case Free(heap=heap):
                self.heaps[heap.index] = None
            case Move(target=target, source=source):
                self.heaps[target.index], self.heaps[source.index] = self.heaps[source.index], None
            case Branch():
                self.run(step.then if self.value(step.cond) else step.other)
            case Repeat():
                while self.value(step.cond):
                    self.run(step.body)
            case Rows(counters=counters, body=body):
                self.symbols.update({counter.name: 0 for counter in counters})
                self.run(body)

    def call(self, step: Call) -> None:
        """Run a kernel on views of its storages."""
        kernel = self.program.kernels[step.kernel]
        symbols = self.symbols | {var.name: self.value(given) for var, given in zip(kernel.symbols, step.symbols, strict=True)}
        arrays: dict[Buffer, np.ndarray] = {}
        for buffer, storage in zip(kernel.buffers, step.buffers, strict=True):
            size = int(evaluate(build.index(buffer.size), symbols))
            place = f"{step.kernel}, buffer {buffer.name} ({', '.join(step.covers)})"
            arrays[buffer] = _view(self.memory(storage), buffer.dtype, size, place) if size > 0 else np.empty(0, buffer.dtype.numpy)
        run_kernel(kernel, arrays, symbols, self.externs)

    def copy(self, step: Copy) -> None:
        """Copy bytes."""
        size = self.value(step.bytes)
        if size == 0:
            return
        target, source = self.value(step.target_offset), self.value(step.source_offset)
        to, of = self.memory(step.target), self.memory(step.source)
        if size < 0 or min(target, source) < 0 or target + size > to.size or source + size > of.size:
            raise AccessError(f"copy of {size} bytes from {source} of {of.size} to {target} of {to.size}")
        to[target : target + size] = of[source : source + size]


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _fresh(size: int) -> np.ndarray:
    return np.full(size, UNWRITTEN, np.uint8)


def _view(memory: np.ndarray, dtype: DType, count: int, place: str) -> np.ndarray:
    """The first elements of some memory."""
    size = count * dtype.bytes
    if size > memory.size:
        raise AccessError(f"{place}: {size} bytes are needed, the memory has {memory.size}")
    return memory[:size].view(dtype.numpy)
