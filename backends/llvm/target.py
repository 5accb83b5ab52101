"""Target strings of the `llvm` backend: `cpu`, `cpu:x86-64-v3`, `cpu:znver4,-avx512f`, `cpu:aarch64-linux-gnu,cortex-a72`.

Grammar: `cpu[:part[,part]*]` with parts in any order: `+feature`, `-feature`, a triple (or the short
names `riscv64` and `wasm32`), or the name of a CPU. Without a triple the architecture is the host's. `-winograd` keeps to direct
convolutions, which round less; `-quick` optimizes the code of small programs, too, whose runs take microseconds.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Mapping

from ...compiler.diagnostics import CompileError
from ...compiler.target import Artifact, Pipeline, Target
from .features import CpuFeatures

_SHORT_TRIPLES = {
    "riscv64": "riscv64-unknown-linux-gnu", "wasm32": "wasm32-unknown-unknown", "aarch64": "aarch64-unknown-linux-gnu",
    "x86_64": "x86_64-unknown-linux-gnu",
}  # fmt: skip
_ARCHITECTURES = ("x86_64", "aarch64", "arm64", "riscv64", "wasm32")

_V2 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cx16", "sahf")
_V3 = (*_V2, "avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512cd")
_ICE = ("avx512vnni", "avx512vbmi", "avx512vbmi2", "avx512bitalg", "avx512vpopcntdq", "avx512ifma", "gfni")
_X86_BASE = ("64bit", "sse", "sse2", "fxsr", "cmov", "cx8", "mmx", "x87")
# What named CPUs can do, as far as kernels have use for it.
_CPU_FEATURES: dict[str, tuple[str, ...]] = {
    "x86-64": (), "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4,
    "nehalem": _V2, "haswell": _V3, "broadwell": _V3, "skylake": _V3, "alderlake": (*_V3, "avxvnni"), "znver1": _V3, "znver2": _V3,
    "znver3": _V3, "znver4": (*_V4, *_ICE, "avx512bf16"), "znver5": (*_V4, *_ICE, "avx512bf16", "avxvnni"),
    "skylake-avx512": _V4, "cascadelake": (*_V4, "avx512vnni"), "icelake-server": (*_V4, *_ICE),
    "sapphirerapids": (*_V4, *_ICE, "avxvnni", "avx512bf16", "avx512fp16", "amx-tile", "amx-int8", "amx-bf16"),
    "cortex-a53": ("neon",), "cortex-a72": ("neon",), "cortex-a76": ("neon", "dotprod", "fullfp16"),
    "neoverse-n1": ("neon", "dotprod", "fullfp16"), "neoverse-v1": ("neon", "dotprod", "fullfp16", "i8mm", "bf16"),
    "apple-m1": ("neon", "dotprod", "fullfp16"),
}  # fmt: skip
_ARCH_FEATURES: dict[str, tuple[str, ...]] = {
    "x86_64": _X86_BASE, "aarch64": ("neon",), "arm64": ("neon",), "riscv64": ("m", "a", "f", "d", "c"), "wasm32": ("simd128",),
}  # fmt: skip
_GENERIC_CPU = {"x86_64": "x86-64", "riscv64": "generic-rv64"}


def parse(text: str) -> CpuFeatures:
    """Return what the CPU of a target string can do.

    Raises:
        CompileError: E0301 if a part is not understood.
    """
    parts = [part.strip() for part in text.partition(":")[2].split(",") if part.strip()]
    changes = [part for part in parts if part[0] in "+-"]
    names = [part for part in parts if part[0] not in "+-"]
    base = _named(text, names) if names else host()
    return _changed(base, changes) if changes else base


def _changed(base: CpuFeatures, changes: list[str]) -> CpuFeatures:
    on, off = {c[1:] for c in changes if c[0] == "+"}, {c[1:] for c in changes if c[0] == "-"}
    for prefix in [name for name in off if name in _IMPLIES]:
        off |= {name for name in base.features if name.startswith(_IMPLIES[prefix])}
    return CpuFeatures(base.triple, base.cpu, (base.features | on) - off, (base.disabled | off) - on, base.l1_bytes, base.l2_bytes,
                       base.l3_bytes, base.threads, base.is_host and on <= base.features)  # fmt: skip


# Switching one of these off takes along whatever builds on it.
_IMPLIES: dict[str, tuple[str, ...]] = {
    "avx512f": ("avx512", "evex512", "amx-avx512"),
    "avx2": ("avx2", "avx512", "avxvnni", "fma", "evex512"),
    "avx": ("avx", "fma", "f16c", "vaes", "vpclmulqdq", "evex512", "xop"),
    "amx-tile": ("amx",),
}


def _named(text: str, names: list[str]) -> CpuFeatures:
    triple, cpu = "", ""
    for name in names:
        if name.split("-")[0] in _ARCHITECTURES and name not in _CPU_FEATURES:
            triple = _SHORT_TRIPLES.get(name, name)
        elif not cpu and name in _CPU_FEATURES:
            cpu = name
        else:
            raise CompileError("E0301", f"target '{text}': neither a triple nor a known CPU: '{name}'",
                               hint=f"known CPUs: {', '.join(sorted(_CPU_FEATURES))}")  # fmt: skip
    if not triple:
        triple = _SHORT_TRIPLES["x86_64"] if "neon" not in _CPU_FEATURES[cpu] else _SHORT_TRIPLES["aarch64"]
    arch = triple.split("-", 1)[0]
    features = frozenset((*_ARCH_FEATURES[arch], *_CPU_FEATURES.get(cpu, ())))
    if cpu and ("neon" in _CPU_FEATURES[cpu]) != (arch in ("aarch64", "arm64")):
        raise CompileError("E0301", f"target '{text}': CPU '{cpu}' is not of architecture '{arch}'")
    native = host()
    return CpuFeatures(triple, cpu or _GENERIC_CPU.get(arch, "generic"), features,
                       is_host=arch == native.arch and "linux" in triple and features <= native.features)  # fmt: skip


@functools.cache
def host() -> CpuFeatures:
    """The CPU of this process."""
    import llvmlite.binding as llvm

    flags = dict(llvm.get_host_cpu_features())
    sizes = [_cache_bytes(level) for level in (1, 2, 3)]
    triple = llvm.get_process_triple()
    on = {name for name, is_on in flags.items() if is_on} | set(_ARCH_FEATURES.get(triple.split("-", 1)[0], ()))
    off = frozenset(name for name, is_on in flags.items() if not is_on and name not in on)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return CpuFeatures(triple, llvm.get_host_cpu_name(), frozenset(on), off, sizes[0] or 32 << 10, sizes[1] or 512 << 10,
                       sizes[2] or 8 << 20, threads, True)  # fmt: skip


def _cache_bytes(level: int) -> int:
    """Size of the data cache of a level as Linux tells it, 0 if it does not."""
    for entry in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if (
                int((entry / "level").read_text(encoding="utf-8")) == level
                and (entry / "type").read_text(encoding="utf-8").strip() != "Instruction"
            ):
                size = (entry / "size").read_text(encoding="utf-8").strip()
                return int(size[:-1]) << {"K": 10, "M": 20}[size[-1]] if size[-1] in "KM" else int(size)
        except (OSError, ValueError, KeyError):
            continue
    return 0


def _choices(features: CpuFeatures) -> str:
    return f"{'' if features.has_winograd else ' direct'}{'' if features.may_be_quick else ' thorough'}"


def make_target(text: str) -> Target:
    """The `llvm` target of a target string."""
    features = parse(text)

    def pipeline() -> Pipeline:
        from .backend import make_pipeline

        return make_pipeline(features)

    def load(files: Mapping[str, bytes | memoryview]) -> Artifact:
        from .artifact import load_files

        return load_files(files, features)

    return Target(
        name=text,
        fingerprint=f"llvm {features.triple} {features.cpu} {features.feature_string}{_choices(features)}",
        make_pipeline=pipeline,
        load=load,
        features={"triple": features.triple, "cpu": features.cpu, "vector bits": str(features.vector_bits)},
    )
