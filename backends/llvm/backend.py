"""The pipeline of the `llvm` backend: which passes run, how groups are scheduled, what is emitted."""

from __future__ import annotations

import functools

from ...compiler.graph.nodes import Graph
from ...compiler.pass_runner import Pass
from ...compiler.program.nodes import Program
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
from ...passes.kernel.schedule_attention import can_schedule_attention
from ...passes.plan.lower_graph import lower_graph
from ...passes.plan.options import LoweringOptions
from .emit import emit
from .features import CpuFeatures
from .lower import kernel_passes
from .package import package
from .schedule import Machine, schedule
from .stages import stages


@functools.cache
def make_pipeline(features: CpuFeatures) -> Pipeline:
    """How models are compiled for a CPU."""
    machine = Machine.of(features)
    options = LoweringOptions(
        schedule=lambda group, is_constant: schedule(group, machine, is_constant),
        kernel_passes=kernel_passes(features),
        clear_halo=lambda value: clear_halo(value, machine.contractions.vector),
        fusion=FusionOptions(fuses_attention=lambda group: can_schedule_attention(group, machine.contractions), has_fma=features.has_fma),
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
            Pass(quantize_activations({step.bits for step in machine.codes.steps})),
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
