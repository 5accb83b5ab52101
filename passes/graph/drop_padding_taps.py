"""Rule of `simplify` that leaves out the taps of a convolution which reach nothing but padding.

Strongly dilated windows on small maps have such taps: of three by three taps with a dilation of 24 on 14 rows, one is left.
"""

from __future__ import annotations

import numpy as np

from ...compiler.ops.convolution import conv_extents
from ...compiler.ops.spatial import Window
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site


def drop_padding_taps(site: Site) -> Replacement:
    """Conv(x, w, pads=p) == Conv(x, taps of w that reach x, pads=smaller)"""
    weight = site.array(1)
    if weight is None:
        return Refusal("the weights are not known")
    window = conv_extents(site.ctx).window
    pads = [p for p in (*window.before, *window.after) if isinstance(p, int)]
    if len(pads) < 2 * (weight.ndim - 2):
        return Refusal("the pads are not known")
    ends = [_needless(window, axis) for axis in range(weight.ndim - 2)]
    if not any(map(any, ends)):
        return Refusal("all taps reach the data, or extents are not known")
    kept = tuple(slice(first, taps - last) for (first, last), taps in zip(ends, weight.shape[2:], strict=True))
    dropped = (*(first for first, _ in ends), *(last for _, last in ends))
    attrs = {name: value for name, value in site.node.attrs.items() if name not in ("auto_pad", "kernel_shape")}
    attrs["pads"] = tuple(p - n * d for p, n, d in zip(pads, dropped, window.dilations * 2, strict=True))
    taps = site.builder.const(np.ascontiguousarray(weight[:, :, *kept]))
    return site.builder.add(site.node.op, [site.node.inputs[0], taps, *site.node.inputs[2:]], attrs)


def _needless(window: Window, axis: int) -> tuple[int, int]:
    """Taps at the start and at the end of an axis that no output needs, as many as there is padding for; one tap stays."""
    sizes = (window.data[axis], window.output[axis], window.kernel[axis], window.before[axis], window.after[axis])
    known = [n for n in sizes if isinstance(n, int)]
    if len(known) < len(sizes):
        return 0, 0
    extent, outputs, taps, before, after = known
    stride, step = window.strides[axis], window.dilations[axis]
    first = last = 0
    while first < taps - 1 and before >= (first + 1) * step and (outputs - 1) * stride + first * step < before:
        first += 1
    while last < taps - 1 - first and after >= (last + 1) * step and (taps - 1 - last) * step - before >= extent:
        last += 1
    return first, last


TAP_RULES: tuple[Rule, ...] = (Rule(("Conv",), drop_padding_taps),)
