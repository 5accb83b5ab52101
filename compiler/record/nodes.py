"""The deployment record: where an artifact comes from, how it was made, what was checked.

One record is written beside every artifact. It holds no time, host or path, so the same input gives the same bytes; whoever
needs those signs the record. Five sections answer the five questions of an audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Source:
    """What was compiled."""

    model_sha256: str
    """Hash of the model file's bytes (of the serialized model if it came from memory)."""
    external_sha256: Mapping[str, str] = field(default_factory=dict)
    """Hash of each external data file, by the location that the model gives."""
    graph_name: str = ""
    producer_name: str = ""
    producer_version: str = ""
    model_version: int = 0
    domain: str = ""
    doc_string: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The model's metadata_props."""


@dataclass(frozen=True, slots=True)
class Export:
    """What the exporter wrote."""

    ir_version: int
    opsets: Mapping[str, int]
    """Version by domain; the default domain is `ai.onnx`."""
    operators: Mapping[str, int]
    """Number of nodes by operator, with the domain unless that is the default one; subgraphs and functions included."""
    custom_operators: tuple[str, ...] = ()
    """Operators of domains that ONNX does not define."""


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """One kernel of the artifact."""

    name: str
    nodes: tuple[str, ...]
    """ONNX nodes that it computes."""
    schedule: str = ""
    """Schedule record in text form."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """How it was made."""

    compiler_version: str
    target: str
    cpu_features: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    """Names in the order in which they ran."""
    options: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    """Options that change the result, such as threads, bind and max, in text form."""
    precision: str = "model"
    """`model` if each operator is computed in the type that the model gives."""
    kernels: tuple[KernelRecord, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that shape the output (onnx, llvmlite)."""


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far one output was from the reference."""

    name: str
    max_absolute: float
    max_relative: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Validation:
    """What was checked, by `onnxc verify`. Latency is measured, so a record that holds one is not reproducible."""

    reference: str
    """Name and version of what it was compared with."""
    inputs: str
    """Where the inputs came from: a file with its hash, or the seed of the generator."""
    rtol: float
    atol: float
    outputs: tuple[OutputError, ...]
    latency_us: float | None = None
    arena_bytes: int | None = None
    constant_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Security:
    """What bounded the compile, and what it wrote."""

    limits: Mapping[str, int] = field(default_factory=dict)
    """Limits of the frontend in force, by name."""
    files_sha256: Mapping[str, str] = field(default_factory=dict)
    """Hash of each file of the artifact, by path relative to the record; the record itself excepted."""


@dataclass(frozen=True, slots=True)
class Record:
    """All sections. `validation` is None until the artifact has been verified."""

    source: Source
    export: Export
    compilation: Compilation
    security: Security
    validation: Validation | None = None
    format: int = FORMAT
