"""`onnxc verify`: the compiled model against a reference, within tolerances."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from .cli_options import compile_options, compiled, json_option, model_argument, show_json, show_table, working
from .cli_run import gather_inputs, input_options
from .diagnostics import CompileError, Diagnostic


@click.command("verify")
@model_argument
@compile_options
@input_options
@click.option("--reference", type=click.Choice(["onnx", "onnxruntime"]), default="onnx", show_default=True, help="What to compare with.")
@click.option("--rtol", type=float, default=1e-3, show_default=True, help="Relative tolerance.")
@click.option("--atol", type=float, default=1e-5, show_default=True, help="Absolute tolerance.")
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
    as_json: bool,
    **options: Any,
) -> None:
    """Run MODEL compiled and with a reference, and compare all outputs."""
    from .compare import compare_outputs, run_reference

    if model.is_dir():
        raise click.BadParameter("verify needs the model file, not a compiled folder")
    result = compiled(model, **options)
    inputs = gather_inputs(result, single, archive, seed, dim)
    actual = result.run(inputs)
    with working(f"running {reference}"):
        expected, name = run_reference(reference, model, inputs)
    errors = compare_outputs(expected, actual, rtol, atol)
    failed = [error for error in errors if not error.passed]
    if as_json and not failed:
        show_json({"ok": True, "reference": name, "rtol": rtol, "atol": atol, "outputs": [dataclasses.asdict(e) for e in errors]})
    elif not as_json:
        rows = [(e.name, f"{e.max_absolute:.3g}", f"{e.max_relative:.3g}", "ok" if e.passed else "DIFFERS") for e in errors]
        show_table(f"against {name}", ("output", "max abs", "max rel", ""), rows)
    if failed:
        raise CompileError.collect(
            Diagnostic("E0601", f"output '{e.name}' differs from {name}: {e.max_absolute:.3g} absolute, {e.max_relative:.3g} relative")
            for e in failed
        )
