"""The text form of the graph IR, as printed; `parse.py` reads it back.

    graph "net"(%x: float32[N, 3]) {
      const %b: float32[3] = [0.5, 1.0, -2.0]
      %y: float32[N, 3] = Add(%x, %b)
      return %y
    }

Small constants stand in the text, larger ones as a hash: their arrays are given to the parser by name.
Names and symbols that are not plain words are quoted. Regions follow their node, indented.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

from ..diagnostics import NOWHERE, Loc
from ..dtypes import DType, Kind
from ..kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Dim, Select, Unary, Var
from .nodes import Attribute, Graph, Node, Quant, TensorType, Value

INLINE_ELEMENTS = 16
"""Constants with more elements are printed as a hash."""
KEYWORDS = frozenset({"graph", "const", "data", "size", "return", "none", "cache", "true", "false", "inf", "nan", "region"})

_BARE_NAME = re.compile(r"[A-Za-z0-9_./-]+(?::[A-Za-z0-9_./-]+)*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def print_graph(graph: Graph, *, locs: bool = False) -> str:
    """Return the text of a graph; with `locs`, each node says where it comes from."""
    return "\n".join(_graph_lines(graph, "graph", locs)) + "\n"


def _graph_lines(graph: Graph, keyword: str, locs: bool) -> Iterator[str]:
    yield f"{keyword} {json.dumps(graph.name)}({', '.join(map(_typed, graph.inputs))}) {{"
    for name, array in graph.constants.items():
        yield f"  const {_name(name)}: {print_array(array)}"
    for node in graph.nodes:
        yield f"  {_node_text(node)}{_loc_text(node.loc) if locs else ''}"
        for region in node.regions:
            yield from ("    " + line for line in _graph_lines(region, "region", locs))
    for keyword, symbols in (("data", graph.data_symbols), ("size", graph.size_symbols)):
        for symbol, (name, position) in symbols.items():
            yield f"  {keyword} {_symbol(symbol)} = {_name(name)} {position}"
    for cache in graph.caches:
        extents = ", ".join(map(print_dim, (cache.rows, cache.grown, cache.room)))
        yield f"  cache {_name(cache.input)} {_name(cache.output)} {cache.axis} [{extents}]"
    yield f"  return {', '.join(_name(v.name) for v in graph.outputs)}".rstrip()
    yield "}"


def _node_text(node: Node) -> str:
    outputs = ", ".join("_" if v is None else _typed(v) for v in node.outputs)
    inputs = ", ".join("_" if v is None else _name(v.name) for v in node.inputs)
    attrs = ", ".join(f"{_plain(key)} = {print_attribute(value)}" for key, value in node.attrs.items())
    return f"{outputs} = {_plain(node.op)}({inputs}){' {' + attrs + '}' if attrs else ''}"


def _loc_text(loc: Loc) -> str:
    return "" if loc == NOWHERE else " @ " + " ".join(json.dumps(part) for part in (loc.model, loc.node, loc.op_type, loc.origin))


def _typed(value: Value) -> str:
    return f"{_name(value.name)}: {print_type(value.type)}"


def _name(name: str) -> str:
    return "%" + (name if _BARE_NAME.fullmatch(name) else json.dumps(name))


def _plain(word: str) -> str:
    """An operator, attribute or symbol: bare if it is a word, else quoted."""
    return word if _WORD.fullmatch(word) and word not in KEYWORDS and word != "_" else json.dumps(word)


def _symbol(name: str) -> str:
    return _plain(name) if name not in _FUNCTIONS else json.dumps(name)


def print_type(type_: TensorType) -> str:
    """`float32[N, 3]`, followed by layout and quantization if there are any."""
    text = type_.dtype.label + print_shape(type_.shape)
    if not type_.layout.is_plain:
        text += f" layout {type_.layout.axis} {type_.layout.block} {print_attribute(type_.layout.halo)}"
    return text if type_.quant is None else text + _quant_text(type_.quant)


def _quant_text(quant: Quant) -> str:
    parts = (quant.scale, quant.zero_point, quant.axis, quant.dtype)
    return " quant " + " ".join(map(print_attribute, parts))


def print_shape(shape: Iterable[Dim]) -> str:
    """`[N, 3]`."""
    return f"[{', '.join(map(print_dim, shape))}]"


def print_dim(extent: Dim) -> str:
    """A dimension: sums and products as such, everything else as a function."""
    match extent:
        case int():
            return str(extent)
        case Const(value=value):
            return str(value).lower() if isinstance(value, bool) else str(value)
        case Var(name=name):
            return _symbol(name)
        case Binary(op=BinaryOp.ADD, a=a, b=b):
            return f"{print_dim(a)} + {_operand(b, BinaryOp.ADD)}"
        case Binary(op=BinaryOp.MUL, a=a, b=b):
            return f"{_operand(a, BinaryOp.ADD)} * {_operand(b, BinaryOp.ADD, BinaryOp.MUL)}"
        case Binary(op=op, a=a, b=b):
            return f"{op.value}({print_dim(a)}, {print_dim(b)})"
        case Unary(op=op, a=a):
            return f"{op.value}({print_dim(a)})"
        case Select(cond=cond, then=then, other=other):
            return f"select({print_dim(cond)}, {print_dim(then)}, {print_dim(other)})"
        case Cast(value=value, dtype=DType.INT64, mode=CastMode.CONVERT):
            return f"int64({print_dim(value)})"
    raise AssertionError(f"{type(extent).__name__} in a dimension")


_FUNCTIONS = frozenset({op.value for op in BinaryOp} | {"neg", "not", "abs", "select", "int64"})


def _operand(e: Dim, *looser: BinaryOp) -> str:
    """An operand of an infix operator, in parentheses if the parser would group it differently."""
    return f"({print_dim(e)})" if isinstance(e, Binary) and e.op in looser else print_dim(e)


def print_attribute(value: Attribute) -> str:
    """An attribute value; its text says its type."""
    match value:
        case None:
            return "none"
        case bool() | int():
            return str(int(value))
        case float():
            return _float(value)
        case str():
            return json.dumps(value)
        case bytes():
            return f"hex {json.dumps(value.hex())}"
        case DType():
            return value.label
        case tuple():
            return "(" + ", ".join(print_attribute(item) for item in value) + ")"
        case np.ndarray():
            return print_array(value, inline=True)
    raise AssertionError(type(value))


def _float(value: float) -> str:
    if math.isnan(value):
        return "nan"
    return ("-inf" if value < 0 else "inf") if math.isinf(value) else repr(float(value))


def print_array(array: np.ndarray, inline: bool = False) -> str:
    """Type and content: elements in row-major order if they are few or `inline`, else a hash."""
    dtype = DType.of(array.dtype)
    head = f"{dtype.label}[{', '.join(map(str, array.shape))}] = "
    if not inline and (array.size > INLINE_ELEMENTS or dtype.kind is Kind.COMPLEX):
        return f"{head}blob {json.dumps(digest(array))}"
    return f"{head}[{', '.join(_elements(array, dtype))}]"


def _elements(array: np.ndarray, dtype: DType) -> Iterable[str]:
    for item in array.reshape(-1):
        if dtype.kind is Kind.STRING:
            yield json.dumps(item.decode() if isinstance(item, bytes) else str(item))
        elif dtype.kind is Kind.COMPLEX:
            yield f"({_float(item.real)}, {_float(item.imag)})"
        else:
            yield str(bool(item)).lower() if dtype.kind is Kind.BOOL else _float(float(item)) if dtype.is_float else str(int(item))


def digest(array: np.ndarray) -> str:
    """A short hash of an array's elements."""
    if array.dtype == object:
        data = json.dumps([str(item) for item in array.reshape(-1)]).encode()
    else:
        data = np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(data).hexdigest()[:16]
