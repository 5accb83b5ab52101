"""MoE and QMoE of the domain com.microsoft: each token passes through a few of many small networks, and the results are averaged.

    y = sum over the k likeliest experts e of p[e] * fc2[e](activation(fc1[e](x)))

See Shazeer et al., https://arxiv.org/abs/1701.06538. The weights of an expert are read where it was chosen and nowhere else:
`ExpertProduct` is a product whose matrix is looked up for each row, so that no weights are copied and codes stay packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType, Value
from ..kernel import build
from ..kernel.nest import Nest
from ..kernel.nodes import Expr
from .block_codes import UNPACK, code_at
from .composite import optional
from .contraction import accumulator, contract
from .table import INTERNAL, Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register

MICROSOFT = "com.microsoft"
DATA, CHOSEN, WEIGHTS, BIAS, SCALES, ZEROS = range(6)
"""Operands of `ExpertProduct`."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One matrix of each expert."""

    weights: Value
    """`[experts, outputs, inputs]`, or as many inputs as `bits` have room for in a byte."""
    bias: Value | None
    """`[experts, outputs]`."""
    scales: Value | None = None
    """`[experts, outputs, blocks]`; None for weights that are floats."""
    zeros: Value | None = None
    """The zero points, one in a byte, in the shape of the scales."""
    bits: int = 0
    """Bits of a code, 0 for floats."""

    def applied(self, b: RewriteBuilder, x: Value, chosen: Value) -> Value:
        """`[tokens, 1 or k, inputs]` to `[tokens, k, outputs]`, for the experts `chosen` `[tokens, k]`."""
        return b.op("onnxc::ExpertProduct", x, chosen, self.weights, self.bias, self.scales, self.zeros, bits=self.bits)


Layers = tuple[Layer, Layer, Layer | None]
"""fc1, fc2 and, where the gate is a matrix of its own, fc3."""


def _mixture(ctx: OpContext, b: RewriteBuilder, layers: Layers, shares: Value | None = None) -> list[Value]:
    """The definition of both operators; `shares` weigh the experts, if not the probabilities that choose them."""
    if ctx.int_attr("use_sparse_mixer"):
        ctx.fail("E0203", "the sparse mixer of experts is not supported", "export the model with use_sparse_mixer = 0")
    first, second, third = layers
    count = b.const([ctx.int_attr("k", 1)])
    share, chosen = b.ops("TopK", 2, b.op("Softmax", ctx.value(1), axis=-1), count, axis=-1)
    if shares is not None:
        share = b.op("GatherElements", shares, chosen, axis=-1)
    if ctx.int_attr("normalize_routing_weights"):
        share = b.op("Div", share, b.op("ReduceSum", share, b.const([-1]), keepdims=1))
    x = b.op("Unsqueeze", b.op("Flatten", ctx.value(0), axis=ctx.rank(0) - 1), b.const([1]))
    hidden = _activated(ctx, b, first.applied(b, x, chosen), third.applied(b, x, chosen) if third else None)
    y = second.applied(b, hidden, chosen)
    summed = b.op("ReduceSum", b.op("Mul", y, b.op("Unsqueeze", share, b.const([2]))), b.const([1]), keepdims=0)
    return [b.op("Reshape", summed, b.op("Shape", ctx.value(0)))]


def _activated(ctx: OpContext, b: RewriteBuilder, x: Value, factor: Value | None) -> Value:
    """What stands between the layers; `factor` is the result of fc3."""
    name = ctx.str_attr("activation_type", "relu")
    if name == "swiglu":
        return _swiglu(ctx, b, x, factor)
    plain = {"relu": "Relu", "gelu": f"{MICROSOFT}::FastGelu", "silu": "Swish", "identity": "Identity"}
    if name not in plain:
        ctx.fail("E0203", f"activation {name} is not known", f"known are swiglu, {', '.join(plain)}")
    y = b.op(plain[name], x)
    return y if factor is None else b.op("Mul", y, factor)


def _swiglu(ctx: OpContext, b: RewriteBuilder, x: Value, factor: Value | None) -> Value:
    """`gate * sigmoid(alpha * gate) * (factor + beta)`; both may stand in one result, interleaved or one half after the other."""
    gate, fusion, dtype = x, ctx.int_attr("swiglu_fusion"), x.type.dtype
    if fusion == 2:
        gate, factor = b.ops("Split", 2, x, axis=-1, num_outputs=2)
    elif fusion == 1:
        gate, factor = (b.op("Slice", x, b.const([i]), b.const([1 << 62]), b.const([2]), b.const([2])) for i in range(2))
    elif factor is None:
        ctx.fail("E0203", "swiglu without fusion wants the weights of fc3")
    limit = ctx.attr("swiglu_limit", float)
    if limit is not None:
        gate = b.op("Min", gate, b.const(limit, dtype))
        factor = b.op("Clip", factor, b.const(-limit, dtype), b.const(limit, dtype))
    scaled = b.op("Mul", gate, b.const(ctx.float_attr("activation_alpha", 1.0), dtype))
    shifted = b.op("Add", factor, b.const(ctx.float_attr("activation_beta"), dtype))
    return b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", scaled)), shifted)


# --- MoE --------------------------------------------------------------------------------------


