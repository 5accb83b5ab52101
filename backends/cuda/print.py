"""Kernel IR as CUDA C++: one `__global__` function for each kernel.

The C printer with other rows: a grid loop is the number of the block, a block loop that of the thread,
shared buffers are parts of one array, barriers and failing checks are primitives (`primitives.h.j2`). Runs
after the passes of `lower.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.kernel.nodes import Alloc, Assert, Barrier, Buffer, Const, Expr, For, Kernel, LoopKind, Math, Scope, Stmt
from ...compiler.kernel.traverse import free_vars, statement_exprs, walk_statements
from ..c.dialect import Dialect
from ..c.expressions import ExprPrinter
from ..c.print import CPrinter, can_fail

CUDA = Dialect(restrict="__restrict__", helper="static __host__ __device__ inline", kernel="static __global__")
SHARED_ALIGN = 16
MAX_SHARED_BYTES = 48 << 10
"""What every device gives a block without asking."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a kernel is launched."""

    blocks: Expr
    """Over the kernel's symbols."""
    threads: int
    has_barriers: bool
    can_fail: bool
    """Whether it takes the status word as its last argument."""


def launch_of(kernel: Kernel) -> Launch:
    """The grid of a kernel: its outermost loop, and the one inside it."""
    grid = kernel.body
    assert isinstance(grid, For) and grid.kind is LoopKind.GRID, kernel.name
    threads = grid.body
    assert isinstance(threads, For) and threads.kind is LoopKind.BLOCK and isinstance(threads.extent, Const), kernel.name
    has_barriers = any(isinstance(s, Barrier) for s in walk_statements(kernel.body))
    return Launch(grid.extent, int(threads.extent.value), has_barriers, can_fail(kernel))


def print_kernel_cuda(kernel: Kernel, helpers: dict[str, str], name: str) -> str:
    """The text of a kernel's function.

    Args:
        kernel: lowered by `lower.py`.
        helpers: gets the helper functions that the text calls, by name.
        name: the function's name.
    """
    return CudaPrinter(kernel, CUDA, helpers).function(name)


class CudaExprPrinter(ExprPrinter):
    """Expressions; fused multiply-adds are an instruction."""

    def fma(self, e: Math, a: str, b: str, c: str) -> str:
        """One rounding."""
        return self.call("fma", [a, b, c], e.dtype)


class CudaPrinter(CPrinter):
    """Statements of one kernel."""

    expressions = CudaExprPrinter

    def __init__(self, kernel: Kernel, dialect: Dialect, helpers: dict[str, str]) -> None:
        super().__init__(kernel, dialect, helpers)
        self._shared, self._most_shared = 0, 0
        self._used = free_vars(*(e for s in walk_statements(kernel.body) for e in statement_exprs(s)))

    def function(self, name: str) -> str:
        """The whole definition."""
        launch = launch_of(self.kernel)
        parameters = [*self.parameters(), *(["int *status"] if launch.can_fail else [])]
        self.depth = 1
        for parameter in self.unused():
            self.line(f"(void){parameter};")
        self.statement(self.kernel.body)
        assert self._most_shared <= MAX_SHARED_BYTES, f"{name} needs {self._most_shared} bytes of shared memory"
        shared = [f"    ONNXC_SHARED({self._most_shared});"] if self._most_shared else []
        head = f"{self.dialect.kernel} void __launch_bounds__({launch.threads}) {name}({', '.join(parameters)}) {{"
        return "\n".join([head, *shared, *self.lines, "}"]) + "\n"

    def statement(self, stmt: Stmt) -> None:
        """Print any statement."""
        if isinstance(stmt, Assert):
            self.scoped(f"if (!{{0}}) {{{{ onnxc_fail(status, {stmt.code}); return; }}}}", stmt.cond)
        else:
            super().statement(stmt)

    def for_(self, stmt: For) -> None:
        """A loop of any kind; those over blocks and threads are no loops here."""
        if stmt.kind in (LoopKind.GRID, LoopKind.BLOCK):
            if stmt.var in self._used:
                index = "blockIdx.x" if stmt.kind is LoopKind.GRID else "threadIdx.x"
                name = self.e.vars[stmt.var.name] = self.e.names.fresh(stmt.var.name)
                c_type = self.e.type(stmt.var)
                self.line(f"const {c_type} {name} = ({c_type}){index};")
            self.statement(stmt.body)
            return
        if stmt.kind is LoopKind.UNROLL:
            self.line("#pragma unroll")
        self.counting_loop(stmt)

    def alloc(self, stmt: Alloc) -> None:
        """A local array, or a part of the block's shared memory; buffers whose lives do not meet share it."""
        buffer = stmt.buffer
        if buffer.scope is not Scope.SHARED:
            super().alloc(stmt)
            return
        before = self._shared
        c_type = self.dialect.type(buffer.dtype)
        self.open("")
        name = self.e.buffers[buffer] = self.e.names.fresh(buffer.name)
        self.line(f"{c_type} *const {name} = ({c_type} *)(onnxc_shared + {before});")
        self._shared = before + -(-_bytes(buffer) // SHARED_ALIGN) * SHARED_ALIGN
        self._most_shared = max(self._most_shared, self._shared)
        self.statement(stmt.body)
        self._shared = before
        self.close()

    def barrier(self) -> None:
        """All threads of the block."""
        self.line("ONNXC_BARRIER();")


def _bytes(buffer: Buffer) -> int:
    assert isinstance(buffer.size, int), f"shared buffer {buffer.name} of unknown size"
    return max(buffer.size, 1) * buffer.dtype.bytes
