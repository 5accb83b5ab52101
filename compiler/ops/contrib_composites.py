"""Operators of the domain com.microsoft that ONNX Runtime's optimizer made of a few others, taken apart again."""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import Value
from .composite import composite, optional, wanted
from .contrib_fused import activated, kept
from .table import OpContext, RewriteBuilder, register

_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")

Values = Sequence[Value | None]


# --- Additions before something ---------------------------------------------------------------


def _bias_softmax(ctx: OpContext, b: RewriteBuilder) -> Values:
    """The softmax is over all axes from `axis` on."""
    return [b.op("Softmax", b.op("Add", ctx.value(0), ctx.value(1)), axis=ctx.axis_attr("axis", 1), flatten=1)]


def _bias_dropout(ctx: OpContext, b: RewriteBuilder) -> Values:
    summed = b.op("Add", ctx.value(0), ctx.value(1))
    y, mask = b.ops("Dropout", 2, summed, optional(ctx, 3), optional(ctx, 4), **kept(ctx, "seed"))
    return wanted(ctx, b.op("Add", y, ctx.value(2)) if ctx.has(2) else y, mask)


def _bias_split_gelu(ctx: OpContext, b: RewriteBuilder) -> Values:
    left, right = b.ops("Split", 2, b.op("Add", ctx.value(0), ctx.value(1)), axis=-1, num_outputs=2)
    return [b.op("Mul", left, b.op("Gelu", right))]


def _bias_add(ctx: OpContext, b: RewriteBuilder) -> Values:
    return [b.op("Add", b.op("Add", ctx.value(0), ctx.value(1)), ctx.value(2))]


def _gated_add(ctx: OpContext, b: RewriteBuilder) -> Values:
    return [b.op("Add", ctx.value(0), b.op("Mul", ctx.value(1), ctx.value(2)))]


def _gemm_fast_gelu(ctx: OpContext, b: RewriteBuilder) -> Values:
    return [b.op("com.microsoft::FastGelu", b.op("MatMul", ctx.value(0), ctx.value(1)), optional(ctx, 2))]


def _matmul_activation(ctx: OpContext, b: RewriteBuilder) -> Values:
    attrs = kept(ctx, "alpha", "transA", "transB", "transBatchA", "transBatchB")
    product = b.op("com.microsoft::FusedMatMul", ctx.value(0), ctx.value(1), **attrs)
    name = ctx.str_attr("activation")
    if name == "Softmax":
        return [b.op("Softmax", product, axis=ctx.int_attr("activation_axis", -1))]
    given = (ctx.attr(f"activation_{key}", float) for key in ("alpha", "beta", "gamma"))
    return [activated(ctx, b, product, name, [value for value in given if value is not None])]


# --- Groups of channels -----------------------------------------------------------------------


def _group_norm(ctx: OpContext, b: RewriteBuilder) -> Values:
    return [_normalized(ctx, b, ctx.value(0))]


def _skip_group_norm(ctx: OpContext, b: RewriteBuilder) -> Values:
    """The skip has the shape of the data, or a number for each channel of each batch element."""
    skip = ctx.value(3)
    if skip.type.rank == 2:
        skip = b.op("Unsqueeze", skip, b.const([1, 2] if ctx.int_attr("channels_last", 1) else [2, 3]))
    summed = b.op("Add", ctx.value(0), skip)
    if ctx.has(4):
        bias = ctx.value(4) if ctx.int_attr("channels_last", 1) else b.op("Unsqueeze", ctx.value(4), b.const([1, 2]))
        summed = b.op("Add", summed, bias)
    return wanted(ctx, _normalized(ctx, b, summed), summed)


def _normalized(ctx: OpContext, b: RewriteBuilder, x: Value) -> Value:
    """Groups of channels normalized, with SiLU behind if the node says so."""
    last, rank = ctx.int_attr("channels_last", 1), x.type.rank
    x = _first(b, x) if last else x
    scale, bias = (b.op("Cast", ctx.value(k), to=x.type.dtype.onnx) for k in (1, 2))
    y = b.op("GroupNormalization", x, scale, bias, num_groups=ctx.int_attr("groups"), epsilon=ctx.float_attr("epsilon", 1e-5))
    if ctx.int_attr("activation") == 1:
        y = b.op("Mul", y, b.op("Sigmoid", y))
    return b.op("Transpose", y, perm=(0, *range(2, rank), 1)) if last else y


# --- Channels last ----------------------------------------------------------------------------


def _first(b: RewriteBuilder, x: Value) -> Value:
    """A tensor with channels last in ONNX's order."""
    return b.op("Transpose", x, perm=(0, x.type.rank - 1, *range(1, x.type.rank - 1)))


