"""Runs cases of the ONNX backend suite in a process of its own, so that a crash costs one case and not the run.

    python run_cases.py DEVICE < names

It prints `start NAME`, then `pass NAME` or `fail NAME REASON`, a line each.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx.backend.test.runner import Runner

sys.path.insert(0, str(Path(__file__).parent))

from cases import all_cases, data_of

from onnxc import onnx_backend


def run_case(case: Any, device: str) -> None:
    """Compile, run and compare one case by the official rule; raises on any difference."""
    model, sets = data_of(case)
    compiled = onnx_backend.prepare(model, device, cache=False)
    for inputs, expected in sets:
        Runner.assert_similar_outputs(*map(_tensors, (expected, compiled.run(inputs))), case.rtol, case.atol)


def _tensors(values: Any) -> list[Any]:
    """Outputs with the tensors of a sequence in its place, and their number: the runner cannot compare scalars in a list."""
    found: list[Any] = []
    for value in values:
        found += [np.array(len(value)), *_tensors(value)] if isinstance(value, list) else [np.zeros(0) if value is None else value]
    return found


def main() -> None:
    """Run the cases named on standard input; with LIST as device, print the names of all cases."""
    np.seterr(all="ignore")
    cases = all_cases()
    if sys.argv[1] == "LIST":
        print("\n".join(cases))
        return
    for name in sys.stdin.read().split():
        print("start", name, flush=True)
        try:
            run_case(cases[name], sys.argv[1])
        except Exception as error:  # noqa: BLE001 (any failure is a result here)
            reason = str(error).strip().partition("\n")[0][:200]
            print("fail", name, f"{type(error).__name__}: {reason}", flush=True)
        else:
            print("pass", name, flush=True)


if __name__ == "__main__":
    main()
