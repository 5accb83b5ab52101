"""Strings in C: classes whose names are C strings, and texts of a bounded size without a heap."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

import onnxc
from onnxc.compiler.diagnostics import CompileError

C = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror", "-O1"]
MAIN = """
#include <stdio.h>
#include "names.h"
int main(void) {
    const float x[6] = {3, 1, -2, 5, 0, 0};
    int64_t label[3];
    float scores[9];
    double arena[1024];
    if (names_run(x, label, scores, arena) != 0) { return 1; }
    for (int k = 0; k < 3; k++) { printf("%s\\n", names_out_label_string(label[k])); }
    return 0;
}
"""
WORDS = """<ir_version: 8, opset_import: ["" : 20]> words (string[n] x) => (string[m] y, int64[n] count)
{
  lower = StringNormalizer <case_change_action = "LOWER", locale = "C"> (x)
  pieces, count = StringSplit <delimiter = " "> (lower)
  flat = Constant <value_ints = [-1]> ()
  y = Reshape(pieces, flat)
}"""


def names() -> onnx.ModelProto:
    attrs = {"coefficients": [1.0, 0.0, 0.0, 1.0, -1.0, -1.0], "intercepts": [0.0, 0.0, 0.5], "classlabels_strings": ["left", "up", "né"]}
    node = helper.make_node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", **attrs)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 2])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, [3]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [3, 3]),
    ]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph([node], "names", [x], outputs), opset_imports=opsets, ir_version=8)


def test_names_of_classes_are_c_strings(tmp_path: Path) -> None:
    for name, data in onnxc.compile(names(), "c").artifact.files().items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run([*C, "main.c", "names.c", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run(["./main"], cwd=tmp_path, capture_output=True, check=True).stdout.decode().split() == ["left", "up", "né"]


def test_texts_need_a_bound() -> None:
    with pytest.raises(CompileError, match="E0304"):
        onnxc.compile(parser.parse_model(WORDS), "c", bind={"n": 2})


def test_texts_of_a_bounded_size() -> None:
    model = onnxc.compile(parser.parse_model(WORDS), "c", bind={"n": 2}, max={"x.bytes": 40})
    found = model.run({"x": np.array(["A b É", "Zwei"], object)})
    assert found["y"].tolist() == ["a", "b", "é", "zwei", "", ""]
    assert found["count"].tolist() == [3, 1]
    with pytest.raises(CompileError, match="larger than 40"):
        model.run({"x": np.array(["a" * 40, ""], object)})
