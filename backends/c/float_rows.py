"""The rows of floats of the `c` backend: a multiply-add, fused where the processor can.

`a * b + c` is one instruction with an FPU that has it (VFMA of Cortex-M4F, M7, M33, M55, `-march=native`); results
then differ in the last bit from targets that round twice. It is said by name (`dialect.fma_helper`): ISO modes of
compilers do not contract, and GCC would make the sum of a loop one vector of products and add them one by one.
"""

from __future__ import annotations

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Expr, MathFn

NO_FPU = frozenset({"avr", "cortex-m0", "cortex-m3", "rv32imc"})
"""Processors whose floats are integers and calls: a tile of them must be small."""
REGISTERS, FEW_REGISTERS = 32, 10


def float_rows(processor: str) -> tuple[Mma, ...]:
    """The rows of a processor; any other than the known ones is taken to have an FPU."""
    small = processor in NO_FPU
    return tuple(
        Mma(
            name=f"fma.{dtype.label}", lanes=2 if small else 4, k=1, operand=dtype, accumulator=dtype,
            registers=FEW_REGISTERS if small else REGISTERS, step=mul_add, is_vector=False,
            source="ISO C99 7.12.13.1",
        )
        for dtype in (DType.FLOAT32, DType.FLOAT64)
    )  # fmt: skip


def mul_add(acc: Expr, scalar: Expr, vector: Expr) -> Expr:
    """`scalar * vector + acc`."""
    return build.math_fn(MathFn.FMA, scalar, vector, acc)
