"""Operators that the frontend itself takes out of a model; no pass ever sees them."""

from __future__ import annotations

import numpy as np

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from .attributes import Bindings, convert
from .tensors import TensorReader

SPECIAL = frozenset({"Constant"})
"""Keys of those operators."""

_FORMS: dict[str, DType | None] = {
    "value": None, "sparse_value": None, "value_float": DType.FLOAT32, "value_floats": DType.FLOAT32,
    "value_int": DType.INT64, "value_ints": DType.INT64, "value_string": DType.STRING, "value_strings": DType.STRING,
}  # fmt: skip
"""Attributes of Constant, with the element type; None where the attribute is a tensor itself."""


def constant_value(attributes: Bindings, name: str, reader: TensorReader, loc: Loc) -> np.ndarray:
    """Content of a Constant node; E0203 if it has not exactly one value."""
    given = [form for form in attributes if form in _FORMS]
    if len(given) != 1:
        raise CompileError("E0203", f"Constant needs exactly one value, {len(given)} are given", loc)
    found = convert(attributes[given[0]], name, reader, loc)
    dtype = _FORMS[given[0]]
    if dtype is None:
        assert isinstance(found, np.ndarray)
        return found
    array = np.array(found, object if dtype is DType.STRING else dtype.numpy)
    array.flags.writeable = False
    return array
