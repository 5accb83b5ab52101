"""The rows of floats of the `c` backend: a multiply-add in plain C, which compilers fuse where the processor can.

`a + b * c` is one instruction with an FPU that has it (VFMA of Cortex-M4F, M7, M33, M55, `-march=native`), unless the
compiler is told not to contract. Results then differ in the last bit from targets that round twice.
"""

from __future__ import annotations

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Expr

NO_FPU = frozenset({"avr", "cortex-m0", "cortex-m3", "rv32imc"})
"""Processors whose floats are integers and calls: a tile of them must be small."""
REGISTERS, FEW_REGISTERS = 32, 10


def float_rows(processor: str) -> tuple[Mma, ...]:
    """The rows of a processor; any other than the known ones is taken to have an FPU."""
    small = processor in NO_FPU
    return tuple(
        Mma(
            name=f"mul_add.{dtype.label}", lanes=2 if small else 4, k=1, operand=dtype, accumulator=dtype,
            registers=FEW_REGISTERS if small else REGISTERS, step=mul_add, is_vector=False,
            source="ISO C99 6.5 p8 (contraction)",
        )
        for dtype in (DType.FLOAT32, DType.FLOAT64)
    )  # fmt: skip


def mul_add(acc: Expr, scalar: Expr, vector: Expr) -> Expr:
    """`acc + scalar * vector`."""
    return build.add(acc, build.mul(scalar, vector))
