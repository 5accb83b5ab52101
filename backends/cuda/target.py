"""Target strings of the `cuda` backend: `cuda`, `cuda:sm_80,sm_90a`, `cuda:shim`.

Grammar: `cuda[:part[,part]*]`: architectures for which the code is compiled (without one, that of the
machine's GPU), and `shim` to run on the CPU, for tests. The text is the same for all of them.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ...compiler.diagnostics import CompileError
from ...compiler.graph.nodes import Graph
from ...compiler.program.interface import interface_of
from ...compiler.program.nodes import Program
from ...compiler.target import Pipeline, Target
from ...passes.graph.pipeline import GRAPH_PASSES
from ...passes.kernel.clear_halo import clear_halo
from ...passes.kernel.emit_loops import VectorShape
from ...passes.plan.lower_graph import lower_graph
from ...passes.plan.options import LoweringOptions
from .artifact import CudaArtifact, load_files
from .lower import KERNEL_PASSES
from .package import print_files
from .print_program import arena_bytes
from .schedule import schedule

OLDEST = 70
"""Volta: threads of a warp that are independent."""
_ARCHITECTURE = re.compile(r"sm_([0-9]{2,3})[af]?")


def make_target(text: str) -> Target:
    """The `cuda` target of a target string.

    Raises:
        CompileError: E0301 if a part is not understood.
    """
    parts = [part.strip() for part in text.partition(":")[2].split(",") if part.strip()]
    architectures = tuple(dict.fromkeys(part for part in parts if part != "shim"))
    for part in architectures:
        found = _ARCHITECTURE.fullmatch(part)
        if found is None or int(found[1]) < OLDEST:
            hint = f"architectures are written sm_80, from sm_{OLDEST} on"
            raise CompileError("E0301", f"target '{text}': unknown part '{part}'", hint=hint)
    shim = "shim" in parts
    options = LoweringOptions(schedule, KERNEL_PASSES, clear_halo=lambda value: clear_halo(value, VectorShape(0)))

    def build(graph: Graph) -> Program:
        return lower_graph(graph, options)

    def emit(program: Program) -> CudaArtifact:
        face = replace(interface_of(program), arena_bytes=arena_bytes(program))
        return CudaArtifact(face, print_files(program, architectures), architectures, shim=shim)

    pipeline = Pipeline(GRAPH_PASSES, KERNEL_PASSES, build, emit, stages={"source": lambda program: emit(program).files()})
    return Target(
        name=text,
        fingerprint=f"cuda {','.join(sorted(parts))}",
        make_pipeline=lambda: pipeline,
        load=lambda files: load_files(files, architectures, shim=shim),
        features={"language": "CUDA C++", "architectures": ",".join(architectures) or "native"},
    )
