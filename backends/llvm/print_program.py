"""A program as LLVM functions: `<name>_run`, which calls the kernels' tasks, and two that tell sizes.

    i32  <name>_run(ptr inputs, ptr outputs, ptr symbols, ptr weights, ptr arena, ptr pool)
    i64  <name>_arena_bytes(ptr symbols)
    void <name>_output_shapes(ptr symbols, ptr extents)

`inputs` and `outputs` are arrays of pointers. `symbols` is an array of int64: the caller sets those of
`Program.symbols`; the function writes those of `Program.locals` behind them before it returns. `weights` is
one block in which constant k starts at `weight_offsets(program.constants)[k]`. Outputs of unknown size are allocated
here and their pointers stored to `outputs`; the caller frees them. `pool` may be null: one thread.
The result is 0, or the code of the check that failed. `extents` gets the extents of all outputs, one output
after another; those that depend on data are right after the run, when their symbols have been written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim, Expr, Kernel, Var
from ...compiler.kernel.traverse import free_vars
from ...compiler.program.nodes import (
    Allocate,
    Branch,
    Call,
    Check,
    Copy,
    Free,
    Move,
    Place,
    Program,
    ReadSymbol,
    Repeat,
    Rows,
    SetSymbol,
    Step,
    Storage,
    walk_steps,
)
from ...compiler.program.weights import weight_offsets
from .expressions import value
from .features import CpuFeatures
from .llvmtypes import memory_type
from .print import print_module, quoted
from .writer import Writer

ALIGN = 64
PARALLEL_WORK = 16_000
"""Estimated cycles from which a call is spread over threads: some five microseconds, twice what waking them costs."""
_DECLARATIONS = """
declare ptr @aligned_alloc({size}, {size})
declare void @free(ptr)
declare i32 @onnxc_parallel(ptr, ptr, ptr, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""
OUT_OF_MEMORY = 255


def print_program(program: Program, features: CpuFeatures, *, prefix: str, kernels: Mapping[str, Kernel]) -> str:
    """The text of a module with the program's functions.

    Args:
        program: what to print.
        features: the CPU.
        prefix: begins the names of the functions.
        kernels: those that stand in the same module (`<prefix>.<kernel>`); the others are declared only.
    """
    called = dict.fromkeys(step.kernel for step in walk_steps(program.steps) if isinstance(step, Call))
    functions = [
        _ProgramPrinter(program, features, prefix).run_function(),
        _ProgramPrinter(program, features, prefix).arena_function(),
        _ProgramPrinter(program, features, prefix).shapes_function(),
    ]
    elsewhere = "\n".join(f"declare hidden i32 @{task_name(prefix, name)}(ptr, i64, i64)" for name in called if name not in kernels)
    declarations = _DECLARATIONS.replace("{size}", size_type(features)) + elsewhere
    here = [(f"{prefix}.{name}", kernel) for name, kernel in kernels.items()]
    return print_module(here, features, visibility="hidden", declarations=declarations, functions="\n\n".join(functions))


def size_type(features: CpuFeatures) -> str:
    """C's `size_t`."""
    return "i32" if "32" in features.arch else "i64"


def task_name(prefix: str, kernel: str) -> str:
    """Global name of a kernel's task, quoted."""
    return quoted(f"{prefix}.{kernel}.task")


class _ProgramPrinter:
    """Steps of one program."""

    def __init__(self, program: Program, features: CpuFeatures, prefix: str) -> None:
        self.program = program
        self.prefix = prefix
        self.w = Writer(features)
        self.variables = {s.symbol: f"%v{k}" for k, s in enumerate(program.symbols)}
        self.variables |= {symbol: f"%v{k + len(program.symbols)}" for k, symbol in enumerate(program.locals)}
        self.offsets, _ = weight_offsets(program.constants)

    def run_function(self) -> str:
        """The function that runs the model."""
        w = self.w
        self._enter()
        self.steps(self.program.steps)
        for position, heap in sorted(self.program.output_heaps.items()):
            pointer = w.let(f"load ptr, ptr %h{heap.index}")
            w.line(f"store ptr {pointer}, ptr {w.let(f'getelementptr ptr, ptr %outputs, i64 {position}')}")
            w.line(f"store ptr null, ptr %h{heap.index}")
        w.line("store i32 0, ptr %status")
        w.jump("leave")
        self._leave()
        slots = max((len(s.buffers) + len(s.symbols) for s in walk_steps(self.program.steps) if isinstance(s, Call)), default=1)
        name = quoted(f"{self.prefix}_run")
        head = f"define i32 @{name}(ptr %inputs, ptr %outputs, ptr %symbols, ptr %weights, ptr %arena, ptr %pool) nounwind {{"
        return "\n".join([head, "entry:", f"  %args = alloca [{slots} x i64], align 16", *w.lines, "}"])

    def arena_function(self) -> str:
        """The function that tells the bytes of working memory."""
        self._take_symbols(len(self.program.symbols))
        head = f"define i64 @{quoted(f'{self.prefix}_arena_bytes')}(ptr %symbols) nounwind {{"
        size = self.expr(self.program.arena_bytes)
        return "\n".join([head, "entry:", *self.w.lines, f"  ret i64 {size}", "}"])

    def shapes_function(self) -> str:
        """The function that tells the extents of all outputs."""
        w = self.w
        self._take_symbols(len(self.variables))
        for k, extent in enumerate(extent for output in self.program.outputs for extent in output.type.shape):
            w.line(f"store i64 {self.expr(extent)}, ptr {w.let(f'getelementptr i64, ptr %extents, i64 {k}')}")
        head = f"define void @{quoted(f'{self.prefix}_output_shapes')}(ptr %symbols, ptr %extents) nounwind {{"
        return "\n".join([head, "entry:", *w.lines, "  ret void", "}"])

    def _take_symbols(self, known: int) -> None:
        """Give each symbol a variable; the first ones get the caller's values, the others 0."""
        w = self.w
        for k, variable in enumerate(self.variables.values()):
            w.line(f"{variable} = alloca i64")
            given = "0"
            if k < known:
                given = w.let(f"load i64, ptr {w.let(f'getelementptr i64, ptr %symbols, i64 {k}')}")
            w.line(f"store i64 {given}, ptr {variable}")

    def _enter(self) -> None:
        w = self.w
        w.line("%status = alloca i32")
        self._take_symbols(len(self.program.symbols))
        for k in range(self.program.heaps):
            w.line(f"%h{k} = alloca ptr")
            w.line(f"store ptr null, ptr %h{k}")

    def _leave(self) -> None:
        """Hand out the local symbols and free the heap, whether the run succeeded or not."""
        w = self.w
        for k, variable in enumerate(self.variables.values()):
            if k >= len(self.program.symbols):
                final = w.let(f"load i64, ptr {variable}")
                w.line(f"store i64 {final}, ptr {w.let(f'getelementptr i64, ptr %symbols, i64 {k}')}")
        for k in range(self.program.heaps):
            w.line(f"call void @free(ptr {w.let(f'load ptr, ptr %h{k}')})")
        w.line(f"ret i32 {w.let('load i32, ptr %status')}")

    # --- Steps --------------------------------------------------------------------------------

    def steps(self, steps: tuple[Step, ...]) -> None:
        """Emit steps in order."""
        for step in steps:
            with self.w.scope():
                self.step(step)

    def step(self, step: Step) -> None:
        """Emit one step."""
        match step:
            case Call():
                self.call(step)
            case Copy():
                self.copy(step)
            case SetSymbol(symbol=symbol, value=e):
                self.w.line(f"store i64 {self.expr(e)}, ptr {self.variables[symbol]}")
            case ReadSymbol():
                self.read(step)
            case Check(cond=cond, code=code):
                self.stop_unless(self.expr(cond), code)
            case Allocate(heap=heap, bytes=size):
                self.allocate(heap, size)
            case Free(heap=heap):
                self.w.line(f"call void @free(ptr {self.w.let(f'load ptr, ptr %h{heap.index}')})")
                self.w.line(f"store ptr null, ptr %h{heap.index}")
            case Move(target=target, source=source):
                self.w.line(f"call void @free(ptr {self.w.let(f'load ptr, ptr %h{target.index}')})")
                self.w.line(f"store ptr {self.w.let(f'load ptr, ptr %h{source.index}')}, ptr %h{target.index}")
                self.w.line(f"store ptr null, ptr %h{source.index}")
            case Branch():
                self.branch(step)
            case Repeat():
                self.repeat(step)
            case Rows():
                raise AssertionError("programs of this target run whole layers")

    def call(self, step: Call) -> None:
        """Fill the table of arguments and run the kernel's task, on the pool if it is worth it."""
        w = self.w
        arguments = [f"ptr {self.pointer(storage)}" for storage in step.buffers]
        arguments += [f"i64 {self.expr(symbol)}" for symbol in step.symbols]
        for k, argument in enumerate(arguments):
            w.line(f"store {argument}, ptr {w.let(f'getelementptr i64, ptr %args, i64 {k}')}, align 8")
        task, count = f"@{task_name(self.prefix, step.kernel)}", self.expr(step.iterations)
        if step.iterations == 1 or (isinstance(step.work, int) and step.work < PARALLEL_WORK):
            status = w.let(f"call i32 {task}(ptr %args, i64 0, i64 {count})")
        else:
            pool = "%pool"
            if not isinstance(step.work, int):
                pool = w.let(f"select i1 {w.let(f'icmp slt i64 {self.expr(step.work)}, {PARALLEL_WORK}')}, ptr null, ptr %pool")
            status = w.let(f"call i32 @onnxc_parallel(ptr {pool}, ptr {task}, ptr %args, i64 {count})")
        good = w.label("good")
        w.line(f"store i32 {status}, ptr %status")
        w.line(f"br i1 {w.let(f'icmp eq i32 {status}, 0')}, label %{good}, label %leave")
        w.start(good)

    def copy(self, step: Copy) -> None:
        """Copy bytes."""
        w = self.w
        target = w.let(f"getelementptr i8, ptr {self.pointer(step.target)}, i64 {self.expr(step.target_offset)}")
        source = w.let(f"getelementptr i8, ptr {self.pointer(step.source)}, i64 {self.expr(step.source_offset)}")
        w.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {self.expr(step.bytes)}, i1 false)")

    def read(self, step: ReadSymbol) -> None:
        """Set a symbol to an element of a tensor."""
        w, dtype = self.w, step.dtype
        kind = memory_type(dtype)
        at = w.let(f"getelementptr {kind}, ptr {self.pointer(step.source)}, i64 {step.element}")
        found = w.let(f"load {kind}, ptr {at}")
        if dtype.is_float:
            found = w.let(f"fptosi {kind} {found} to i64")
        elif dtype.bytes < 8:
            widen = "sext" if dtype.is_signed else "zext"
            found = w.let(f"{widen} {kind} {found} to i64")
        assert not dtype.is_float or dtype in (DType.FLOAT32, DType.FLOAT64), dtype
        w.line(f"store i64 {found}, ptr {self.variables[step.symbol]}")

    def allocate(self, heap: Storage, size: Dim) -> None:
        """Give a heap variable memory; out of memory ends the run."""
        w = self.w
        w.line(f"call void @free(ptr {w.let(f'load ptr, ptr %h{heap.index}')})")
        rounded = build.mul(build.ceildiv(build.add(build.index(size), 1), ALIGN), ALIGN)
        kind, wanted = size_type(w.features), self.expr(rounded)
        if kind == "i32":
            wanted = w.let(f"trunc i64 {wanted} to i32")
        pointer = w.let(f"call ptr @aligned_alloc({kind} {ALIGN}, {kind} {wanted})")
        w.line(f"store ptr {pointer}, ptr %h{heap.index}")
        self.stop_unless(w.let(f"icmp ne ptr {pointer}, null"), OUT_OF_MEMORY)

    def stop_unless(self, condition: str, code: int) -> None:
        """Leave with a status if a condition does not hold."""
        w = self.w
        good, bad = w.label("good"), w.label("bad")
        w.line(f"br i1 {condition}, label %{good}, label %{bad}")
        w.start(bad)
        w.line(f"store i32 {code}, ptr %status")
        w.line("br label %leave")
        w.start(good)

    def branch(self, step: Branch) -> None:
        """If."""
        w = self.w
        then, other, done = w.label("then"), w.label("else"), w.label("done")
        w.line(f"br i1 {self.truth(step.cond)}, label %{then}, label %{other}")
        for block, steps in ((then, step.then), (other, step.other)):
            w.start(block)
            self.steps(steps)
            w.line(f"br label %{done}")
        w.start(done)

    def repeat(self, step: Repeat) -> None:
        """While."""
        w = self.w
        head, body, done = w.label("head"), w.label("body"), w.label("done")
        w.jump(head)
        with w.scope():
            w.line(f"br i1 {self.truth(step.cond)}, label %{body}, label %{done}")
            w.start(body)
            self.steps(step.body)
            w.line(f"br label %{head}")
        w.start(done)

    # --- Operands -----------------------------------------------------------------------------

    def pointer(self, storage: Storage) -> str:
        """Address of the first byte of a storage."""
        w = self.w
        match storage.place:
            case Place.INPUT | Place.OUTPUT:
                table = "%inputs" if storage.place is Place.INPUT else "%outputs"
                return w.let(f"load ptr, ptr {w.let(f'getelementptr ptr, ptr {table}, i64 {storage.index}')}")
            case Place.WEIGHTS:
                return w.let(f"getelementptr i8, ptr %weights, i64 {self.offsets[storage.index]}")
            case Place.ARENA:
                return w.let(f"getelementptr i8, ptr %arena, i64 {self.expr(storage.offset)}")
            case Place.HEAP:
                return w.let(f"load ptr, ptr %h{storage.index}")

    def truth(self, e: Expr) -> str:
        """A condition as i1; integers count as true unless they are zero."""
        return self.expr(e) if e.dtype is DType.BOOL else self.expr(build.ne(e, 0))

    def expr(self, e: Dim) -> str:
        """Value of an expression over symbols, which are variables of the function."""
        e = build.index(e)
        with self._symbols(e):
            return value(self.w, e)

    @contextmanager
    def _symbols(self, e: Expr) -> Iterator[None]:
        with self.w.scope():
            for symbol in free_vars(e):
                assert isinstance(symbol, Var)
                self.w.keep(symbol, self.w.let(f"load i64, ptr {self.variables[symbol]}"))
            yield
