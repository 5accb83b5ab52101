"""The road from a model to something that runs: load, pass, lower, emit; with the cache around it.

`compile` and `load` are the library's face (`onnxc.compile`, `onnxc.load`). The driver names no backend:
the target string decides, and the target brings its passes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import Cache, Key, compiler_identity, default_cache, hash_bytes
from .diagnostics import CompileError
from .files import write_folder
from .ops.overlay import has_custom_rows
from .pipeline import Model, Options, make_graph, make_program, timed
from .program.aggregates import with_aggregates
from .program.interface import Interface, Port
from .program.string_ports import callers_ports, with_strings
from .record.check import RECORD_NAME, check_folder, sealed
from .record.text import from_json, to_json
from .target import Artifact, Target, load_target
from .watch import Watch, environment_watch, show_times, watching

if TYPE_CHECKING:
    import numpy as np

    from .ops.table import OpDef
    from .program.kv_cache import KvCache
    from .program.nodes import Program
    from .record.describe import Hashes
    from .record.nodes import Export, Record, Source

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
    _runner: Callable[..., dict[str, np.ndarray]] | None = None
    _names: tuple[str, ...] | None = None

    @property
    def interface(self) -> Interface:
        """Inputs, outputs and symbols."""
        return self.artifact.interface

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, dtype and shape of each input."""
        return callers_ports(self.interface.inputs, self.interface.texts)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, dtype and shape of each output."""
        return callers_ports(self.interface.outputs, self.interface.texts)

    @property
    def input_names(self) -> tuple[str, ...]:
        """What the model calls its inputs. A sequence or an optional is several ports, but one input: a list, or None."""
        signature = self.interface.signature
        return tuple(p.name for p in (self.inputs if signature is None else signature.inputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the model calls its outputs."""
        signature = self.interface.signature
        return tuple(p.name for p in (self.outputs if signature is None else signature.outputs))

    def run(self, inputs: Mapping[str, object], cache: KvCache | None = None) -> dict[str, np.ndarray]:
        """Run on arrays by name and return the outputs by name.

        Args:
            inputs: arrays by name; without those that are in the cache.
            cache: keys and values of earlier runs, of `new_cache`; the run adds its own.

        Raises:
            CompileError: E0401 for inputs that do not fit, E0402 if a check fails at run time, E0302 if
                this machine cannot run the target.
        """
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            hint = "call the model to give them in order"
            raise CompileError("E0401", f"inputs are given by name, not as {type(inputs).__name__}", hint=hint)
        if self._runner is None:
            self._runner = with_aggregates(self.interface, with_strings(self.interface, self.artifact.runner(self.threads).run))
        return self._runner(inputs) if cache is None else self._runner(inputs, cache)

    def new_cache(self, rows: int, **extents: int) -> KvCache:
        """Memory for keys and values between runs, empty at first; the model must be compiled with `kv_cache`.

        Args:
            rows: positions to reserve room for, those of the prompt included.
            extents: other symbolic extents of the caches, such as `batch=1`.

        Raises:
            CompileError: E0401 if the model has no such caches, or an extent is missing.
        """
        from .program.kv_cache import KvCache

        if not self.interface.caches:
            raise CompileError("E0401", "the model has no cache that grows in place", hint="compile it with kv_cache=True")
        return KvCache.empty(self.interface, rows, extents)

    def __call__(self, *inputs: object, **named: object) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run on arrays in the order of the inputs, or by name; a single output is returned bare.

        Raises:
            CompileError: as `run`; E0401 too for more arrays than inputs, and for an input that is given twice.
        """
        if self._names is None:
            self._names = self.input_names
        if len(inputs) > len(self._names):
            raise CompileError("E0401", f"{len(inputs)} inputs are given, the model has {len(self._names)}", hint=_inputs_are(self._names))
        twice = [name for name in self._names[: len(inputs)] if name in named] if named else []
        if twice:
            raise CompileError("E0401", f"input '{twice[0]}' is given twice", hint=_inputs_are(self._names))
        given = dict(zip(self._names, inputs, strict=False)) | named
        found = tuple(self.run(given).values())
        return found[0] if len(found) == 1 else found

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        libraries: bool = True,
        embed_weights: bool = False,
        layout: str = "",
        more: Mapping[str, bytes | memoryview] | None = None,
    ) -> Path:
        """Write all products to a folder, which `load` reads again; the folder appears whole or not at all.

        Args:
            folder: where to; an older artifact there is replaced.
            libraries: whether headers and libraries for C programs are written, where the target has them.
            embed_weights: whether these libraries hold the weights, too.
            layout: how a build system wants the files, one of `target.pipeline.layouts`; empty for all side by side.
            more: further files that belong to the model, by name.

        Raises:
            CompileError: E0301 if the target has no such layout, E0502 if the folder cannot be written.
        """
        path = Path(folder)
        files = {**self.artifact.files(), **(more or {})}
        if libraries and self.target.pipeline.package is not None:
            files |= self.target.pipeline.package(self.artifact, embed_weights)
        files = {**self._laid_out(files, layout), TARGET_FILE: self.target.name.encode()}
        record = {} if self.record is None else {RECORD_NAME: to_json(sealed(self.record, files))}
        write_folder(path, {**files, **record}, _written_before(path))
        return path

    def _laid_out(self, files: Mapping[str, bytes | memoryview], layout: str) -> Mapping[str, bytes | memoryview]:
        layouts = self.target.pipeline.layouts
        if not layout:
            return files
        if layout not in layouts:
            known = f"it has: {', '.join(layouts)}" if layouts else "layouts are for C sources: -t c"
            raise CompileError("E0301", f"target {self.target.name} has no layout '{layout}'", hint=known)
        return layouts[layout](self.artifact, files)


def _inputs_are(names: Sequence[str]) -> str:
    return f"inputs are: {', '.join(names) or 'none'}"


def _written_before(folder: Path) -> set[str]:
    """Entries of a folder that an earlier compile wrote, as its record says."""
    try:
        record = from_json((folder / RECORD_NAME).read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError, CompileError):
        return set()
    return {Path(name).parts[0] for name in record.security.files_sha256}


def compile(
    source: Model,
    target: str = "cpu",
    *,
    threads: int | None = None,
    bind: Mapping[str, int] | None = None,
    max: Mapping[str, int] | None = None,
    name: str = "",
    max_ram: int | None = None,
    max_flash: int | None = None,
    kv_cache: bool = False,
    operators: Sequence[OpDef] = (),
    cache: bool = True,
    dump: str | os.PathLike[str] | None = None,
) -> CompiledModel:
    """Compile a model.

    Args:
        source: path of an ONNX file, its bytes, or a model.
        target: target string, such as `cpu` or `c:cortex-m4`.
        threads: threads of a run; None for `ONNXC_NUM_THREADS` or all.
        bind: extents for symbolic dimensions.
        max: upper bounds for symbolic dimensions.
        name: name of the model in symbols and files; empty for that of its graph.
        max_ram: bytes of arena and (estimated) stack that the model may take.
        max_flash: bytes of weights and (estimated) code that the model may take.
        kv_cache: whether the caches of keys and values of a decoder grow in place (`CompiledModel.new_cache`).
        operators: operators of your own, in the form of the operator table; see docs/custom-operators.md. With such
            operators, the cache is not used.
        cache: whether the cache on disk may be used.
        dump: folder for the text of every stage, one numbered file each.

    Returns:
        The compiled model.

    Raises:
        CompileError: for every fault of the model, the target or the options.
        ValueError: for a number of threads below 1.
    """
    _check_threads(threads)
    options = Options(_plain(bind), _plain(max), name, max_ram, max_flash, kv_cache)
    with _known(operators), watching(environment_watch(None if dump is None else Path(dump))) as watch:
        cache = cache and not has_custom_rows()
        digest = _Digest(source) if cache else None
        chosen = load_target(target)
        store = default_cache() if cache and chosen.load is not None else None
        found = _compile(source, chosen, options, store, digest, watch)
    found.threads = threads
    return found


def _check_threads(threads: int | None) -> None:
    if threads is not None and (not isinstance(threads, Integral) or threads < 1):
        raise ValueError(f"threads is a number from 1 on, or None, not {threads!r}")


def _plain(extents: Mapping[str, int] | None) -> dict[str, int]:
    """Extents with the integers of numpy as Python's."""
    return {name: int(n) if isinstance(n, Integral) and not isinstance(n, bool) else n for name, n in (extents or {}).items()}


