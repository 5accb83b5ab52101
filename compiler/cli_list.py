"""`onnxc targets`, `onnxc passes` and `onnxc version`."""

from __future__ import annotations

import click

from .cli_options import json_option, show_json


@click.command("version")
@json_option
def version_command(as_json: bool) -> None:
    """Print the versions of onnxc and of the libraries that shape its output."""
    from importlib import metadata

    names = ("onnxc", "onnx", "numpy", "llvmlite", "ml_dtypes")
    versions = {name: metadata.version(name) for name in names}
    if as_json:
        show_json({"ok": True, **versions})
        return
    for name, version in versions.items():
        click.echo(f"{name} {version}")
