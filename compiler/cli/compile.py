"""`onnxc compile`: a model file into an artifact folder, or into the text of one stage on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .options import compile_options, compiled, json_option, model_argument, show_json, working


@click.command("compile")
@model_argument
@compile_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write. [default: MODEL's name with the target]")
@click.option("--libraries/--no-libraries", default=True, show_default=True, help="Write header and libraries for C programs.")
@click.option("--embed-weights", is_flag=True, help="Put the weights into the libraries, too.")
@click.option("--emit", metavar="STAGE", help="Show a stage instead: graph, kernel, program, llvm, asm, object or source.")
@click.option("--stop-after", metavar="PASS", default="", help="Show the graph after this pass; see `onnxc passes`.")
@json_option
def compile_command(
    model: Path, output: Path | None, libraries: bool, embed_weights: bool, emit: str | None, stop_after: str, as_json: bool, **options: Any
) -> None:
    """Compile MODEL and write the artifact to a folder."""
    if emit or stop_after:
        _show_stage(_stage(model, emit or "graph", stop_after, options), output, as_json)
        return
    result = compiled(model, **options)
    folder = output or Path(f"{model.stem}.{''.join(c if c.isalnum() else '-' for c in options['target'])}")
    result.save(folder, libraries=libraries, embed_weights=embed_weights)
    files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    if as_json:
        show_json({"ok": True, "folder": str(folder), "files": files, "report": dict(result.report)})
        return
    click.echo(f"{folder}:")
    for name, size in files.items():
        click.echo(f"  {size:>12,}  {name}")


def _stage(model: Path, stage: str, stop_after: str, options: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of one stage."""
    from ..pipeline import Options, pass_names, stage_files, stage_names
    from ..target import load_target
    from ..watch import environment_watch, watching

    target = load_target(options["target"])
    if stage not in stage_names(target):
        raise click.BadParameter(f"target {target.name} has no stage {stage!r}; it has {', '.join(stage_names(target))}")
    if stop_after and stop_after not in pass_names(target):
        raise click.BadParameter(f"target {target.name} has no pass {stop_after!r}; it has {', '.join(pass_names(target))}")
    if stop_after and stage != "graph":
        raise click.BadParameter("--stop-after shows the graph and goes with no other --emit")
    wanted = Options(options["bind"], options["max"], options["name"])
    with watching(environment_watch(options["dump"])), working(f"compiling {model.name} for {target.name}"):
        return stage_files(model, target, wanted, stage, stop_after)


def _show_stage(files: Mapping[str, bytes], output: Path | None, as_json: bool) -> None:
    """Write the files to a folder if one is named; else print them if they are text."""
    from ..files import write_folder

    if output is not None:
        write_folder(output, files)
        shown = {"folder": str(output), "files": {name: len(data) for name, data in files.items()}}
        if as_json:
            show_json({"ok": True, **shown})
        else:
            click.echo(f"{output}: {len(files)} files")
        return
    if any(b"\0" in data for data in files.values()):
        raise click.UsageError("objects are not text: name a folder with -o")
    if as_json:
        show_json({"ok": True, "files": {name: data.decode() for name, data in files.items()}})
        return
    for data in files.values():
        click.echo(data.decode(), nl=False)
