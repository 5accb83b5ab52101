"""The text form of kernel IR: reading. The inverse of `text.py`, line by line.

Nodes are made by their classes, not by the folding constructors of `build.py`: what is read is what was
printed. The text comes from our own tools, so a fault is a `KernelTextError` with its line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import NoReturn

from ..diagnostics import NOWHERE, Loc
from ..dtypes import DType
from .nodes import (
    COMPARISONS,
    Alloc,
    Assert,
    Barrier,
    Binary,
    BinaryOp,
    Block,
    Broadcast,
    Buffer,
    Cast,
    CastMode,
    Const,
    Dim,
    Expr,
    Extern,
    For,
    If,
    Kernel,
    Lane,
    Let,
    Load,
    LoopKind,
    Math,
    MathFn,
    Ramp,
    Read,
    Scope,
    Select,
    Stmt,
    Store,
    Unary,
    UnaryOp,
    Var,
    While,
)

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|#\d+|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|-inf|[A-Za-z_][A-Za-z0-9_.~]*|[%@(),:\[\]{}<=])')
_PREDICATES = (MathFn.ISNAN, MathFn.ISINF)


class KernelTextError(ValueError):
    """The text is not a kernel."""


def parse_kernel(text: str) -> Kernel:
    """Read what `print_kernel` wrote.

    Raises:
        KernelTextError: at the first line that is not understood.
    """
    return _Parser(text).kernel()


class _Parser:
    """Reads lines; `line` is the one at hand, `tokens` what is left of it."""

    def __init__(self, text: str) -> None:
        self.source = [line for line in text.splitlines() if line.strip()]
        self.line = -1
        self.tokens: list[str] = []
        self.buffers: dict[str, Buffer] = {}
        self.scope: dict[str, Var] = {}
        self.named: dict[str, Expr] = {}

    # --- Tokens -------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take the next line, which must begin where the last one ended."""
        if self.tokens:
            self.fail(f"unexpected {self.tokens[0]}")
        self.line += 1
        if self.line >= len(self.source):
            raise KernelTextError("the text ends too early")
        text, at = self.source[self.line].rstrip(), 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self.fail(f"cannot read {text[at : at + 20]!r}")
            self.tokens.append(match[1])
            at = match.end()

    def fail(self, message: str) -> NoReturn:
        """Stop at this line."""
        raise KernelTextError(f"line {self.line + 1}: {message}")

    def peek(self) -> str:
        """The next token, empty at the end of the line."""
        return self.tokens[0] if self.tokens else ""

    def next(self) -> str:
        """Take a token."""
        if not self.tokens:
            self.fail("the line ends too early")
        return self.tokens.pop(0)

    def expect(self, *wanted: str) -> None:
        """Take these tokens."""
        for token in wanted:
            found = self.next()
            if found != token:
                self.fail(f"expected {token}, found {found}")

    def accept(self, token: str) -> bool:
        """Take a token if it is this one."""
        if self.peek() != token:
            return False
        self.tokens.pop(0)
        return True

    def name(self) -> str:
        """A name, quoted or not."""
        token = self.next()
        return str(json.loads(token)) if token.startswith('"') else token

    def number(self) -> int:
        """An integer."""
        return int(self.next())

    # --- Kernels and statements ---------------------------------------------------------------

    def kernel(self) -> Kernel:
        """The whole text."""
        self.advance()
        self.expect("kernel")
        name = self.name()
        self.expect("{")
        symbols: list[Var] = []
        buffers: list[Buffer] = []
        overlapping: set[Buffer] = set()
        loc, schedule = NOWHERE, ""
        self.advance()
        while self.peek() in ("symbol", "buffer", "loc", "schedule"):
            match self.next():
                case "symbol":
                    symbols.append(self.definition())
                    self.scope[symbols[-1].name] = symbols[-1]
                case "buffer":
                    buffers.append(self.declaration())
                    if self.accept("overlapping"):
                        overlapping.add(buffers[-1])
                case "loc":
                    loc = Loc(self.name(), self.name(), self.name(), self.name(), self.number())
                case _:
                    schedule = self.name()
            self.advance()
        body = self.statement()
        self.expect("}")
        return Kernel(name, tuple(buffers), tuple(symbols), body, loc, schedule, frozenset(overlapping))

    def statement(self) -> Stmt:
        """The statement that begins on this line, after the parts that it names; the next line is at hand afterwards."""
        self.named = {}
        while self.peek().startswith("#"):
            name = self.next()
            self.expect("=")
            self.named[name] = self.expr()
            self.advance()
        keyword = self.next()
        reader = _STATEMENTS.get(keyword)
        if reader is None:
            self.fail(f"unknown statement {keyword}")
        return reader(self)

    def end(self, stmt: Stmt) -> Stmt:
        """A statement of one line."""
        self.advance()
        return stmt

    def body(self, var: Var | None = None) -> Stmt:
        """The statements in braces as one; `var` is known inside."""
        stmts = self.braces(var)
        return stmts[0] if len(stmts) == 1 else Block(stmts)

    def braces(self, var: Var | None = None) -> tuple[Stmt, ...]:
        """The statements in braces; the closing brace is taken."""
        self.expect("{")
        before = self.scope
        if var is not None:
            self.scope = self.scope | {var.name: var}
        self.advance()
        stmts: list[Stmt] = []
        while self.peek() != "}":
            stmts.append(self.statement())
        self.expect("}")
        self.scope = before
        return tuple(stmts)

    def for_(self) -> Stmt:
        var = self.definition()
        self.expect("in")
        extent, kind = self.expr(), LoopKind(self.next())
        return self.end(For(var, extent, kind, self.body(var)))

    def while_(self) -> Stmt:
        return self.end(While(self.expr(), self.body()))

    def block(self) -> Stmt:
        return self.end(Block(self.braces()))

    def store(self) -> Stmt:
        buffer = self.buffer()
        self.expect("[")
        at = self.expr()
        self.expect("]", "=")
        value = self.expr()
        return self.end(Store(buffer, at, value, self.expr() if self.accept("if") else None))

    def if_(self) -> Stmt:
        cond = self.expr()
        then = self.body()
        return self.end(If(cond, then, self.body() if self.accept("else") else None))

    def let(self) -> Stmt:
        var = self.definition()
        self.expect("=")
        return self.end(Let(var, self.expr(), self.body(var)))

    def alloc(self) -> Stmt:
        return self.end(Alloc(self.declaration(), self.body()))

    def barrier(self) -> Stmt:
        return self.end(Barrier())

    def check(self) -> Stmt:
        return self.end(Assert(self.expr(), self.number(), self.name()))

    def extern(self) -> Stmt:
        name, args = self.name(), self.operands()
        self.expect("on", "(")
        buffers: list[Buffer] = []
        while not self.accept(")"):
            buffers.append(self.buffer())
            self.accept(",")
        results = self.number() if self.accept("results") else 0
        return self.end(Extern(name, tuple(args), tuple(buffers), results))

    # --- Names --------------------------------------------------------------------------------

    def definition(self) -> Var:
        """`%name: dtype x lanes < bound`."""
        self.expect("%")
        name = self.name()
        self.expect(":")
        dtype = DType[self.next().upper()]
        lanes = self.number() if self.accept("x") else 1
        return Var(name, dtype, lanes, self.number() if self.accept("<") else 0)

    def declaration(self) -> Buffer:
        """`@name: dtype[size] scope align n`."""
        self.expect("@")
        name = self.name()
        self.expect(":")
        dtype = DType[self.next().upper()]
        self.expect("[")
        size = self.expr()
        self.expect("]")
        scope = Scope(self.next())
        extent: Dim = int(size.value) if isinstance(size, Const) else size
        buffer = self.buffers[name] = Buffer(name, dtype, extent, scope, self.number() if self.accept("align") else 0)
        return buffer

    def buffer(self) -> Buffer:
        """A buffer that was declared."""
        self.expect("@")
        name = self.name()
        if name not in self.buffers:
            self.fail(f"unknown buffer {name}")
        return self.buffers[name]

    # --- Expressions --------------------------------------------------------------------------

    def operands(self) -> list[Expr]:
        """Expressions in parentheses."""
        self.expect("(")
        found: list[Expr] = []
        while not self.accept(")"):
            found.append(self.expr())
            if self.peek() != ")":
                self.expect(",")
        return found

    def expr(self) -> Expr:
        """Any expression."""
        token = self.peek()
        if token == "%":
            self.next()
            name = self.name()
            if name not in self.scope:
                self.fail(f"unknown variable {name}")
            return self.scope[name]
        if token == "(":
            self.next()
            var = self.definition()
            self.expect(")")
            return var
        if token.startswith("#"):
            if token not in self.named:
                self.fail(f"unknown part {token}")
            return self.named[self.next()]
        if token in ("true", "false", "inf", "-inf", "nan") or token[:1].isdigit() or token[:1] == "-":
            return self.const()
        return self.call()

    def const(self) -> Expr:
        """A number and its type."""
        token = self.next()
        if token in ("true", "false"):
            return Const(token == "true", DType.BOOL)
        dtype = DType[self.next().upper()] if self.accept(":") else DType.INT64
        if dtype.is_float:
            return Const(math.nan if token == "nan" else float(token), dtype)
        return Const(int(token), dtype)

    def call(self) -> Expr:
        """A node with operands."""
        head, *details = self.next().split(".")
        if head == "load":
            self.expect("(")
            buffer = self.buffer()
            self.expect(",")
            at = self.expr()
            mask = self.expr() if self.accept(",") else None
            self.expect(")")
            return Load(buffer, at, mask)
        operands = self.operands()
        maker = _NODES.get(head)
        if maker is not None:
            return maker(details, operands)
        if len(operands) == 1:
            return Unary(UnaryOp(head), operands[0], operands[0].dtype, operands[0].lanes)
        op = BinaryOp(head)
        return Binary(op, operands[0], operands[1], DType.BOOL if op in COMPARISONS else operands[0].dtype, operands[0].lanes)


