"""Nodes of older opsets in the newest form, which is the only one that the operator table describes.

A row lists what changed by version; the changes after the model's version are applied in ascending order.
Operators that were renamed are turned into their successors first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..diagnostics import CompileError, Loc
from ..graph.nodes import Attribute
from ..ops.table import RawNode, lookup


def adapt_node(raw: RawNode, version: int, loc: Loc) -> None:
    """Bring a node from opset `version` of its domain into the newest form, in place.

    Raises:
        CompileError: as the row's adaptors do; E0203 if one finds an attribute that it cannot read.
    """
    while (renamed := RENAMED.get((raw.op, version))) is not None:
        version = renamed(raw)
    row = lookup(raw.op)
    assert row is not None, raw.op
    for newer in sorted(v for v in row.adapt if v > version):
        try:
            row.adapt[newer](raw)
        except CompileError as error:
            problem = error.diagnostics[0]
            raise CompileError(problem.code, problem.message, loc, problem.hint) from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise CompileError("E0203", f"cannot read the form of opset {version}: {error}", loc) from error


def _upsample(raw: RawNode) -> int:
    """Upsample-7 and -9 are Resize-10, which samples at floor(i / scale) as they did."""
    if "scales" in raw.attrs:
        scales: Attribute = raw.attrs.pop("scales")
        raw.inputs.append(raw.constant(np.array(scales, np.float32)))
    raw.op = "Resize"
    return 10


def _scatter(raw: RawNode) -> int:
    """Scatter-9 is ScatterElements-11."""
    raw.op = "ScatterElements"
    return 11


RENAMED: dict[tuple[str, int], Callable[[RawNode], int]] = {
    **{("Upsample", version): _upsample for version in (7, 8, 9)},
    **{("Scatter", version): _scatter for version in (9, 10)},
}
"""(operator, opset) -> what renames the node and returns the opset that it is then of."""
