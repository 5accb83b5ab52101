"""Operators that a user defines: rows, modules of rows, C functions, and what is said of wrong ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

import onnxc
from onnxc.compiler import cli
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.nodes import TensorType
from onnxc.compiler.kernel import build
from onnxc.compiler.ops.custom import c_function, load_operators
from onnxc.compiler.ops.elementwise import elementwise
from onnxc.compiler.ops.table import Nests, OpDef, Rewrite, lookup

ROOT = Path(__file__).parents[2]
HEAD = '<ir_version: 10, opset_import: ["" : 21, "acme" : 1]> '
WAVE = elementwise("Wave", lambda ctx, x: build.mul(x, build.add(x, ctx.float_attr("gain", 1.0))), domain="acme")
X = np.array([[1, -2, 3], [0.5, 4, -1]], np.float32)
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")


def model(body: str, ports: str = "(float[n, 3] x) => (float[n, 3] y)"):
    return parser.parse_model(f"{HEAD} g {ports} {{ {body} }}")


@pytest.mark.parametrize("target", ["cpu", pytest.param("c", marks=needs_cc)])
def test_an_operator_that_is_an_expression(target):
    compiled = onnxc.compile(model("a = acme.Wave<gain = 2.0>(x) y = Relu(a)"), target, operators=[WAVE])
    np.testing.assert_allclose(compiled(X), np.maximum(X * (X + 2), 0), rtol=1e-6)
    assert compiled.report["kernels"] == 1  # it fuses
    assert lookup("acme::Wave") is None  # and is forgotten


def test_an_operator_that_is_rewritten():
    row = OpDef("Halve", lambda ctx: [ctx.type(0)], Rewrite(lambda ctx, g: [g.op("Mul", ctx.value(0), g.const(0.5))]), domain="acme")
    np.testing.assert_array_equal(onnxc.compile(model("y = acme.Halve(x)"), operators=[row])(X), X / 2)


def test_the_page_of_custom_operators_works(tmp_path):
    """Its Python is a module of operators that the command line would take."""
    page = (ROOT / "docs" / "custom-operators.md").read_text()
    first, second, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "my_ops.py"
    file.write_text("\n".join(line for line in (first + second).splitlines() if not line.startswith("model =")))
    compiled = onnxc.compile(
        model("e = acme.Energy(x) y = acme.Halve(e)", "(float[n, 3] x) => (float[n] y)"), operators=load_operators(file)
    )
    np.testing.assert_allclose(compiled(X), (X * X).sum(1) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([1], "not int"),
        ([WAVE, WAVE], "defined twice"),
        ([OpDef("Add", WAVE.infer, WAVE.define)], "compiler's own"),
        ([OpDef("Wave", lambda ctx: 1 // 0, WAVE.define, domain="acme")], r"Wave 'a'.*ZeroDivisionError"),
        ([OpDef("Wave", lambda ctx: [1], WAVE.define, domain="acme")], "a list of int, not a list of TensorTypes"),
        ([OpDef("Wave", lambda ctx: [], WAVE.define, domain="acme")], "0 types, but the node has 1"),
        ([OpDef("Wave", WAVE.infer, Nests(lambda ctx: ctx.nothing), domain="acme")], r"Wave 'a'.*AttributeError"),
        ([OpDef("Wave", WAVE.infer, Nests(lambda ctx: [1]), domain="acme")], "not a list of nests"),
        ([OpDef("Wave", WAVE.infer, Rewrite(lambda ctx, g: g.const(1)), domain="acme")], "not a list of values"),
        (
            [OpDef("Wave", lambda ctx: [TensorType(DType.FLOAT64, ctx.shape(0))], WAVE.define, domain="acme")],
            r"a nest of acme::Wave is float32",
        ),
    ],
)
def test_wrong_rows_are_refused(rows, fault):
    with pytest.raises(CompileError, match=rf"E0206.*{fault}"):
        onnxc.compile(model("a = acme.Wave(x) y = Cast<to = 1>(a)"), operators=rows)


def test_unknown_operators_are_reported_at_once_with_remedies():
    with pytest.raises(CompileError) as caught:
        onnxc.compile(model("a = acme.Wave(x) b = acme.Other(a) y = Nothing(b)"), cache=False)
    assert [d.code for d in caught.value.diagnostics] == ["E0201"] * 3
    assert "operators=[...]" in caught.value.diagnostics[1].hint


def test_wrong_modules_are_refused(tmp_path):
    for text, fault in (("OPERATORS = 3", "no list OPERATORS"), ("1 / 0", "ZeroDivisionError"), ("(", "SyntaxError")):
        (tmp_path / "ops.py").write_text(text)
        with pytest.raises(CompileError, match=f"E0206.*{fault}"):
            load_operators(tmp_path / "ops.py")
    with pytest.raises(CompileError, match=r"E0206.*no such module"):
        load_operators(tmp_path / "none.py")


def make_library(folder: Path) -> Path:
    library = folder / "median3.so"
    source = ROOT / "examples" / "custom_operator" / "median3.c"
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


@needs_cc
def test_the_example_runs(tmp_path, monkeypatch):
    """Its operators, on all targets that call C functions; from the command line, too."""
    example = ROOT / "examples" / "custom_operator"
    subprocess.run([sys.executable, str(example / "make_model.py"), str(tmp_path / "model.onnx")], check=True)
    monkeypatch.setenv("MEDIAN_LIBRARY", str(make_library(tmp_path)))
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    near = np.stack([x[:, [0, *range(7)]], x, x[:, [*range(1, 8), 7]]])
    median = np.median(near, 0)
    for target in ("cpu", "c"):
        compiled = onnxc.compile(tmp_path / "model.onnx", target, operators=load_operators(example / "operators.py"))
        np.testing.assert_allclose(compiled(x), np.maximum(median * (median + np.float32(0.5)), 0), rtol=1e-6, atol=1e-6)
    header = compiled.artifact.files()["smooth.h"].decode()
    assert "void median3(const float *in0, float *out0, int64_t n0, int64_t n1, int64_t n2, int64_t n3);" in header
    command = [
        sys.executable,
        "-m",
        "onnxc.compiler.cli",
        "run",
        str(tmp_path / "model.onnx"),
        "--operators",
        str(example / "operators.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_c_function_that_nobody_has():
    row = OpDef("Wave", lambda ctx: [ctx.type(0)], c_function("no_such_function_anywhere"), domain="acme")
    with pytest.raises(CompileError, match="E0303"):
        onnxc.compile(model("y = acme.Wave(x)"), operators=[row])(X)
    with pytest.raises(CompileError, match=r"E0302.*does not run on a GPU"):
        onnxc.compile(model("y = acme.Wave(x)"), "cuda", operators=[row])


def test_inspect_knows_that_a_gpu_calls_no_c_functions(tmp_path, capsys):
    example = ROOT / "examples" / "custom_operator"
    subprocess.run([sys.executable, str(example / "make_model.py"), str(tmp_path / "model.onnx")], check=True)
    cli.run(["inspect", str(tmp_path / "model.onnx"), "-t", "cuda", "--operators", str(example / "operators.py"), "--json"])
    nodes = json.loads(capsys.readouterr().out)["placement"]["nodes"]
    assert any("does not run on a GPU" in node["reason"] for node in nodes)


def test_a_c_function_of_a_constant_is_not_folded():
    row = OpDef("Wave", lambda ctx: [ctx.type(0)], c_function("wave"), domain="acme")
    files = onnxc.compile(
        model("c = Constant<value_floats = [1.0]>() a = acme.Wave(c) y = Add(x, a)"), "c", operators=[row]
    ).artifact.files()
    assert b"wave(" in files["g.c"]


def test_a_c_function_with_two_prototypes():
    row = OpDef("Wave", lambda ctx: [ctx.type(0)], c_function("wave"), domain="acme")
    body = "a = acme.Wave(x) b = Cast<to = 11>(x) c = acme.Wave(b) d = Cast<to = 1>(c) y = Add(a, d)"
    for target in ("c", "cpu"):
        with pytest.raises(CompileError, match=r"E0206.*different types"):
            onnxc.compile(model(body), target, operators=[row])


@pytest.mark.parametrize(
    ("make", "fault"),
    [(lambda: c_function("a b"), "not the name of a C function"), (lambda: c_function("a", library="none.so"), "cannot be loaded")],
)
def test_wrong_c_functions_are_refused(make, fault):
    with pytest.raises(CompileError, match=f"E0206.*{fault}"):
        make()
