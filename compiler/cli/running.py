"""`onnxc run`: a model or an artifact on data from files, or on random data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..diagnostics import CompileError
from .options import compile_options, compiled, extents_option, json_option, model_argument, show_json, show_table

if TYPE_CHECKING:
    import numpy as np

    from ..driver import CompiledModel


def input_options(command: Any) -> Any:
    """The options that say what a model is run on."""
    for option in (
        extents_option("--dim", "Extent of a symbolic dimension for random inputs (8 if not given; 1 on a device)."),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of the inputs that are not given."),
        click.option("--inputs", "archive", type=click.Path(path_type=Path), help="A .npz file with inputs by name."),
        click.option("-i", "--input", "single", multiple=True, metavar="NAME=FILE", help="A .npy or .pb file for one input."),
    ):
        command = option(command)
    return command


def gather_inputs(
    model: CompiledModel, single: tuple[str, ...], archive: Path | None, seed: int, dim: dict[str, int], default_extent: int = 8
) -> dict[str, np.ndarray]:
    """Read the inputs that are given and make the others; symbolic extents that nothing names get the default.

    An archive may hold more than the model takes (labels, outputs), but not instead of what it takes.

    Raises:
        CompileError: E0401 if a file cannot be read, or has a name that the model does not know while an input has no data.
    """
    from .tensor_files import fit_types, random_tensors

    given = _read_given(single, archive)
    missing = [port for port in model.inputs if port.name not in given]
    unknown = given.keys() - {port.name for port in model.inputs}
    named = {entry.partition("=")[0] for entry in single}
    if unknown & named or (unknown and missing):
        hint = f"inputs are: {', '.join(port.name for port in model.inputs) or 'none'}"
        raise CompileError("E0401", f"input '{min(unknown & named or unknown)}' is unknown", hint=hint)
    given = {name: array for name, array in given.items() if name not in unknown}
    return fit_types(given, model.inputs) | random_tensors(missing, seed, dim, default_extent)


def extents_of_inputs(
    model: Path, single: tuple[str, ...], archive: Path | None, dim: dict[str, int], default_extent: int
) -> dict[str, int]:
    """What each symbolic dimension of a model file's inputs is in a run on these inputs, by place (`input:axis`)."""
    from .model_facts import inspect_model

    given = _read_given(single, archive)
    found = {}
    for name, (_, shape) in inspect_model(model).inputs.items():
        actual = given[name].shape if name in given and given[name].ndim == len(shape) else shape
        for axis, (extent, declared) in enumerate(zip(actual, shape, strict=True)):
            if isinstance(declared, str):
                found[f"{name}:{axis}"] = extent if isinstance(extent, int) else dim.get(declared, default_extent)
    return found


def _read_given(single: tuple[str, ...], archive: Path | None) -> dict[str, np.ndarray]:
    from .tensor_files import read_tensor, read_tensors

    given = read_tensors(archive) if archive else {}
    for entry in single:
        name, equals, path = entry.partition("=")
        if not equals:
            raise click.BadParameter(f"{entry!r} is not NAME=FILE")
        given[name] = read_tensor(Path(path))
    return given


@click.command("run")
@model_argument
@compile_options
@input_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A .npz file to write the outputs to.")
@json_option
def run_command(
    model: Path,
    single: tuple[str, ...],
    archive: Path | None,
    seed: int,
    dim: dict[str, int],
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run MODEL and show its outputs.

    MODEL is a file, or a folder that `compile` wrote. Inputs that are not given are random.
    """
    result = compiled(model, **options)
    outputs = result.run(gather_inputs(result, single, archive, seed, dim))
    if output:
        _write_archive(output, outputs)
    summary = [{"name": name, "dtype": str(array.dtype), "shape": list(array.shape), **_spread(array)} for name, array in outputs.items()]
    if as_json:
        show_json({"ok": True, "outputs": summary})
    else:
        columns = ("output", "dtype", "shape", "min", "mean", "max")
        show_table("", columns, [tuple(_cell(row.get(column.replace("output", "name"))) for column in columns) for row in summary])


def _spread(array: np.ndarray) -> dict[str, float]:
    if array.size == 0 or array.dtype.kind in "OUSc":
        return {}
    wide = array.astype("float64")
    return {"min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max())}


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _write_archive(path: Path, outputs: dict[str, np.ndarray]) -> None:
    import io

    import numpy as np

    from ..files import write_file

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **outputs)
    write_file(path, buffer.getvalue())
