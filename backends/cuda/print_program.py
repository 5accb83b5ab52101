"""A program as one C++ function that launches the kernels on a stream.

    int model_run(const void *const *inputs, void **outputs, int64_t *symbols, const void *weights, void *arena, cudaStream_t stream)

Tensors lie in the device's memory, steps run on the host. The arena starts with the status word of the
kernels' checks. A step that needs a number from the device copies it and waits; programs without such
steps neither wait nor allocate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim, Expr, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.nodes import Allocate, Call, Copy, Free, Move, Place, Program, ReadSymbol, Step, Storage, walk_steps
from ...compiler.program.weights import weight_offsets
from ..c.print_program import ProgramPrinter, written_buffers
from .print import CUDA, launch_of

STATUS_BYTES = 64
"""Bytes at the start of the arena: the status word, and what aligns the rest."""
OUT_OF_MEMORY = 255
PARAMETERS = "const void *const *inputs, void **outputs, int64_t *symbols, const void *weights, void *arena, cudaStream_t stream"


def arena_bytes(program: Program) -> Dim:
    """Size of the arena with the status word."""
    return build.dim(build.add(build.index(program.arena_bytes), STATUS_BYTES))


class CudaProgramPrinter(ProgramPrinter):
    """Prints the steps of a program, and the functions that tell sizes.

    Args:
        functions: name of each kernel's function.
        helpers: gets the helper functions that the text calls.
    """

    def __init__(self, program: Program, functions: Mapping[str, str], helpers: dict[str, str]) -> None:
        super().__init__(program, CUDA, functions, (), helpers)
        self.e.vars = {s.symbol.name: f"dim_{k}" for k, s in enumerate(program.symbols)}
        self.can_fail = any(launch_of(kernel).can_fail for kernel in program.kernels.values())
        self.reads = any(isinstance(step, ReadSymbol) for step in walk_steps(program.steps))
        self._offsets = weight_offsets(program.constants)[0]

    # --- Functions ----------------------------------------------------------------------------

    def function(self, name: str) -> str:
        """The run function."""
        self.depth = 1
        self._enter()
        self.steps(self.program.steps)
        for position, heap in sorted(self.program.output_heaps.items()):
            self.line(f"outputs[{position}] = heap_{heap.index}.take();")
        for k, local in enumerate(self.program.locals):
            self.line(f"symbols[{len(self.program.symbols) + k}] = {self.e.vars[local.name]};")
        self.line("return 0;")
        return "\n".join([f'extern "C" int {name}({PARAMETERS}) {{', *self.lines, "}"]) + "\n"

    def _enter(self) -> None:
        for unused in ("inputs", "outputs", "symbols", "weights", "arena", "stream"):
            self.line(f"(void){unused};")
        for k in range(len(self.program.symbols)):
            self.line(f"const int64_t dim_{k} = symbols[{k}];")
            self.line(f"(void)dim_{k};")
        for k, local in enumerate(self.program.locals):
            self.e.vars[local.name] = f"local_{k}"
            self.line(f"int64_t local_{k} = 0;")
        for k in range(self.program.heaps):
            self.line(f"onnxc_heap heap_{k}(stream);")
        if self.can_fail:
            self.line("int *const status = (int *)arena;")
            self.line("ONNXC_TRY(cudaMemsetAsync(status, 0, sizeof *status, stream));")

    def status_function(self, name: str) -> str:
        """The function that waits for a run."""
        body = ["    ONNXC_TRY(cudaStreamSynchronize(stream));", "    return 0;"]
        if self.can_fail:
            body = [
                "    int found = 0;",
                "    ONNXC_TRY(cudaMemcpyAsync(&found, arena, sizeof found, cudaMemcpyDeviceToHost, stream));",
                "    ONNXC_TRY(cudaStreamSynchronize(stream));",
                "    return found;",
            ]
        return "\n".join([f'extern "C" int {name}(const void *arena, cudaStream_t stream) {{', "    (void)arena;", *body, "}"]) + "\n"

    def size_function(self, head: str, cases: Sequence[Dim]) -> str:
        """A function of the symbols that gives one of some sizes, chosen by `index`."""
        self.lines, self.depth = [], 1
        self.line("(void)symbols;")
        symbols = [s.symbol for s in self.program.symbols] + list(self.program.locals)
        self.e.vars = {symbol.name: f"symbols[{k}]" for k, symbol in enumerate(symbols)}
        if len(cases) == 1:
            self.scoped("return {0};", build.index(cases[0]))
        else:
            self.open("switch (index)")
            for k, size in enumerate(cases):
                self.line(f"case {k}:")
                self.depth += 1
                self.scoped("return {0};", build.index(size))
                self.depth -= 1
            self.line("default:")
            self.line("    return 0;")
            self.close()
        return "\n".join([f'extern "C" int64_t {head} {{', *self.lines, "}"]) + "\n"

    # --- Steps --------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Print one step."""
        match step:
            case ReadSymbol():
                self.read(step)
            case Allocate(heap=heap, bytes=size):
                self.scoped(f"if (heap_{heap.index}.allocate({{0}}) != cudaSuccess) {{{{ return {OUT_OF_MEMORY}; }}}}", build.index(size))
            case Free(heap=heap):
                self.line(f"heap_{heap.index}.release();")
            case Move(target=target, source=source):
                self.line(f"heap_{target.index}.release();")
                self.line(f"heap_{target.index}.data = heap_{source.index}.take();")
            case _:
                super().step(step)

    def call(self, step: Call) -> None:
        """The launch of a kernel."""
        kernel = self.program.kernels[step.kernel]
        launch = launch_of(kernel)
        stored = written_buffers(kernel)
        pointers = [
            self.pointer(storage, buffer.dtype, is_const=buffer not in stored)
            for storage, buffer in zip(step.buffers, kernel.buffers, strict=True)
        ]
        values: dict[Var, Expr] = {v: build.index(d) for v, d in zip(kernel.symbols, step.symbols, strict=True)}
        slots = [f"{{{k + 1}}}" for k in range(len(values))]
        arguments = ", ".join([*pointers, *slots, *(["status"] if launch.can_fail else [])])
        barriers = "true" if launch.has_barriers else "false"
        text = f"ONNXC_LAUNCH({self.functions[step.kernel]}, {{0}}, {launch.threads}, {barriers}, stream, {arguments});"
        self.scoped(text, substitute(launch.blocks, values), *values.values())
        self.line("ONNXC_TRY(cudaGetLastError());")

    def copy(self, step: Copy) -> None:
        """A copy on the device."""
        target, source = self.bytes(step.target, is_const=False), self.bytes(step.source, is_const=True)
        exprs = [build.index(d) for d in (step.target_offset, step.source_offset, step.bytes)]
        self.scoped(
            f"ONNXC_TRY(cudaMemcpyAsync({target} + {{0}}, {source} + {{1}}, (size_t){{2}}, cudaMemcpyDeviceToDevice, stream));", *exprs
        )

    def read(self, step: ReadSymbol) -> None:
        """A number from the device: wait, and stop if a check has failed by then."""
        dtype = step.dtype
        assert not dtype.is_narrow_float, dtype
        name = self.e.names.fresh("number")
        pointer = self.pointer(step.source, dtype, is_const=True)
        self.open("")
        self.line(f"{self.dialect.type(dtype)} {name} = 0;")
        status = "status" if self.can_fail else "nullptr"
        self.line(f"const int failed = onnxc_read(&{name}, {pointer} + {step.element}, sizeof {name}, {status}, stream);")
        self.line("if (failed) { return failed; }")
        text = f"({name} != 0)" if dtype.kind is Kind.BOOL else name
        self.line(f"{self.e.vars[step.symbol.name]} = (int64_t){text};")
        self.close()

    # --- Memory -------------------------------------------------------------------------------

    def pointer(self, storage: Storage, dtype: DType, *, is_const: bool) -> str:
        """A typed pointer to a storage."""
        return f"({'const ' if is_const else ''}{self.dialect.type(dtype)} *){self._address(storage)}"

    def bytes(self, storage: Storage, *, is_const: bool) -> str:
        """A pointer to the first byte of a storage."""
        return f"({'const ' if is_const else ''}unsigned char *){self._address(storage)}"

    def _address(self, storage: Storage) -> str:
        match storage.place:
            case Place.INPUT:
                return f"inputs[{storage.index}]"
            case Place.OUTPUT:
                return f"outputs[{storage.index}]"
            case Place.WEIGHTS:
                return f"((const unsigned char *)weights + {self._offsets[storage.index]})"
            case Place.ARENA:
                (offset,) = self.values(build.add(build.index(storage.offset), STATUS_BYTES))
                return f"((unsigned char *)arena + {offset})"
            case Place.HEAP:
                return f"heap_{storage.index}.data"