def _moe(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    first, second = (Layer(ctx.value(i), optional(ctx, i + 1)) for i in (2, 4))
    return _mixture(ctx, b, (first, second, Layer(ctx.value(6), optional(ctx, 7)) if ctx.has(6) else None))


# --- QMoE -------------------------------------------------------------------------------------


def _qmoe(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    kind = ctx.str_attr("quant_type", "int")
    if kind != "int" or ctx.int_attr("weights_prepacked") > 0:
        ctx.fail(
            "E0203", f"weights of QMoE in the form {kind}, or packed for one kind of GPU, are not supported", "quantize them to integers"
        )
    first, second = (_coded(ctx, b, number) for number in (1, 2))
    third = _coded(ctx, b, 3) if ctx.has(8) else None
    return _mixture(ctx, b, (first, second, third), optional(ctx, 14))


def _coded(ctx: OpContext, b: RewriteBuilder, number: int) -> Layer:
    """Layer `number`: its weights, scales and bias stand side by side, its zero points behind all layers."""
    at, zeros_at = 3 * number - 1, 10 + number
    bits = ctx.int_attr(f"fc{number}_expert_weight_bits") or ctx.int_attr("expert_weight_bits", 4)
    if bits not in (2, 4, 8):
        ctx.fail("E0203", f"weights have {bits} bits, expected is 2, 4 or 8")
    (experts, outputs), scales = ctx.shape(at)[:2], ctx.value(at + 1)
    blocks = scales.type.shape[2] if len(scales.type.shape) == 3 else 1
    if not isinstance(experts, int) or not isinstance(outputs, int) or not isinstance(blocks, int):
        ctx.fail("E0204", "the shapes of the weights must be known when compiling")
    shape = b.const([experts, outputs, blocks])
    zeros = None
    if ctx.has(zeros_at):
        is_blocked = ctx.rank(zeros_at) == 3
        rows, codes = (experts * outputs, blocks) if is_blocked else (experts, outputs)
        packed = b.op("Reshape", ctx.value(zeros_at), b.const([rows, -1]))
        zeros = b.op("Reshape", b.op(UNPACK, packed, bits=bits, codes=codes), shape)
    return Layer(ctx.value(at), optional(ctx, at + 2), b.op("Reshape", scales, shape), zeros, bits)


# --- The product ------------------------------------------------------------------------------


def _product_type(ctx: OpContext) -> list[TensorType]:
    bits, (_, columns, stored) = ctx.int_attr("bits"), ctx.shape(WEIGHTS)
    depth = build.dim(build.floordiv(build.mul(build.index(stored), 8), bits)) if bits else stored
    ctx.same_extent(ctx.shape(DATA)[2], depth, "the extents of the summed axes")
    return [TensorType(ctx.dtype(DATA), (*ctx.shape(CHOSEN), columns))]


def _product(ctx: OpContext) -> list[Nest]:
    (kind,), wide, depth = _product_type(ctx), accumulator(ctx.dtype(DATA)), ctx.shape(DATA)[2]

    def expert(axes: tuple[Expr, ...]) -> Expr:
        return build.cast(ctx.read(CHOSEN, axes[0], axes[1]), DType.INT64)

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        token, place, column = axes
        datum = ctx.read(DATA, token, place if ctx.shape(DATA)[1] != 1 else build.const(0), taps[0])
        return build.mul(build.cast(datum, wide), _weight(ctx, expert(axes), column, taps[0], wide))

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        if ctx.has(BIAS):
            acc = build.add(acc, build.cast(ctx.read(BIAS, expert(axes), axes[2]), wide))
        return build.cast(acc, kind.dtype)

    return [contract(kind.shape, (depth,), term, finish)]


def _weight(ctx: OpContext, expert: Expr, column: Expr, k: Expr, wide: DType) -> Expr:
    """The weight of input `k`, out of its code if weights are codes."""
    bits, depth = ctx.int_attr("bits"), ctx.shape(DATA)[2]
    if not bits:
        return build.cast(ctx.read(WEIGHTS, expert, column, k), wide)
    block = build.ceildiv(build.index(depth), build.index(ctx.shape(SCALES)[2]))
    byte = ctx.read(WEIGHTS, expert, column, build.floordiv(build.mul(k, bits), 8))
    at = (expert, column, build.floordiv(k, block))
    zero = build.cast(ctx.read(ZEROS, *at), wide) if ctx.has(ZEROS) else build.const(1 << (bits - 1), wide)
    centred = build.sub(build.cast(code_at(byte, k, bits), wide), zero)
    return build.mul(centred, build.cast(ctx.read(SCALES, *at), wide))


def _same(ctx: OpContext) -> Sequence[TensorType]:
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


_DEFAULTS: dict[str, Attribute] = {"k": 1, "activation_type": "relu"}

register(
    OpDef("MoE", _same, Rewrite(_moe), MICROSOFT, defaults=_DEFAULTS),
    OpDef("QMoE", _same, Rewrite(_qmoe), MICROSOFT, defaults=_DEFAULTS,
          doc="Weights are integers, and stay packed. Routing weights are normalized where the attribute says so."),
    OpDef("ExpertProduct", _product_type, Nests(_product), INTERNAL,
          doc="data, number of the expert of each row, weights, [bias], [scales, zero points of coded weights] -> product"),
)  # fmt: skip
