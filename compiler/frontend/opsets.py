"""Which version of which operator set a model, or a function in it, is written for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..diagnostics import CompileError, Loc
from .texts import require_text

if TYPE_CHECKING:
    import onnx

OLDEST, NEWEST = 7, 28
"""Versions of the default operator set that the compiler reads."""


@dataclass(frozen=True, slots=True)
class Opsets:
    """Imported versions by domain."""

    versions: Mapping[str, int]

    def version(self, domain: str) -> int:
        """Version of a domain; 1 for one that is not imported, as old exporters leave out contributed ones."""
        return self.versions.get(domain, 1)

    def extended(self, imports: Iterable[onnx.OperatorSetIdProto], loc: Loc) -> Opsets:
        """These versions, overridden by the imports of a function."""
        return Opsets({**self.versions, **_read(imports, loc)})


def read_opsets(model: onnx.ModelProto, name: str) -> Opsets:
    """Check the versions of a model; E0105 if one is not supported, E0102 if they contradict each other."""
    import onnx

    loc = Loc(name)
    if model.ir_version > onnx.IR_VERSION:
        message = f"IR version {model.ir_version} is newer than the installed onnx package knows ({onnx.IR_VERSION})"
        raise CompileError("E0105", message, loc, "install a newer onnx package")
    versions = _read(model.opset_import, loc)
    if not versions:
        raise CompileError("E0102", "the model imports no operator set", loc, "the file is perhaps truncated")
    return Opsets(versions)


def _read(imports: Iterable[onnx.OperatorSetIdProto], loc: Loc) -> dict[str, int]:
    versions: dict[str, int] = {}
    for entry in imports:
        require_text([entry.domain], loc)
        domain = "" if entry.domain in ("", "ai.onnx") else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise CompileError("E0102", f"two versions of the operator set '{domain or 'ai.onnx'}' are imported", loc)
        _check(domain, entry.version, loc)
    return versions


def _check(domain: str, version: int, loc: Loc) -> None:
    if domain == "" and not OLDEST <= version <= NEWEST:
        if version > NEWEST:
            known, hint = f"the newest is {NEWEST}", "export the model for an older opset"
        else:
            known, hint = f"the oldest here is {OLDEST}", "convert the model with onnx.version_converter"
        raise CompileError("E0105", f"opset {version} is not supported, {known}", loc, hint)
    newest = _newest(domain)
    if version < 1 or (newest and version > newest):
        message = f"version {version} of the operator set '{domain}' is not supported, only 1 to {newest or 'any'} are"
        raise CompileError("E0105", message, loc, "export the model for an older opset")


def _newest(domain: str) -> int:
    """Newest version of a domain that the onnx package describes; 0 if it does not describe the domain."""
    import onnx

    if domain == "":
        return NEWEST
    return int(onnx.defs.onnx_ml_opset_version()) if domain == "ai.onnx.ml" and hasattr(onnx.defs, "onnx_ml_opset_version") else 0
