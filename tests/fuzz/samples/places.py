"""Images that are read at computed places: grids, regions, deformed windows; boxes; windows put back together."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Misfit, Noise, Operand
from .contraction import image, weight, window
from .registry import sample


def _numbers(d: Draft, low: float, high: float, shape: tuple[int, ...], dtype: str = "float32") -> Operand:
    return d.fresh_of(np.random.default_rng(d.int(0, 999)).uniform(low, high, shape).astype(dtype))


@sample("GridSample", weight=3)
def grid_sample(d: Draft, op: str) -> None:
    x = image(d, "float32", rank=(4, 4, 5))  # the evaluator blends numbers of 64 bits in 32
    spatial = tuple(d.choose((3, 1, 4, 7)) for _ in x.shape[2:])
    mode = d.choose(("linear", "nearest", "cubic")) if x.rank == 4 else d.choose(("linear", "nearest"))
    if d.opset < 20:
        mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    attrs = {"mode": mode, "padding_mode": d.choose(("zeros", "border", "reflection")), "align_corners": d.int(0, 1)}
    d.add(op, x, _numbers(d, -1.3, 1.3, (x.shape[0], *spatial, x.rank - 2), x.dtype), noise=Noise.ROUNDED, **attrs)


@sample("AffineGrid", weight=1)
def affine_grid(d: Draft, op: str) -> None:
    n, rank = d.choose((1, 2)), d.choose((2, 3))
    theta = _numbers(d, -1, 1, (n, rank, rank + 1))
    d.add(op, theta, d.ints([n, 3, *(d.choose((4, 1, 5)) for _ in range(rank))]), align_corners=d.int(0, 1), noise=Noise.ROUNDED)


@sample("RoiAlign", weight=2)
def roi_align(d: Draft, op: str) -> None:
    x = image(d, "float32", rank=4)
    count = d.int(1, 3)
    corners = np.random.default_rng(d.int(0, 99)).uniform(0, 6, (count, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2] + 1
    batch = d.constant(np.random.default_rng(d.int(0, 99)).integers(0, x.shape[0], count), listed=False)
    attrs = {
        "mode": d.choose(("avg", "avg", "max")), "sampling_ratio": d.int(0, 3), "spatial_scale": d.choose((1.0, 0.5)),
        "output_height": d.int(1, 3), "output_width": d.int(1, 3),
        "coordinate_transformation_mode": d.choose(("half_pixel", "output_half_pixel")),
    }  # fmt: skip
    d.add(op, x, d.fresh_of(corners), batch, noise=Noise.ROUNDED, **attrs)


@sample("MaxRoiPool", weight=1)
def max_roi_pool(d: Draft, op: str) -> None:
    x = image(d, "float32", rank=4)
    corners = np.sort(np.random.default_rng(d.int(0, 99)).integers(0, 7, (2, 2, 2)), 1).reshape(2, 4)
    rois = np.concatenate([np.zeros((2, 1)), corners], 1).astype(np.float32)
    d.add(op, x, d.constant(rois, listed=False), pooled_shape=[d.int(1, 3), d.int(1, 3)], spatial_scale=d.choose((1.0, 0.5)))


@sample("DeformConv", weight=2)
def deformable(d: Draft, op: str) -> None:
    x = image(d, "float32", "float64", rank=4)
    batch, channels = x.shape[:2]
    groups, out = d.choose((1, 1, channels)), d.choose((1, 2, 3))
    offset_groups = d.choose((1, channels))
    kernel = [d.choose((3, 1, 2)) for _ in range(2)]
    attrs = window(d, x.shape[2:], kernel)
    attrs.pop("auto_pad", None)
    steps = zip(
        x.shape[2:], kernel, attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1]),
        np.reshape(attrs.get("pads", [0] * 4), (2, 2)).sum(0), strict=True,
    )  # fmt: skip
    spatial = [int(n + pad - (k - 1) * dilation - 1) // stride + 1 for n, k, stride, dilation, pad in steps]  # type: ignore[call-overload]
    if min(spatial) < 1:
        raise Misfit
    w = weight(d, x.dtype, (out * groups, channels // groups, *kernel), channels)
    size = offset_groups * kernel[0] * kernel[1]
    offset = _numbers(d, -1, 1, (batch, 2 * size, *spatial), x.dtype)
    bias = d.like(x.dtype, (out * groups,)) if d.chance(50) else None
    mask = _numbers(d, 0, 1, (batch, size, *spatial), x.dtype) if d.chance(50) else None
    d.add(op, x, w, offset, bias, *((mask,) if mask else ()), group=groups, offset_group=offset_groups, noise=Noise.ROUNDED, **attrs)


@sample("Col2Im", weight=1)
def col2im(d: Draft, op: str) -> None:
    rank = d.choose((2, 1, 3))
    extents = [d.choose((5, 4, 6)) for _ in range(rank)]
    block = [d.choose((2, 1, 3)) for _ in range(rank)]
    strides = [d.choose((1, 2)) for _ in range(rank)]
    dilations = [d.choose((1, 1, 2)) for _ in range(rank)]
    pads = [d.int(0, 1) for _ in range(2 * rank)]
    counts = [(extents[k] + pads[k] + pads[k + rank] - dilations[k] * (block[k] - 1) - 1) // strides[k] + 1 for k in range(rank)]
    if min(counts) < 1:
        raise Misfit
    x = d.fresh(d.choose(("float32", "float64")), (d.choose((1, 2)), d.choose((1, 3)) * int(np.prod(block)), int(np.prod(counts))))
    d.add(op, x, d.ints(extents), d.ints(block), strides=strides, dilations=dilations, pads=pads, noise=Noise.ROUNDED)


@sample("MaxUnpool", weight=1)
def unpool(d: Draft, op: str) -> None:
    x = image(d, "float32", rank=4, least=2)
    if x.noise is not Noise.EXACT:
        raise Misfit
    strides = [2, 2]
    y, at = d.add_all("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=strides)
    d.add(op, y, at, *([d.ints(x.shape)] if d.chance(60) or any(n % 2 for n in x.shape[2:]) else ()), kernel_shape=[2, 2], strides=strides)


@sample("NonMaxSuppression", weight=2)
def suppression(d: Draft, op: str) -> None:
    batch, boxes, classes = d.choose((1, 2)), d.choose((6, 1, 9)), d.choose((1, 2))
    rng = np.random.default_rng(d.int(0, 999))
    corners = rng.uniform(0, 5, (batch, boxes, 4)).astype(np.float32)
    corners[..., 2:] += corners[..., :2] if not d.int(0, 1) else 0
    scores = rng.permutation(batch * classes * boxes).reshape(batch, classes, boxes).astype(np.float32) / 20
    limits = (
        d.constant(np.array(d.choose((3, 1, 20)))),
        d.constant(np.array(d.choose((0.5, 0.0, 0.3)), np.float32)),
        d.constant(np.array(d.choose((0.2, 0.0)), np.float32)),
    )
    given = limits[: d.int(1, 3)]
    d.add(op, d.fresh_of(corners), d.fresh_of(scores), *given, center_point_box=d.int(0, 1))


@sample("Det", weight=1)
def determinant(d: Draft, op: str) -> None:
    n = d.choose((2, 3, 1, 4))
    d.add(op, d.fresh(d.choose(("float32", "float64")), (*d.choose(((), (2,), (1, 3))), n, n)), noise=Noise.ROUNDED)
