"""`onnxc compile`: a model file into an artifact folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli_options import compile_options, compiled, json_option, model_argument, show_json


@click.command("compile")
@model_argument
@compile_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write. [default: MODEL's name with the target]")
@json_option
def compile_command(model: Path, output: Path | None, as_json: bool, **options: Any) -> None:
    """Compile MODEL and write the artifact to a folder."""
    result = compiled(model, **options)
    folder = output or Path(f"{model.stem}.{''.join(c if c.isalnum() else '-' for c in options['target'])}")
    result.save(folder)
    files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    if as_json:
        show_json({"ok": True, "folder": str(folder), "files": files, "report": dict(result.report)})
        return
    click.echo(f"{folder}:")
    for name, size in files.items():
        click.echo(f"  {size:>12,}  {name}")
