"""The cases of the ONNX backend suite by name, and their data.

The onnx package computes the cases of single operators anew in every process that asks for them, which takes 12 s. Therefore the
first process writes them to files in `build/`, in the form of the other kinds, and every process loads only those that it runs.
"""

import fcntl
import json
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from light_models import light_models, official_case

KINDS = ("simple", "pytorch-converted", "pytorch-operator", "real")
"""The kinds whose cases are files of the onnx package."""
NODE_CASES = Path(__file__).parents[2] / "build" / "onnx-suite" / onnx.__version__


def all_cases() -> dict[str, TestCase]:
    """All cases by `kind/name`."""
    _write_node_cases()
    found = {f"node/{case.name}": case for case in load_model_tests(str(NODE_CASES.parent), NODE_CASES.name)}
    found |= {f"{kind}/{case.name}": case for kind in KINDS for case in load_model_tests(kind=kind)}
    return dict(sorted(found.items()))


def data_of(case: TestCase) -> tuple[onnx.ModelProto, Iterator[tuple[list[Any], list[Any]]]]:
    """The model of a case and its sets of inputs and expected outputs."""
    if case.kind == "real":
        path = light_models()[case.model_name.removeprefix("light_")]
        inputs, outputs = official_case(path)
        return onnx.load(path), iter([(list(inputs.values()), outputs)])
    model, sets = model_of(case), sorted(Path(case.model_dir).glob("test_data_set_*"))
    return model, ((_read(s, "input", model.graph.input), _read(s, "output", model.graph.output)) for s in sets)


def model_of(case: TestCase) -> onnx.ModelProto:
    """The model of a case that is no real one."""
    return onnx.load(Path(case.model_dir) / "model.onnx")


def _write_node_cases() -> None:
    """Write the cases of single operators, unless an earlier process has."""
    NODE_CASES.parent.mkdir(parents=True, exist_ok=True)
    with (NODE_CASES.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if NODE_CASES.exists():
            return
        unfinished = NODE_CASES.parent / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cases = load_model_tests(kind="node")
        for case in cases:
            _write_case(case, unfinished / case.name)
        unfinished.rename(NODE_CASES)


def _write_case(case: TestCase, folder: Path) -> None:
    for k, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{k}"
        data.mkdir(parents=True)
        _write(data, "input", inputs, case.model.graph.input)
        _write(data, "output", outputs, case.model.graph.output)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    (folder / "data.json").write_text(json.dumps({"rtol": case.rtol, "atol": case.atol}))


def _write(folder: Path, what: str, arrays: Sequence[Any], values: Sequence[onnx.ValueInfoProto]) -> None:
    for k, (array, value) in enumerate(zip(arrays, values, strict=True)):
        match value.type.WhichOneof("value"):
            case "sequence_type":
                proto = numpy_helper.from_list(array)
            case "optional_type":
                proto = numpy_helper.from_optional(array)
            case _:
                proto = array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(array)
        (folder / f"{what}_{k}.pb").write_bytes(proto.SerializeToString())


def _read(folder: Path, what: str, values: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    found: list[Any] = []
    for k in range(len(list(folder.glob(f"{what}_*.pb")))):
        data = (folder / f"{what}_{k}.pb").read_bytes()
        match values[k].type.WhichOneof("value"):
            case "sequence_type":
                found.append(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
            case "optional_type":
                found.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
            case _:
                found.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return found
