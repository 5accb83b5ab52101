"""Turns benchmark results into `docs/benchmarks.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_HEAD = """# Benchmarks

Written by `make bench ARGS=--page`. Medians in milliseconds on {cpu} ({cores} cores), all engines in turns in one process; a
ratio below 1 means that onnxc is faster. Models named `light_*` are those inside the onnx package.

| model | threads | onnxc | ONNX Runtime | OpenVINO | ratio to ONNX Runtime | ratio to OpenVINO |
|---|---|---|---|---|---|---|
"""
_COMPILE = """
## Compile time and memory

| model | cold, s | from the cache, s | peak memory, MiB |
|---|---|---|---|
"""


def write_page(data: dict[str, Any], path: Path) -> None:
    """Write the tables of latencies and compile times."""
    lines = [_HEAD.format(**data["machine"])]
    for name, result in data["models"].items():
        for run in result["runs"]:
            times, ratios = run["median_ms"], run["onnxc_over"]
            cells = [*(_number(times.get(e)) for e in ("onnxc", "onnxruntime", "openvino"))]
            cells += [_number(ratios.get(e)) for e in ("onnxruntime", "openvino")]
            lines.append(f"| {name} | {run['threads']} | {' | '.join(cells)} |\n")
    costs = {name: result["compile"] for name, result in data["models"].items() if "cold_s" in result["compile"]}
    if costs:
        lines.append(_COMPILE)
        for name, cost in costs.items():
            lines.append(f"| {name} | {cost['cold_s']:.2f} | {cost['warm_s']:.2f} | {cost['peak_mib']:.0f} |\n")
    path.write_text("".join(lines))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
