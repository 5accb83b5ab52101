"""Fills the compilation and security sections of the deployment record, and puts the record together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING

from ..program.nodes import Call, Program, walk_steps
from .check import hash_files
from .nodes import Compilation, Export, KernelRecord, Record, Security, Source

if TYPE_CHECKING:
    from ..frontend.limits import Limits
    from ..target import Target

_LIBRARIES = ("onnx", "numpy", "llvmlite", "ml_dtypes")


def describe_compilation(target: Target, program: Program, options: Mapping[str, str | int | bool | None], version: str) -> Compilation:
    """Describe how a program was made, and which kernel computes which ONNX nodes."""
    covers: dict[str, dict[str, None]] = {name: {} for name in program.kernels}
    for call in (step for step in walk_steps(program.steps) if isinstance(step, Call)):
        covers[call.kernel].update(dict.fromkeys(call.covers))
    return Compilation(
        compiler_version=version,
        target=target.name,
        cpu_features=tuple(f"{key}={value}" for key, value in sorted(target.features.items())),
        passes=tuple(name for names in target.pipeline.pass_names.values() for name in names),
        options=options,
        kernels=tuple(KernelRecord(name, tuple(covers[name]), kernel.schedule) for name, kernel in program.kernels.items()),
        libraries=dict(_versions()),
    )


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    """The libraries that this process has; reading them takes milliseconds."""
    return tuple((name, metadata.version(name)) for name in _LIBRARIES)


def make_record(model: tuple[Source, Export], compilation: Compilation, limits: Limits, files: Mapping[str, bytes | memoryview]) -> Record:
    """Put a record together and seal the artifact's files with their hashes."""
    return Record(*model, compilation, Security(dataclasses.asdict(limits), hash_files(files)))
