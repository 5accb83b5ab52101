"""The bodies of the rows for Arm's instruction sets give the bytes that the nests say, on emulated processors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxc.backends.c.lower import lower
from onnxc.backends.c.mma import add_texts
from onnxc.backends.c.print import C99, PRELUDE, print_kernel_c
from onnxc.backends.c.weights import definition
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import Buffer, CastMode, MathFn

from .byte_layers import LAYERS, arrays_of, layer
from .emulator import run_on

BODIES = {"cortex-m0": "any", "cortex-m4": "any", "cortex-m55": "cortex-m55"}
"""Processors, and whose schedules they run."""


def program(names: tuple[str, ...], schedules: str) -> str:
    """A program that runs some layers and returns the number, from 1, of the first whose codes are wrong; 0 for none."""
    helpers: dict[str, str] = {}
    kernels, calls = [], []
    for number, name in enumerate(names):
        group, nest, scheduled = layer(name, schedules)
        arrays, wanted = arrays_of(group, nest, scheduled)
        kernels.append(print_kernel_c(lower(replace(scheduled.kernel, name=f"layer{number}")), helpers, f"layer{number}"))
        names_of = [f"a{number}_{k}" for k in range(len(arrays))]
        out = scheduled.operands.index(group.outputs[0])
        for k, array in enumerate(arrays):
            text = definition(names_of[k], array, C99)
            kernels.append("static " + (text.replace("const ", "", 1) if k == out else text))
        kernels.append("static " + definition(f"wanted{number}", wanted, C99))
        calls.append(f"    layer{number}({', '.join(names_of)});")
        calls.append(
            f"    for (int i = 0; i < {wanted.size}; i++) {{ if ({names_of[out]}[i] != wanted{number}[i]) {{ return {number + 1}; }} }}"
        )
    return "\n".join([PRELUDE, *helpers.values(), *kernels, "int main(void) {", *calls, "    return 0;", "}\n"])


@pytest.mark.parametrize("processor", BODIES)
@pytest.mark.parametrize("optimization", ["-O3", "-Os"])
def test_layers_on_an_emulated_processor(processor: str, optimization: str, tmp_path: Path) -> None:
    assert run_on(processor, program(LAYERS, BODIES[processor]), tmp_path, optimization) == 0


@pytest.mark.parametrize("processor", ["cortex-m4", "cortex-m55"])
def test_bodies_compile_without_optimization(processor: str, tmp_path: Path) -> None:
    assert run_on(processor, program(LAYERS[::5], "any"), tmp_path, "-O0") == 0


def test_a_wrong_code_is_found(tmp_path: Path) -> None:
    text = program(LAYERS[:2], "any")
    first = text.index("wanted1[")
    at = text.index("{", first) + 1
    number = text[at:].split(",", 1)[0].strip()
    assert run_on("cortex-m4", f"{text[:at]} {(int(number) + 1) % 100},{text[at:].split(',', 1)[1]}", tmp_path) == 2


def test_codes_at_halves_and_limits_on_every_processor(tmp_path: Path) -> None:
    """Ties go to even, what is too large saturates, NaN is 0: by VCVTR and by the bits of the number."""
    from onnxc.backends.c.round_texts import code_texts

    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -131.5, 1e9, -1e9, 3e38, -3e38, 4194304.5, 0.49999997, np.inf, -np.inf])
    codes = np.clip(np.rint(values) + 3, -128, 127).astype(int)
    texts = [f"{v:.9e}f".replace("inff", "INFINITY") for v in values.astype(np.float32)]
    checks = [f"    if (onnxc_code_s8({v}, 3) != {c}) {{ return {k + 1}; }}" for k, (v, c) in enumerate(zip(texts, codes, strict=True))]
    checks.append("    if (onnxc_code_s8((float)NAN, 3) != 3) { return 50; }")
    text = "\n".join([PRELUDE, "#include <math.h>", *code_texts(True).values(), "int main(void) {", *checks, "    return 0;", "}\n"])
    for processor in BODIES:
        assert run_on(processor, text, tmp_path) == 0, processor


def test_products_are_rounded_before_they_are_added_to_codes(tmp_path: Path) -> None:
    """Compilers may fuse `a * b + c * d` of floats; codes at halves would then differ from those of the specification."""
    a, y = Buffer("a", DType.FLOAT32, 512), Buffer("y", DType.INT8, 256)
    k = KernelBuilder()
    with k.loop("i", 256) as i:
        total = build.add(build.mul(build.load(a, i), build.load(a, i)), build.mul(build.load(a, build.add(i, 256)), 0.7))
        k.store(y, i, build.cast(build.math_fn(MathFn.ROUND, build.mul(total, 1e7)), DType.INT8, CastMode.SATURATE))
    kernel = k.kernel("sums", (a, y))
    x = np.random.default_rng(5).uniform(-1, 1, 256).astype(np.float32)
    z = -(x * x) / np.float32(0.7)
    wanted = np.clip(np.rint((x * x + z * np.float32(0.7)) * np.float32(1e7)), -128, 127).astype(np.int8)
    fused = np.clip(np.rint((x.astype(np.float64) ** 2 + z * np.float32(0.7)) * 1e7), -128, 127).astype(np.int8)
    assert (wanted != fused).any(), "the numbers tell the two apart"
    arrays = [f"static {definition('a', np.concatenate([x, z]), C99)}", f"static {definition('w', wanted, C99)}", "static int8_t y[256];"]
    run = ["int main(void) {", "sums(a, y);", "for (int i = 0; i < 256; i++) { if (y[i] != w[i]) { return 1; } }", "return 0;", "}\n"]
    source = "\n".join([PRELUDE, *arrays, print_kernel_c(kernel), *run])
    assert run_on("cortex-m4", source, tmp_path) == 0
    assert run_on("cortex-m4", source.replace("= onnxc_apart(", "= (").replace("(onnxc_apart(", "(("), tmp_path) == 1


@pytest.mark.parametrize("processor", ["cortex-m0", "cortex-m4"])
def test_sums_are_scaled_by_integers_as_by_floats(processor: str, tmp_path: Path) -> None:
    """On a processor without FPU, each step of rounding is that of float arithmetic."""
    helpers: dict[str, str] = {}
    add_texts("onnxc_scaled", helpers)
    check = """
    static uint32_t state = 1u;
    static uint32_t next(void) { state = state * 1664525u + 1013904223u; return state >> 1; }
    static int32_t bounded(int32_t x) { return x > 70000 ? 70000 : x < -70000 ? -70000 : x; }
    int main(void) {
        const float scales[] = {0.5f, 0.25f, 1.0f / 3.0f, 0.0017f, 1.0e-7f, 1.0f, 3.0f, 1.0e9f, 1.0e-39f, 0.0f, -0.7f, 1.17549435e-38f};
        for (int i = 0; i < 20000; i++) {
            union { float to; uint32_t from; } scale;
            scale.from = 0x38000000u + (next() & 0x7FFFFFFu);
            const float factor = i % 3 == 0 ? scales[(i / 3) % 12] : scale.to;
            const uint32_t size = next();
            const int32_t sum = (int32_t)(size >> (i % 31)) * (i % 2 == 0 ? 1 : -1);
            if (bounded(onnxc_scaled(sum, factor)) != bounded(onnxc_rounded((float)sum * factor))) { return 1; }
        }
        if (bounded(onnxc_scaled(INT32_MIN, 0.001f)) != bounded(onnxc_rounded((float)INT32_MIN * 0.001f))) { return 2; }
        return 0;
    }
    """
    assert run_on(processor, "\n".join([PRELUDE, *helpers.values(), check]), tmp_path) == 0
