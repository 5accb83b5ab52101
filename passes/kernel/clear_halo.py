"""The kernel that writes the zeros around a tensor with a halo, before anything is stored inside."""

from __future__ import annotations

from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Dim, Expr, Scope
from ...compiler.kernel.vector_loop import vector_loop
from ...compiler.program.stages import ScheduledKernel
from .emit_loops import VectorShape
from .loop_form import physical_shape


def clear_halo(value: Value, vector: VectorShape) -> ScheduledKernel:
    """Return the kernel that clears the halo of a value; the inside is not touched."""
    shape = physical_shape(value.type)
    buffer = Buffer("b0", value.type.dtype, build.product(shape), Scope.GLOBAL)
    k = KernelBuilder()
    inner: list[tuple[Expr, Dim]] = [(build.const(0), d) for d in shape]
    work: Expr = build.const(0)
    for axis, halo in enumerate(value.type.layout.halo):
        if not halo:
            continue
        inside = build.sub(build.index(shape[axis]), 2 * halo)
        for start in (build.const(0), add(inside, halo)):
            box = [*inner[:axis], (start, halo), *inner[axis + 1 :]]
            _fill(k, buffer, shape, box, max(1, vector.bits // 32))
            work = add(work, build.index(build.product(d for _, d in box)))
        inner[axis] = (build.const(halo), build.dim(inside))
    return ScheduledKernel(k.kernel("halo", (buffer,), schedule="halo()"), (value,), 1, build.dim(work))


def _fill(k: KernelBuilder, buffer: Buffer, shape: tuple[Dim, ...], box: list[tuple[Expr, Dim]], lanes: int) -> None:
    """Zeros in a box of the physical tensor; the trailing whole dimensions are one run."""
    count = len(shape)
    while count > 0 and box[count - 1] == (build.const(0), shape[count - 1]):
        count -= 1
    run = build.product(shape[count:])
    if count:
        start, extent = box[count - 1]
        run = build.product((extent, run))
        first = mul(start, build.index(build.product(shape[count:])))
        count -= 1
    else:
        first = build.const(0)
    with k.loops(tuple(extent for _, extent in box[:count])) as at:
        indices = [add(start, i) for (start, _), i in zip(box[:count], at, strict=True)]
        row = mul(build.linearize(indices, shape[:count]), build.index(build.product(shape[count:])))
        vector_loop(k, run, lanes, lambda i: k.store(buffer, add(add(row, first), i), 0))


def has_halo(type_: TensorType) -> bool:
    """True if a tensor needs its halo cleared."""
    return any(type_.layout.halo)
