"""Rules of `simplify` about operators that move elements: those that move nothing, and pairs of them."""

from __future__ import annotations

import numpy as np

from ...compiler.graph.nodes import Node, Value
from ...compiler.ops.table import lookup
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site
from .arithmetic_rules import keep_input

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _permutation(node: Node) -> tuple[int, ...]:
    given = node.attrs.get("perm")
    rank = node.inputs[0].type.rank if node.inputs[0] is not None else 0
    return tuple(int(p) for p in given) if isinstance(given, tuple) else tuple(reversed(range(rank)))


def drop_transpose(site: Site) -> Replacement:
    """Transpose(x, identity) == x"""
    perm = _permutation(site.node)
    return keep_input(site, 0) if perm == tuple(range(len(perm))) else Refusal("the axes change places")


def merge_transposes(site: Site) -> Replacement:
    """Transpose(Transpose(x, p), q) == Transpose(x, p[q])"""
    inner = site.producer(site.input(0))
    if inner is None or inner.op != "Transpose" or inner.inputs[0] is None:
        return Refusal("the operand is not made by Transpose")
    first, second = _permutation(inner), _permutation(site.node)
    return [site.builder.op("Transpose", inner.inputs[0], perm=tuple(first[axis] for axis in second))]


def reshape_unit_transpose(site: Site) -> Replacement:
    """Transpose(x, p) == Reshape(x) if p keeps the order of all axes longer than 1"""
    shape, perm = site.input(0).type.shape, _permutation(site.node)
    long = [axis for axis in perm if shape[axis] != 1]
    if long != sorted(long) or perm == tuple(range(len(perm))):
        return Refusal("longer axes change places, or none does")
    if not site.input(0).type.is_static:
        return Refusal("the shape is not static")
    return _reshape(site, site.input(0), site.output())


def _reshape(site: Site, source: Value, like: Value) -> Replacement:
    shape = np.array(like.type.static_shape, np.int64).reshape(-1)
    return [site.builder.op("Reshape", source, site.builder.const(shape), allowzero=1 if 0 in like.type.static_shape else None)]


def drop_view(site: Site) -> Replacement:
    """Reshape(x, shape of x) == x, and so for Flatten, Squeeze, Unsqueeze"""
    if site.node.op == "Squeeze" and not site.has(1) and not site.input(0).type.is_static:
        return Refusal("an extent may turn out to be 1")  # which the node checks at run time
    return keep_input(site, 0)


def merge_views(site: Site) -> Replacement:
    """Reshape(Reshape(x)) == Reshape(x), and so for the other views"""
    inner = site.producer(site.input(0))
    if inner is None or inner.inputs[0] is None or not _is_view(inner):
        return Refusal("the operand is not made by a view")
    source = inner.inputs[0]
    if site.output().type.is_static:
        return _reshape(site, source, site.output())
    shape = site.array(1) if site.node.op == "Reshape" else None
    if shape is None or bool(np.any(shape == 0)):
        return Refusal("the shape is neither static nor free of references to the operand's")
    return [site.builder.op("Reshape", source, site.input(1))]


def _is_view(node: Node) -> bool:
    row = lookup(node.op)
    return node.op in VIEWS and row is not None


def drop_slice(site: Site) -> Replacement:
    """Slice(x) == x if it takes everything forwards"""
    if site.has(4):
        steps = site.array(4)
        if steps is None or bool(np.any(steps != 1)):
            return Refusal("the steps are not known to be 1")
    return keep_input(site, 0)


def drop_pad(site: Site) -> Replacement:
    """Pad(x, 0) == x"""
    pads = site.array(1)
    if pads is None or bool(np.any(pads != 0)):
        return Refusal("the pads are not known to be 0")
    return keep_input(site, 0)


def drop_expand(site: Site) -> Replacement:
    """Expand(x, shape of x) == x"""
    return keep_input(site, 0)


def drop_tile(site: Site) -> Replacement:
    """Tile(x, 1) == x"""
    repeats = site.array(1)
    return keep_input(site, 0) if repeats is not None and bool(np.all(repeats == 1)) else Refusal("the repeats are not known to be 1")


def drop_split(site: Site) -> Replacement:
    """Split(x) == x into one part"""
    return keep_input(site, 0) if len(site.node.outputs) == 1 else Refusal("several parts")


def drop_resize(site: Site) -> Replacement:
    """Resize(x, scales=1) == x"""
    if site.node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return Refusal("the operand is cropped")
    scales = site.array(2)
    if site.has(2) and scales is not None and scales.size:
        return keep_input(site, 0) if bool(np.all(scales == 1)) else Refusal("the scales are not 1")
    return keep_input(site, 0) if site.has(3) else Refusal("the scales are not known")


MOVEMENT_RULES: tuple[Rule, ...] = (
    Rule(("Transpose",), drop_transpose),
    Rule(("Transpose",), merge_transposes),
    Rule(("Transpose",), reshape_unit_transpose),
    Rule(VIEWS, drop_view),
    Rule(VIEWS, merge_views),
    Rule(("Slice",), drop_slice),
    Rule(("Pad",), drop_pad),
    Rule(("Expand",), drop_expand),
    Rule(("Tile",), drop_tile),
    Rule(("Split",), drop_split),
    Rule(("Resize",), drop_resize),
)
