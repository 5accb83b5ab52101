"""`onnxc verify --on`: the model on an emulated device of its target, and what it takes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ..diagnostics import CompileError
from ..emulation import Emulation, EmulationOptions
from .options import show_table, working

if TYPE_CHECKING:
    import numpy as np

    from ..driver import CompiledModel

_NAME_LENGTH = 24


def emulated(model: CompiledModel, inputs: Mapping[str, np.ndarray], compiler: str | None, optimization: str | None) -> Emulation:
    """Run a model once on its target's emulated device; E0301 if the target has none."""
    if model.target.emulate is None:
        raise CompileError("E0301", f"target {model.target.name} has no emulated device", hint="it is for C on a processor: -t c:cortex-m4")
    defaults = EmulationOptions()
    options = EmulationOptions(compiler or defaults.compiler, optimization or defaults.optimization)
    with working(f"running on an emulated device of {model.target.name}"):
        return model.target.emulate(model.artifact, inputs, options)


def emulation_json(run: Emulation) -> dict[str, object]:
    """The measurements for scripts."""
    layers = [
        {"layer": k, "name": layer.name, "function": layer.function, "nodes": list(layer.nodes), "instructions": layer.instructions}
        for k, layer in enumerate(run.layers)
    ]
    return {
        "machine": run.machine,
        "compiler": run.compiler,
        "notes": list(run.notes),
        "instructions": {
            "total": run.instructions,
            "layers": layers,
            "outside_layers": run.outside_instructions,
            "functions": dict(run.functions),
        },
        "memory": {
            "arena_bytes": run.arena_bytes,
            "stack_bytes": run.stack_bytes,
            "stack_bound_bytes": run.stack_bound_bytes,
            "stack_bound_lacks": list(run.stack_bound_lacks),
            "static_bytes": run.static_bytes,
            "io_bytes": run.io_bytes,
        },
        "flash": {"bytes": run.code_bytes + run.constant_bytes, "code_bytes": run.code_bytes, "weights_bytes": run.constant_bytes},
    }


def show_emulation(run: Emulation, inputs: Mapping[str, np.ndarray]) -> None:
    """The measurements for people, with the extents of the inputs that they belong to."""
    rows = [_row(f"{k} {_ends(layer.nodes)}", layer.function, layer.instructions, run) for k, layer in enumerate(run.layers)]
    rows += [_row("between layers", "", run.outside_instructions, run), _row("all", "", run.instructions, run)]
    shapes = ", ".join(f"{name}[{', '.join(map(str, array.shape))}]" for name, array in inputs.items())
    show_table(f"{run.machine}\n{run.compiler}\n{shapes}", ("layer", "function", "instructions", ""), rows)
    sizes = [
        ("flash", run.code_bytes + run.constant_bytes, f"code {run.code_bytes:,}, constants {run.constant_bytes:,}"),
        ("arena", run.arena_bytes, f"inputs and outputs, the caller's: {run.io_bytes:,}"),
        ("stack", run.stack_bytes, _bound(run)),
    ]
    if run.static_bytes:
        sizes.append(("static", run.static_bytes, "variables of the model"))
    show_table("memory", ("", "bytes", ""), [(name, f"{size:,}", text) for name, size, text in sizes])
    for note in run.notes:
        click.echo(f"note: {note}")


def _row(layer: str, function: str, instructions: int, run: Emulation) -> tuple[str, ...]:
    return layer, function, f"{instructions:,}", f"{instructions / max(1, run.instructions):.1%}"


def _ends(nodes: Sequence[str]) -> str:
    """The first and the last of some nodes, shortened."""
    ends = dict.fromkeys((nodes[0], nodes[-1])) if nodes else {}
    return " .. ".join(name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…" for name in ends)


def _bound(run: Emulation) -> str:
    if run.stack_bound_bytes is None:
        return "as written to; this compiler states no bound"
    lacks = f" and what these take: {', '.join(run.stack_bound_lacks)}" if run.stack_bound_lacks else ""
    return f"as written to; at most {run.stack_bound_bytes:,}{lacks}"
