"""`onnxc targets`, `onnxc passes` and `onnxc version`."""

from __future__ import annotations

import click

from .options import json_option, show_json


@click.command("version")
@json_option
def version_command(as_json: bool) -> None:
    """Print the versions of onnxc and its libraries."""
    from importlib import metadata

    names = ("onnxc", "onnx", "numpy", "llvmlite", "ml_dtypes")
    versions = {name: metadata.version(name) for name in names}
    if as_json:
        show_json({"ok": True, **versions})
        return
    for name, version in versions.items():
        click.echo(f"{name} {version}")


@click.command("targets")
@json_option
def targets_command(as_json: bool) -> None:
    """List the backends, and what each makes of its name alone."""
    from ..diagnostics import CompileError
    from ..target import BACKENDS, load_target

    found: dict[str, dict[str, str]] = {}
    for name in BACKENDS:
        try:
            target = load_target(name)
            found[name] = {"target": target.name, **target.features}
        except (CompileError, ImportError) as error:
            found[name] = {"unavailable": str(error)}
    if as_json:
        show_json({"ok": True, "targets": found})
        return
    for name, features in found.items():
        click.echo(name)
        for key, value in features.items():
            click.echo(f"  {key}: {value}")


@click.command("passes")
@click.option("-t", "--target", default="cpu", show_default=True, help="Whose passes to list.")
@json_option
def passes_command(target: str, as_json: bool) -> None:
    """List the passes of a target in the order in which they run."""
    from ..target import load_target

    loaded = load_target(target)
    levels = loaded.pipeline.pass_names
    if as_json:
        show_json({"ok": True, "target": loaded.name, **levels})
        return
    for level, names in levels.items():
        click.echo(f"{level}:")
        for name in names:
            click.echo(f"  {name}")
