"""Small programs are compiled without optimization, to the same results; what may be large is not small."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxc
from onnxc.backends.llvm import target
from onnxc.backends.llvm.effort import FULL, QUICK, code_options, is_small
from onnxc.compiler.pipeline import Options, make_graph, make_program
from onnxc.compiler.program.nodes import Program
from onnxc.compiler.target import load_target

HEAD = '<ir_version: 9, opset_import: ["": 17]>'
SMALL = f"{HEAD} g (float[3,40] x) => (float[3,40] y) {{ s = Softmax(x) t = Erf(s) y = Div(t, x) }}"


def program_of(text: str, name: str = "cpu") -> Program:
    """The program of a model."""
    chosen = load_target(name)
    return make_program(make_graph(onnx.parser.parse_model(text), chosen, Options(), {}), chosen, {})


def test_a_small_program_is_compiled_quickly() -> None:
    """For this machine, unless the user wants otherwise."""
    program = program_of(SMALL)
    assert code_options(program, target.parse("cpu")) is QUICK
    assert code_options(program, target.parse("cpu:-quick")) is FULL
    assert code_options(program, target.parse("cpu:riscv64")) is FULL


def test_results_are_the_same() -> None:
    """To the bit, from other code."""
    x = np.random.default_rng(1).standard_normal((3, 40), np.float32)
    model = onnx.parser.parse_model(SMALL)
    quick, full = (onnxc.compile(model, name, cache=False, threads=1) for name in ("cpu", "cpu:-quick"))
    assert quick.artifact.files()["code1.o"] != full.artifact.files()["code1.o"]
    assert quick.artifact.files()["code0.o"] == full.artifact.files()["code0.o"]  # the pool may serve other models, too
    assert quick.run({"x": x})["y"].tobytes() == full.run({"x": x})["y"].tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "g (float[300,400] x) => (float[300,400] y) { y = Exp(x) }",
        "g (float[n,4] x) => (float[n,4] y) { y = Exp(x) }",
        "g (float[8,64] x, float[64,64] w) => (float[8,64] y) { y = MatMul(x, w) }",
        "g (float[3] x, int64[1] k) => (float[k] y, int64[k] i) { y, i = TopK(x, k) }",
        (
            "g (int64 n, float[2] x) => (float[2] y) "
            "{ c = Constant<value = bool {1}>() y = Loop(n, c, x) <body = b (int64 i, bool d, float[2] a) => (bool e, float[2] z) "
            "{ e = Identity(d) z = Add(a, a) }> }"
        ),
    ],
    ids=["elements", "symbol", "products", "search", "loop"],
)
def test_what_may_take_long_is_not_small(text: str) -> None:
    """By its size, or because the inputs decide how much there is to do."""
    assert not is_small(program_of(f"{HEAD} {text}"))


def test_the_fingerprint_tells_them_apart() -> None:
    """The cache keeps both."""
    assert load_target("cpu").fingerprint != load_target("cpu:-quick").fingerprint
    assert "quick" not in target.parse("cpu:-quick").feature_string  # LLVM knows nothing of the choice
