"""Operators that a user defines, for the time of one compile.

Three ways lead an operator of the user's into the compiler: a function body in the model itself (`frontend/functions.py`
inlines it), a row in the operator table's own form, and a row whose kernel is a C function (`c_function`). Rows are given
as `onnxc.compile(..., operators=[...])`, or stand in a module that the command line names with `--operators`. They are laid
over the table (`overlay.py`) and checked here; what goes wrong in them is E0206 at the node, not a fault of onnxc.
"""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest
from ..kernel.nodes import Buffer, Expr, Extern
from .overlay import laid_over
from .table import INTERNAL, Definition, Imperative, Nests, OpContext, OpDef, Region, Rewrite, RewriteBuilder, own_row

P = ParamSpec("P")
R = TypeVar("R")

OPERATORS = "OPERATORS"
"""What a module of operators calls the list of its rows."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@contextmanager
def using_operators(rows: Sequence[OpDef]) -> Iterator[None]:
    """Let the compiler know more operators within the block.

    Args:
        rows: rows of operators that the table does not have, nothing else being in their domain but what the user puts there.

    Raises:
        CompileError: E0206 if something is not a row, or an operator is defined twice.
    """
    found: dict[str, OpDef] = {}
    for row in rows:
        _check(row)
        if row.key in found:
            raise _refused(row.key, "is defined twice")
        found[row.key] = replace(row, infer=_guarded_infer(row), define=_guarded(row))
    with laid_over(found):
        yield


def load_operators(path: str | os.PathLike[str]) -> tuple[OpDef, ...]:
    """The rows of a Python file: its list `OPERATORS`. The file is executed, as any module that is imported.

    Raises:
        CompileError: E0206 if there is no such file, it fails, or it has no such list.
    """
    file = Path(path)
    if not file.is_file():
        raise CompileError("E0206", "there is no such module of operators", Loc(node=file.name))
    try:
        names = runpy.run_path(str(file), run_name=file.stem)
    except OSError as error:
        raise CompileError("E0206", f"cannot read the operators: {error.strerror}", Loc(node=file.name)) from None
    except Exception as error:
        raise CompileError("E0206", f"the module of operators fails: {type(error).__name__}: {error}", Loc(node=file.name)) from error
    rows = names.get(OPERATORS)
    if not isinstance(rows, (list, tuple)):
        hint = f"end it with {OPERATORS} = [...], the rows that the compiler should know"
        raise CompileError("E0206", f"the module of operators has no list {OPERATORS}", Loc(node=file.name), hint)
    return tuple(rows)


def c_function(symbol: str, *, attributes: Sequence[str] = (), library: str | os.PathLike[str] | None = None) -> Imperative:
    """The definition of an operator whose kernel is a C function of the user's.

    The function takes a pointer to the elements of each input and each output that the node has, all in row-major order; then, as
    `int64_t`, the extents of all these tensors in the same order; then the attributes, an integer as `int64_t` and a float as `double`.
    It returns nothing. The header of a model declares it, and the program that the model becomes part of has it; onnxc calls it once a
    run for each node, in the thread that runs the model.

    Args:
        symbol: name of the function.
        attributes: names of attributes that it takes, each an integer or a float with a default in the row, or given by every node.
        library: shared object with the function, for models that run in this process; it is loaded at once.

    Raises:
        CompileError: E0206 if the name is none of C, or the library cannot be loaded.
    """
    if not _IDENTIFIER.match(symbol):
        raise _refused(symbol, "is not the name of a C function")
    if library is not None:
        _load(library)

    def call(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
        values = [v for v in (*ctx.node.inputs, *ctx.node.outputs) if v is not None]
        results = [b for b in outputs if b is not None]
        extents = tuple(build.index(d) for value in values for d in value.type.shape)
        buffers = (*(b for b in inputs if b is not None), *results)
        k.emit(Extern(symbol, (*extents, *(_attribute(ctx, name) for name in attributes)), buffers, results=len(results)))

    return Imperative(call, calls=symbol)


def _load(library: str | os.PathLike[str]) -> None:
    import ctypes

    try:
        ctypes.CDLL(os.fspath(library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise CompileError("E0206", f"the library of a custom operator cannot be loaded: {error}") from None


def _attribute(ctx: OpContext, name: str) -> Expr:
    found = ctx.node.attrs.get(name, ctx.defaults.get(name))
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        ctx.fail("E0203", f"attribute {name} must be an integer or a float, as the C function of the operator takes it")
    return build.const(found, build.INDEX) if isinstance(found, int) else build.const(found, DType.FLOAT64)


# --- Checks -----------------------------------------------------------------------------------


def _refused(what: object, why: str, hint: str = "") -> CompileError:
    return CompileError("E0206", f"custom operator {what}: it {why}", hint=hint)


def _check(row: object) -> None:
    if not isinstance(row, OpDef):
        raise CompileError("E0206", f"a custom operator is a row of the class OpDef, not {type(row).__name__}")
    if not row.name or "::" in row.key.replace("::", "", 1) or row.domain == "ai.onnx":
        raise _refused(repr(row.key), "has no name that a model could use", "the default domain is spelled as an empty string")
    if row.domain == INTERNAL or own_row(row.key) is not None:
        raise _refused(row.key, "is an operator of the compiler's own", "give it a domain of your own, in the model, too")
    if isinstance(row.define, Region) or not isinstance(row.define, (Nests, Rewrite, Imperative)):
        raise _refused(row.key, "is not defined by Nests, Rewrite, Imperative or c_function")


def _guarded(row: OpDef) -> Definition:
    """The row's definition, whose faults are reported at the node."""
    define = row.define
    match define:
        case Nests():
            return replace(define, build=_guarded_nests(row, define), sizes=define.sizes and _blamed(row, define.sizes))
        case Rewrite():
            return replace(define, build=_guarded_rewrite(row, define))
        case Imperative():
            return replace(define, build=_blamed(row, define.build), sizes=define.sizes and _blamed(row, define.sizes))
        case _:
            return define


