"""Sequences and optionals at the boundary of a compiled model: callers see lists, dicts and None, the code plain tensors.

A sequence is a Python list (or tuple) of arrays, an optional is None or a value; `Signature` says which tensors carry each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..graph.signature import (
    Form,
    ImageForm,
    ListForm,
    MapForm,
    MapRowsForm,
    NoneForm,
    OptionalForm,
    Parameter,
    SequenceForm,
    Signature,
    TensorForm,
    UnrankedForm,
    tensors_of,
)
from .images import decode_image
from .interface import Interface, Port
from .string_ports import callers_ports

Arrays = dict[str, Any]
Run = Callable[..., Arrays]
"""Inputs by name, perhaps more -> outputs by name."""


def with_aggregates(interface: Interface, run: Run) -> Run:
    """The function that takes and gives lists and None, for one that knows tensors only."""
    signature = interface.signature
    if signature is None:
        return run
    packer = Packer(signature, callers_ports(interface.inputs, interface.texts))

    def wrapped(inputs: Mapping[str, object], *more: object) -> Arrays:
        return unpack(signature, run(packer.pack(inputs), *more))

    return wrapped


class Packer:
    """Takes the inputs of a caller apart."""

    def __init__(self, signature: Signature, ports: Sequence[Port]) -> None:
        self.parameters: tuple[Parameter, ...] = signature.inputs
        self.ports = {port.name: port for port in ports}

    def pack(self, inputs: Mapping[str, object]) -> Arrays:
        """The tensors of all inputs by name.

        Raises:
            CompileError: E0401 for one that does not fit; a missing or unknown one is left to the runner.
        """
        found: Arrays = {name: value for name, value in inputs.items() if not any(p.name == name for p in self.parameters)}
        for parameter in self.parameters:
            if parameter.name in inputs:
                self._pack(parameter.name, parameter.form, inputs[parameter.name], found)
            elif isinstance(parameter.form, OptionalForm):
                self._pack(parameter.name, parameter.form, None, found)
            elif not isinstance(parameter.form, TensorForm):
                raise CompileError("E0401", f"input '{parameter.name}' is missing")
        return found

    def _pack(self, name: str, form: Form, given: object, found: Arrays) -> None:
        match form:
            case TensorForm(tensor=tensor):
                if given is None or (isinstance(given, (list, tuple)) and any(isinstance(x, np.ndarray) for x in given)):
                    _refuse(name, given, "a tensor")
                found[tensor] = given
            case SequenceForm():
                self._pack_sequence(name, form, given, found)
            case ImageForm(pixels=pixels, encoded=encoded):
                found.update({tensor: decode_image(given, pixel_format, name) for tensor, pixel_format in pixels})
                if encoded is not None:
                    found[encoded] = given
            case OptionalForm(present=present, content=content):
                found[present] = np.array(given is not None)
                if given is None:
                    found.update({part: self._nothing(part) for part in tensors_of(content)})
                else:
                    self._pack(name, content, given, found)
            case MapForm():
                self._pack_map(name, form, given, found)
            case UnrankedForm() | ListForm() | NoneForm() | MapRowsForm():
                raise AssertionError(form)

    def _pack_sequence(self, name: str, form: SequenceForm, given: object, found: Arrays) -> None:
        if not isinstance(given, (list, tuple)):
            _refuse(name, given, "a sequence: a list of arrays")
        dtype = self.ports[form.elements].dtype
        arrays = [np.asarray(x) for x in given]
        for k, array in enumerate(arrays):
            if DType.of(array.dtype) is not dtype:
                raise CompileError("E0401", f"tensor {k} of input '{name}' has type {array.dtype}, the model wants {dtype.numpy}")
            if form.shape is not None and not _fits(array.shape, form.shape):
                wanted = ", ".join("?" if d is None else str(d) for d in form.shape)
                raise CompileError("E0401", f"tensor {k} of input '{name}' has shape {list(array.shape)}, the model wants [{wanted}]")
        found[form.elements] = np.concatenate([np.zeros(0, dtype.numpy), *(a.reshape(-1) for a in arrays)], dtype=dtype.numpy)
        found[form.extents] = np.array([d for a in arrays for d in a.shape], np.int64)
        found[form.ranks] = np.array([a.ndim for a in arrays], np.int64)

    def _pack_map(self, name: str, form: MapForm, given: object, found: Arrays) -> None:
        if not isinstance(given, Mapping):
            _refuse(name, given, "a map: a dict")
        kind = str if self.ports[form.keys].dtype is DType.STRING else (int, np.integer)
        if not all(isinstance(key, kind) for key in given):
            raise CompileError("E0401", f"a key of input '{name}' has the wrong type")
        keys = sorted(given)
        for tensor, items in ((form.keys, keys), (form.values, [given[key] for key in keys])):
            found[tensor] = np.empty(len(items), self.ports[tensor].dtype.numpy)
            found[tensor][:] = items

    def _nothing(self, tensor: str) -> np.ndarray:
        """What stands for the content of an optional that is empty."""
        port = self.ports[tensor]
        return np.zeros([d if isinstance(d, int) else 0 for d in port.shape], port.dtype.numpy)


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))


def _refuse(name: str, given: object, wanted: str) -> NoReturn:
    raise CompileError("E0401", f"input '{name}' is {type(given).__name__}, the model wants {wanted}")


def unpack(signature: Signature, outputs: Mapping[str, np.ndarray]) -> Arrays:
    """The outputs as the caller knows them, of their tensors."""
    return {parameter.name: _unpacked(parameter.form, outputs) for parameter in signature.outputs}


def _unpacked(form: Form, arrays: Mapping[str, np.ndarray]) -> Any:
    match form:
        case TensorForm(tensor=tensor):
            return arrays[tensor]
        case UnrankedForm(elements=elements, extents=extents):
            return arrays[elements].reshape(arrays[extents])
        case SequenceForm(elements=elements, extents=extents, ranks=ranks):
            return _split(arrays[elements], arrays[extents].tolist(), arrays[ranks].tolist())
        case ListForm(items=items):
            return [_unpacked(item, arrays) for item in items]
        case OptionalForm(present=present, content=content):
            return _unpacked(content, arrays) if arrays[present] else None
        case NoneForm():
            return None
        case MapForm(keys=keys, values=values):
            return dict(zip(arrays[keys].tolist(), arrays[values].tolist(), strict=True))
        case MapRowsForm(keys=labels, columns=columns):
            return [dict(zip(labels, row, strict=True)) for row in arrays[columns].tolist()]


def _split(elements: np.ndarray, extents: Sequence[int], ranks: Sequence[int]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    begin = at = 0
    for rank in ranks:
        shape = tuple(extents[at : at + rank])
        size = math.prod(shape)
        found.append(elements[begin : begin + size].reshape(shape))
        begin, at = begin + size, at + rank
    return found
