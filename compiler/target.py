"""Targets: what a backend is to the rest of the compiler, and how one is found by its name.

A target string is `backend` or `backend:details`, such as `cpu`, `c:cortex-m4`, `cuda:sm_90a`. Backends
are imported when they are asked for. Other packages add backends through the entry-point group
`onnxc.backends`: name = module with a function `make_target(text) -> Target`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeAlias

from .diagnostics import CompileError

if TYPE_CHECKING:
    import numpy as np

    from .emulation import Emulation, EmulationOptions
    from .graph.nodes import Graph
    from .kernel.nodes import Kernel
    from .pass_runner import Pass
    from .program.interface import Interface
    from .program.nodes import Program

BACKENDS: Mapping[str, str] = {"cpu": "llvm", "c": "c", "cuda": "cuda"}
"""First part of a target string -> folder of the backend."""


class Runnable(Protocol):
    """A compiled model that runs in this process."""

    def run(self, inputs: Mapping[str, object]) -> dict[str, np.ndarray]:
        """Run once on arrays by name; E0401 for inputs that do not fit."""
        ...


Files: TypeAlias = "Mapping[str, bytes | memoryview]"
"""Content of files by relative path."""
Arrays: TypeAlias = "Mapping[str, np.ndarray]"
"""Tensors by name."""


class Artifact(Protocol):
    """What a backend made of a program: it can be written, and run where the target is this machine."""

    interface: Interface

    def files(self) -> Mapping[str, bytes | memoryview]:
        """All products by file name."""
        ...

    def runner(self, threads: int | None) -> Runnable:
        """Load it into this process; E0302 if this machine cannot run the target."""
        ...


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How a target compiles."""

    graph_passes: tuple[Pass[Graph], ...]
    """What happens to the graph, in order."""
    kernel_passes: tuple[Pass[Kernel], ...]
    """What happens to each scheduled kernel, in order."""
    build: Callable[[Graph], Program]
    """Turns the final graph into a program of this target's kernels."""
    emit: Callable[[Program], Artifact]
    """Prints a program and packs it."""
    cache_pass: Pass[Graph] | None = None
    """Runs after the others if caches of keys and values are to grow in place; None if the target cannot do that."""
    stages: Mapping[str, Callable[[Program], Mapping[str, bytes]]] = field(default_factory=dict)
    """Texts and products on the way from the program to the artifact, for `--emit`: files by name, under the stage's name."""
    package: Callable[[Artifact, bool], Mapping[str, bytes]] | None = None
    """Makes what programs in other languages link (headers, libraries) of an artifact; the flag embeds the weights."""
    layouts: Mapping[str, Callable[[Artifact, Files], Files]] = field(default_factory=dict)
    """How build systems want the files of an artifact, with what these need beside them; by name, for `--layout`."""
    self_test: Callable[[Artifact, Arrays, Arrays], Files] | None = None
    """Makes files of a program that runs the model on inputs and compares its outputs; both by name."""

    @property
    def pass_names(self) -> Mapping[str, Sequence[str]]:
        """Names of the passes in order, over the graph IR (`graph`) and over kernels (`kernel`)."""
        return {"graph": [each.name for each in self.graph_passes], "kernel": [each.name for each in self.kernel_passes]}


@dataclass(frozen=True, slots=True)
class Target:
    """One target, as its backend describes it."""

    name: str
    """The whole target string, normalized."""
    fingerprint: str
    """Everything about the target that decides the code: part of the cache key."""
    make_pipeline: Callable[[], Pipeline]
    """Imports what compiling takes, which loading from the cache does without; answers the same each time."""
    load: Callable[[Mapping[str, bytes | memoryview]], Artifact] | None = None
    """Makes an artifact of its files again; None if the backend cannot."""
    features: Mapping[str, str] = field(default_factory=dict)
    """What the target can do, for `onnxc targets` and the deployment record."""
    emulate: Callable[[Artifact, Mapping[str, object], EmulationOptions], Emulation] | None = None
    """Runs an artifact once on an emulated device, on inputs by name; None if the backend has no emulator."""

    @property
    def pipeline(self) -> Pipeline:
        """How the target compiles."""
        return self.make_pipeline()


def load_target(text: str) -> Target:
    """Return the target of a target string.

    Raises:
        CompileError: E0301 if there is no such backend or it does not understand the details.
    """
    if not isinstance(text, str):
        raise CompileError("E0301", f"a target is named by a string, not {type(text).__name__}", hint="such as 'cpu' or 'c:cortex-m4'")
    name = text.partition(":")[0]
    if name in BACKENDS:
        module = import_module(f"...backends.{BACKENDS[name]}.target", __name__)
    else:
        module = _from_entry_point(name, text)
    target: Target = module.make_target(text)
    return target


def _from_entry_point(name: str, text: str):  # type: ignore[no-untyped-def]
    from importlib.metadata import entry_points

    for entry in entry_points(group="onnxc.backends"):
        if entry.name == name:
            return entry.load()
    raise CompileError("E0301", f"target '{text}' is not known", hint=f"known backends: {', '.join(BACKENDS)}")
