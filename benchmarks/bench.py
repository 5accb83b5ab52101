"""Measures onnxc, ONNX Runtime and OpenVINO on the same models, in turns, in one process.

    python benchmarks/bench.py [--models DIR] [--only NAME ...] [--threads 1 2] [--seconds 3] [MODEL.onnx ...]

Without paths it takes the models of the folder in `--models` (or `ONNXC_BENCH_MODELS`) and the vision models inside the onnx
package; the weights of the latter are constant fills, so all run on random input. Before each burst an engine rests and runs
once unmeasured: the peers' threads spin for a while after a run and would take a core from whoever comes next. Compile time
(cold and from the cache) and peak memory are measured in processes of their own. Results go to `benchmarks/results/*.json`,
and with `--page` to `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "benchmarks")]

from engines import ENGINES, Inputs  # noqa: E402
from light_models import light_models  # noqa: E402
from page import write_models  # noqa: E402

from onnxc.compiler.cli.bench import measure  # noqa: E402

ROUNDS = 5


def find_models(arguments: argparse.Namespace) -> dict[str, Path]:
    """The models to measure, by name."""
    if arguments.paths:
        return {path.stem: path for path in arguments.paths}
    folder = arguments.models or os.environ.get("ONNXC_BENCH_MODELS")
    found = {f"light_{name}": path for name, path in light_models().items()}
    if folder:
        found |= {path.stem: path for path in sorted(Path(folder).rglob("*.onnx"))}
    return {name: path for name, path in found.items() if not arguments.only or name in arguments.only}


def bench_model(path: Path, threads: int, seconds: float) -> dict[str, object]:
    """Medians of all engines that run the model, their ratios to onnxc, and the largest difference between outputs."""
    inputs = _inputs(path)
    runs: dict[str, Callable[[], list[np.ndarray]]] = {}
    problems: dict[str, str] = {}
    for name, load in ENGINES.items():
        try:
            run = load(path, threads, inputs)
            run()
            runs[name] = run
        except Exception as error:  # noqa: BLE001 (an engine that cannot run a model is a result)
            problems[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}"
    outputs = {name: run() for name, run in runs.items()}
    times = {name: median(values) * 1e3 for name, values in measure(dict(runs), seconds, ROUNDS).items()}
    own = times.get("onnxc")
    return {
        "threads": threads,
        "median_ms": times,
        "onnxc_over": {name: own / value for name, value in times.items() if name != "onnxc"} if own else {},
        "difference": _difference(outputs),
        "problems": problems,
    }


def compile_cost(path: Path) -> dict[str, object]:
    """Seconds of a cold compile and of one from the cache, and peak memory of the cold one, each in a fresh process."""
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"ONNXC_CACHE_DIR": cache}
        command = [sys.executable, str(ROOT / "benchmarks" / "compile_once.py"), str(path)]
        found = []
        for _ in range(2):
            done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False)
            if done.returncode:
                return {"problem": done.stderr.strip().rpartition("\n")[2][:200]}
            found.append(json.loads(done.stdout))
    return {"cold_s": found[0]["seconds"], "warm_s": found[1]["seconds"], "peak_mib": found[0]["peak_mib"]}


def _inputs(path: Path) -> Inputs:
    """Data beside the model (`NAME.npz`, entries `in:NAME` or plain names) if there is any, else random."""
    import onnx

    from onnxc.compiler.cli.tensor_files import random_tensor
    from onnxc.compiler.dtypes import DType

    graph = onnx.load(path, load_external_data=False).graph
    initializers = {tensor.name for tensor in graph.initializer}
    ports = [value for value in graph.input if value.name not in initializers]
    beside = path.with_suffix(".npz")
    data = dict(np.load(beside, allow_pickle=False)) if beside.exists() else {}
    random, found = np.random.default_rng(0), {}
    for port in ports:
        given = next((data[key] for key in (port.name, f"in:{port.name}", f"input_{port.name}", f"in_{port.name}") if key in data), None)
        tensor = port.type.tensor_type
        shape = tuple(d.dim_value or 1 for d in tensor.shape.dim)
        found[port.name] = given if given is not None else random_tensor(random, DType.from_onnx(tensor.elem_type), shape)
    return found


def _difference(outputs: dict[str, list[np.ndarray]]) -> dict[str, float]:
    own = outputs.get("onnxc")
    if own is None:
        return {}
    return {name: max(map(_gap, own, other), default=0.0) for name, other in outputs.items() if name != "onnxc"}


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0))


def _machine() -> dict[str, object]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system()}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each engine and number of threads")
    parser.add_argument("--no-compile-cost", action="store_true")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "latest.json")
    arguments = parser.parse_args()
    results: dict[str, dict[str, object]] = {}
    for name, path in find_models(arguments).items():
        runs = [bench_model(path, threads, arguments.seconds) for threads in arguments.threads]
        results[name] = {"runs": runs, "compile": {} if arguments.no_compile_cost else compile_cost(path)}
        for run in runs:
            print(name, json.dumps(run), flush=True)
        print(name, json.dumps(results[name]["compile"]), flush=True)
    data = {"machine": _machine(), "models": results}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(data, indent=2) + "\n")
    if arguments.page:
        write_models(data)


if __name__ == "__main__":
    main()