def _last(b: RewriteBuilder, x: Value) -> Value:
    return b.op("Transpose", x, perm=(0, *range(2, x.type.rank), 1))


def _nhwc_conv(ctx: OpContext, b: RewriteBuilder) -> Values:
    y = b.op("Conv", _first(b, ctx.value(0)), ctx.value(1), optional(ctx, 2), **kept(ctx, *_CONV))
    if ctx.has(3):
        y = b.op("Add", y, _first(b, ctx.value(3)))
    return [_last(b, activated(ctx, b, y, ctx.str_attr("activation"), ctx.attr("activation_params", tuple) or ()))]


def _qlinear_conv(ctx: OpContext, b: RewriteBuilder) -> Values:
    """That of the default domain, but channels may be last."""
    turned = ctx.int_attr("channels_last")
    given = (optional(ctx, i) for i in range(1, len(ctx.node.inputs)))
    y = b.op("QLinearConv", _first(b, ctx.value(0)) if turned else ctx.value(0), *given, **kept(ctx, *_CONV))
    return [_last(b, y) if turned else y]


def _causal_conv(ctx: OpContext, b: RewriteBuilder) -> Values:
    """A depthwise convolution in time that sees no future; the state is what the next step will see of this one."""
    if ctx.int_attr("ndim", 1) != 1 or ctx.int_attr("channels_last") or ctx.int_attr("state_window"):
        ctx.fail("E0203", "only the plain form of CausalConvWithState is supported", "one axis, channels first, no state_window")
    (channels, _, taps), step = ctx.shape(1), ctx.int_attr("dilation", 1)
    if not isinstance(channels, int) or not isinstance(taps, int):
        ctx.fail("E0204", "the shape of the weights must be known when compiling")
    length = (taps - 1) * step
    x = ctx.value(0)
    seen = b.op("Concat", ctx.value(3), x, axis=2) if ctx.has(3) else b.op("Pad", x, b.const([0, 0, length, 0, 0, 0]))
    y = b.op("Conv", seen, ctx.value(1), optional(ctx, 2), group=channels, dilations=(step,))
    state = b.op("Slice", seen, b.const([-length if length else 1 << 62]), b.const([1 << 62]), b.const([2]))
    name = ctx.str_attr("activation", "none")
    if name not in ("none", "silu", "swish"):
        ctx.fail("E0203", f"activation {name} is not known", "known are none, silu, swish")
    return wanted(ctx, y if name == "none" else b.op("Swish", y), state)


def _nhwc_max_pool(ctx: OpContext, b: RewriteBuilder) -> Values:
    return [_last(b, b.op("MaxPool", _first(b, ctx.value(0)), **kept(ctx, *_POOL)))]


# --- Distances, complex numbers, spectra ------------------------------------------------------


