"""The road from a model to something that runs: load, pass, lower, emit; with the cache around it.

`compile` and `load` are the library's face (`onnxc.compile`, `onnxc.load`). The driver names no backend:
the target string decides, and the target brings its passes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .cache import Cache, Key, compiler_identity, default_cache, hash_bytes
from .diagnostics import CompileError
from .files import write_folder
from .program.interface import Interface, Port
from .record.check import RECORD_NAME, check_folder
from .record.text import from_json, to_json
from .target import Artifact, Target, load_target

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from .graph.nodes import Graph
    from .program.nodes import Program
    from .record.nodes import Record

TARGET_FILE = "target.txt"
"""File of an artifact folder that says what `load` needs to know."""


@dataclass(slots=True)
class CompiledModel:
    """A compiled model: call it on arrays, save it, look at it."""

    target: Target
    artifact: Artifact
    threads: int | None = None
    report: dict[str, object] = field(default_factory=dict)
    """Facts of the compile: seconds of each phase, bytes of arena and weights, number of kernels."""
    record: Record | None = None
    """The deployment record, which `save` writes."""
    _runner: Callable[[Mapping[str, object]], dict[str, np.ndarray]] | None = None

    @property
    def interface(self) -> Interface:
        """Inputs, outputs and symbols."""
        return self.artifact.interface

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, dtype and shape of each input."""
        return self.interface.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, dtype and shape of each output."""
        return self.interface.outputs

    def run(self, inputs: Mapping[str, object]) -> dict[str, np.ndarray]:
        """Run on arrays by name and return the outputs by name.

        Raises:
            CompileError: E0401 for inputs that do not fit, E0402 if a check fails while running, E0302 if
                this machine cannot run the target.
        """
        if self._runner is None:
            self._runner = self.artifact.runner(self.threads).run
        return self._runner(inputs)

    def __call__(self, *inputs: object, **named: object) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run on arrays in the order of the inputs, or by name; a single output is returned bare."""
        given = dict(zip((port.name for port in self.inputs), inputs, strict=False)) | named
        found = tuple(self.run(given).values())
        return found[0] if len(found) == 1 else found

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write all products to a folder, which `load` reads again; the folder appears whole or not at all."""
        path = Path(folder)
        record = {} if self.record is None else {RECORD_NAME: to_json(self.record)}
        write_folder(path, {**_products(self.target, self.artifact), **record})
        return path


def compile(  # noqa: A001  the name that a user expects
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    target: str = "cpu",
    *,
    threads: int | None = None,
    bind: Mapping[str, int] | None = None,
    max: Mapping[str, int] | None = None,  # noqa: A002
    cache: bool = True,
) -> CompiledModel:
    """Compile a model.

    Args:
        source: path of an ONNX file, its bytes, or a model.
        target: target string, such as `cpu` or `c:cortex-m4`.
        threads: threads of a run; None for `ONNXC_NUM_THREADS` or all.
        bind: extents for symbolic dimensions.
        max: upper bounds for symbolic dimensions.
        cache: whether the cache on disk may be used.

    Returns:
        The compiled model.

    Raises:
        CompileError: for every fault of the model, the target or the options.
    """
    started = time.perf_counter()
    chosen = load_target(target)
    store = default_cache() if cache and chosen.load is not None else None
    key = _key(source, chosen, bind or {}, max or {}) if store is not None else None
    if store is not None and key is not None:
        found = _from_cache(store, key, chosen)
        if found is not None:
            found.threads = threads
            found.report["seconds"] = {"cache": time.perf_counter() - started}
            return found
    seconds: dict[str, float] = {}
    graph = _timed(seconds, "frontend", lambda: _load(source, bind or {}, max or {}))
    for graph_pass in chosen.graph_passes:
        graph = _timed(seconds, graph_pass.name, lambda p=graph_pass, g=graph: p.run(g))  # type: ignore[misc]
    program = _timed(seconds, "lower", lambda: chosen.build(graph))
    artifact = _timed(seconds, "emit", lambda: chosen.emit(program))
    report: dict[str, object] = {"seconds": seconds, "kernels": len(program.kernels), "steps": len(program.steps),
                                 "arena_bytes": program.arena_bytes if isinstance(program.arena_bytes, int) else None,
                                 "lower_bound_bytes": program.lower_bound_bytes,
                                 "weight_bytes": artifact.interface.weight_bytes}  # fmt: skip
    record = _timed(seconds, "record", lambda: _record(source, chosen, program, artifact, bind or {}, max or {}))
    if store is not None and key is not None:
        store.store(key, {**artifact.files(), RECORD_NAME: to_json(record).encode()})
    return CompiledModel(chosen, artifact, threads, report, record)


def load(folder: str | os.PathLike[str], *, threads: int | None = None) -> CompiledModel:
    """Load what `CompiledModel.save` wrote.

    Raises:
        CompileError: E0501 if the folder is no artifact or is damaged.
    """
    path = Path(folder)
    record = check_folder(path)
    try:
        target = load_target((path / TARGET_FILE).read_text())
        files = {name: (path / name).read_bytes() for name in record.security.files_sha256}
    except OSError as error:
        raise CompileError("E0501", f"{path} is not an artifact: {error.strerror}") from None
    if target.load is None:
        raise CompileError("E0302", f"artifacts of target {target.name} are not loaded here")
    return CompiledModel(target, target.load(files), threads, record=record)


T = TypeVar("T")


def _products(target: Target, artifact: Artifact) -> dict[str, bytes]:
    return {**artifact.files(), TARGET_FILE: target.name.encode()}


def _record(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    target: Target,
    program: Program,
    artifact: Artifact,
    bind: Mapping[str, int],
    bounds: Mapping[str, int],
) -> Record:
    from .. import __version__
    from .frontend import Limits
    from .record.describe import describe_model
    from .record.make import describe_compilation, make_record

    options = {f"bind {name}": value for name, value in bind.items()} | {f"max {name}": value for name, value in bounds.items()}
    limits = Limits()
    compilation = describe_compilation(target, program, options, __version__)
    return make_record(describe_model(source, limits), compilation, limits, _products(target, artifact))


def _timed(seconds: dict[str, float], name: str, work: Callable[[], T]) -> T:
    started = time.perf_counter()
    try:
        return work()
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


def _load(source: str | os.PathLike[str] | bytes | onnx.ModelProto, bind: Mapping[str, int], bounds: Mapping[str, int]) -> Graph:
    from .frontend import load_graph

    return load_graph(source, bind=bind, max=bounds)


def _key(source: str | os.PathLike[str] | bytes | onnx.ModelProto, target: Target, bind: Mapping[str, int], bounds: Mapping[str, int]) -> Key | None:
    """The cache key of a compile; None if the model cannot be read as a file of its own."""
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, (str, os.PathLike)):
        try:
            data = Path(source).read_bytes()
        except OSError:
            return None
        if _has_external_data(data):
            return None
    else:
        return None
    return Key(hash_bytes([data]), {"bind": dict(bind), "max": dict(bounds)}, target.fingerprint, compiler_identity())


def _has_external_data(data: bytes) -> bool:
    return b"location" in data  # the key without which no external data is found


def _from_cache(store: Cache, key: Key, target: Target) -> CompiledModel | None:
    files = store.load(key)
    if files is None or target.load is None:
        return None
    try:
        record = from_json(files.pop(RECORD_NAME).decode())
        return CompiledModel(target, target.load(files), record=record)
    except (CompileError, KeyError):
        return None
