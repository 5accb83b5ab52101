"""Runs cases of the ONNX backend suite in a process of its own, so that a crash costs one case and not the run.

    python run_cases.py DEVICE < names

It prints `start NAME`, then `pass NAME` or `fail NAME REASON`, a line each.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from light_models import light_models, official_case

from onnxc import onnx_backend

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")


def all_cases() -> dict[str, Any]:
    """All cases by `kind/name`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {f"{kind}/{case.name}": case for kind in KINDS for case in load_model_tests(kind=kind)}


def data_of(case: Any) -> tuple[onnx.ModelProto, Iterator[tuple[list[Any], list[Any]]]]:
    """The model of a case and its sets of inputs and expected outputs."""
    if case.model is not None:
        return case.model, ((list(map(_array, inputs)), list(map(_array, outputs))) for inputs, outputs in case.data_sets)
    if case.kind == "real":
        path = light_models()[case.model_name.removeprefix("light_")]
        inputs, outputs = official_case(path)
        return onnx.load(path), iter([(list(inputs.values()), outputs)])
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = sorted(folder.glob("test_data_set_*"))
    return model, ((_read(s, "input", model.graph.input), _read(s, "output", model.graph.output)) for s in sets)


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


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _read(folder: Path, what: str, values: Any) -> list[Any]:
    found: list[Any] = []
    for i in range(len(list(folder.glob(f"{what}_*.pb")))):
        data = (folder / f"{what}_{i}.pb").read_bytes()
        match values[i].type.WhichOneof("value"):
            case "sequence_type":
                found.append(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
            case "optional_type":
                found.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
            case _:
                found.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
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