def _known(operators: Sequence[OpDef]) -> AbstractContextManager[None]:
    """Lets the compiler know a user's operators."""
    if not operators:
        return nullcontext()
    from .ops.custom import using_operators

    return using_operators(operators)


def _compile(source: Model, target: Target, options: Options, store: Cache | None, digest: _Digest | None, watch: Watch) -> CompiledModel:
    """The model from the cache, or compiled and put there."""
    seconds: dict[str, float] = {}
    key = None if store is None or digest is None else timed(seconds, "key", lambda: _key(digest, target, options))
    if store is not None and key is not None and not watch.sees_stages:
        found = timed(seconds, "cache", lambda: _from_cache(store, key, target))
        if found is not None:
            found.report["seconds"] = seconds
            show_times(seconds)
            return found
    from .frontend import Limits  # not for what comes from the cache: this takes longer than that
    from .record.describe import describe_model

    # Before there is anything else: it holds the whole model once more.
    described = timed(seconds, "describe", lambda: describe_model(source, Limits(), digest.wait() if digest else None))
    graph = make_graph(source, target, options, seconds)
    program = make_program(graph, target, seconds)
    _check_memory(program, options)
    artifact = timed(seconds, "emit", lambda: target.pipeline.emit(program))
    report: dict[str, object] = {"seconds": seconds, "kernels": len(program.kernels), "steps": len(program.steps),
                                 "arena_bytes": program.arena_bytes if isinstance(program.arena_bytes, int) else None,
                                 "lower_bound_bytes": program.lower_bound_bytes,
                                 "weight_bytes": artifact.interface.weight_bytes}  # fmt: skip
    record = timed(seconds, "record", lambda: _record(described, target, program, artifact, options))
    if store is not None and key is not None:
        timed(seconds, "cache", lambda: store.store(key, {**artifact.files(), RECORD_NAME: to_json(record).encode()}))
    show_times(seconds)
    return CompiledModel(target, artifact, None, report, record)


