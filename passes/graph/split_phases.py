"""Compute transposed convolutions with strides as plain convolutions: one for all phases, then the phases are interleaved.

An output position `o` of an axis with stride `s` and padding `p` has the phase `(o + p) mod s`: only every `s`-th tap reaches
it, and neighbours of the same phase read neighbours of the input. So each phase is a plain convolution with `ceil(k / s)` taps, and
all phases together are one with `s` times the filters, which takes the layouts and tiles of convolutions. `onnxc::JoinPhases`
interleaves its channels. Runs on targets that schedule convolutions much better than gathers, once weights are constants and
before layouts are chosen.

The method: W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016, arXiv:1609.07009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.builder import GraphBuilder
from ...compiler.graph.nodes import Graph, Value
from ...compiler.kernel import build
from ...compiler.ops.convolution import Convolution, transposed_extents
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules
from .fold_constants import fold_node

MAX_WASTE = 4
"""Products of the plain convolution for one of the transposed one: taps are filled with zeros where `s` does not divide `k`."""


def split_phases(graph: Graph) -> Graph:
    """Replace transposed convolutions by convolutions of all phases."""
    return apply_rules(graph, PHASE_RULES, split_phases.__name__)


@dataclass(frozen=True, slots=True)
class _Axis:
    """What becomes of one spatial axis."""

    stride: int
    taps: int
    """Taps of the plain convolution."""
    pads: tuple[int, int]
    """Of the plain convolution."""
    crop: tuple[int, int]
    """Positions that are interleaved but not part of the result, at both ends."""


def convolve_phases(site: Site) -> Replacement:
    """ConvTranspose(x, w, s) == JoinPhases(Conv(x, taps of w by phase), s)"""
    filters = _decoded(site, 1)
    weight = site.builder.array(filters)
    if weight is None or site.input(0).type.dtype not in (DType.FLOAT32, DType.FLOAT64):
        return Refusal("the weights are not known, or the type is narrow")
    conv = transposed_extents(site.ctx)
    axes = [_axis(conv, k) for k in range(weight.ndim - 2)]
    known = [axis for axis in axes if axis is not None]
    if len(known) < len(axes):
        return Refusal("an axis is dilated, or its padding is not known")
    products = np.prod([axis.taps * axis.stride for axis in known], dtype=np.int64)
    if products > MAX_WASTE * np.prod(weight.shape[2:], dtype=np.int64):
        return Refusal("most taps would be zeros")
    phases = int(np.prod([axis.stride for axis in known], dtype=np.int64))
    pads = (*(axis.pads[0] for axis in known), *(axis.pads[1] for axis in known))
    b = site.builder
    operands = [site.input(0), b.const(_by_phase(weight, conv.group, known))]
    if site.has(2):
        operands.append(_for_phases(site.builder, _decoded(site, 2), conv.group, phases))
    found = b.op("Conv", *operands, group=conv.group, pads=pads)
    if phases == 1 and not any(n for axis in known for n in axis.crop):
        return [found]
    crops = {"starts": tuple(axis.crop[0] for axis in known), "ends": tuple(axis.crop[1] for axis in known)}
    return [b.op("onnxc::JoinPhases", found, group=conv.group, strides=tuple(axis.stride for axis in known), **crops)]


PHASE_RULES: tuple[Rule, ...] = (Rule(("ConvTranspose",), convolve_phases),)


def _axis(conv: Convolution, k: int) -> _Axis | None:
    """The plan of an axis; None if it is dilated or its padding is not a number."""
    window = conv.window
    stride, taps, before = window.strides[k], window.kernel[k], window.before[k]
    surplus = build.dim(build.sub(build.index(window.output[k]), build.mul(build.index(window.data[k]), stride)))
    if window.dilations[k] != 1 or not isinstance(taps, int) or not isinstance(before, int) or not isinstance(surplus, int):
        return None
    each, (first, start) = -(-taps // stride), divmod(before, stride)
    more = -(-(surplus + start) // stride)
    """Positions of each phase beyond the extent of the input."""
    low = each - 1 - first
    high = more + each - 1 - low
    if low < 0:
        return None
    crop_late = max(0, -high)
    end = (more + crop_late) * stride - surplus - start
    return _Axis(stride, each, (low, max(high, 0)), (start, end))


def _by_phase(weight: np.ndarray, group: int, axes: list[_Axis]) -> np.ndarray:
    """`[IC, OC / G, k...]` as the weights of the plain convolution, `[G * phases * OC / G, IC / G, taps...]`."""
    rank = len(axes)
    missing = [(0, axis.taps * axis.stride - k) for axis, k in zip(axes, weight.shape[2:], strict=True)]
    whole = np.pad(weight, [(0, 0), (0, 0), *missing])
    channels, filters = weight.shape[0] // group, weight.shape[1]
    parts = [extent for axis in axes for extent in (axis.taps, axis.stride)]
    split = whole.reshape(group, channels, filters, *parts)
    # A later tap reads an earlier position.
    taps, phases = (range(first, 3 + 2 * rank, 2) for first in (3, 4))
    turned = np.flip(split, tuple(taps)).transpose(0, *phases, 2, 1, *taps)
    return np.ascontiguousarray(turned.reshape(-1, channels, *(axis.taps for axis in axes)))


def _for_phases(b: GraphBuilder, bias: Value, group: int, phases: int) -> Value:
    """The bias of each channel for all its phases."""
    rows = b.op("Reshape", bias, b.const([group, 1, -1]))
    return b.op("Reshape", b.op("Tile", rows, b.const([1, phases, 1])), b.const([-1]))


def _decoded(site: Site, position: int) -> Value:
    """An input, as floats if it is codes of a constant: transposed convolutions compute with floats."""
    value = site.input(position)
    node = site.producer(value)
    if node is None or node.op != "DequantizeLinear" or any(v is not None and site.builder.array(v) is None for v in node.inputs):
        return value
    found = fold_node(site.builder, node)
    return value if found is None or found[0] is None else found[0]
