"""Target strings of CPUs."""

from __future__ import annotations

import pytest

from onnxc.backends.llvm import target
from onnxc.compiler.diagnostics import CompileError


@pytest.mark.parametrize(
    ("text", "arch", "bits", "fma"),
    [
        ("cpu:x86-64", "x86_64", 128, False),
        ("cpu:x86-64-v3", "x86_64", 256, True),
        ("cpu:x86-64-v3,-fma", "x86_64", 256, False),
        ("cpu:znver4", "x86_64", 512, True),
        ("cpu:znver4,-avx512f", "x86_64", 256, True),
        ("cpu:aarch64-linux-gnu,cortex-a72", "aarch64", 128, True),
        ("cpu:cortex-a72", "aarch64", 128, True),
        ("cpu:riscv64", "riscv64", 64, True),
        ("cpu:riscv64,+v", "riscv64", 128, True),
        ("cpu:wasm32", "wasm32", 128, False),
    ],
)
def test_parts_of_a_target(text: str, arch: str, bits: int, fma: bool) -> None:
    """Architecture, vectors and FMA follow from the names and the changes."""
    features = target.parse(text)
    assert (features.arch, features.vector_bits, features.has_fma) == (arch, bits, fma)


def test_the_host_runs_here() -> None:
    """`cpu` is this machine, with the sizes of its caches."""
    features = target.parse("cpu")
    assert features.is_host and features.threads >= 1
    assert 1 << 12 <= features.l1_bytes <= features.l2_bytes


@pytest.mark.parametrize("text", ["cpu:pdp11", "cpu:x86-64-v3,znver4", "cpu:aarch64-linux-gnu,znver4"])
def test_unknown_parts_are_told(text: str) -> None:
    """Typos, two CPUs, and a CPU of another architecture."""
    with pytest.raises(CompileError) as error:
        target.parse(text)
    assert error.value.code == "E0301"