def _check_memory(program: Program, options: Options) -> None:
    """E0305 if the program takes more memory than the user allows."""
    from .program.budget import Budget, check_budget

    check_budget(program, Budget(options.max_ram, options.max_flash))


def load(folder: str | os.PathLike[str], *, threads: int | None = None) -> CompiledModel:
    """Load what `CompiledModel.save` wrote.

    Raises:
        CompileError: E0501 if the folder is no artifact or is damaged.
        ValueError: for a number of threads below 1.
    """
    _check_threads(threads)
    path = Path(folder)
    record = check_folder(path)
    try:
        target = load_target((path / TARGET_FILE).read_text(encoding="utf-8"))
        files = {name: (path / name).read_bytes() for name in record.security.files_sha256}
    except OSError as error:
        raise CompileError("E0501", f"{path} is not an artifact: {error.strerror}") from None
    if target.load is None:
        raise CompileError("E0302", f"artifacts of target {target.name} are not loaded here")
    return CompiledModel(target, target.load(files), threads, record=record)


def _record(described: tuple[Source, Export], target: Target, program: Program, artifact: Artifact, options: Options) -> Record:
    from .. import __version__
    from .frontend import Limits
    from .record.make import describe_compilation, make_record

    compilation = describe_compilation(target, program, options.as_record(), __version__)
    return make_record(described, compilation, Limits(), {**artifact.files(), TARGET_FILE: target.name.encode()})


class _Digest:
    """The hashes of all bytes of a model, computed in a thread of its own: hashing needs no lock, and importing a backend takes as long."""

    def __init__(self, source: Model) -> None:
        self._source = source
        self._found: Hashes | None = None
        self._thread = threading.Thread(target=self._hash)
        self._thread.start()

    def _hash(self) -> None:
        from .record.describe import hash_model

        with suppress(CompileError, OSError, ValueError):  # a model that cannot be read: compiling it will report why
            self._found = hash_model(self._source)

    def wait(self) -> Hashes | None:
        """The hashes; None if the model cannot be read."""
        self._thread.join()
        return self._found


def _key(digest: _Digest, target: Target, options: Options) -> Key | None:
    """The cache key of a compile; None if the model cannot be read."""
    chosen: dict[str, object] = {"bind": dict(options.bind), "max": dict(options.max), "name": options.name}
    chosen |= {"max_ram": options.max_ram, "max_flash": options.max_flash, "kv_cache": options.kv_cache}
    identity, hashes = compiler_identity(), digest.wait()
    if hashes is None:
        return None
    parts = [hashes.model, *(part for item in hashes.external.items() for part in item)]
    return Key(hash_bytes(part.encode() for part in parts), chosen, target.fingerprint, identity)


def _from_cache(store: Cache, key: Key, target: Target) -> CompiledModel | None:
    files = store.load(key)
    if files is None or target.load is None:
        return None
    try:
        record = from_json(bytes(files.pop(RECORD_NAME)).decode())
        return CompiledModel(target, target.load(files), record=record)
    except (CompileError, KeyError):
        return None
