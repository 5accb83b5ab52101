"""A program as one C function that calls the kernels in order.

    int model_run(const float *in_x, float *out_y, int64_t dim_n, int64_t *sizes, void *arena)

Inputs, outputs and symbols are parameters in the order of the program; `sizes` is there only if the program
sets symbols of its own. Memory is the caller's: there is no heap, so programs with `Allocate` steps do not
reach this printer (`LoweringOptions.heap`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from ...compiler.diagnostics import CompileError
from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.bounds import Bounds
from ...compiler.kernel.nodes import Expr, Extern, Kernel, Scope, Store
from ...compiler.kernel.traverse import walk_statements
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
)
from .dialect import Dialect
from .expressions import ExprPrinter
from .layers import layer_name, stages
from .lines import Lines
from .names import clean, comment, model_prefix
from .print import can_fail
from .weights import element_type

COPY_HELPER = """static void onnxc_copy(unsigned char *restrict target, const unsigned char *restrict source, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i++) {
        target[i] = source[i];
    }
}
"""


class Signature:
    """Names and types of the run function's parameters."""

    def __init__(self, program: Program, dialect: Dialect) -> None:
        symbols = [s.symbol.name for s in program.symbols]
        self.inputs, self.outputs, self.symbols = parameter_names(
            [v.name for v in program.inputs], [v.name for v in program.outputs], symbols
        )
        self.sizes = ["sizes"] if program.locals else []
        self.symbol_parameters = [f"int64_t {name}" for name in self.symbols]
        self.parameters = [
            *(f"const {dialect.type(v.type.dtype)} *{name}" for v, name in zip(program.inputs, self.inputs, strict=True)),
            *(f"{dialect.type(v.type.dtype)} *{name}" for v, name in zip(program.outputs, self.outputs, strict=True)),
            *self.symbol_parameters,
            *(f"int64_t *{name}" for name in self.sizes),
            "void *arena",
        ]
        self.step_parameters = ["{model}_cursor *cursor", *(p for p in self.parameters if p != "int64_t *sizes")]
        """Those of the function that runs one layer; the sizes are in the cursor."""

    @property
    def step_arguments(self) -> list[str]:
        """What the run passes on to the function that runs one layer."""
        return ["&cursor", *self.inputs, *self.outputs, *self.symbols, "arena"]


def parameter_names(inputs: Iterable[str], outputs: Iterable[str], symbols: Iterable[str] = ()) -> tuple[list[str], list[str], list[str]]:
    """The parameters for inputs, outputs and symbols of these names."""
    taken: set[str] = {"arena", "sizes", "cursor"}
    pairs = (("in", inputs), ("out", outputs), ("dim", symbols))
    found = [[_distinct(f"{role}_{clean(name)}", taken) for name in names] for role, names in pairs]
    return found[0], found[1], found[2]


def _distinct(name: str, taken: set[str]) -> str:
    """A name that none of the others equals in any case: macros are in capitals."""
    chosen, count = name, 1
    while chosen.lower() in taken:
        count += 1
        chosen = f"{name}_{count}"
    taken.add(chosen.lower())
    return chosen


