"""Equal nodes are one object: what makes the expressions of `nodes.py` cheap to compare and to cache."""

from __future__ import annotations

import functools
import struct
import weakref
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from .nodes import Expr

T = TypeVar("T")


@functools.cache
def _defaults(cls: type) -> tuple[object, ...]:
    """Default values of a node class's last fields: a value left out and its default make the same node."""
    return tuple(f.default for f in fields(cls) if f.default is not MISSING)


class Interned(type):
    """Makes equal nodes one object. Constants are keyed by their bits, so 0.0 and -0.0 differ."""

    _nodes: ClassVar[weakref.WeakValueDictionary[tuple[object, ...], Expr]] = weakref.WeakValueDictionary()

    if not TYPE_CHECKING:  # to a type checker the nodes are plain dataclasses

        def __call__(cls, *args: object) -> Expr:
            """The node of these parts, a new one if there is none."""
            missing = len(cls.__match_args__) - len(args)
            if 0 < missing <= len(_defaults(cls)):
                args += _defaults(cls)[-missing:]
            key: tuple[object, ...] = (cls, *args)
            if cls.__name__ == "Const" and isinstance(args[0], float):
                key = (cls, struct.pack("<d", args[0]), *args[1:])
            found = Interned._nodes.data.get(key)  # the dictionary's own `get` is a Python function, and this is a hot spot
            node = None if found is None else found()
            if node is None:
                node = super().__call__(*args)
                Interned._nodes[key] = node
            return node


@dataclass_transform(frozen_default=True, eq_default=False)
def frozen_node(cls: type[T]) -> type[T]:
    """A class of nodes: frozen, compared by identity."""
    return dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)(cls)
