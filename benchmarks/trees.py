"""Measures ensembles of trees against ONNX Runtime: one thread, in turns, the shortest CPU time of each.

    python benchmarks/trees.py [--seconds 2] [--json FILE] [--page]

The ensembles are made here: boosted ones of complete trees of depth 6 with one score, and forests of irregular trees with weights for
three classes in every leaf, each of 100 and of 1,000 trees.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import onnxc

sys.path.insert(0, str(Path(__file__).parent))
from page import update_page

FEATURES = 30
DOMAIN = "ai.onnx.ml"
CASES = [(*shape, trees) for shape in (("boosted", 6, 0.0, 1), ("forest", 10, 0.15, 3)) for trees in (100, 1000)]
"""Name, largest depth, chance of a leaf below depth 3, classes and trees of each ensemble."""


def random_tree(rng: np.random.Generator, max_depth: int, stop: float) -> tuple[np.ndarray, ...]:
    """Feature, threshold, and children of the nodes of a tree; a node below depth 3 is a leaf with the chance `stop`."""
    feature, threshold, yes, no, depth = [0], [0.0], [0], [0], [0]
    for node in range(1 << 20):
        if node == len(feature):
            break
        is_leaf = depth[node] == max_depth or (depth[node] >= 3 and rng.random() < stop)
        feature[node], threshold[node] = int(rng.integers(FEATURES)), float(np.float32(rng.standard_normal() / 2))
        if not is_leaf:
            yes[node], no[node] = len(feature), len(feature) + 1
            for column, default in ((feature, 0), (threshold, 0.0), (yes, 0), (no, 0), (depth, depth[node] + 1)):
                column.extend([default] * 2)
    return tuple(map(np.array, (feature, threshold, yes, no)))


def ensemble(trees: int, max_depth: int, stop: float, classes: int) -> onnx.ModelProto:
    """A model of one TreeEnsembleRegressor; each leaf has a weight for every class."""
    rng = np.random.default_rng(trees)
    nodes: dict[str, list[object]] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[object]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        feature, threshold, yes, no = random_tree(rng, max_depth, stop)
        count = len(feature)
        rows = ([tree] * count, range(count), feature, threshold, ["LEAF" if y == 0 else "BRANCH_LEQ" for y in yes], yes, no)
        for column, row in zip(nodes.values(), rows, strict=True):
            column.extend(np.asarray(row).tolist())
        for leaf in np.flatnonzero(yes == 0).tolist():
            weights = rng.random(classes).astype(np.float32).tolist()
            for column, row in zip(leaves.values(), ([tree] * classes, [leaf] * classes, range(classes), weights), strict=True):
                column.extend(row)
    attrs = {f"nodes_{name}": column for name, column in nodes.items()} | {f"target_{name}": column for name, column in leaves.items()}
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain=DOMAIN, n_targets=classes, **attrs)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 3)]
    return helper.make_model(helper.make_graph([node], "trees", [x], [y]), opset_imports=opsets, ir_version=8)


def peer(model: onnx.ModelProto) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)[0]


def shortest_us(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The shortest CPU time of each function, called in turns."""
    found = dict.fromkeys(runs, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            for _ in range(3):
                start = time.process_time_ns()
                run()
                found[name] = min(found[name], (time.process_time_ns() - start) / 1e3)
    return found


def measured(kind: str, max_depth: int, stop: float, classes: int, trees: int, *, seconds: float) -> list[dict[str, object]]:
    """Microseconds of one ensemble for batches of several sizes; also printed."""
    model = ensemble(trees, max_depth, stop, classes)
    compiled, other = onnxc.compile(model, threads=1, cache=False), peer(model)
    rows: list[dict[str, object]] = []
    for batch in (1, 10, 1000):
        inputs = {"x": np.random.default_rng(1).standard_normal((batch, FEATURES)).astype(np.float32)}
        np.testing.assert_allclose(compiled.run(inputs)["y"], other(inputs), rtol=1e-4, atol=1e-4)
        times = shortest_us({"onnxc": partial(compiled.run, inputs), "onnxruntime": partial(other, inputs)}, seconds)
        rows.append({"ensemble": kind, "trees": trees, "batch": batch, **{name: round(us, 1) for name, us in times.items()}})
        ours, theirs = times.values()
        print(
            f"{kind:8} {trees:5} trees, batch {batch:4}: {ours:9.1f} us, ONNX Runtime {theirs:9.1f} us, {theirs / ours:5.2f}x", flush=True
        )
    return rows


def page_section(rows: list[dict[str, object]]) -> str:
    """The table of `docs/benchmarks.md`."""
    lines = [
        "\nWritten by `python benchmarks/trees.py --page`. Least CPU time in microseconds, one thread, both in turns: boosted trees of",
        f"depth 6 with one score, and irregular trees of depth {CASES[-1][1]} with three scores.\n",
        "| ensemble | trees | batch | onnxc | ONNX Runtime | times faster |\n|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, theirs = float(str(row["onnxc"])), float(str(row["onnxruntime"]))
        lines.append(f"| {row['ensemble']} | {row['trees']} | {row['batch']} | {ours:g} | {theirs:g} | {theirs / ours:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print a line for each ensemble and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", action="store_true", help="write the section of docs/benchmarks.md")
    arguments = parser.parse_args()
    rows = [row for case in CASES for row in measured(*case, seconds=arguments.seconds)]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.page:
        update_page({"Ensembles of trees": page_section(rows)})


if __name__ == "__main__":
    main()
