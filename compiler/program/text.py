"""The text of a program, for people: where tensors lie and what runs, in order. It is not read back."""

from __future__ import annotations

from collections.abc import Iterator

from ..graph.text import print_dim, print_type
from ..kernel.text import print_expr
from .nodes import Allocate, Branch, Call, Check, Copy, Free, Move, Place, Program, ReadSymbol, Repeat, Rows, SetSymbol, Step, Storage


def print_program(program: Program) -> str:
    """The text of a program; kernels stand in texts of their own."""
    return "\n".join(_lines(program)) + "\n"


def print_schedules(program: Program) -> str:
    """One line a kernel: its schedule."""
    return "".join(f"{name}: {kernel.schedule or 'as written'}\n" for name, kernel in program.kernels.items())


def _lines(program: Program) -> Iterator[str]:
    yield f"program {program.name}"
    for role, values in (("input", program.inputs), ("output", program.outputs)):
        for k, value in enumerate(values):
            where = " on the heap" if role == "output" and k in program.heap_outputs else ""
            yield f"  {role} {k}: {value.name} {print_type(value.type)}{where}"
    for given in program.symbols:
        yield f"  symbol {given.symbol.name} = extent {given.axis} of input {given.input}"
    for k, array in enumerate(program.constants):
        yield f"  weights {k}: {array.dtype}[{array.size}]"
    yield f"  arena {print_dim(program.arena_bytes)} bytes, at least {print_dim(program.lower_bound_bytes)}"
    yield from _steps(program.steps, "  ")


def _steps(steps: tuple[Step, ...], indent: str) -> Iterator[str]:
    for step in steps:
        match step:
            case Branch(cond=cond, then=then, other=other):
                yield f"{indent}if {print_expr(cond)}:"
                yield from _steps(then, indent + "  ")
                yield f"{indent}else:"
                yield from _steps(other, indent + "  ")
            case Repeat(cond=cond, body=body):
                yield f"{indent}while {print_expr(cond)}:"
                yield from _steps(body, indent + "  ")
            case Rows(counters=counters, body=body):
                yield f"{indent}rows with {', '.join(counter.name for counter in counters)}:"
                yield from _steps(body, indent + "  ")
            case _:
                yield indent + _step(step)


def _step(step: Step) -> str:
    match step:
        case Call():
            operands = [*map(_storage, step.buffers), *map(print_dim, step.symbols)]
            covers = f"  # {', '.join(step.covers)}" if step.covers else ""
            return f"{step.kernel}({', '.join(operands)}) over {print_dim(step.iterations)}{covers}"
        case Copy():
            to, of = _storage(step.target), _storage(step.source)
            return f"copy {print_dim(step.bytes)} bytes to {to} + {print_dim(step.target_offset)} of {of} + {print_dim(step.source_offset)}"
        case SetSymbol(symbol=symbol, value=value):
            return f"{symbol.name} = {print_expr(value)}"
        case ReadSymbol(symbol=symbol, source=source, element=element, dtype=dtype):
            return f"{symbol.name} = {dtype.label} {_storage(source)}[{element}]"
        case Check(cond=cond, code=code, message=message):
            return f"check {print_expr(cond)} else {code}  # {message}"
        case Allocate(heap=heap, bytes=size):
            return f"allocate {_storage(heap)} {print_dim(size)} bytes"
        case Free(heap=heap):
            return f"free {_storage(heap)}"
        case Move(target=target, source=source):
            return f"move {_storage(source)} to {_storage(target)}"
        case _:
            raise AssertionError(step)


def _storage(storage: Storage) -> str:
    return f"arena+{print_dim(storage.offset)}" if storage.place is Place.ARENA else f"{storage.place.value}{storage.index}"
