"""Extents of the model's inputs: numbers, or symbols that `bind` and `max` may speak of.

A symbol has the name that the model gives (`dim_param`), or `<input>_<axis>`. An option names a symbol, or
a place as `input:axis`; binding a place binds its symbol everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel.nodes import Dim, Var
from .limits import Limits

if TYPE_CHECKING:
    import onnx


@dataclass(slots=True)
class Symbols:
    """The symbols of one model, and what the options say of them."""

    model: str
    limits: Limits
    bind: Mapping[str, int]
    max: Mapping[str, int]
    _shapes: dict[str, list[int | str]] = field(default_factory=dict)
    _dtypes: dict[str, DType] = field(default_factory=dict)
    _bound: dict[str, int] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    """Integer inputs of one element that `bind` makes constants."""
    bounds: dict[str, int] = field(default_factory=dict)
    """Upper bounds by symbol, of symbols that are not bound."""

    def read(self, inputs: Sequence[onnx.ValueInfoProto]) -> dict[str, TensorType]:
        """Types of the inputs, with bound symbols replaced.

        Raises:
            CompileError: E0102 or E0202 for a type that cannot be an input; E0203 for an option that fits no symbol.
        """
        for value in inputs:
            self._declare(value)
        self._bound = self._option("bind", self.bind)
        self.bounds = {name: most for name, most in self._option("max", self.max).items() if name not in self._bound}
        return {name: self._type(name) for name in self._shapes if name not in self.values}

    def _declare(self, value: onnx.ValueInfoProto) -> None:
        loc = Loc(self.model, value.name)
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            what = (kind or "no_type").removesuffix("_type")
            raise CompileError("E0202", f"the input '{value.name}' is of type {what}, only tensors can be inputs", loc)
        tensor = value.type.tensor_type
        try:
            self._dtypes[value.name] = DType.from_onnx(tensor.elem_type)
        except KeyError:
            raise CompileError("E0202", f"the input '{value.name}' has no known element type ({tensor.elem_type})", loc) from None
        if not tensor.HasField("shape"):
            hint = "give the input a shape in the model; single extents may be symbolic"
            raise CompileError("E0202", f"the rank of the input '{value.name}' is not known", loc, hint)
        self.limits.check("rank", len(tensor.shape.dim), f"the rank of the input '{value.name}'", loc)
        self._shapes[value.name] = [self._extent(value.name, axis, dim, loc) for axis, dim in enumerate(tensor.shape.dim)]

    def _extent(self, name: str, axis: int, dim: onnx.TensorShapeProto.Dimension, loc: Loc) -> int | str:
        if dim.HasField("dim_value"):
            if dim.dim_value == -1:  # what some exporters write for an extent that is not known
                return f"{name}_{axis}"
            if dim.dim_value < 0:
                message = f"extent {dim.dim_value} of axis {axis} of the input '{name}' is negative"
                raise CompileError("E0102", message, loc, "an extent that is not known has a name, or none")
            return int(dim.dim_value)
        return str(dim.dim_param).strip() or f"{name}_{axis}"

    def _option(self, option: str, values: Mapping[str, int]) -> dict[str, int]:
        """The values of an option by symbol."""
        places: dict[str, int | str] = {f"{name}:{axis}": d for name, shape in self._shapes.items() for axis, d in enumerate(shape)}
        symbols = {d: d for d in places.values() if isinstance(d, str)}
        found: dict[str, int] = {}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
                raise CompileError("E0203", f"{option} {name}={value}: the extent must be a non-negative integer", Loc(self.model))
            target = symbols.get(name, places.get(name))
            if target is None and option == "bind" and self._is_number(name):
                self.values[name] = self._constant(name, value)
                continue
            if target is None:
                known = ", ".join(symbols) or "none"
                numbers = ", ".join(filter(self._is_number, self._shapes))
                hint = f"symbols: {known}; places are given as input:axis" + (f"; inputs: {numbers}" if numbers else "")
                raise CompileError("E0203", f"{option} {name}={value}: no input has such a dimension", Loc(self.model), hint)
            actual = target if isinstance(target, int) else found.setdefault(target, value)
            if actual != value and not (option == "max" and isinstance(target, int) and actual <= value):
                raise CompileError("E0203", f"{option} {name}={value}: the extent is {actual}", Loc(self.model))
        return found

    def _is_number(self, name: str) -> bool:
        """True for an integer input of one element, whose value may be bound."""
        return name in self._shapes and self._shapes[name] in ([], [1]) and self._dtypes[name].is_int

    def _constant(self, name: str, value: int) -> np.ndarray:
        dtype, extents = self._dtypes[name], self._shapes[name]
        if value > dtype.limits[1]:
            raise CompileError("E0203", f"bind {name}={value}: the input is of type {dtype.label}", Loc(self.model))
        return np.full([1] * len(extents), value, dtype.numpy)

    def _type(self, name: str) -> TensorType:
        shape = tuple(d if isinstance(d, int) else self._dim(d) for d in self._shapes[name])
        return TensorType(self._dtypes[name], shape)

    def _dim(self, symbol: str) -> Dim:
        value = self._bound.get(symbol)
        if value is None:
            return Var(symbol)
        if symbol in self.max and value > self.max[symbol]:
            raise CompileError("E0203", f"bind {symbol}={value} is beyond max {symbol}={self.max[symbol]}", Loc(self.model))
        return value
