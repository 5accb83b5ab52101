"""Errors that a user can act on: one class, a code for each kind, a place, and a hint.

Every failure that the model, the target or the command line is to blame for is a `CompileError`
that carries one or more `Diagnostic`s. Problems of one kind are collected and raised together, so
that a user sees all unsupported nodes at once. The codes are listed in `CODES`, from which
`docs/errors.md` is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CODES: dict[str, str] = {
    "E0101": "the file cannot be read as an ONNX model",
    "E0102": "the model is malformed",
    "E0103": "the model exceeds a limit",
    "E0104": "external data cannot be used",
    "E0105": "the IR version or an opset is not supported",
    "E0106": "a function body cannot be inlined",
    "E0201": "an operator is not known to the compiler",
    "E0202": "a tensor type is not supported by the operator or the target",
    "E0203": "an attribute or a shape breaks a rule of the operator",
    "E0204": "an operand must be known when compiling for this target",
    "E0205": "the number of inputs or outputs breaks a rule of the operator",
    "E0206": "a custom operator is not defined as it must be",
    "E0301": "the target string is not understood",
    "E0302": "the target cannot compile this node",
    "E0303": "a tool that the target needs is missing",
    "E0304": "a symbolic dimension must be bound for this target",
    "E0305": "the model takes more memory than is allowed",
    "E0401": "an input at run time does not fit the model",
    "E0402": "a check failed while the model was running",
    "E0501": "an artifact or cache entry is damaged",
    "E0502": "the output cannot be written",
    "E0601": "a verification found a difference",
    "E0602": "the model could not be run on the emulated device",
    "E0701": "the calibration data cannot be used",
    "E0702": "the model cannot be quantized as asked",
    "E0901": "internal error",
}


@dataclass(frozen=True, slots=True)
class Loc:
    """Where in the model something comes from; survives every rewrite."""

    model: str = ""
    """File name of the model, or the graph's name if it came from memory."""
    node: str = ""
    """Name of the ONNX node (or of its first output if it has none)."""
    op_type: str = ""
    """Operator of the ONNX node, with its domain unless that is the default one."""
    origin: str = ""
    """Pass that made the node, empty if it stands in the model itself."""
    opset: int = 0
    """Version of the operator set that the model was written for, 0 if that is not known."""

    def __str__(self) -> str:
        place = f"{self.op_type} '{printable(self.node)}'" if self.op_type else printable(self.node)
        return f"{place} (made by {self.origin})" if self.origin else place

    def through(self, origin: str) -> Loc:
        """Return the same place, marked as rewritten by the pass `origin`."""
        return Loc(self.model, self.node, self.op_type, origin, self.opset)


NOWHERE = Loc()


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem, with its code, place and remedy."""

    code: str
    """Key of `CODES`."""
    message: str
    """What is wrong, one line, lower case, without a full stop."""
    loc: Loc = NOWHERE
    """Where it is wrong."""
    hint: str = ""
    """What the user can do about it."""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code

    def __str__(self) -> str:
        place = f"{self.loc}: " if str(self.loc) else ""
        hint = f"\n  hint: {printable(self.hint)}" if self.hint else ""
        return f"error[{self.code}]: {place}{printable(self.message)}{hint}"


def diagnostic_json(found: Diagnostic) -> dict[str, str]:
    """A diagnostic for scripts."""
    return {"code": found.code, "message": found.message, "node": found.loc.node, "op": found.loc.op_type, "hint": found.hint}


class CompileError(Exception):
    """The model, the target or the inputs are at fault; never raised for a fault of onnxc itself."""

    def __init__(self, code: str, message: str, loc: Loc = NOWHERE, hint: str = "") -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (Diagnostic(code, message, loc, hint),)
        super().__init__(str(self.diagnostics[0]))

    @classmethod
    def collect(cls, diagnostics: Iterable[Diagnostic]) -> CompileError:
        """Make one error of many problems, in the order given, without repetitions."""
        found = tuple(dict.fromkeys(diagnostics))
        error = cls(found[0].code, found[0].message, found[0].loc, found[0].hint)
        error.diagnostics = found
        error.args = ("\n".join(map(str, found)),)
        return error

    @property
    def code(self) -> str:
        """Code of the first problem."""
        return self.diagnostics[0].code


def printable(text: str, limit: int = 200) -> str:
    """Escape control characters and shorten, so that a name from a model is safe on a terminal."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return shown if len(text) <= limit else shown[:limit] + "..."
