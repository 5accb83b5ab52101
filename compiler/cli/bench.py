"""`onnxc bench`: latency of a model, alone or beside ONNX Runtime. `benchmarks/` holds the full comparison."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click

from ..diagnostics import CompileError
from .options import compile_options, compiled, json_option, model_argument, show_json, show_table
from .running import gather_inputs, input_options

_REST_SECONDS = 0.03  # the peers' threads spin after a run and would take a core from whoever comes next


@click.command("bench")
@model_argument
@compile_options
@input_options
@click.option("--vs", "peer", type=click.Choice(["onnxruntime"]), help="Measure a peer in turns with it.")
@click.option("--seconds", type=click.FloatRange(0.01, 600), default=2.0, show_default=True, help="Time for each engine.")
@json_option
def bench_command(
    model: Path,
    single: tuple[str, ...],
    archive: Path | None,
    seed: int,
    dim: dict[str, int],
    peer: str | None,
    seconds: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the latency of MODEL."""
    if peer and model.is_dir():
        raise click.BadParameter("--vs needs the model file, not a compiled folder")
    started = time.perf_counter()
    result = compiled(model, **options)
    compile_seconds = time.perf_counter() - started
    inputs = gather_inputs(result, single, archive, seed, dim)
    engines: dict[str, Callable[[], object]] = {"onnxc": lambda: result.run(inputs)}
    if peer:
        engines[peer] = _onnxruntime(model, inputs, options["threads"])
    times = measure(engines, seconds)
    found = {name: {"median_us": median(t) * 1e6, "min_us": min(t) * 1e6, "runs": len(t)} for name, t in times.items()}
    if as_json:
        show_json({"ok": True, "compile_seconds": compile_seconds, "engines": found})
        return
    rows = [(n, f"{e['median_us'] / 1e3:.3f}", f"{e['min_us'] / 1e3:.3f}", str(e["runs"])) for n, e in found.items()]
    show_table(f"compiled in {compile_seconds:.2f} s", ("engine", "median ms", "best ms", "runs"), rows)


def measure(engines: dict[str, Callable[[], object]], seconds: float, rounds: int = 5) -> dict[str, list[float]]:
    """Run the engines interleaved, each burst after a rest and one unmeasured run; seconds of each run by engine."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, run in engines.items():
            time.sleep(_REST_SECONDS)
            run()
            end = time.perf_counter() + seconds / rounds
            while True:
                started = time.perf_counter()
                run()
                now = time.perf_counter()
                times[name].append(now - started)
                if now >= end:
                    break
    return times


def _onnxruntime(model: Path, inputs: Any, threads: int | None) -> Callable[[], object]:
    try:
        import onnxruntime
    except ImportError as error:
        raise CompileError("E0303", "onnxruntime is not installed", hint="pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)