def _blamed(row: OpDef, function: Callable[P, R]) -> Callable[P, R]:
    """The function, with E0206 instead of whatever it raises; its first argument is the context of a node."""

    def guarded(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except CompileError:
            raise
        except Exception as error:
            ctx = args[0]
            assert isinstance(ctx, OpContext)
            raise CompileError("E0206", f"the definition of {row.key} fails: {type(error).__name__}: {error}", ctx.node.loc) from error

    return guarded


def _guarded_infer(row: OpDef) -> Callable[[OpContext], Sequence[TensorType]]:
    infer = _blamed(row, row.infer)

    def checked(ctx: OpContext) -> Sequence[TensorType]:
        types = infer(ctx)
        if not isinstance(types, (list, tuple)) or not all(isinstance(t, TensorType) for t in types):
            ctx.fail("E0206", f"infer of {row.key} returns {_named(types)}, not a list of TensorTypes")
        if len(types) < len(ctx.node.outputs):
            ctx.fail("E0206", f"infer of {row.key} returns {len(types)} types, but the node has {len(ctx.node.outputs)} outputs")
        return types

    return checked


def _guarded_nests(row: OpDef, define: Nests) -> Callable[[OpContext], Sequence[Nest | None]]:
    make = _blamed(row, define.build)

    def checked(ctx: OpContext) -> Sequence[Nest | None]:
        nests = make(ctx)
        if not isinstance(nests, (list, tuple)) or not all(n is None or isinstance(n, Nest) for n in nests):
            ctx.fail("E0206", f"the definition of {row.key} returns {_named(nests)}, not a list of nests")
        for value, nest in zip(ctx.node.outputs, nests, strict=False):
            if value is not None and nest is not None and not _fits(value, nest):
                given = f"{nest.dtype.label}{list(map(str, nest.shape))}"
                ctx.fail(
                    "E0206", f"a nest of {row.key} is {given}, but infer says {value.type.dtype.label}{list(map(str, value.type.shape))}"
                )
        return nests

    return checked


def _fits(value: Value, nest: Nest) -> bool:
    same = zip(value.type.shape, nest.shape, strict=False)
    extents = all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in same)
    return nest.dtype is value.type.dtype and len(nest.shape) == value.type.rank and extents


def _guarded_rewrite(row: OpDef, define: Rewrite) -> Callable[[OpContext, RewriteBuilder], Sequence[Value | None]]:
    make = _blamed(row, define.build)

    def checked(ctx: OpContext, builder: RewriteBuilder) -> Sequence[Value | None]:
        values = make(ctx, builder)
        if not isinstance(values, (list, tuple)) or not all(v is None or isinstance(v, Value) for v in values):
            ctx.fail("E0206", f"the definition of {row.key} returns {_named(values)}, not a list of values")
        return values

    return checked


def _named(found: object) -> str:
    return f"a {type(found).__name__}" + (f" of {type(found[0]).__name__}" if isinstance(found, (list, tuple)) and found else "")
