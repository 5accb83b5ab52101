"""Rule of `simplify` that lets a convolution do the padding before it."""

from __future__ import annotations

import numpy as np

from ...compiler.graph.nodes import Node
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site


def merge_pad(site: Site) -> Replacement:
    """Conv(Pad(x, p), pads=q) == Conv(x, pads=p+q) if Pad fills with 0 and leaves batch and channels alone"""
    inner = site.producer(site.input(0))
    if inner is None or inner.op != "Pad":
        return Refusal("the operand is not made by Pad")
    if site.node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return Refusal("the convolution finds its pads from the padded shape")
    padded = _spatial_pads(site, inner)
    if isinstance(padded, Refusal):
        return padded
    given = site.node.attrs.get("pads")
    own = [int(p) for p in given] if isinstance(given, tuple) and site.node.attrs.get("auto_pad") != "VALID" else [0] * len(padded)
    attrs = {name: value for name, value in site.node.attrs.items() if name != "auto_pad"}
    attrs["pads"] = tuple(p + q for p, q in zip(padded, own, strict=True))
    return site.builder.add(site.node.op, [inner.inputs[0], *site.node.inputs[1:]], attrs)


def _spatial_pads(site: Site, pad: Node) -> list[int] | Refusal:
    """The pads of the spatial axes, those before all axes first."""
    if pad.attrs.get("mode", "constant") != "constant":
        return Refusal("the pads are not constant")
    inputs = (*pad.inputs, None, None)
    pads = None if inputs[1] is None else site.builder.array(inputs[1])
    fill = np.zeros(()) if inputs[2] is None else site.builder.array(inputs[2])
    if pads is None or fill is None or inputs[0] is None:
        return Refusal("the pads are not known")
    if fill.size and bool(np.any(fill != 0)):
        return Refusal("the pads are not 0")
    rank = inputs[0].type.rank
    full = [0] * (2 * rank)
    axes = site.builder.array(inputs[3]) if len(pad.inputs) > 3 and inputs[3] is not None else np.arange(rank)
    if axes is None:
        return Refusal("the padded axes are not known")
    for k, axis in enumerate(axes.reshape(-1)):
        full[int(axis) % rank], full[rank + int(axis) % rank] = int(pads[k]), int(pads[len(axes) + k])
    if any(full[axis] or full[rank + axis] for axis in (0, 1)):
        return Refusal("batch or channels are padded")
    spatial = [*full[2:rank], *full[rank + 2 :]]
    return spatial if min(spatial, default=0) >= 0 else Refusal("a negative pad crops")


PAD_RULES: tuple[Rule, ...] = (Rule(("Conv",), merge_pad),)
