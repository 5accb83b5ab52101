"""Two operators of the domain `acme`: one by an expression, one by a C function.

onnxc compile model.onnx -t c --operators operators.py -o out
"""

from __future__ import annotations

import os

from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.nodes import Expr
from onnxc.compiler.ops.custom import c_function
from onnxc.compiler.ops.elementwise import elementwise
from onnxc.compiler.ops.table import OpContext, OpDef


def wave(ctx: OpContext, x: Expr) -> Expr:
    """`x * (x + gain)`: fuses with its neighbours, and every target has it."""
    return build.mul(x, build.add(x, ctx.float_attr("gain", 1.0)))


# A model for a microcontroller calls `median3`, which the firmware has. To run it here, its library is named.
median = OpDef(
    name="Median3",
    domain="acme",
    infer=lambda ctx: [ctx.type(0)],
    define=c_function("median3", library=os.environ.get("MEDIAN_LIBRARY")),
)

OPERATORS = [elementwise("Wave", wave, domain="acme"), median]
