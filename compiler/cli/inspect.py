"""`onnxc inspect`: what is in a model, and what the compiler makes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from .options import json_option, model_argument, show_json, show_table


@click.command("inspect")
@model_argument
@json_option
def inspect_command(model: Path, as_json: bool) -> None:
    """Show operators, shapes, weights and work of MODEL."""
    from .model_facts import Shape, inspect_model

    facts = inspect_model(model)
    if as_json:
        show_json({"ok": True, **dataclasses.asdict(facts)})
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
