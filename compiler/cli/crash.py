"""What a fault of onnxc itself leaves behind: a folder from which it can be reproduced, and error E0901.

The folder holds the traceback, the command line, versions, the model if it is small, and if a pass over the graph failed, the graph
before it. It is named after the fault, so the same fault twice gives one folder.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from ..diagnostics import CompileError, printable
from ..files import write_folder

_MODEL_BYTES = 64 << 20


def report_crash(error: Exception, arguments: Sequence[str]) -> CompileError:
    """Write a reproducer folder and return the error to show."""
    trace = "".join(traceback.format_exception(error))
    files: dict[str, bytes | str] = {
        "traceback.txt": trace,
        "crash.json": json.dumps({"arguments": list(arguments), "versions": _versions()}, indent=2) + "\n",
        **_models(arguments),
        **_graph(error),
    }
    folder = _write(files, f"onnxc-crash-{hashlib.sha256(trace.encode()).hexdigest()[:12]}")
    summary = printable(f"{type(error).__name__}: {error}".splitlines()[0])
    hint = f"this is a fault of onnxc, not of the model; please report it with the folder {folder}" if folder else "please report it"
    found = CompileError("E0901", summary, hint=hint)
    found.__cause__ = error
    return found


def _write(files: dict[str, bytes | str], name: str) -> Path | None:
    for parent in (Path.cwd(), Path(tempfile.gettempdir())):
        try:
            write_folder(parent / name, files)
        except CompileError:
            continue
        return parent / name
    return None


def _models(arguments: Sequence[str]) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for argument in arguments:
        path = Path(argument)
        if path.suffix == ".onnx" and path.is_file() and path.stat().st_size <= _MODEL_BYTES:
            found[path.name] = path.read_bytes()
    return found


def _graph(error: Exception) -> dict[str, bytes | str]:
    """The graph before the pass that failed, if one did."""
    from ..graph.nodes import Graph
    from ..graph.text import print_graph
    from ..pass_runner import PassFailure

    if not isinstance(error, PassFailure) or not isinstance(error.ir, Graph):
        return {}
    try:
        return {f"before-{error.name}.graph": print_graph(error.ir, locs=True)}
    except Exception as broken:  # noqa: BLE001 (a report must not fail on what it reports)
        return {f"before-{error.name}.graph": f"cannot be printed: {broken}\n"}


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for package in ("onnxc", "onnx", "numpy", "llvmlite", "ml_dtypes"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found
