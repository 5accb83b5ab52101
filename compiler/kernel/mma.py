"""The MMA row: one multiply-accumulate instruction as data.

The only place where an instruction is named is `backends/*/mma.py`, in rows of this class. The contraction
schedule builds its register tile from a row and knows nothing else of the machine: a new instruction is a
new row, never a new kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..dtypes import DType
from .nodes import Expr
from .scalar import Scalar


@dataclass(frozen=True, slots=True)
class Mma:
    """`acc[lanes] += scalar * vector[lanes]`, summed over `k` consecutive products."""

    name: str
    """Unique in its backend, such as `fma.v8f32`."""
    lanes: int
    """Accumulators of one instruction: the width of the vector operand."""
    k: int
    """Products that one instruction adds into each accumulator."""
    operand: DType
    """Type of both factors."""
    accumulator: DType
    registers: int
    """Vector registers that a tile may use."""
    step: Callable[[Expr, Expr, Expr], Expr]
    """(accumulator, scalar factor, vector factor) -> new accumulator, as kernel IR: also the row's meaning."""
    fma_per_cycle: float = 2.0
    """Instructions that start in a cycle, for the choice of tiles."""
    loads_per_cycle: float = 1.35
    """Vector or broadcast loads that a tile really gets in a cycle: less than the ports promise (Zen 3 measured)."""
    is_vector: bool = True
    """The lanes are one register. Otherwise each lane is a register of its own and is loaded by itself: plain C."""
    source: str = ""
    """The document that defines the instruction."""

    def __post_init__(self) -> None:
        assert self.lanes >= 1 and self.k >= 1 and self.registers >= 3, self.name


@dataclass(frozen=True, slots=True)
class PairGuard:
    """Functions for an instruction that is exact only while the sums of neighbouring data are small.

    Where a sum is larger, the data are taken apart into two parts that may go one after the other.
    """

    limit: int
    """The largest sum of the data at places `2 i` and `2 i + 1`."""
    lanes: int
    """Pairs that one call looks at."""
    sums: str
    """Called with (most, data) on (most, patch): `most[l] = max(most[l], data[2 l] + data[2 l + 1])`, in 16 bits."""
    largest: str
    """Called with (result, most) on (result, most): `result[0] = max(most)`, as an int64."""
    split: str
    """Called with (data, rest) on (patch, rest): of pairs beyond the limit the upper bits go to `rest`, which is 0 elsewhere."""


@dataclass(frozen=True, slots=True)
class DotStep:
    """One instruction that adds `k` products into each of its lanes: `acc[l] += sum over j < k of data[j] * weight[l * k + j]`.

    Kernel IR calls it through `Extern(name, (acc, data, weight), (accumulators, patch, weights))`, with an element
    offset into each buffer; `k` data in a row are the same for all lanes. Sums are exact.
    """

    name: str
    """Unique in its backend, such as `maddwd.v8i32`."""
    lanes: int
    """Accumulators of one instruction."""
    k: int
    """Products that one instruction adds into each accumulator."""
    operand: DType
    """Type of the data in a patch."""
    weight: DType
    """Type of the weights in memory; the instruction may widen them as it loads them."""
    registers: int
    """Vector registers that a tile may use; one is left for products that are added by a second instruction."""
    steps_per_cycle: float = 2.0
    """Instructions that start in a cycle, for the choice of tiles."""
    loads_per_cycle: float = 1.35
    """See `Mma`."""
    guard: PairGuard | None = None
    """What the data need before; None if sums are exact whatever the data are."""
    source: str = ""
    """The document that defines the instruction."""

    @property
    def fma_per_cycle(self) -> float:
        """Under the name of `Mma`, for the model of tiles."""
        return self.steps_per_cycle

    @property
    def is_vector(self) -> bool:
        """The lanes are one register."""
        return True

    def shift(self, data: DType) -> int:
        """What is added to data of a type so that they are in the range of the patch."""
        return self.operand.limits[0] - data.limits[0] if self.operand.bits == data.bits else 0

    @property
    def centres(self) -> bool:
        """True if a patch has room for data from which their zero point was taken."""
        return self.operand.bits > 8


@dataclass(frozen=True, slots=True)
class CodeStep:
    """Products of data of 8 bits with words of codes: `acc[l] += sum over j of data[j] * code j of word[l]`.

    Kernel IR calls it through `Extern(name, (acc, data, word), (accumulators, data, words))`. A word holds four codes of 8 bits, or
    eight of 4: one in the low bits of each byte, and in the high bits the one that is four places further. Where a step takes
    several words of each lane, the words of all lanes stand before the next ones. Sums are exact.
    """

    name: str
    """Unique in its backend, such as `codes4.vpdpbusd.v16i32`."""
    lanes: int
    bits: int
    """4 or 8; codes are not negative."""
    registers: int
    words: int = 1
    """Words of each lane that one step takes."""
    source: str = ""
    """The document that defines the instruction."""

    @property
    def k(self) -> int:
        """Products that one step adds into each accumulator."""
        return 32 // self.bits * self.words


