"""Turns benchmark results into sections of `docs/benchmarks.md`; those of other benchmarks stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

Written by `make bench ARGS=--page`. Medians in milliseconds on {cpu} ({cores} cores), all engines in turns in one process; a
ratio below 1 means that onnxc is faster. Models named `light_*` are those inside the onnx package.

| model | threads | onnxc | ONNX Runtime | OpenVINO | ratio to ONNX Runtime | ratio to OpenVINO |
|---|---|---|---|---|---|---|
"""
_COMPILE = """
| model | cold, s | from the cache, s | peak memory, MiB |
|---|---|---|---|
"""


def update_page(sections: Mapping[str, str]) -> None:
    """Replace sections by their headings of level 2, or add them; the one without a heading is the page's beginning."""
    first, *rest = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {"": first, **dict(zip(rest[::2], rest[1::2], strict=True)), **sections}
    PAGE.write_text(
        "\n".join(f"## {name}\n{text}" if name else text for name, text in found.items()).replace("\n\n\n", "\n\n"), encoding="utf-8"
    )


def write_models(data: dict[str, Any]) -> None:
    """Write the tables of latencies and compile times."""
    lines = [_HEAD.format(**data["machine"])]
    for name, result in data["models"].items():
        for run in result["runs"]:
            times, ratios = run["median_ms"], run["onnxc_over"]
            cells = [*(_number(times.get(e)) for e in ("onnxc", "onnxruntime", "openvino"))]
            cells += [_number(ratios.get(e)) for e in ("onnxruntime", "openvino")]
            lines.append(f"| {name} | {run['threads']} | {' | '.join(cells)} |\n")
    sections = {"": "".join(lines)}
    costs = {name: result["compile"] for name, result in data["models"].items() if "cold_s" in result["compile"]}
    if costs:
        rows = [f"| {name} | {c['cold_s']:.2f} | {c['warm_s']:.2f} | {c['peak_mib']:.0f} |\n" for name, c in costs.items()]
        sections["Compile time and memory"] = "".join([_COMPILE, *rows])
    update_page(sections)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
