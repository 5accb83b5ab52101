"""Transform constant weights of floats at compile time for Winograd's algorithm, and order them by register tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Stage
from .contraction_plan import known
from .loop_form import stride
from .pack_constant import Limit, StridedPack
from .plan_winograd_floats import WindowedContraction
from .winograd import Winograd


@dataclass(frozen=True, slots=True)
class FloatWinogradPack:
    """Packs weights as [part of outputs, part of inputs, point, register tile, input channel, output channel]; implements `Pack`."""

    source: StridedPack
    """Makes of the constant what `packed_source` says."""
    algorithm: Winograd
    depth: int
    """Input channels of a part."""
    width: int
    """Vectors of output channels of a part."""
    nv: int
    """Vectors of a register tile."""

    @property
    def size(self) -> int:
        """Elements of the packed array."""
        return self.source.size // self.algorithm.taps**2 * self.algorithm.products**2

    @property
    def numpy_dtype(self) -> np.dtype:
        """Element type of the packed array."""
        return self.source.numpy_dtype

    def apply(self, data: np.ndarray) -> np.ndarray:
        """The transformed weights, flat."""
        taps, _, blocks, lanes, *inner = self.source.dims
        weights = self.source.apply(data).reshape(taps, taps, blocks, lanes, math.prod(inner))
        panels, depths, points = self.width // self.nv, math.prod(inner) // self.depth, self.algorithm.products**2
        found = np.empty((blocks // self.width, depths, points, panels, self.depth, self.nv * lanes), self.numpy_dtype)
        for part in range(len(found)):  # one after the other, since they are float64 in between
            some = self.algorithm.transform_taps(weights[:, :, part * self.width : (part + 1) * self.width])
            found[part] = some.reshape(points, panels, self.nv * lanes, depths, self.depth).transpose(3, 0, 1, 4, 2)
        return found.reshape(-1)


def packed_source(stage: Stage, w: WindowedContraction) -> StridedPack:
    """The weights of a window as [tap row, tap column, block of outputs, lane, block of inputs, input channel]."""
    c = w.contraction
    assert c.columns is not None
    window = w.window
    taps = ((window.tap_row, window.taps), (window.tap_column, window.taps))
    loops = (*taps, c.columns, (c.lane[0], c.lanes), *window.channels)
    dims = tuple(known(extent) for _, extent in loops)
    steps = tuple(stride(w.weight.index, var) or 0 for var, _ in loops)
    limits = [Limit(2, 3, c.lanes, output_channels(stage))]
    if c.split_reduction is not None and len(window.channels) == 2:
        extent, block = c.split_reduction
        limits.append(Limit(4, 5, block, extent))
    start = substitute(w.weight.index, {var: const(0) for var, _ in (*c.outer, *c.form.reduce, c.columns, c.lane)})
    return StridedPack(dims, steps, known(build.dim(start)), tuple(limits), DType.FLOAT32)


def output_channels(stage: Stage) -> int:
    """Channels of a result that lies in blocks of them, without those that fill the last block."""
    layout, shape = stage.value.type.layout, stage.value.type.shape
    return known(shape[layout.axis])