def _math(details: list[str], operands: list[Expr]) -> Expr:
    fn = MathFn(details[0])
    return Math(fn, tuple(operands), DType.BOOL if fn in _PREDICATES else operands[0].dtype, operands[0].lanes)


def _cast(details: list[str], operands: list[Expr]) -> Expr:
    mode = CastMode(details[1]) if len(details) > 1 else CastMode.CONVERT
    return Cast(operands[0], DType[details[0].upper()], mode, operands[0].lanes)


_NODES: dict[str, Callable[[list[str], list[Expr]], Expr]] = {
    "read": lambda d, e: Read(int(d[0]), tuple(e), DType[d[1].upper()]),
    "math": _math,
    "select": lambda d, e: Select(e[0], e[1], e[2], e[1].dtype, e[1].lanes),
    "cast": _cast,
    "ramp": lambda d, e: Ramp(e[0], e[1], int(d[0])),
    "broadcast": lambda d, e: Broadcast(e[0], int(d[0])),
    "lane": lambda d, e: Lane(e[0], int(d[0])),
}
_STATEMENTS: dict[str, Callable[[_Parser], Stmt]] = {
    "for": _Parser.for_,
    "while": _Parser.while_,
    "block": _Parser.block,
    "store": _Parser.store,
    "if": _Parser.if_,
    "let": _Parser.let,
    "alloc": _Parser.alloc,
    "barrier": _Parser.barrier,
    "assert": _Parser.check,
    "extern": _Parser.extern,
}