class ProgramPrinter(Lines):
    """Prints the steps of a program.

    Args:
        functions: name of each kernel's function.
        weights: name of each constant's array.
        helpers: gets the helper functions that the text calls.
    """

    def __init__(
        self,
        program: Program,
        dialect: Dialect,
        functions: Mapping[str, str],
        weights: Sequence[str],
        helpers: dict[str, str],
        *,
        static_arena: bool = False,
    ) -> None:
        super().__init__(ExprPrinter(dialect, helpers, Bounds()))
        self.model, self.static_arena = model_prefix(program.name), static_arena
        self.layers_printed = 0
        self.program, self.dialect, self.functions, self.weights, self.helpers = program, dialect, functions, weights, helpers
        self.signature = Signature(program, dialect)
        self.e.vars = {s.symbol.name: name for s, name in zip(program.symbols, self.signature.symbols, strict=True)}
        self.uses_base = False

    def run(self) -> str:
        """The whole definition of the function that runs all layers."""
        self.depth = 1
        for k, local in enumerate(self.program.locals):
            self.e.vars[local.name] = f"local_{k}"
            self.line(f"int64_t local_{k} = 0;")
        self.steps(self.program.steps)
        self._hand_out("local_{}")
        self.line("return 0;")
        return self._definition(f"int {self.model}_run({', '.join(self.signature.parameters)}) {{")

    def step_function(self) -> str:
        """The definition of the function that runs one layer a call, and that of the run, which calls it for all of them."""
        self.depth = 1
        for k, local in enumerate(self.program.locals):
            self.e.vars[local.name] = f"cursor->local[{k}]"
        pieces = stages(self.program.steps)
        self.open("switch (cursor->next)")
        for k, piece in enumerate(pieces):
            self.open(f"case {k}:")
            self.steps(piece)
            self.line("break;")
            self.close()
        self.line("default: return 0;")
        self.close()
        self.line("cursor->next++;")
        self.line("return 0;")
        parameters = ", ".join(self.signature.step_parameters).format(model=self.model)
        step = self._definition(f"int {self.model}_step({parameters}) {{")
        return f"{step}\n{self._run_by_steps()}"

    def _run_by_steps(self) -> str:
        self.lines = []
        self.line(f"{self.model}_cursor cursor = {{0}};")
        self.line("int status = 0;")
        self.open(f"while (status == 0 && cursor.next < {self.model.upper()}_STEPS)")
        self.line(f"status = {self.model}_step({', '.join(self.signature.step_arguments)});")
        self.close()
        self._hand_out("cursor.local[{}]")
        self.line("return status;")
        head = f"int {self.model}_run({', '.join(self.signature.parameters)}) {{"
        return "\n".join([head, *self.lines, "}"]) + "\n"

    def _hand_out(self, local: str) -> None:
        """Store the symbols that the program sets for the caller."""
        if not self.program.locals:
            return
        self.open("if (sizes != NULL)")
        for k in range(len(self.program.locals)):
            self.line(f"sizes[{k}] = {local.format(k)};")
        self.close()

    def _definition(self, head: str) -> str:
        own = f"arena != NULL ? arena : (void *){self.model}_arena.bytes"
        arena = f"({own})" if self.static_arena else "arena"
        base = [f"    unsigned char *const base = (unsigned char *){arena};"] if self.uses_base else []
        return "\n".join([head, *base, *self._unused(), *self.lines, "}"]) + "\n"

    def _unused(self) -> list[str]:
        """Mentions of parameters that no step uses, against warnings; harmless for those that are used."""
        names = [*self.signature.inputs, *self.signature.outputs, *self.signature.symbols]
        return [f"    (void){name};" for name in [*names, "arena"]]

    def arena_function(self) -> str:
        """The function that computes the size of an arena with symbolic extents."""
        self.depth = 1
        texts = self.values(build.index(self.program.arena_bytes))
        self.line(f"return (size_t)({texts[0]});")
        unused = [f"    (void){s};" for s in self.signature.symbols]
        return (
            "\n".join(
                [f"size_t {self.model}_arena_bytes({', '.join(self.signature.symbol_parameters) or 'void'}) {{", *unused, *self.lines, "}"]
            )
            + "\n"
        )

    # --- Steps --------------------------------------------------------------------------------

    def steps(self, steps: Sequence[Step]) -> None:
        """Print steps in order."""
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        """Print one step."""
        match step:
            case Call():
                self.call(step)
            case Copy():
                self.copy(step)
            case SetSymbol(symbol=symbol, value=value):
                self.scoped(f"{self.e.vars[symbol.name]} = {{0}};", value)
            case ReadSymbol():
                pointer = self.pointer(step.source, step.dtype, is_const=True)
                self.line(f"{self.e.vars[step.symbol.name]} = (int64_t){pointer}[{step.element}];")
            case Check(cond=cond, code=code):
                self.scoped(f"if (!{{0}}) {{{{ return {code}; }}}}", cond)
            case Branch():
                self.branch(step)
            case Repeat():
                self.open("for (;;)")
                (test,) = self.values(step.cond)
                self.line(f"if (!{test}) {{ break; }}")
                self.steps(step.body)
                self.close()
            case Rows():
                self.rows(step)
            case Allocate() | Free() | Move():
                raise CompileError("E0302", "the model needs memory of a size that is known only while it runs; this target has no heap")
            case _:
                assert_never(step)

    def rows(self, step: Rows) -> None:
        """Steps with counters of their own."""
        self.open("")
        for counter in step.counters:
            name = self.e.vars[counter.name] = self.e.names.fresh(counter.name)
            self.line(f"{self.e.type(counter)} {name} = 0;")
        self.steps(step.body)
        self.close()

    def branch(self, step: Branch) -> None:
        """Either of two lists of steps."""
        self.open("")
        (cond,) = self.values(step.cond)
        self.open(f"if ({cond})")
        self.steps(step.then)
        if step.other:
            self.close(" else {")
            self.depth += 1
            self.steps(step.other)
        self.close()
        self.close()

    def call(self, step: Call) -> None:
        """A call of a kernel; its failure ends the run."""
        kernel = self.program.kernels[step.kernel]
        stored = written_buffers(kernel)
        pointers = [
            self.pointer(storage, buffer.dtype, is_const=buffer not in stored)
            for storage, buffer in zip(step.buffers, kernel.buffers, strict=True)
        ]
        slots = [f"{'(int32_t)' if self.e.is_narrow(symbol) else ''}{{{k}}}" for k, symbol in enumerate(kernel.symbols)]
        call = f"{self.functions[step.kernel]}({', '.join([*pointers, *slots])})"
        symbols = [build.index(d) for d in step.symbols]
        layer = f'({self.layers_printed}, "{comment(layer_name(step))}");'
        self.layers_printed += 1
        self.line(f"{self.model.upper()}_BEGIN{layer}")
        self._call(kernel, call, symbols)
        self.line(f"{self.model.upper()}_END{layer}")

    def _call(self, kernel: Kernel, call: str, symbols: Sequence[Expr]) -> None:
        if can_fail(kernel):
            self.scoped(f"{{{{ const int status = {call}; if (status != 0) {{{{ return status; }}}} }}}}", *symbols)
        else:
            self.scoped(f"{call};", *symbols)

    def copy(self, step: Copy) -> None:
        """A copy of bytes."""
        self.helpers["onnxc_copy"] = COPY_HELPER
        target, source = self.bytes(step.target, is_const=False), self.bytes(step.source, is_const=True)
        exprs = [build.index(d) for d in (step.target_offset, step.source_offset, step.bytes)]
        self.scoped(f"onnxc_copy({target} + {{0}}, {source} + {{1}}, {{2}});", *exprs)

    # --- Memory -------------------------------------------------------------------------------

    def pointer(self, storage: Storage, dtype: DType, *, is_const: bool) -> str:
        """A typed pointer to a storage."""
        wanted = self.dialect.type(dtype)
        found, name = self._named(storage)
        if found == wanted:
            return name
        const = "const " if is_const else ""
        return f"(({const}{wanted} *)({const}void *){name})"

    def bytes(self, storage: Storage, *, is_const: bool) -> str:
        """A pointer to the first byte of a storage."""
        found, name = self._named(storage)
        return name if found is None else f"(({'const ' if is_const else ''}unsigned char *){name})"

    def _named(self, storage: Storage) -> tuple[str | None, str]:
        """Element type and name of a parameter or constant; None and an expression for a place in the arena."""
        match storage.place:
            case Place.INPUT:
                return self.dialect.type(self.program.inputs[storage.index].type.dtype), self.signature.inputs[storage.index]
            case Place.OUTPUT:
                return self.dialect.type(self.program.outputs[storage.index].type.dtype), self.signature.outputs[storage.index]
            case Place.WEIGHTS:
                return self.dialect.type(element_type(self.program.constants[storage.index])), self.weights[storage.index]
            case Place.ARENA:
                self.uses_base = True
                (offset,) = self.values(build.index(storage.offset))
                return None, f"(base + {offset})"
            case Place.HEAP:
                raise CompileError("E0302", "the model needs memory of a size that is known only while it runs; this target has no heap")


def written_buffers(kernel: Kernel) -> set[object]:
    """Buffers that a kernel stores to, whose pointers are not const."""
    stores = [s for s in walk_statements(kernel.body) if isinstance(s, (Store, Extern))]
    found = {b for s in stores for b in ((s.buffer,) if isinstance(s, Store) else s.filled)}
    return {buffer for buffer in found if buffer.scope is not Scope.CONST}