@dataclass(frozen=True, slots=True)
class LaneStep:
    """Products that stay in their lane, as in a depthwise convolution.

    `acc[l] += sum over j < k of data[at_j + order[l]] * weight[l * k + j]`, called with (acc, at_0, ..., at_(k-1), weight) on
    (accumulators, data, weights). Sums are exact. The lanes may be out of order meanwhile: `settle` puts them right in the end.
    """

    name: str
    """Unique in its backend, such as `taps_s8.v8i32`."""
    lanes: int
    k: int
    """Neighbours in time, not in memory: taps of a window."""
    data: DType
    """Type of the data in memory."""
    weight: DType
    order: tuple[int, ...]
    """The channel that each lane holds."""
    settle: str = ""
    """Called with (acc) on (accumulators,): brings the lanes in order; empty if they are."""
    source: str = ""
    """The document that defines the instruction."""


@dataclass(frozen=True, slots=True)
class ExternRow:
    """A function that kernel IR calls by name through `Extern`, with a text for the target and a meaning for the interpreter.

    Arguments of the call: an element offset into each buffer, in their order, then numbers. The first buffer is
    written, the others are only read.
    """

    name: str
    """Unique in its backend, such as `onnxc_dot_s8s8_2x2`."""
    text: str
    """Definition of the function in the target's language."""
    meaning: Callable[[tuple[tuple[Scalar, ...], ...], tuple[np.ndarray, ...]], None]
    """What it does, as `interpret.ExternMeaning`."""


@dataclass(frozen=True, slots=True)
class DotRow:
    """Sums of products of `pixels` patches with `channels` rows of weights: `acc[p * channels + c] = sum(patch[p] * weight[c])`.

    Called with (acc, patch of all pixels, weights of each channel; depth).
    """

    name: str
    data: DType
    """Type of the elements that the patches hold."""
    weight: DType
    pixels: int
    channels: int


@dataclass(frozen=True, slots=True)
class TapsRow:
    """Sums over the taps of a window, one for each of `channels` neighbours: depthwise convolution.

    Called with (acc, data, weights; rows, columns, step between rows and columns of the data, and of the weights).
    """

    name: str
    data: DType
    weight: DType
    channels: int


@dataclass(frozen=True, slots=True)
class DotRows:
    """What a target offers for sums of products of small integers.

    The elements of a patch lie in an order that only these functions know. It is filled by `run` and `fill` for
    `pixel` of `pixels`, each of `width` elements, whose positions and counts are multiples of `k`.
    """

    dots: tuple[DotRow, ...]
    taps: tuple[TapsRow, ...]
    run: Mapping[DType, str]
    """(patch, data; pixel, pixels, width, position, count): takes neighbouring elements of a type."""
    fill: Mapping[DType, str]
    """(patch; value, pixel, pixels, width, position, count): puts equal elements of a type."""
    copy: Mapping[DType, str]
    """(target, source; count): copies elements."""
    codes: Mapping[DType, str]
    """(target, acc, bias, scale; zero, low, high, step of the bias, step of the scale, count): stores
    `code = saturate(round(float32(acc + bias) * scale) + zero)` within bounds."""
    residuals: Mapping[DType, str] = field(default_factory=dict)
    """(target, acc, bias, scale, other; the numbers of `codes`, zero points of code, other and sum, least sum, scales of the same,
    the last one's inverse): stores `saturate(round(((other - z) * s + (code - z') * s') / s'') + z'')`."""
    sums: Mapping[DType, str] = field(default_factory=dict)
    """(target, one, other; the numbers of a sum as in `residuals`, count): stores the codes of the sums of two codes."""
    means: Mapping[DType, str] = field(default_factory=dict)
    """(target, data; rows, columns, step between rows, between columns, zero points of data and mean, scale of the data, number of terms,
    its inverse, scale of the mean, its inverse, count): stores `saturate(round(sum of ((x - z) * s) / terms / s') + z')` of the taps of a
    window, added in their order, for neighbouring channels."""
    lookup: Mapping[DType, str] = field(default_factory=dict)
    """(target, codes, table; count): stores an element of a table of 256 bytes for each code, the least code's
    first. By the type of the codes; the target may be the codes."""
    largest: Mapping[DType, str] = field(default_factory=dict)
    """(target, data; rows, columns, step between rows, between columns, count): stores the largest of the taps of a window, or the
    least number of the type if there are none, for neighbouring channels."""
    pixels: int = 2
    """Pixels that go together if there are as many."""
    k: int = 4
    """Depths are multiples of it."""

    def dot(self, data: DType, weight: DType, pixels: int, channels: int) -> DotRow | None:
        """The row of a size."""
        wanted = (data, weight, pixels, channels)
        return next((r for r in self.dots if (r.data, r.weight, r.pixels, r.channels) == wanted), None)
