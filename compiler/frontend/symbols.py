"""Extents of the model's inputs: numbers, or symbols that `bind` and `max` may speak of.

A symbol has the name that the model gives (`dim_param`), or `<input>_<axis>`; one that the compiler uses itself gets a `_` behind it.
An option names a symbol, or a place as `input:axis`; binding a place binds its symbol everywhere. An input that is no tensor is
several (`Form`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.nodes import TensorType
from ..graph.signature import Form, MapForm, OptionalForm, SequenceForm, TensorForm
from ..kernel.nodes import Dim, Var
from .limits import Limits

if TYPE_CHECKING:
    import onnx


_OF_THE_COMPILER = re.compile(
    r"[ik]\d+p?|acc|sum|k|(shift|extent)\d+|chain\.\w+|[a-z]\w*\.\d+|.*\.(round|go|limit|next|taken|capacity|wide)"
)
"""Names of indices and of other numbers that the compiler makes: `i0`, `p.1`, `shift2`, `Loop.round`."""


def symbol_name(name: str) -> str:
    """The symbol of a dimension that a model calls so: a name of the compiler's own would be taken for another number."""
    return f"{name}_" if _OF_THE_COMPILER.fullmatch(name) else name


def text_bytes(name: str) -> str:
    """The symbol of how many bytes the strings of an input have together."""
    return f"{name}.bytes"


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
    forms: dict[str, Form] = field(default_factory=dict)
    """Each input that is not bound, in terms of the tensors that `read` returns."""
    bounds: dict[str, int] = field(default_factory=dict)
    """Upper bounds by symbol, of symbols that are not bound."""

    def read(self, inputs: Sequence[onnx.ValueInfoProto]) -> dict[str, TensorType]:
        """Types of the inputs, with bound symbols replaced.

        Raises:
            CompileError: E0102 or E0202 for a type that cannot be an input; E0203 for an option that fits no symbol.
        """
        for value in inputs:
            self.forms[value.name] = self._declare(value.name, value.type, value.name)
        self._bound = self._option("bind", self.bind)
        self.bounds = {name: most for name, most in self._option("max", self.max).items() if name not in self._bound}
        self.forms = {name: form for name, form in self.forms.items() if name not in self.values}
        return {name: self._type(name) for name in self._shapes if name not in self.values}

    def _declare(self, name: str, type_: onnx.TypeProto, whole: str) -> Form:
        """Declare the tensors of an input, or of a part of one; `whole` is the input's own name."""
        kind = (type_.WhichOneof("value") or "no_type").removesuffix("_type")
        if kind == "tensor":
            return self._declare_tensor(name, type_.tensor_type, whole)
        if kind == "sequence" and type_.sequence_type.elem_type.WhichOneof("value") == "tensor_type":
            return self._declare_sequence(name, type_.sequence_type.elem_type.tensor_type, whole)
        if kind == "optional" and name == whole:
            present = self._part(f"{name}.present", DType.BOOL, [])
            return OptionalForm(present, self._declare(f"{name}.value", type_.optional_type.elem_type, whole))
        if kind == "map" and name == whole:
            return self._declare_map(name, type_.map_type)
        if kind == "no":
            raise CompileError("E0202", f"the input '{whole}' has no type", Loc(self.model, whole), "the file is perhaps truncated")
        hint = "inputs are tensors, sequences and optionals of them, and maps of numbers or strings"
        raise CompileError("E0202", f"the input '{whole}' is of type {kind}", Loc(self.model, whole), hint)

    def _declare_tensor(self, name: str, tensor: onnx.TypeProto.Tensor, whole: str) -> Form:
        loc, dtype = Loc(self.model, whole), self._dtype(tensor, whole)
        if not tensor.HasField("shape"):
            hint = "give the input a shape in the model; single extents may be symbolic"
            raise CompileError("E0202", f"the rank of the input '{whole}' is not known", loc, hint)
        self.limits.check("rank", len(tensor.shape.dim), f"the rank of the input '{whole}'", loc)
        shape = [self._extent(name, axis, dim, loc) for axis, dim in enumerate(tensor.shape.dim)]
        if name != whole:  # what is absent has extents of its own
            shape = [d if isinstance(d, int) else f"{name}_{axis}" for axis, d in enumerate(shape)]
        return TensorForm(self._part(name, dtype, shape))

    def _declare_sequence(self, name: str, tensor: onnx.TypeProto.Tensor, whole: str) -> Form:
        shape = None
        if tensor.HasField("shape"):
            declared = [self._extent(name, axis, dim, Loc(self.model, whole)) for axis, dim in enumerate(tensor.shape.dim)]
            shape = tuple(d if isinstance(d, int) else None for d in declared)
        dtypes = {"elements": self._dtype(tensor, whole), "extents": DType.INT64, "ranks": DType.INT64}
        elements, extents, ranks = (self._part(f"{name}.{part}", dtype, [f"{name}.{part}_0"]) for part, dtype in dtypes.items())
        return SequenceForm(elements, extents, ranks, shape)

    def _declare_map(self, name: str, map_: onnx.TypeProto.Map) -> Form:
        values = map_.value_type.tensor_type
        if map_.value_type.WhichOneof("value") != "tensor_type" or len(values.shape.dim) > 1:
            raise CompileError("E0202", f"the input '{name}' is a map of values that are no single elements", Loc(self.model, name))
        dtypes = {"keys": DType.from_onnx(map_.key_type), "values": self._dtype(values, name)}
        keys, items = (self._part(f"{name}.{part}", dtype, [f"{name}.size"]) for part, dtype in dtypes.items())
        return MapForm(keys, items)

    def _dtype(self, tensor: onnx.TypeProto.Tensor, whole: str) -> DType:
        try:
            return DType.from_onnx(tensor.elem_type)
        except KeyError:
            message = f"the input '{whole}' has no known element type ({tensor.elem_type})"
            raise CompileError("E0202", message, Loc(self.model, whole)) from None

    def _part(self, name: str, dtype: DType, shape: list[int | str]) -> str:
        self._dtypes[name], self._shapes[name] = dtype, shape
        return name

    def _extent(self, name: str, axis: int, dim: onnx.TensorShapeProto.Dimension, loc: Loc) -> int | str:
        if dim.HasField("dim_value"):
            if dim.dim_value == -1:  # what some exporters write for an extent that is not known
                return f"{name}_{axis}"
            if dim.dim_value < 0:
                message = f"extent {dim.dim_value} of axis {axis} of the input '{name}' is negative"
                raise CompileError("E0102", message, loc, "an extent that is not known has a name, or none")
            return int(dim.dim_value)
        return symbol_name(str(dim.dim_param).strip()) or f"{name}_{axis}"

    def _option(self, option: str, values: Mapping[str, int]) -> dict[str, int]:
        """The values of an option by symbol."""
        places: dict[str, int | str] = {f"{name}:{axis}": d for name, shape in self._shapes.items() for axis, d in enumerate(shape)}
        symbols = {d: d for d in places.values() if isinstance(d, str)}
        if option == "max":
            symbols |= {text_bytes(name): text_bytes(name) for name, dtype in self._dtypes.items() if dtype is DType.STRING}
        found: dict[str, int] = {}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
                raise CompileError("E0203", f"{option} {name}={value}: the extent must be a non-negative integer", Loc(self.model))
            target = symbols.get(symbol_name(name), places.get(name))
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
