"""Puts the page together: facts, drawings and tables go into one template, and nothing else is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..diagnostics import CompileError, printable
from ..graph.text import print_shape
from ..pipeline import Model, Options, make_graph, make_program
from ..program.memory_use import MemoryUse, memory_use
from ..record.describe import describe_model
from ..record.make import describe_compilation
from .layers import LayerCost, layer_costs
from .pictures import Picture, draw_arena, draw_graph

if TYPE_CHECKING:
    from ..program.nodes import Program
    from ..record.nodes import Compilation, Export, Source
    from ..target import Target

FOLDER = Path(__file__).parents[2] / "templates" / "report"


@dataclass(frozen=True, slots=True)
class Report:
    """What the page says."""

    program: Program
    source: Source
    export: Export
    compilation: Compilation
    use: MemoryUse
    layers: tuple[LayerCost, ...]
    graph: Picture
    arena: Picture
    lower_bound_bytes: int | None
    """What no memory plan can go below; None if it depends on symbols."""
    measured: Mapping[str, object]
    """What was measured on an emulated device; empty if nothing was."""


def make_report(source: Model, target: Target, options: Options, measured: Mapping[str, object] | None = None) -> Report:
    """Compile a model as far as its memory plan and collect what there is to say.

    Args:
        source: the model.
        target: what to compile for.
        options: of the compile.
        measured: what `onnxc verify --on qemu --json` printed for the same model and target.

    Raises:
        CompileError: for faults of the model; E0304 if the size of the arena depends on symbols; E0601 if the measurements do not fit.
    """
    from ... import __version__
    from ..frontend import Limits

    seconds: dict[str, float] = {}
    graph = make_graph(source, target, options, seconds)
    program = make_program(graph, target, seconds)
    if not isinstance(program.arena_bytes, int):
        names = ", ".join(f"'{s.symbol.name}'" for s in program.symbols)
        raise CompileError("E0304", f"the memory plan depends on {names}", hint="fix the dimensions with --bind NAME=N")
    use = memory_use(program)
    layers = layer_costs(graph, program, use, measured)
    origin, export = describe_model(source, Limits())
    compilation = describe_compilation(target, program, options.as_record(), __version__)
    least = program.lower_bound_bytes if isinstance(program.lower_bound_bytes, int) else None
    return Report(program, origin, export, compilation, use, layers, draw_graph(program, layers), draw_arena(use), least, measured or {})


def render(report: Report) -> str:
    """The page as HTML; names from the model are escaped, and nothing is loaded from anywhere."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(name=printable, count=lambda n: f"{n:,}")
    totals = {key: sum(getattr(layer, key) for layer in report.layers) for key in ("macs", "read_bytes", "written_bytes")}
    columns = [
        ("macs", "MACs"),
        ("read_bytes", "bytes read"),
        ("written_bytes", "bytes written"),
        ("weight_bytes", "weights"),
        ("live_bytes", "live RAM"),
    ]
    columns += [("instructions", "instructions")] if report.measured else []
    most = {key: max((getattr(layer, key) for layer in report.layers), default=0) or 1 for key, _ in columns}
    return environment.get_template("page.html.j2").render(
        r=report, columns=columns, most=most, totals=totals, facts=_facts(report), title=report.program.name or "model"
    )


def _facts(report: Report) -> dict[str, list[tuple[str, str]]]:
    """Tables of names and values, by title."""
    use, record = report.use, report.compilation
    opsets = ", ".join(f"{domain} {version}" for domain, version in report.export.opsets.items())
    given, made = (("input", report.program.inputs), ("output", report.program.outputs))
    ports = [(f"{kind} {v.name}", v.type.dtype.label + print_shape(v.type.shape)) for kind, values in (given, made) for v in values]
    least = [] if report.lower_bound_bytes is None else [("no plan can use less than", f"{report.lower_bound_bytes:,} bytes")]
    return {
        "Model": [
            *ports,
            ("nodes", f"{sum(report.export.operators.values()):,}"),
            ("IR, opsets", f"{report.export.ir_version}, {opsets}"),
            ("made by", f"{report.source.producer_name} {report.source.producer_version}".strip()),
            ("SHA-256", report.source.model_sha256),
        ],
        "Memory": [
            ("arena", f"{use.arena_bytes:,} bytes"),
            *least,
            ("stack, estimated", f"{use.stack_bytes:,} bytes"),
            ("weights", f"{use.weight_bytes:,} bytes"),
            ("code, estimated", f"{use.code_bytes:,} bytes"),
        ],
        "Compilation": [
            ("compiler", f"onnxc {record.compiler_version}"),
            ("target", record.target),
            ("features", ", ".join(record.cpu_features)),
            ("options", ", ".join(f"{name}={value}" for name, value in record.options.items()) or "none"),
            ("passes", ", ".join(record.passes)),
            ("libraries", ", ".join(f"{name} {version}" for name, version in record.libraries.items())),
        ],
    } | ({} if not report.measured else {"Measured": _measured(report.measured)})


_MEASURED: Mapping[str, tuple[str, ...]] = {
    "instructions": ("total", "outside_layers"),
    "memory": ("arena_bytes", "stack_bytes"),
    "flash": ("code_bytes", "weights_bytes"),
}
"""Numbers of an emulated run that are shown."""


def _measured(measured: Mapping[str, object]) -> list[tuple[str, str]]:
    """What an emulated run said, as far as it is there."""
    rows = [("machine", str(measured.get("machine", ""))), ("compiler", str(measured.get("compiler", "")))]
    for section, keys in _MEASURED.items():
        part = measured.get(section)
        if isinstance(part, Mapping):
            rows += [(f"{section}, {key.replace('_', ' ')}", f"{part[key]:,}") for key in keys if isinstance(part.get(key), int)]
    return rows
