"""`onnxc report`: one HTML page about a compiled model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..diagnostics import CompileError
from .options import extents_option, json_option, model_argument, show_json, working


@click.command("report")
@model_argument
@click.option("-t", "--target", default="cpu", show_default=True, help="What to compile for; see `onnxc targets`.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The .html file.")
@click.option("--measured", type=click.Path(path_type=Path, dir_okay=False), metavar="VERIFY.JSON",
              help="What `onnxc verify --on qemu --json` printed for this model and target.")  # fmt: skip
@extents_option("--bind", "Value of a symbolic dimension, fixed in the code.")
@extents_option("--max", "Upper bound of a symbolic dimension.")
@json_option
def report_command(
    model: Path, target: str, output: Path, measured: Path | None, bind: dict[str, int], max: dict[str, int], as_json: bool
) -> None:
    """Write one HTML page about MODEL.

    It shows the graph with its fused groups, the arena over time, the cost of each layer, and what takes flash.
    """
    from ..files import write_file
    from ..pipeline import Options
    from ..report.page import make_report, render
    from ..target import load_target

    with working(f"compiling {model.name} for {target}"):
        found = make_report(model, load_target(target), Options(bind, max), None if measured is None else _read(measured))
    write_file(output, render(found).encode())
    layers, arena, weights = len(found.layers), found.use.arena_bytes, found.use.weight_bytes
    if as_json:
        show_json({"ok": True, "file": str(output), "layers": layers, "arena_bytes": arena, "weight_bytes": weights})
    else:
        click.echo(f"{output}: {layers} layers, {arena:,} bytes of arena, {weights:,} bytes of weights")


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompileError("E0601", f"cannot read measurements from {path}: {error}") from None
    if not isinstance(found, dict):
        raise CompileError("E0601", f"{path} holds no measurements", hint="make it with: onnxc verify MODEL -t TARGET --on qemu --json")
    return found
