"""The `llvm` backend put together: which passes run, how groups are scheduled, what is emitted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from ...compiler.graph.nodes import Graph, Value
from ...compiler.pass_runner import Pass
from ...compiler.program.nodes import Program
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.target import Pipeline
from ...passes.fusion.options import FusionOptions
from ...passes.graph.assign_layouts import assign_layouts
from ...passes.graph.centre_weights import centre_weights
from ...passes.graph.check_indices import check_indices
from ...passes.graph.eliminate_dead_code import eliminate_dead_code
from ...passes.graph.fold_constants import fold_constants
from ...passes.graph.grow_caches import grow_caches
from ...passes.graph.pack_codes_of_products import pack_codes_of_products
from ...passes.graph.pipeline import GRAPH_PASSES
from ...passes.graph.quantize_activations import quantize_activations
from ...passes.graph.quantized_contractions import quantized_contractions
from ...passes.graph.split_phases import split_phases
from ...passes.graph.split_taps import split_taps
from ...passes.graph.widen_floats import widen_floats
from ...passes.kernel.clear_halo import clear_halo
from ...passes.kernel.emit_loops import VectorShape
from ...passes.kernel.schedule_attention import can_schedule_attention, schedule_attention
from ...passes.kernel.schedule_codes import CodeTarget, schedule_codes
from ...passes.kernel.schedule_contraction import ContractionTarget, schedule_contraction
from ...passes.kernel.schedule_depthwise_tiles import schedule_depthwise_tiles
from ...passes.kernel.schedule_dot_tiles import DotTarget, schedule_dot_tiles
from ...passes.kernel.schedule_rows import schedule_rows
from ...passes.kernel.schedule_winograd_floats import schedule_winograd_floats
from ...passes.kernel.schedule_winograd_integers import schedule_winograd_integers
from ...passes.plan.lower_graph import lower_graph
from ...passes.plan.options import LoweringOptions
from .byte_rows import dot_steps, lane_steps
from .code_rows import code_steps
from .emit import emit
from .features import CpuFeatures
from .lower import kernel_passes
from .mma import rows
from .package import package
from .stages import stages


def schedule(
    group: Group, machine: ContractionTarget, dots: DotTarget, codes: CodeTarget, is_constant: Callable[[Value], bool]
) -> Sequence[ScheduledKernel]:
    """The schedule of a group: tiles if it is a contraction, of bytes or of anything, else rows."""
    attempts: tuple[Callable[[], Sequence[ScheduledKernel] | str], ...] = (
        lambda: schedule_winograd_integers(group, dots, is_constant),
        lambda: schedule_codes(group, codes, is_constant),
        lambda: schedule_dot_tiles(group, dots, is_constant),
        lambda: schedule_depthwise_tiles(group, dots.lanes, dots.vector_bits, is_constant),
        lambda: schedule_attention(group, machine, is_constant),
        lambda: schedule_winograd_floats(group, machine, is_constant) if machine.winograd else "switched off",
        lambda: schedule_contraction(group, machine, is_constant),
    )
    for attempt in attempts:
        found = attempt()
        if not isinstance(found, str):
            return found
    return (schedule_rows(group, machine.vector, is_constant),)


@functools.cache
def make_pipeline(features: CpuFeatures) -> Pipeline:
    """How models are compiled for a CPU."""
    machine = ContractionTarget(rows(features), VectorShape(features.vector_bits), features.l2_bytes, features.has_winograd)
    dots = DotTarget(dot_steps(features), lane_steps(features), features.vector_bits, features.l2_bytes)
    codes = CodeTarget(rows(features)[0], code_steps(features))
    options = LoweringOptions(
        schedule=lambda group, is_constant: schedule(group, machine, dots, codes, is_constant),
        kernel_passes=kernel_passes(features),
        clear_halo=lambda value: clear_halo(value, machine.vector),
        fusion=FusionOptions(fuses_attention=lambda group: can_schedule_attention(group, machine), has_fma=features.has_fma),
    )

    def build(graph: Graph) -> Program:
        return lower_graph(graph, options)

    return Pipeline(
        graph_passes=(
            Pass(check_indices),
            Pass(widen_floats),
            *GRAPH_PASSES,
            Pass(quantized_contractions),
            Pass(centre_weights),
            Pass(pack_codes_of_products),
            Pass(quantize_activations({step.bits for step in codes.steps})),
            Pass(split_phases),
            Pass(split_taps),
            Pass(fold_constants),
            Pass(eliminate_dead_code),
            Pass(assign_layouts(max(4, features.vector_bits // 32))),
        ),
        cache_pass=Pass(grow_caches),
        kernel_passes=options.kernel_passes,
        build=build,
        emit=lambda program: emit(program, features),
        stages=stages(features),
        package=package,
    )
