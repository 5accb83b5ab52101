"""What the inputs and outputs of a model are to its caller, where they are more than tensors.

A graph knows tensors only. A sequence, an optional or a tensor whose rank is determined at run time is a group of tensors
(`docs/decisions/0012-sequences-are-tensors.md`); a form says which, by the names of graph inputs or outputs, which survive
all passes. `compiler/program/aggregates.py` turns Python values into these tensors and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TensorForm:
    """A tensor for itself."""

    tensor: str


@dataclass(frozen=True, slots=True)
class UnrankedForm:
    """A tensor of whatever rank: its elements in row-major order, and its extents (int64)."""

    elements: str
    extents: str


@dataclass(frozen=True, slots=True)
class SequenceForm:
    """Any number of tensors of one element type: their elements, extents (int64) and ranks (int64), one tensor after another."""

    elements: str
    extents: str
    ranks: str
    shape: tuple[int | None, ...] | None = None
    """What the model declares of the shape of each tensor; None for nothing."""


@dataclass(frozen=True, slots=True)
class ListForm:
    """A sequence whose length is known at compile time."""

    items: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class OptionalForm:
    """A value, or none if the flag (bool) is false: then the content is arbitrary, of a legal shape."""

    present: str
    content: Form


@dataclass(frozen=True, slots=True)
class NoneForm:
    """An optional that is always empty."""


@dataclass(frozen=True, slots=True)
class MapForm:
    """A map: a vector of keys in ascending order, and one of values."""

    keys: str
    values: str


@dataclass(frozen=True, slots=True)
class MapRowsForm:
    """A list of maps, one for each row of a tensor, whose columns have these keys."""

    keys: tuple[int, ...] | tuple[str, ...]
    columns: str


@dataclass(frozen=True, slots=True)
class ImageForm:
    """The bytes of a picture, which is decoded before the model runs."""

    pixels: tuple[tuple[str, str], ...]
    """Tensors `[height, width, channels]`, each with the format of its pixels."""
    encoded: str | None
    """The tensor of the bytes, if the model looks at them, too."""


Form: TypeAlias = ImageForm | TensorForm | UnrankedForm | SequenceForm | ListForm | OptionalForm | NoneForm | MapForm | MapRowsForm


@dataclass(frozen=True, slots=True)
class Parameter:
    """One input or output as the model names it."""

    name: str
    form: Form


@dataclass(frozen=True, slots=True)
class Signature:
    """All inputs and outputs of a model, in order."""

    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]

    @property
    def is_plain(self) -> bool:
        """True if every input and output is a tensor under its own name."""
        return all(p.form == TensorForm(p.name) for p in (*self.inputs, *self.outputs))


def signature_json(signature: Signature) -> list[object]:
    """A signature as nested lists; a form begins with its letter."""
    return [[[p.name, _form_json(p.form)] for p in part] for part in (signature.inputs, signature.outputs)]


def signature_of(data: list) -> Signature:  # type: ignore[type-arg]
    """The signature that `signature_json` wrote."""
    inputs, outputs = (tuple(Parameter(name, _form(form)) for name, form in part) for part in data)
    return Signature(inputs, outputs)


def _form_json(form: Form) -> list[object]:
    match form:
        case TensorForm(tensor=tensor):
            return ["T", tensor]
        case UnrankedForm(elements=elements, extents=extents):
            return ["U", elements, extents]
        case SequenceForm(elements=elements, extents=extents, ranks=ranks, shape=shape):
            return ["S", elements, extents, ranks, None if shape is None else list(shape)]
        case ListForm(items=items):
            return ["L", *map(_form_json, items)]
        case OptionalForm(present=present, content=content):
            return ["O", present, _form_json(content)]
        case NoneForm():
            return ["N"]
        case ImageForm(pixels=pixels, encoded=encoded):
            return ["I", [list(pair) for pair in pixels], encoded]
        case MapForm(keys=keys, values=values):
            return ["M", keys, values]
        case MapRowsForm(keys=labels, columns=columns):
            return ["R", list(labels), columns]


def _form(data: list) -> Form:  # type: ignore[type-arg]
    letter, *rest = data
    match letter:
        case "T":
            return TensorForm(*rest)
        case "U":
            return UnrankedForm(*rest)
        case "S":
            elements, extents, ranks, shape = rest
            return SequenceForm(elements, extents, ranks, None if shape is None else tuple(shape))
        case "L":
            return ListForm(tuple(map(_form, rest)))
        case "O":
            present, content = rest
            return OptionalForm(present, _form(content))
        case "N":
            return NoneForm()
        case "I":
            pixels, encoded = rest
            return ImageForm(tuple((tensor, pixel_format) for tensor, pixel_format in pixels), encoded)
        case "M":
            return MapForm(*rest)
        case "R":
            return MapRowsForm(tuple(rest[0]), rest[1])
    raise ValueError(f"no form is called {letter}")


def tensors_of(form: Form) -> tuple[str, ...]:
    """Names of the tensors of a form, in a fixed order."""
    match form:
        case TensorForm(tensor=tensor):
            return (tensor,)
        case UnrankedForm(elements=elements, extents=extents):
            return elements, extents
        case SequenceForm(elements=elements, extents=extents, ranks=ranks):
            return elements, extents, ranks
        case ListForm(items=items):
            return tuple(name for item in items for name in tensors_of(item))
        case OptionalForm(present=present, content=content):
            return present, *tensors_of(content)
        case NoneForm():
            return ()
        case ImageForm(pixels=pixels, encoded=encoded):
            return *(tensor for tensor, _ in pixels), *([] if encoded is None else [encoded])
        case MapForm(keys=keys, values=values):
            return keys, values
        case MapRowsForm(columns=columns):
            return (columns,)
