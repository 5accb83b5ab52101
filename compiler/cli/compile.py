"""`onnxc compile`: a model file into an artifact folder, or into the text of one stage on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..diagnostics import CompileError
from .options import Size, compile_options, compiled, json_option, model_argument, show_json, working

if TYPE_CHECKING:
    from ..driver import CompiledModel


@click.command("compile")
@model_argument
@compile_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write. [default: MODEL's name with the target]")
@click.option("--libraries/--no-libraries", default=True, show_default=True, help="Write header and libraries for C programs.")
@click.option("--embed-weights", is_flag=True, help="Put the weights into the libraries, too.")
@click.option("--max-ram", type=Size(), help="Refuse a model that takes more arena and stack (64K; the stack is estimated).")
@click.option("--max-flash", type=Size(), help="Refuse a model that takes more weights and code (256K; the code is estimated).")
@click.option("--layout", default="", metavar="NAME", help="Arrange C sources for arduino, platformio, esp-idf or zephyr.")
@click.option(
    "--self-test", is_flag=False, flag_value="random", metavar="[FILE]", help="Add a test on a .npz file's inputs, or random ones."
)
@click.option("--depfile", type=click.Path(path_type=Path, dir_okay=False), help="Write what the products depend on, for Make and Ninja.")
@click.option(
    "--emit",
    metavar="STAGE",
    help="Show a stage instead: graph, onnx (the simplified model), kernel, program, llvm, asm, object or source.",
)
@click.option("--stop-after", metavar="PASS", default="", help="Show the graph after this pass; see `onnxc passes`.")
@json_option
def compile_command(
    model: Path,
    output: Path | None,
    libraries: bool,
    embed_weights: bool,
    max_ram: int | None,
    max_flash: int | None,
    layout: str,
    self_test: str | None,
    depfile: Path | None,
    emit: str | None,
    stop_after: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile MODEL and write the artifact to a folder."""
    if model.is_dir():
        raise click.BadParameter(f"{str(model)!r} is a folder; name the model's file")
    if emit or stop_after:
        _show_stage(_stage(model, emit or "graph", stop_after, options), output, as_json)
        return
    result = compiled(model, max_ram=max_ram, max_flash=max_flash, **options)
    folder = output or Path(f"{model.stem}.{''.join(c if c.isalnum() else '-' for c in options['target'])}")
    more = _self_test(result, model, self_test, options) if self_test else {}
    result.save(folder, libraries=libraries, embed_weights=embed_weights, layout=layout, more=more)
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    if depfile:
        _write_depfile(depfile, result, model, folder, self_test)
    if as_json:
        show_json({"ok": True, "folder": str(folder), "files": files, "report": dict(result.report)})
        return
    click.echo(f"{folder}:")
    for name, size in files.items():
        click.echo(f"  {size:>12,}  {name}")


def _self_test(result: CompiledModel, model: Path, origin: str, options: Mapping[str, Any]) -> Mapping[str, bytes | memoryview]:
    """The files of a self-test: inputs, and what the operators' definitions make of them."""
    from ..frontend import load_graph
    from ..graph.interpret import run_graph
    from .running import gather_inputs

    make = result.target.pipeline.self_test
    if make is None:
        raise CompileError("E0301", f"target {result.target.name} makes no self-test", hint="a self-test is C source: -t c")
    inputs = gather_inputs(result, (), None if origin == "random" else Path(origin), 0, {})
    with working(f"computing what {model.name} should give"):
        return make(result.artifact, inputs, run_graph(load_graph(model, bind=options["bind"], max=options["max"]), inputs))


def _write_depfile(path: Path, result: CompiledModel, model: Path, folder: Path, self_test: str | None) -> None:
    """Write the dependencies of the folder's record, which is there whatever the target."""
    from ..files import write_file
    from ..record.check import RECORD_NAME
    from .depfile import depfile_text

    external = result.record.source.external_sha256 if result.record else {}
    sources = [model, *(model.parent / location for location in external)]
    sources += [Path(self_test)] if self_test and self_test != "random" else []
    write_file(path, depfile_text(folder / RECORD_NAME, sources))


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
    wanted = Options(options["bind"], options["max"], options["name"], kv_cache=options["kv_cache"])
    with watching(environment_watch(options["dump"])), working(f"compiling {model.name} for {target.name}"):
        return stage_files(model, target, wanted, stage, stop_after)


def _show_stage(files: Mapping[str, bytes], output: Path | None, as_json: bool) -> None:
    """Write the files to a folder if one is named; else print them if they are text."""
    from ..files import write_file, write_folder

    if output is not None and output.suffix == ".onnx" and "model.onnx" in files:
        files = _renamed_model(files, output.name)
        for name, data in files.items():
            write_file(output.parent / name, data)
        _say_written(output, files, as_json)
        return
    if output is not None:
        write_folder(output, files)
        _say_written(output, files, as_json)
        return
    if any(b"\0" in data for data in files.values()):
        raise click.UsageError("this is not text: name a folder with -o, or a file MODEL.onnx for a model")
    if as_json:
        show_json({"ok": True, "files": {name: data.decode() for name, data in files.items()}})
        return
    for data in files.values():
        click.echo(data.decode(), nl=False)


def _renamed_model(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """The files of a model under another name; weights outside of it are found by that name, too."""
    if len(files) == 1:
        return {name: files["model.onnx"]}
    import onnx

    model = onnx.ModelProto.FromString(files["model.onnx"])
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = f"{name}.data" if entry.key == "location" else entry.value
    return {name: model.SerializeToString(), f"{name}.data": files["model.onnx.data"]}


def _say_written(output: Path, files: Mapping[str, bytes], as_json: bool) -> None:
    sizes = {name: len(data) for name, data in files.items()}
    if as_json:
        show_json({"ok": True, "folder": str(output.parent if output.suffix == ".onnx" else output), "files": sizes})
    else:
        click.echo(f"{output}: {len(files)} files" if len(files) > 1 else f"{output}: {sum(sizes.values()):,} bytes")
