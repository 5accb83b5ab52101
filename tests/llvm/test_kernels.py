"""Whole kernels: statuses, ranges of parallel loops, symbols, and cross compilation."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.backends.llvm import target
from onnxc.backends.llvm.features import CpuFeatures
from onnxc.backends.llvm.jit import assembly, compile_object
from onnxc.backends.llvm.lower import lower
from onnxc.backends.llvm.print import print_module
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import Buffer, Kernel, LoopKind, Var

from .conftest import run_native

F32 = DType.FLOAT32
N = Var("n")
X, Y = Buffer("x", F32, N), Buffer("y", F32, N)


def relu() -> Kernel:
    """`y = max(x, 0)`, eight elements a parallel iteration."""
    k = KernelBuilder()
    with k.loop("i", build.floordiv(N, 8), LoopKind.PARALLEL) as i, k.loop("v", 8, LoopKind.VECTOR) as v:
        at = build.add(build.mul(i, 8), v)
        k.store(Y, at, build.maximum(build.load(X, at), 0.0))
    return k.kernel("relu", (X, Y))


def test_a_task_runs_its_range_only(features: CpuFeatures) -> None:
    """Iterations 1 and 2 of four."""
    x, y = np.arange(32, dtype=np.float32) - 4, np.full(32, -7, np.float32)
    assert run_native(relu(), {X: x, Y: y}, {"n": 32}, features, 1, 3) == 0
    assert (y[8:24] == np.maximum(x[8:24], 0)).all() and (y[:8] == -7).all() and (y[24:] == -7).all()
    assert run_native(relu(), {X: x, Y: y}, {"n": 32}, features, 3, 3) == 0
    assert (y[24:] == -7).all()


@pytest.mark.parametrize(("n", "status"), [(4, 0), (5, 12)])
def test_a_failed_check_is_the_status(features: CpuFeatures, n: int, status: int) -> None:
    """And nothing after it runs."""
    k = KernelBuilder()
    k.store(Y, 0, 1.0)
    k.check(build.le(N, 4), 12, "too long")
    k.store(Y, 1, 1.0)
    y = np.zeros(8, np.float32)
    assert run_native(k.kernel("checked", (Y,)), {Y: y}, {"n": n}, features) == status
    assert list(y[:2]) == [1, 0 if status else 1]


@pytest.mark.parametrize(
    ("text", "instruction"),
    [("cpu:x86-64-v3", "vmaxps"), ("cpu:x86-64-v4", "vmaxps\t(%"), ("cpu:x86-64", "cmpnltps"), ("cpu:aarch64-linux-gnu,cortex-a72", "fmax"),
     ("cpu:riscv64", "fmax.s"), ("cpu:wasm32", "f32x4.max")],
)  # fmt: skip
def test_relu_in_the_words_of_other_machines(text: str, instruction: str) -> None:
    """Compiles for every architecture, and a relu is one maximum."""
    features = target.parse(text)
    listing = assembly(print_module([("relu", lower(relu(), features))], features), features)
    assert instruction in listing


def test_the_same_text_and_object_each_time() -> None:
    """Nothing depends on addresses or on the order of sets."""
    features = target.parse("cpu:x86-64-v3")
    texts = {print_module([("relu", lower(relu(), features))], features) for _ in range(3)}
    assert len(texts) == 1
    assert len({compile_object(text, features) for text in [*texts] * 2}) == 1
