"""What a CPU can do: the record by which schedules, rows and printers choose.

Made by `target.py` from a target string. Choices go by `features`, never by the name of the CPU: LLVM
takes some virtual machines for older models than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

WINOGRAD, QUICK = "winograd", "quick"
CHOICES = frozenset({WINOGRAD, QUICK})
"""Not features of a CPU: choices that are made in the same place."""


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """One CPU as LLVM sees it."""

    triple: str
    """LLVM target triple, such as `x86_64-unknown-linux-gnu`."""
    cpu: str
    """LLVM's name of the CPU; on x86 it tunes the scheduler only."""
    features: frozenset[str]
    """Names of the features that are on, such as `avx2`."""
    disabled: frozenset[str] = frozenset()
    """Names of the features that were switched off by hand."""
    l1_bytes: int = 32 << 10
    """Data cache of one core."""
    l2_bytes: int = 512 << 10
    """Second-level cache of one core."""
    l3_bytes: int = 8 << 20
    """Last-level cache, shared."""
    threads: int = 1
    """Hardware threads that this process may use; 1 for a foreign CPU."""
    is_host: bool = False
    """True if code for it runs in this process."""

    @property
    def arch(self) -> str:
        """First part of the triple."""
        return self.triple.split("-", 1)[0]

    @property
    def is_x86(self) -> bool:
        """64-bit x86."""
        return self.arch in ("x86_64", "amd64")

    @property
    def is_arm(self) -> bool:
        """64-bit ARM."""
        return self.arch in ("aarch64", "arm64")

    def has(self, *names: str) -> bool:
        """All of these features are on."""
        return self.features.issuperset(names)

    @property
    def vector_bits(self) -> int:
        """Width of the widest vector register that is worth using; 64 without vectors."""
        if self.is_x86:
            return 512 if self.has("avx512f", "avx512vl", "avx512bw", "avx512dq") else 256 if self.has("avx") else 128
        if self.is_arm:
            return 128 if self.has("neon") else 64
        if self.arch.startswith("riscv"):
            return 128 if self.has("v") else 64
        return 128 if self.has("simd128") else 64

    @property
    def vector_registers(self) -> int:
        """Number of architectural vector registers."""
        return 32 if self.is_arm or self.vector_bits == 512 or self.arch.startswith("riscv") else 16

    @property
    def has_fma(self) -> bool:
        """`a * b + c` rounded once is one instruction."""
        if self.is_x86:
            return self.has("fma")
        return self.is_arm or (self.arch.startswith("riscv") and self.has("f"))

    @property
    def has_f16c(self) -> bool:
        """Conversions between float16 and float32 are instructions."""
        return self.has("f16c") or self.has("avx512f") if self.is_x86 else self.is_arm

    @property
    def has_vnni(self) -> bool:
        """`vpdpbusd` at the full vector width."""
        return self.has("avx512vnni", "avx512vl") if self.vector_bits == 512 else self.has("avxvnni")

    @property
    def has_winograd(self) -> bool:
        """Convolutions may be made by minimal filtering, which rounds a little more; switched off by `-winograd`."""
        return WINOGRAD not in self.disabled

    @property
    def may_be_quick(self) -> bool:
        """Small programs may be compiled in less time, to slower code (`effort.py`); switched off by `-quick`."""
        return QUICK not in self.disabled

    @property
    def machine_cpu(self) -> str:
        """The CPU that decides on instructions: on x86 a bare one, so that `features` alone say what is allowed."""
        return "x86-64" if self.is_x86 else self.cpu

    @property
    def feature_string(self) -> str:
        """The features as LLVM's target machine takes them."""
        on, off = self.features - CHOICES, self.disabled - CHOICES
        return ",".join([f"+{name}" for name in sorted(on)] + [f"-{name}" for name in sorted(off)])
