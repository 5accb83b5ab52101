"""`onnxc inspect`: what is in a model, and what the compiler makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..diagnostics import diagnostic_json
from .options import extents_option, json_option, model_argument, operators_option, show_json, show_table, working

if TYPE_CHECKING:
    from ..report.placement import Placements


@click.command("inspect")
@model_argument
@click.option("-t", "--target", help="Show what becomes of each node on this target; see `onnxc targets`.")
@extents_option("--bind", "Value of a symbolic dimension.")
@extents_option("--max", "Upper bound of a symbolic dimension.")
@operators_option
@json_option
def inspect_command(model: Path, target: str | None, bind: dict[str, int], max: dict[str, int], as_json: bool) -> None:
    """Show operators, shapes, weights and work of MODEL.

    With a target, also the kernel of each node, or why it has none.
    """
    from .model_facts import Shape, inspect_model

    facts = inspect_model(model)
    found = None if target is None else _placed(model, target, bind, max)
    if as_json:
        show_json({"ok": True, **dataclasses.asdict(facts), **({} if found is None else {"placement": _as_json(found)})})
        return

    def shape(extents: Shape) -> str:
        return "[" + ", ".join(map(str, extents)) + "]"

    opsets = ", ".join(f"{domain} {version}" for domain, version in facts.opsets.items())
    click.echo(f"IR {facts.ir_version}, opsets {opsets}")
    click.echo(f"{facts.parameters:,} parameters in {facts.parameter_bytes:,} bytes")
    click.echo("multiply-accumulates: " + ("unknown until the shapes are bound" if facts.macs is None else f"{facts.macs:,}"))
    rows = [(name, dtype, shape(extents), "input") for name, (dtype, extents) in facts.inputs.items()]
    rows += [(name, dtype, shape(extents), "output") for name, (dtype, extents) in facts.outputs.items()]
    show_table("", ("value", "type", "shape", ""), rows)
    show_table("", ("operator", "nodes", ""), [(op, str(n), "unknown" if op in facts.unknown else "") for op, n in facts.operators.items()])
    if found is not None:
        _show(found)


def _placed(model: Path, target: str, bind: Mapping[str, int], max: Mapping[str, int]) -> Placements:
    from ..pipeline import Options
    from ..report.placement import place_nodes
    from ..target import load_target

    with working(f"compiling {model.name} for {target}"):
        return place_nodes(model, load_target(target), Options(bind, max))


def _as_json(found: Placements) -> dict[str, object]:
    nodes = [{**dataclasses.asdict(node), "place": node.place.value} for node in found.nodes]
    return {"target": found.target, "compiles": not found.problems, "problems": list(map(diagnostic_json, found.problems)), "nodes": nodes}


def _show(found: Placements) -> None:
    operators = {node.node: node.operator for node in found.nodes}
    rows = []
    for node in found.nodes:
        together = f"with {', '.join(operators.get(name, name) for name in node.group)}" if node.group else ""
        what = "; ".join(filter(None, (node.schedule, together, node.reason)))
        rows.append((node.node, node.operator, ", ".join(node.kernels) or node.place.value, what))
    show_table(f"on {found.target}:", ("node", "operator", "kernel", "how, or why not"), rows)
    for problem in found.problems:
        click.echo(str(problem))
