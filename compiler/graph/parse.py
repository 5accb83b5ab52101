"""Reads the text form of the graph IR that `text.py` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from ..diagnostics import NOWHERE, CompileError, Loc
from ..dtypes import DType, Kind
from ..kernel import build
from ..kernel.nodes import BinaryOp, Expr, UnaryOp, Var
from .facts import index_symbols
from .nodes import PLAIN, Attribute, CachePair, Graph, Layout, Node, Quant, TensorType, Value
from .text import digest

T = TypeVar("T")

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n\s*)*(?:
        (?P<value>%(?:"(?:[^"\\]|\\.)*"|[A-Za-z0-9_./-]+(?::[A-Za-z0-9_./-]+)*))
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>-?(?:inf\b|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[][(){}=,:@*+])
    )""",
    re.VERBOSE,
)
_DTYPES = {dtype.label: dtype for dtype in DType}


def parse_graph(text: str, arrays: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Read a graph.

    Args:
        text: what `print_graph` printed. Line comments begin with `#`.
        arrays: the constants that the text only names, by name.

    Returns:
        The graph, with the types that the text gives.

    Raises:
        CompileError: E0102 with the line that is not understood, or whose constant is missing.
    """
    parser = _Parser(text, arrays or {})
    parser.expect("graph")
    graph = parser.graph({})
    parser.end()
    return graph


class _Parser:
    def __init__(self, text: str, arrays: Mapping[str, np.ndarray]) -> None:
        self.text, self.arrays = text, arrays
        self.position = 0
        self.kind, self.token = "", ""
        self.advance()

    # Tokens

    def advance(self) -> str:
        """Return the current token and go to the next."""
        before = self.token
        found = _TOKEN.match(self.text, self.position)
        if found is None:
            if self.text[self.position :].strip() and not self.text[self.position :].strip().startswith("#"):
                self.fail("an unknown character")
            self.kind, self.token = "end", ""
            return before
        self.position = found.end()
        self.kind = found.lastgroup or ""
        self.token = found.group(self.kind)
        return before

    def fail(self, what: str) -> CompileError:
        """Raise E0102 at the current line."""
        line = self.text.count("\n", 0, self.position) + 1
        raise CompileError("E0102", f"line {line}: {what}, found {self.token!r}")

    def accept(self, token: str) -> bool:
        """Skip a mark or word if it comes next."""
        if self.token != token or self.kind not in ("mark", "word"):
            return False
        self.advance()
        return True

    def expect(self, token: str) -> None:
        """Skip a mark or word that must come next."""
        if not self.accept(token):
            self.fail(f"expected {token!r}")

    def take(self, *kinds: str) -> str:
        """Return the current token, which must be of one of these kinds."""
        if self.kind not in kinds:
            self.fail(f"expected {' or '.join(kinds)}")
        return self.advance()

    def word(self) -> str:
        """A word, bare or quoted."""
        token = self.take("word", "string")
        return json.loads(token) if token.startswith('"') else token

    def name(self) -> str:
        """The name of a value."""
        token = self.take("value")[1:]
        return json.loads(token) if token.startswith('"') else token

    def items(self, close: str, item: Callable[[], T]) -> list[T]:
        """Items with commas between them, and the closing mark."""
        found: list[T] = []
        while not self.accept(close):
            if found:
                self.expect(",")
                if self.accept(close):
                    break
            found.append(item())
        return found

    def end(self) -> None:
        """Nothing may follow."""
        if self.kind != "end":
            self.fail("expected the end")

    # Graphs

    def graph(self, outer: Mapping[str, Value]) -> Graph:
        """A graph from its name on."""
        name, scope = self.word(), dict(outer)
        self.expect("(")
        inputs = self.items(")", self.typed_value)
        scope.update({value.name: value for value in inputs})
        self.expect("{")
        constants: dict[str, np.ndarray] = {}
        nodes: list[Node] = []
        symbols: dict[str, dict[str, tuple[str, int]]] = {"data": {}, "size": {}}
        caches: list[CachePair] = []
        while not self.accept("return"):
            if self.accept("cache"):
                caches.append(self.cache())
            elif self.accept("const"):
                constant = self.name()
                self.expect(":")
                constants[constant] = self.array(constant)
                scope[constant] = Value(constant, TensorType(DType.of(constants[constant].dtype), constants[constant].shape))
            elif self.kind == "word" and self.token in symbols:
                kind, symbol = self.advance(), self.word()
                self.expect("=")
                symbols[kind][symbol] = (self.name(), int(self.take("number")))
            else:
                nodes.append(self.node(scope))
                scope.update({value.name: value for value in nodes[-1].outputs if value is not None})
        outputs = tuple(self.items("}", lambda: self.used(scope)))
        inferred = index_symbols([value.type for value in inputs])
        return Graph(name, tuple(inputs), outputs, tuple(nodes), constants, inferred, NOWHERE, symbols["data"], symbols["size"],
                     caches=tuple(caches))  # fmt: skip

    def cache(self) -> CachePair:
        """`%input %output axis [rows, grown, room]`."""
        names, axis = (self.name(), self.name()), int(self.take("number"))
        self.expect("[")
        rows, grown, room = self.items("]", lambda: build.dim(self.sum()))
        return CachePair(*names, axis, rows, grown, room)

    def typed_value(self) -> Value:
        """`%name: type`."""
        name = self.name()
        self.expect(":")
        return Value(name, self.type())

    def used(self, scope: Mapping[str, Value]) -> Value:
        """A value that is defined already."""
        name = self.name()
        return scope[name] if name in scope else self._undefined(name)

    def _undefined(self, name: str) -> Value:
        raise self.fail(f"'{name}' is not defined")

    def node(self, scope: Mapping[str, Value]) -> Node:
        """`outputs = op(inputs) {attributes} @ place`, and regions."""
        outputs: list[Value | None] = self.items("=", lambda: None if self.accept("_") else self.typed_value())
        op = self.word()
        self.expect("(")
        inputs: list[Value | None] = self.items(")", lambda: None if self.accept("_") else self.used(scope))
        attrs = dict(self.items("}", self.attribute_item)) if self.accept("{") else {}
        loc = Loc(*(json.loads(self.take("string")) for _ in range(4))) if self.accept("@") else NOWHERE
        regions: list[Graph] = []
        while self.accept("region"):
            regions.append(self.graph(scope))
        return Node(op, tuple(inputs), tuple(outputs), attrs, tuple(regions), loc)

    # Types

    def type(self) -> TensorType:
        """Element type, shape, and perhaps layout and quantization."""
        dtype = self.dtype()
        self.expect("[")
        shape = tuple(self.items("]", lambda: build.dim(self.sum())))
        layout, quant = PLAIN, None
        if self.accept("layout"):
            layout = Layout(int(self.take("number")), int(self.take("number")), self._tuple())  # type: ignore[arg-type]
        if self.accept("quant"):
            scale, zero_point = self._tuple(), self._tuple()
            quant = Quant(scale, zero_point, self.attribute(), self.dtype())  # type: ignore[arg-type]
        return TensorType(dtype, shape, layout, quant)

    def dtype(self) -> DType:
        """The name of an element type."""
        word = self.take("word")
        return _DTYPES[word] if word in _DTYPES else self._no_dtype(word)

    def _no_dtype(self, word: str) -> DType:
        raise self.fail(f"'{word}' is not an element type")

    def sum(self) -> Expr:
        """Terms with `+` between them."""
        result = self.product()
        while self.accept("+"):
            result = build.add(result, self.product())
        return result

    def product(self) -> Expr:
        """Factors with `*` between them."""
        result = self.factor()
        while self.accept("*"):
            result = build.mul(result, self.factor())
        return result

    def factor(self) -> Expr:
        """A number, a symbol, a function, or a sum in parentheses."""
        if self.accept("("):
            inner = self.sum()
            self.expect(")")
            return inner
        if self.kind == "number":
            return build.const(int(self.advance()))
        if self.kind == "string":
            return Var(json.loads(self.advance()))
        word = self.take("word")
        if word in ("true", "false"):
            return build.const(word == "true", DType.BOOL)
        return self.function(word) if self.accept("(") else Var(word)

    def function(self, name: str) -> Expr:
        """A function of expressions, from behind its parenthesis on."""
        args = self.items(")", self.sum)
        if name == "select":
            return build.select(*args)
        if name == "int64":
            return build.cast(args[0], DType.INT64)
        return build.unary(UnaryOp(name), args[0]) if len(args) == 1 else build.binary(BinaryOp(name), *args)

    # Attributes and arrays

    def attribute_item(self) -> tuple[str, Attribute]:
        """`name = value`."""
        name = self.word()
        self.expect("=")
        return name, self.attribute()

    def attribute(self) -> Attribute:
        """A value whose text says its type."""
        if self.kind == "string":
            return str(json.loads(self.advance()))
        if self.accept("("):
            return tuple(self.items(")", self.attribute))  # type: ignore[return-value]
        if self.accept("none"):
            return None
        if self.accept("hex"):
            return bytes.fromhex(json.loads(self.take("string")))
        if self.kind == "word" and self.token in _DTYPES:
            dtype = self.dtype()
            return self.content(dtype, "") if self.token == "[" else dtype
        return self.number()

    def number(self) -> int | float:
        """An integer, or a float if the text has a point, an exponent or no digits."""
        token = self.take("number", "word")
        return int(token) if re.fullmatch(r"-?\d+", token) else float(token)

    def _tuple(self) -> Attribute:
        found = self.attribute()
        return found if isinstance(found, tuple) else ()

    def array(self, name: str) -> np.ndarray:
        """An array with its type."""
        return self.content(self.dtype(), name)

    def content(self, dtype: DType, name: str) -> np.ndarray:
        """The shape and elements of an array, or its hash."""
        self.expect("[")
        shape = tuple(self.items("]", lambda: int(self.take("number"))))
        self.expect("=")
        if self.accept("blob"):
            return self.blob(json.loads(self.take("string")), name)
        self.expect("[")
        elements = self.items("]", lambda: self.element(dtype))
        if dtype.kind is Kind.STRING:
            return np.array(elements, dtype=object).reshape(shape)
        if dtype.is_int and dtype.bits < 8:
            return np.array(elements, dtype=np.int64).astype(dtype.numpy).reshape(shape)
        return np.array(elements).astype(dtype.numpy).reshape(shape) if elements else np.zeros(shape, dtype.numpy)

    def element(self, dtype: DType) -> object:
        """One element of an array."""
        if dtype.kind is Kind.STRING:
            return json.loads(self.take("string"))
        if dtype.kind is Kind.COMPLEX:
            self.expect("(")
            real, imag = self.items(")", self.number)
            return complex(real, imag)
        return self.take("word") == "true" if dtype.kind is Kind.BOOL else self.number()

    def blob(self, expected: str, name: str) -> np.ndarray:
        """A constant that the text only names."""
        if name not in self.arrays:
            self.fail(f"the array of constant '{name}' is not given")
        if digest(self.arrays[name]) != expected:
            self.fail(f"constant '{name}' has other elements than the text says")
        return self.arrays[name]
