"""Libraries made of objects: the linker takes them, and the code in them runs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from onnxc.backends.llvm import target
from onnxc.backends.llvm.archive import archive, defined_symbols
from onnxc.backends.llvm.jit import compile_objects
from onnxc.backends.llvm.package import shared_library, static_library
from onnxc.backends.llvm.pool import pool_module
from onnxc.compiler.diagnostics import CompileError

HOST = target.parse("cpu")
TEXTS = [
    "define i32 @one() { ret i32 1 }\ndefine internal i32 @hidden() { ret i32 9 }",
    "declare i32 @one()\ndefine i32 @two() { %a = call i32 @one()\n %b = add i32 %a, 1\n ret i32 %b }",
]
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def objects() -> dict[str, bytes]:
    """Two objects, of which the second calls the first."""
    return dict(zip(["one.o", "two.o"], compile_objects(TEXTS, HOST), strict=True))


def test_the_index_lists_what_is_defined() -> None:
    """Global functions of this object, neither internal ones nor references."""
    assert [defined_symbols(data) for data in objects().values()] == [[b"one"], [b"two"]]


def test_archives_are_deterministic() -> None:
    """Even members and odd ones, no dates."""
    assert archive(objects()) == archive(objects())
    assert archive({"a.o": b"abc"})[-4:] == b"abc\n"


@needs_cc
def test_a_static_library_links(tmp_path: Path) -> None:
    """In the wrong order of members, which needs the index."""
    (tmp_path / "libnumbers.a").write_bytes(static_library(objects()))
    (tmp_path / "main.c").write_text("int two(void); int main(void) { return two() == 2 ? 0 : 1; }")
    subprocess.run(["cc", "main.c", "-L.", "-lnumbers", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


@needs_cc
def test_a_shared_library_loads(tmp_path: Path) -> None:
    """With the thread pool in it, which needs libc and pthread."""
    made = objects() | {"pool.o": compile_objects([pool_module(HOST)], HOST)[0]}
    path = tmp_path / "libnumbers.so"
    path.write_bytes(shared_library(made, HOST, soname="libnumbers.so"))
    library = ctypes.CDLL(str(path))
    assert library.two() == 2
    library.onnxc_pool_create.restype = ctypes.c_void_p
    pool = library.onnxc_pool_create(ctypes.c_int64(2))
    library.onnxc_pool_destroy(ctypes.c_void_p(pool))


def test_a_missing_linker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError) as error:
        shared_library(objects(), target.parse("cpu:aarch64-linux-gnu,cortex-a72"), soname="x.so")
    assert error.value.code == "E0303"
