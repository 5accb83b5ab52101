"""`onnxc quantize`: a float model and samples of its inputs become a model of 8 bit integers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from .options import extents_option, json_option, model_argument, show_json, show_table, working


@click.command("quantize")
@model_argument
@click.option("--calibration", type=click.Path(path_type=Path, exists=True), required=True, metavar="NPZ|FOLDER",
              help="Samples: a .npz file with inputs by name, samples along the first axis, or a folder with a file for each.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The quantized model.")
@click.option("--method", type=click.Choice(["auto", "minmax", "percentile", "mse", "entropy"]), default="auto", show_default=True,
              help="How the range of the codes between layers is found.")  # fmt: skip
@click.option("--percentile", type=click.FloatRange(50, 100), default=99.99, show_default=True, help="What --method percentile covers.")
@click.option("--per-channel/--per-tensor", default=True, show_default=True, help="Scales of weights.")
@click.option("--activations", type=click.Choice(["int8", "uint8", "int16"]), default="int8", show_default=True,
              help="Type of the codes between layers.")  # fmt: skip
@click.option("--symmetric", is_flag=True, help="The zero point of these codes is the middle of their range.")
@click.option("--accuracy-budget", metavar="30dB|0.02", help="Keep layers in float until the outputs are this close to the float model.")
@click.option("--keep-float", multiple=True, metavar="NODE", help="A node that is not quantized, by its name or that of an output.")
@click.option("--equalize/--no-equalize", default=False, show_default=True, help="Scale channels between layers first.")
@click.option("--correct-bias/--no-correct-bias", default=True, show_default=True, help="Take the mean error of a channel from its bias.")
@click.option("--integer-io", is_flag=True, help="Inputs and outputs are codes themselves.")
@click.option("--samples", type=click.IntRange(1), help="Take this many samples at most.")
@extents_option("--bind", "Value of a symbolic dimension, fixed in the model.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="A .json file for errors by layer.")
@json_option
def quantize_command(
    model: Path,
    calibration: Path,
    output: Path,
    accuracy_budget: str | None,
    keep_float: tuple[str, ...],
    activations: str,
    samples: int | None,
    bind: dict[str, int],
    report: Path | None,
    as_json: bool,
    method: str,
    percentile: float,
    per_channel: bool,
    symmetric: bool,
    equalize: bool,
    correct_bias: bool,
    integer_io: bool,
) -> None:
    """Quantize a float MODEL with samples of its inputs.

    It says how far the result is from the float model, layer by layer.
    """
    from ..files import write_file
    from ..pipeline import Options
    from ..quantize.options import ACTIVATIONS, Budget, QuantizeOptions
    from ..quantize.quantize import quantize_model
    from ..quantize.report import to_json

    options = QuantizeOptions(
        method=method, percentile=percentile, per_channel=per_channel, activations=ACTIVATIONS[activations], symmetric=symmetric,
        keep_float=frozenset(keep_float), budget=None if accuracy_budget is None else Budget.parse(accuracy_budget), equalize=equalize,
        correct_bias=correct_bias, integer_io=integer_io, most_samples=samples,
    )  # fmt: skip
    with working(f"quantizing {model.name}"):
        found = quantize_model(model, calibration, options, Options(bind))
    write_file(output, found.model.SerializeToString())
    if report is not None:
        write_file(report, to_json(found.report))
    if as_json:
        show_json({"ok": True, "output": output, "report": dataclasses.asdict(found.report)})
        return
    rows = [
        (line.name, line.op, _decibels(line.alone_db) if line.quantized else "float", _decibels(line.sqnr_db))
        for line in found.report.layers
    ]
    show_table("signal to quantization noise, dB", ("layer", "operator", "alone", "in the model"), rows)
    totals = [(o.name, _decibels(o.sqnr_db), f"{o.max_relative:.3g}", f"{o.top1:.1%}") for o in found.report.outputs]
    show_table("", ("output", "dB", "largest relative error", "same top 1"), totals)
    click.echo(f"{found.report.float_bytes:,} bytes of constants became {found.report.quantized_bytes:,}")


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"
