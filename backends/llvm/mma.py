"""The MMA rows of the `llvm` backend: with `byte_rows.py` the only place where multiply-accumulate instructions are named."""

from __future__ import annotations

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Expr, MathFn
from .features import CpuFeatures


def fused(acc: Expr, scalar: Expr, vector: Expr) -> Expr:
    """`scalar * vector + acc`, rounded once."""
    return build.math_fn(MathFn.FMA, scalar, vector, acc)


def separate(acc: Expr, scalar: Expr, vector: Expr) -> Expr:
    """`acc + scalar * vector`, rounded twice; exact on integers."""
    return build.add(acc, build.mul(scalar, vector))


def rows(features: CpuFeatures) -> tuple[Mma, ...]:
    """The rows that a CPU has, best first for each pair of types."""
    bits, registers = max(features.vector_bits, 32), features.vector_registers
    step = fused if features.has_fma else separate
    kinds = ((DType.FLOAT32, step), (DType.FLOAT64, step), (DType.INT32, separate), (DType.INT64, separate), (DType.UINT32, separate))
    return tuple(
        Mma(
            name=f"{'fma' if s is fused else 'mul_add'}.v{max(1, bits // dtype.bits)}{dtype.label[0]}{dtype.bits}",
            lanes=max(1, bits // dtype.bits), k=1, operand=dtype, accumulator=dtype, registers=registers, step=s,
            source="Intel SDM vol. 2 VFMADD231PS; Arm ARM FMLA (by element)",
        )
        for dtype, s in kinds
    )  # fmt: skip