def _cdist(ctx: OpContext, b: RewriteBuilder) -> Values:
    """Distances of all rows of one matrix to all rows of another."""
    metric = ctx.str_attr("metric", "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        ctx.fail("E0203", f"the metric {metric} is not supported", "sqeuclidean and euclidean are")
    difference = b.op("Sub", b.op("Unsqueeze", ctx.value(0), b.const([1])), b.op("Unsqueeze", ctx.value(1), b.const([0])))
    squares = b.op("ReduceSumSquare", difference, b.const([2]), keepdims=0)
    return [squares if metric == "sqeuclidean" else b.op("Sqrt", squares)]


def _complex_product(conjugated: bool, ctx: OpContext, b: RewriteBuilder) -> Values:
    """Real and imaginary parts stand side by side on the last axis; the second factor may be conjugated."""
    (a, a_i), (c, c_i) = (b.ops("Split", 2, ctx.value(k), axis=-1, num_outputs=2) for k in (0, 1))
    crossed, straight = (b.op("Mul", a_i, c_i), b.op("Mul", a, c))
    first, second = b.op("Mul", a, c_i), b.op("Mul", a_i, c)
    real = b.op("Add" if conjugated else "Sub", straight, crossed)
    imaginary = b.op("Sub", second, first) if conjugated else b.op("Add", first, second)
    return [b.op("Concat", real, imaginary, axis=-1)]


def _one_dimension(ctx: OpContext) -> None:
    if ctx.int_attr("signal_ndim", 1) != 1 or ctx.int_attr("normalized") or not ctx.int_attr("onesided", 1):
        ctx.fail("E0203", "only one-sided transforms of one dimension that are not normalized are supported", "use DFT")


def _rfft(ctx: OpContext, b: RewriteBuilder) -> Values:
    _one_dimension(ctx)
    signal = b.op("Unsqueeze", ctx.value(0), b.const([-1]))
    return [b.op("DFT", signal, None, b.const(ctx.rank(0) - 1), onesided=1)]


def _irfft(ctx: OpContext, b: RewriteBuilder) -> Values:
    _one_dimension(ctx)
    signal = b.op("DFT", ctx.value(0), None, b.const(ctx.rank(0) - 2), onesided=1, inverse=1)
    return [b.op("Squeeze", signal, b.const([-1]))]


# --- The rest ---------------------------------------------------------------------------------


def _embedding(ctx: OpContext, b: RewriteBuilder) -> Values:
    return [b.op("Gather", ctx.value(0), ctx.value(1), axis=0)]


def _is_all_finite(ctx: OpContext, b: RewriteBuilder) -> Values:
    """True if no element of any input is infinite or NaN, or only what the node asks for."""
    found: list[Value] = []
    for x in ctx.node.inputs:
        assert x is not None
        flat = b.op("Reshape", b.op("Cast", x, to=DType.FLOAT32.onnx), b.const([-1]))
        bad = [b.op(op, flat) for op, other in (("IsNaN", "isinf_only"), ("IsInf", "isnan_only")) if not ctx.int_attr(other)]
        numbers = (b.op("Cast", mask, to=DType.INT32.onnx) for mask in bad)
        found += [b.op("ReduceMax", number, b.const([0]), keepdims=0) for number in numbers]
    worst = b.op("Max", *found) if len(found) > 1 else found[0]
    return [b.op("Equal", worst, b.const(0, DType.INT32))]


def _gated_rms_norm(ctx: OpContext, b: RewriteBuilder) -> Values:
    """Rows of the length of the scale, normalized and multiplied by an activation of the gate; all in float32."""
    name = ctx.str_attr("activation", "silu")
    if name not in ("silu", "swish", "sigmoid"):
        ctx.fail("E0203", f"the activation {name} is not known")
    shape = b.op("Shape", ctx.value(0))
    of_rows = b.op("Concat", b.const([*[0] * (ctx.rank(0) - 1), -1]), b.op("Shape", ctx.value(1)), axis=0)
    rows, gate = (b.op("Reshape", b.op("Cast", ctx.value(k), to=DType.FLOAT32.onnx), of_rows) for k in (0, 2))
    scale = b.op("Cast", ctx.value(1), to=DType.FLOAT32.onnx)
    normal = b.op("RMSNormalization", rows, scale, axis=-1, epsilon=ctx.float_attr("epsilon", 1e-5))
    opened = b.op("Sigmoid", gate)
    opened = opened if name == "sigmoid" else b.op("Mul", gate, opened)
    return [b.op("Reshape", b.op("Cast", b.op("Mul", normal, opened), to=ctx.dtype(0).onnx), shape)]


def _scaled_silu(ctx: OpContext, b: RewriteBuilder) -> Values:
    scale = b.op("Cast", ctx.value(1), to=ctx.dtype(0).onnx) if ctx.has(1) else b.const(ctx.float_attr("alpha", 1.0), ctx.dtype(0))
    scaled = b.op("Mul", ctx.value(0), scale)
    return [b.op("Mul", scaled, b.op("Sigmoid", scaled))]


register(
    composite("BiasSoftmax", _bias_softmax),
    composite("BiasDropout", _bias_dropout),
    composite("BiasSplitGelu", _bias_split_gelu),
    composite("BiasAdd", _bias_add),
    composite("GatedAdd", _gated_add),
    composite("GemmFastGelu", _gemm_fast_gelu),
    composite("FusedMatMulActivation", _matmul_activation),
    composite("GroupNorm", _group_norm),
    composite("SkipGroupNorm", _skip_group_norm),
    composite("NhwcConv", _nhwc_conv),
    composite("NhwcFusedConv", _nhwc_conv),
    composite("NhwcMaxPool", _nhwc_max_pool),
    composite("CausalConvWithState", _causal_conv),
    composite("QLinearConv", _qlinear_conv),
    composite("CDist", _cdist),
    composite("ComplexMul", lambda ctx, b: _complex_product(False, ctx, b)),
    composite("ComplexMulConj", lambda ctx, b: _complex_product(True, ctx, b)),
    composite("Rfft", _rfft),
    composite("Irfft", _irfft),
    composite("TorchEmbedding", _embedding),
    composite("IsAllFinite", _is_all_finite),
    composite("GatedRMSNorm", _gated_rms_norm),
    composite("ScaledSiLU", _scaled_silu),
)
