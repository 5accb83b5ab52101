"""`onnxc verify`: the compiled model against a reference, within tolerances."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..diagnostics import CompileError, Diagnostic, diagnostic_json
from ..record.nodes import Validation
from .emulated import emulated, emulation_json, show_emulation
from .options import compile_options, compiled, json_option, model_argument, refuse_compile_options, show_json, show_table, working
from .running import extents_of_inputs, gather_inputs, input_options

if TYPE_CHECKING:
    from ..driver import CompiledModel

_STEP = "sums that the reference rounds are exact here, which moves a quantized output by a step at times: --atol 1 allows it"


@click.command("verify")
@model_argument
@compile_options
@input_options
@click.option("--reference", type=click.Choice(["onnx", "onnxruntime"]), default="onnx", show_default=True, help="What to compare with.")
@click.option("--rtol", type=float, default=1e-3, show_default=True, help="Relative tolerance.")
@click.option("--atol", type=float, default=1e-5, show_default=True, help="Absolute tolerance.")
@click.option(
    "--artifact", type=click.Path(path_type=Path, file_okay=False), help="Verify this compiled folder, and note it in its record."
)
@click.option("--on", "emulator", type=click.Choice(["qemu"]), help="Run on an emulated device of the target, and measure what it takes.")
@click.option("--cc", type=click.Choice(["gcc", "clang", "zig"]), help="Compiler for the device. [default: gcc, or zig without it]")
@click.option("-O", "optimization", type=click.Choice(["0", "1", "2", "3", "s"]), help="Its optimization. [default: 3]")
@json_option
def verify_command(
    model: Path,
    single: tuple[str, ...],
    archive: Path | None,
    seed: int,
    dim: dict[str, int],
    reference: str,
    rtol: float,
    atol: float,
    artifact: Path | None,
    emulator: str | None,
    cc: str | None,
    optimization: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Compare the outputs of MODEL with those of a reference."""
    from .compare import compare_outputs, run_reference

    if model.is_dir():
        raise click.BadParameter("verify needs the model file; name the compiled folder with --artifact")
    if not emulator and (cc or optimization):
        raise click.BadParameter("--cc and -O are for emulated devices: add --on qemu")
    default_extent = 1 if emulator else 8
    if emulator:  # firmware fixes its extents: what is measured is the code that it would have
        named = dim | options["bind"]
        options["bind"] = extents_of_inputs(model, single, archive, named, default_extent) | options["bind"]
    result = compiled(model, **options) if artifact is None else _artifact_of(artifact, model, options["threads"])
    inputs = gather_inputs(result, single, archive, seed, dim, default_extent)
    emulation = emulated(result, inputs, cc, optimization) if emulator else None
    actual = result.run(inputs) if emulation is None else emulation.outputs
    with working(f"running {reference}"):
        expected, name = run_reference(reference, model, inputs)
    errors = compare_outputs(expected, actual, rtol, atol)
    failed = [error for error in errors if not error.passed]
    if artifact is not None:
        _write_validation(artifact, result, Validation(name, _origin(single, archive, seed, dim), rtol, atol, errors))
    differences = [
        Diagnostic(
            "E0601",
            f"output '{e.name}' differs from {name}: {e.max_absolute:.3g} absolute, {e.max_relative:.3g} relative",
            hint=_STEP if e.max_absolute == 1 and expected[e.name].dtype.kind in "iu" else "",
        )
        for e in failed
    ]
    if as_json:
        shown = {"ok": not failed, "reference": name, "rtol": rtol, "atol": atol, "outputs": [dataclasses.asdict(e) for e in errors]}
        measured = (
            {}
            if emulation is None
            else {"match": not failed, "inputs": {k: list(a.shape) for k, a in inputs.items()}, **emulation_json(emulation)}
        )
        wrong = {"errors": [diagnostic_json(d) for d in differences]} if failed else {}
        show_json({**shown, **measured, **wrong})
        for difference in differences:
            click.echo(str(difference), err=True)
        return 1 if failed else 0
    rows = [(e.name, f"{e.max_absolute:.3g}", f"{e.max_relative:.3g}", "ok" if e.passed else "DIFFERS") for e in errors]
    show_table(f"against {name}", ("output", "max abs", "max rel", ""), rows)
    if emulation is not None:
        show_emulation(emulation, inputs)
    if failed:
        raise CompileError.collect(differences)
    return 0


def _artifact_of(folder: Path, model: Path, threads: int | None) -> CompiledModel:
    """The compiled model of a folder, if it is that of this model file."""
    import hashlib

    from ..driver import load

    result = load(folder, threads=threads)
    refuse_compile_options(folder, result.target.name)
    assert result.record is not None
    try:
        found = hashlib.sha256(model.read_bytes()).hexdigest()
    except OSError as error:
        raise CompileError("E0101", f"cannot read {model}: {error.strerror}") from error
    if found != result.record.source.model_sha256:
        raise CompileError("E0601", f"{folder} was compiled of another model than {model}", hint="compile the model again")
    return result


def _write_validation(folder: Path, result: CompiledModel, validation: Validation) -> None:
    """Replace the record's section; the other files stay as they are."""
    from ..files import write_file
    from ..record.check import RECORD_NAME
    from ..record.text import to_json

    assert result.record is not None
    arena = result.interface.arena_bytes if isinstance(result.interface.arena_bytes, int) else None
    full = dataclasses.replace(validation, arena_bytes=arena, constant_bytes=result.interface.weight_bytes)
    write_file(folder / RECORD_NAME, to_json(dataclasses.replace(result.record, validation=full)))


def _origin(single: tuple[str, ...], archive: Path | None, seed: int, dim: dict[str, int]) -> str:
    """Where the inputs came from: files with their hashes, and the seed of the others."""
    import hashlib

    files = [*([archive] if archive else []), *(Path(entry.partition("=")[2]) for entry in single)]
    given = [f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return ", ".join([*given, f"seed {seed}", *(f"{name}={extent}" for name, extent in sorted(dim.items()))])
