"""Target strings of the `c` backend: `c`, `c:cortex-m4`, `c:rv32imc,separate-weights`.

Grammar: `c[:part[,part]*]` with parts in any order: the name of a processor, which so far only names the
artifact (the text is portable C99), and choices about the files (`choices.py`), such as `separate-weights`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ...compiler.diagnostics import CompileError
from ...compiler.emulation import Emulation, EmulationOptions
from ...compiler.graph.nodes import Graph
from ...compiler.pass_runner import Pass
from ...compiler.program.interface import interface_of
from ...compiler.program.nodes import Program
from ...compiler.program.quantization import find_quantization
from ...compiler.target import Artifact, Pipeline, Target
from ...passes.fusion.fixed_point import Numerics
from ...passes.fusion.options import FusionOptions
from ...passes.graph.assign_channels_last import assign_channels_last
from ...passes.graph.dequantize_weights import dequantize_weights
from ...passes.graph.eliminate_dead_code import eliminate_dead_code
from ...passes.graph.fold_constants import fold_constants
from ...passes.graph.pipeline import GRAPH_PASSES
from ...passes.graph.sign_codes import sign_codes
from ...passes.graph.walk_one_tree import walk_one_tree
from ...passes.kernel.clear_halo import clear_halo
from ...passes.plan.lower_graph import lower_graph
from ...passes.plan.options import LoweringOptions
from .artifact import CArtifact, load_files
from .choices import CHOICES, Choices, rows_may_cost
from .face import ARENA_ALIGN_BYTES
from .float_rows import float_rows
from .layers import layers_of
from .layouts import LAYOUTS, arranged
from .lower import KERNEL_PASSES
from .mma import VECTOR_PROCESSORS, dot_rows
from .package import print_files
from .schedule import SCALAR, schedule
from .self_test import print_self_test

PROCESSORS = ("avr", "cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "cortex-m85", "rv32imc", "rv32imfc")


def make_target(text: str) -> Target:
    """The `c` target of a target string.

    Raises:
        CompileError: E0301 if a part is not understood.
    """
    parts = [part.strip() for part in text.partition(":")[2].split(",") if part.strip()]
    unknown = [part for part in parts if part not in (*PROCESSORS, *CHOICES)]
    if unknown:
        hint = f"processors are: {', '.join(PROCESSORS)}; choices are: {', '.join(CHOICES)}"
        raise CompileError("E0301", f"target '{text}': unknown part '{unknown[0]}'", hint=hint)
    choices = Choices.of(parts)
    processor = next((p for p in parts if p in PROCESSORS), "any")
    bytes_, floats = dot_rows(processor), float_rows(processor)
    options = LoweringOptions(
        schedule=lambda group, is_constant: schedule(group, bytes_, floats, is_constant),
        kernel_passes=KERNEL_PASSES,
        clear_halo=lambda value: clear_halo(value, SCALAR),
        fusion=FusionOptions(Numerics.FIXED if "numerics=fixed" in parts else Numerics.ONNX, prefers_tables=True),
        heap=False,
        align=ARENA_ALIGN_BYTES,
        saves_memory=True,
        rows_may_cost=rows_may_cost(parts),
        copies=bytes_.copy,
    )

    def build(graph: Graph) -> Program:
        return replace(lower_graph(graph, options), quantization=find_quantization(graph))

    def emit(program: Program) -> CArtifact:
        layers = tuple(layer.call.covers for layer in layers_of(program))
        return CArtifact(replace(interface_of(program), layers=layers), print_files(program, choices))

    signs = (sign_codes,) if processor in VECTOR_PROCESSORS else ()
    own_passes = map(Pass, (*signs, dequantize_weights, fold_constants, eliminate_dead_code, walk_one_tree, assign_channels_last))
    pipeline = Pipeline(
        (*GRAPH_PASSES, *own_passes),
        KERNEL_PASSES,
        build,
        emit,
        stages={"source": lambda program: emit(program).files()},
        layouts={name: partial(arranged, layout) for name, layout in LAYOUTS.items()},
        self_test=lambda artifact, inputs, outputs: print_self_test(artifact.interface, inputs, outputs),
    )
    return Target(
        name=text,
        fingerprint=f"c {','.join(sorted(parts))}",
        make_pipeline=lambda: pipeline,
        load=load_files,
        features={"language": "C99", "processor": processor},
        emulate=partial(_emulate, processor),
    )


def _emulate(processor: str, artifact: Artifact, inputs: Mapping[str, object], options: EmulationOptions) -> Emulation:
    """A run on the board of a processor; what it takes is imported when it is asked for."""
    from .emulator.emulate import emulate

    assert isinstance(artifact, CArtifact)
    return emulate(artifact, processor, inputs, options)
