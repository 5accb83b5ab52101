"""`make fuzz`: random models for as long as you like; what is found is written to a folder, made small first.

    python -m tests.fuzz.run SECONDS [--folder DIR] [--targets cpu,c] [--seed N] [--only Conv,Relu]

Models run in a process of their own, which is started anew after some hundred, or when one takes it down. A finding is a model
(`.onnx`), its inputs (`.npz`) and a page that says what is wrong, with the model as text (`.txt`). A fault of the same kind in a model
with the same operators and others is taken for the same and not shown again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings

from onnxc.compiler.ops.table import INTERNAL, all_rows

from .draft import Sample
from .oracles import Tally, Targets, describe, find_fault, operators_of, run_onnxruntime
from .reduce import reduced
from .strategy import samples

MODELS = 150
"""Models of one process."""
SHRINKING = 60
"""Seconds for which Hypothesis may shrink a finding."""
LONGEST = 900
"""Seconds after which a process hangs."""


class _Found(Exception):
    """A fault that nobody knows yet."""


class _Enough(BaseException):
    """Enough of shrinking; no `Exception`, so that Hypothesis stops."""


def main() -> int:
    """Run for the given time; exit code 1 if something was found."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.child:
        _child(options)
        return 0
    ends, seed, total, found = time.monotonic() + options.seconds, options.seed, Tally(), 0
    while time.monotonic() < ends:
        found += _round(options, seed, total)
        seed += 1
        print(
            f"{total.models} models, {total.compared} compared, {total.refused} refused, {found} findings; against: {total.against}",
            flush=True,
        )
    print(_coverage(total.operators))
    return 1 if found else 0


def _coverage(drawn: dict[str, int]) -> str:
    """Which operators of the table models had, and which not."""
    known = {row.key for row in all_rows() if row.domain != INTERNAL}
    return f"{len(known & drawn.keys())} of {len(known)} operators drawn; not: {', '.join(sorted(known - drawn.keys()))}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--targets", default="cpu", help="any of cpu, c, cuda:shim")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="samples to use")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _round(options: argparse.Namespace, seed: int, total: Tally) -> int:
    """One process; the number of findings."""
    before = set(options.folder.glob("*.txt"))
    given = ["--folder", str(options.folder), "--targets", options.targets, "--seed", str(seed), "--only", options.only, "--child"]
    command = [sys.executable, "-m", "tests.fuzz.run", "0", *given]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)
        fault = "" if done.returncode == 0 else f"the process ended with {done.returncode}: {done.stderr.strip()[-800:]}"
        tally = json.loads(done.stdout.strip().rpartition("\n")[2]) if not fault else {}
    except subprocess.TimeoutExpired:
        fault, tally = f"the process did not end in {LONGEST} s", {}
    if fault:
        for file in options.folder.glob("current.*"):
            file.rename(options.folder / f"{seed}{file.suffix}")
        (options.folder / f"{seed}.txt").write_text(f"{fault}\n", encoding="utf-8")
    total.models += tally.get("models", 0)
    total.compared += tally.get("compared", 0)
    total.refused += tally.get("refused", 0)
    total.against = dict(Counter(total.against) + Counter(tally.get("against", {})))
    total.operators = dict(Counter(total.operators) + Counter(tally.get("operators", {})))
    new = sorted(set(options.folder.glob("*.txt")) - before)
    for path in new:
        text = path.read_text(encoding="utf-8")
        print(f"found {path}: {text[:300]}", flush=True)
    return len(new)


def _child(options: argparse.Namespace) -> None:
    tally = Tally()
    known = [json.loads(p.read_text()) for p in options.folder.glob("*.json")]
    targets = {target: (1, 2) if target == "cpu" else (1,) for target in options.targets.split(",")}
    last: list[Sample] = []
    ends = [float("inf")]

    def is_new(sample: Sample) -> bool:
        fault = find_fault(sample, targets, tally)
        return bool(fault) and not any(
            k["kind"] == kind_of(fault) and set(k["operators"]) <= operators_of(sample.model.graph) for k in known
        )

    @hypothesis.seed(options.seed)
    @settings(
        max_examples=MODELS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    @given(samples(options.only.split(",") if options.only else ()))
    def search(sample: Sample) -> None:
        if time.monotonic() > ends[0]:
            raise _Enough
        _write(options.folder, "current", sample)
        if is_new(sample):
            ends[0] = min(ends[0], time.monotonic() + SHRINKING)
            last[:] = [sample]
            raise _Found

    try:
        search()
    except (_Found, _Enough):
        _report(options.folder, str(options.seed), reduced(last[0], is_new), targets)
    print(json.dumps(asdict(tally)))


def _report(folder: Path, stem: str, sample: Sample, targets: Targets) -> None:
    """Write a finding."""
    fault = find_fault(sample, targets, Tally())
    _write(folder, stem, sample)
    values = "\n".join(f"{name} = {array!r}" for name, array in sample.inputs.items())
    runtime = run_onnxruntime(sample)
    said = f"onnxruntime: {runtime}\n" if isinstance(runtime, str) else ""
    (folder / f"{stem}.txt").write_text(f"{fault}\n{said}\n{describe(sample.model)}\n{values}\n", encoding="utf-8")
    (folder / f"{stem}.json").write_text(json.dumps({"kind": kind_of(fault), "operators": sorted(operators_of(sample.model.graph))}))


def kind_of(fault: str) -> str:
    """A fault without names and numbers."""
    if "differ" in fault:
        return f"{fault.partition(':')[0].partition(',')[0]}: values"
    return re.sub(r"'[^']*'|\d+", "_", fault.partition("\n")[0])[:120]


def _write(folder: Path, stem: str, sample: Sample) -> None:
    (folder / f"{stem}.onnx").write_bytes(sample.model.SerializeToString())
    np.savez(
        folder / f"{stem}.npz",
        **{name: array.view(f"V{array.itemsize}") if array.dtype.kind == "V" else array for name, array in sample.inputs.items()},
    )


if __name__ == "__main__":
    sys.exit(main())
