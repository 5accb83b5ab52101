"""Constants in C: numbers that read back exactly, and strings of bytes where there are very many."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

import onnxc
from onnxc.backends.c import weights
from onnxc.backends.c.artifact import CArtifact
from onnxc.backends.c.print import C99

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wpedantic", "-Werror", "-fsyntax-only"]
TABLES = {
    "float32": np.array([0, -0.0, 1, -3, 1e-45, 3.4e38, 0.1, -1 / 3, np.inf, -np.inf, np.nan, 16777216], np.float32),
    "float16": np.array([0, -0.0, 65504, 6e-8, np.inf, -2.5], np.float16),
    "int8": np.arange(-128, 128, dtype=np.int8),
    "uint8": np.frombuffer(b'??/"\\%s\n\r\0' + b"1??=7" * 20, np.uint8),
    "int64": np.array([-(2**63), 2**63 - 1, 0, -1, 5], np.int64),
    "bool": np.array([True, False, True]),
}


def look_up() -> tuple[ModelProto, dict[str, np.ndarray]]:
    """A model that reads the tables from their ends, and what it gives."""
    nodes = [helper.make_node("Gather", [name, f"at_{name}"], [f"y_{name}"], axis=0) for name in TABLES]
    indices = {f"at_{name}": np.arange(len(table))[::-1].copy() for name, table in TABLES.items()}
    inputs = [helper.make_tensor_value_info(name, 7, index.shape) for name, index in indices.items()]
    types = {name: helper.np_dtype_to_tensor_dtype(table.dtype) for name, table in TABLES.items()}
    outputs = [helper.make_tensor_value_info(f"y_{name}", types[name], table.shape) for name, table in TABLES.items()]
    graph = helper.make_graph(nodes, "tables", inputs, outputs, [numpy_helper.from_array(t, n) for n, t in TABLES.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), indices


@pytest.mark.parametrize("target", ["c", "c:separate-weights"])
@pytest.mark.parametrize("large", [False, True], ids=["numbers", "strings"])
def test_constants_read_back_exactly(large: bool, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LARGE_BYTES", 1 if large else 1 << 20)
    model, indices = look_up()
    compiled = onnxc.compile(model, target=target, cache=False)
    assert isinstance(compiled.artifact, CArtifact)
    for name, found in zip(TABLES, compiled.run(indices).values(), strict=True):
        assert found.tobytes() == TABLES[name][::-1].tobytes(), name
    for name, text in compiled.artifact.sources.items():
        (tmp_path / name).write_text(text)
    sources = [name for name in compiled.artifact.sources if name.endswith(".c")]
    assert any("union" in text for text in compiled.artifact.sources.values()) == large
    for command in (
        ["gcc", *WARNINGS],
        ["clang", *WARNINGS],
        ["g++", "-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"],
    ):
        if shutil.which(command[0]) is not None:
            done = subprocess.run([*command, *sources], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_only_very_many_numbers_are_a_string() -> None:
    small, large = np.zeros(weights.LARGE_BYTES // 4 - 1, np.float32), np.zeros(weights.LARGE_BYTES // 4, np.float32)
    assert weights.constant_text("w", small, C99).elements == "w"
    assert weights.constant_text("w", large, C99).elements == "w.elements"
    assert weights.constant_text("w", large.astype(np.float64), C99).elements == "w"
