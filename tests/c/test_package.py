"""Packaged models: strict compilation, sanitizers, and the same results as the reference evaluator."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import onnxc
from onnxc.backends.c.package import comment
from onnxc.backends.c.round_texts import RINT
from onnxc.backends.c.target import make_target
from onnxc.compiler.diagnostics import CompileError

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror", "-O2"]

MODELS = {
    "convolution": (
        """<ir_version: 8, opset_import: ["" : 17]>
        tiny (float[1,3,8,8] x) => (float[1,4] y)
        <float[4,3,3,3] w, float[4] c>
        {
          h = Conv<pads=[1,1,1,1]>(x, w, c)
          r = Relu(h)
          p = GlobalAveragePool(r)
          f = Flatten(p)
          y = Softmax(f)
        }""",
        {"x": (1, 3, 8, 8)},
    ),
    "windows": (
        """<ir_version: 8, opset_import: ["" : 17]>
        windows (float[1,3,9,7] x) => (float[1,5] y)
        <float[6,3,4,3] w, float[6,1,3,3] d, float[6] c, float[18,5] m>
        {
          h = Conv<pads=[1,1,2,1], strides=[2,1]>(x, w, c)
          r = Relu(h)
          k = Conv<pads=[1,1,1,1], group=6, dilations=[1,1]>(r, d)
          p = MaxPool<kernel_shape=[3,3], strides=[3,3], pads=[1,1,1,1], ceil_mode=1>(k)
          a = AveragePool<kernel_shape=[2,1], strides=[2,1]>(p)
          f = Flatten(a)
          y = MatMul(f, m)
        }""",
        {"x": (1, 3, 9, 7)},
    ),
    "dynamic": (
        """<ir_version: 8, opset_import: ["" : 17]>
        rows (float[N,4] x) => (float[N,4] y, bool[N,4] b, float[N] m)
        { z = Tanh(x)
          e = Erf(z)
          y = Add(e, x)
          b = Greater(y, x)
          m = ReduceMax<axes=[1], keepdims=0>(y) }""",
        {"x": (5, 4)},
    ),
    "functions": (
        """<ir_version: 8, opset_import: ["" : 17]>
        functions (float[64] x) => (float[64] a, float[64] b, float[64] c, float[64] d, float[64] f)
        { f = Round(x)
          a = Sin(x)
          b = Sigmoid(x)
          e = Exp(x)
          c = Log(e)
          d = Pow(e, x) }""",
        {"x": (64,)},
    ),
    "indices": (
        """<ir_version: 8, opset_import: ["" : 17]>
        indices (float[6,4] x, int64[3] i) => (float[3,4] y, int64[6] k)
        { y = Gather(x, i)
          k = ArgMax<axis=1, keepdims=0>(x) }""",
        {"x": (6, 4), "i": (3,)},
    ),
}


def build(name: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    text, shapes = MODELS[name]
    model, rng = parser.parse_model(text), np.random.default_rng(3)
    for info in model.graph.value_info:
        weights = rng.normal(size=[d.dim_value for d in info.type.tensor_type.shape.dim]).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, info.name))
    inputs = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    if "i" in inputs:
        inputs["i"] = np.array([5, 0, -1])
    return model, inputs


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["c", "c:cortex-m4,separate-weights", "c:steps"])
def test_results_agree_with_the_reference(name: str, target: str) -> None:
    model, inputs = build(name)
    found = onnxc.compile(model, target=target).run(inputs)
    for got, wanted in zip(found.values(), ReferenceEvaluator(model).run(None, inputs), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["c", "c:separate-weights"])
def test_files_compile_without_a_warning(name: str, target: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    files = onnxc.compile(build(name)[0], target=target).artifact.files()
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    for file in (f for f in files if f.endswith(".c")):
        done = subprocess.run([compiler, *STRICT, "-c", file, "-o", "model.o"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert any(f.endswith("_weights.c") for f in files) == ("separate" in target)


@pytest.mark.skipif(shutil.which("avr-gcc") is None, reason="avr-gcc is not installed")
@pytest.mark.parametrize("name", MODELS)
def test_processors_whose_int_has_16_bits_compile_it(name: str, tmp_path: Path) -> None:
    for file, data in onnxc.compile(build(name)[0], target="c:avr").artifact.files().items():
        (tmp_path / file).write_bytes(data)
    source = next(tmp_path.glob("*.c")).name
    command = ["avr-gcc", "-mmcu=atmega2560", *STRICT, "-Wno-overflow", "-c", source]  # its doubles have 32 bits
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rounding_without_a_library_is_that_of_the_library(tmp_path: Path) -> None:
    main = (
        "int main(void) {\n    union { float real; uint32_t bits; } x, y, z;\n"
        "    for (uint64_t i = 0; i < UINT64_C(0x100000000); i += 4999) {\n"
        "        x.bits = (uint32_t)i;\n        y.real = onnxc_rintf(x.real);\n        z.real = (rintf)(x.real);\n"
        "        if (y.bits != z.bits && (y.real == y.real || z.real == z.real)) { return 1; }\n    }\n    return 0;\n}\n"
    )
    text = RINT.replace("#define rintf onnxc_rintf\n", "")
    (tmp_path / "main.c").write_text(f"#include <math.h>\n#include <stdint.h>\n#define __AVR__\n{text}{main}")
    assert subprocess.run(["gcc", *STRICT, "main.c", "-o", "main", "-lm"], cwd=tmp_path, check=False).returncode == 0
    assert subprocess.run([str(tmp_path / "main")], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("cppcheck") is None, reason="cppcheck is not installed")
@pytest.mark.parametrize("name", MODELS)
def test_cppcheck_finds_nothing(name: str, tmp_path: Path) -> None:
    for file, data in onnxc.compile(build(name)[0], target="c").artifact.files().items():
        (tmp_path / file).write_bytes(data)
    command = ["cppcheck", "-q", "--enable=warning,performance,portability", "--error-exitcode=1", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_arena_is_all_the_memory_that_a_model_writes(tmp_path: Path) -> None:
    """A run under sanitizers, with an arena of exactly the stated size on the heap."""
    model, _ = build("convolution")
    for file, data in onnxc.compile(model, target="c").artifact.files().items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / "main.c").write_text(
        '#include "tiny.h"\n#include <stdlib.h>\nint main(void) {\n'
        "    void *arena = malloc(TINY_ARENA_BYTES + 1);\n    float *x = calloc(TINY_IN_X_ELEMENTS, sizeof(float));\n"
        "    float *y = calloc(TINY_OUT_Y_ELEMENTS, sizeof(float));\n    int status = tiny_run(x, y, arena);\n"
        "    float sum = y[0] + y[1] + y[2] + y[3];\n    free(arena);\n    free(x);\n    free(y);\n"
        "    return status != 0 || sum < 0.999f || sum > 1.001f;\n}\n"
    )
    flags = ["-std=c99", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", *flags, "tiny.c", "main.c", "-o", "run", "-lm"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "cannot find" in built.stderr:
        pytest.skip("the sanitizers' libraries are not installed")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(tmp_path / "run")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_compiles_give_the_same_bytes() -> None:
    first, second = (onnxc.compile(build("dynamic")[0], target="c").artifact.files() for _ in range(2))
    assert first == second


def test_comments_cannot_end_early() -> None:
    assert comment("x */ int evil; /*") == "x __ int evil_ __"
    assert "\n" not in comment("a\nb")


def test_unknown_processors_are_refused() -> None:
    with pytest.raises(CompileError) as error:
        make_target("c:z80")
    assert error.value.code == "E0301"
