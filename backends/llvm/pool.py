"""The thread pool of compiled models: LLVM IR from templates, with no library besides libc and pthread.

    ptr  onnxc_pool_create(i64 threads)                       null if there is no memory
    i32  onnxc_parallel(ptr pool, ptr task, ptr args, i64 n)  the largest status of the shares of [0, n)
    void onnxc_pool_destroy(ptr pool)

In the place of a pool may stand the caller's own scheduler, `{i64 0, ptr run, ptr context}`, to which loops are handed.

Every thread begins with a contiguous share of its own and then helps the others, chunk by chunk. Idle threads spin for a
moment, then sleep. A null pool, a loop inside a loop, and a second caller at the same time run on the calling thread.
"""

from __future__ import annotations

import functools
import pathlib

from .features import CpuFeatures

SPIN_NS = 100_000
CHUNKS = 4
"""Parts of a thread's share: what another thread can take over if this one is held up."""
_FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "llvm"
_SERIAL = ("serial.ll.j2",)
_PARTS = ("wait.ll.j2", "parallel.ll.j2", "pool.ll.j2")
# Number of the futex system call, and the instruction that tells a core that it is waiting.
_MACHINES = {
    "x86_64": (202, "call void @llvm.x86.sse2.pause()"),
    "aarch64": (98, "call void @llvm.aarch64.hint(i32 1)"),
    "riscv64": (98, "fence syncscope(\"singlethread\") seq_cst"),
}  # fmt: skip


def has_pool(features: CpuFeatures) -> bool:
    """True if threads are supported: Linux on a 64-bit machine."""
    return features.arch in _MACHINES and "linux" in features.triple


def pool_module(features: CpuFeatures, *, linkage: str = "") -> str:
    """The text of a module with the pool; `linkage` may be `internal` or `weak`. Targets without threads get one that is never made."""
    return f'target triple = "{features.triple}"\n\n' + pool_text(features, linkage=linkage)


@functools.cache
def pool_text(features: CpuFeatures, *, linkage: str = "") -> str:
    """The same without the line of the triple, to stand in a larger module."""
    from jinja2 import Environment, StrictUndefined

    threads = has_pool(features)
    futex, pause = _MACHINES[features.arch] if threads else (0, "")
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    values = {"futex": futex, "pause": pause, "spin_ns": SPIN_NS, "chunks": CHUNKS, "linkage": linkage}
    return "\n".join(
        environment.from_string((_FOLDER / part).read_text(encoding="utf-8")).render(values) for part in (_PARTS if threads else _SERIAL)
    )
