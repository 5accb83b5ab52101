"""Compiling in parallel, and loading what was compiled."""

from __future__ import annotations

import ctypes

import pytest

from onnxc.backends.llvm import target
from onnxc.backends.llvm.jit import CodeOptions, Library, compile_objects

HOST = target.parse("cpu")


def module(number: int) -> str:
    """A module with one function that returns its number."""
    return f"define i32 @f{number}() {{ ret i32 {number} }}"


def test_objects_come_in_the_order_of_the_modules() -> None:
    """Whichever thread makes them; they load together and find each other."""
    texts = [module(k) for k in range(12)] + ["declare i32 @f3()\ndefine i32 @last() { %a = call i32 @f3()\n ret i32 %a }"]
    alone = compile_objects(texts, HOST, CodeOptions(threads=1))
    assert compile_objects(texts, HOST, CodeOptions(threads=4)) == alone
    library = Library(alone, HOST)
    found = library.load(["f5", "last"])
    assert [ctypes.CFUNCTYPE(ctypes.c_int32)(found[name])() for name in ("f5", "last")] == [5, 3]


def test_two_libraries_may_use_the_same_names() -> None:
    """Each model is a library of its own."""
    first, second = (Library(compile_objects([f"define i32 @run() {{ ret i32 {k} }}"], HOST), HOST) for k in (1, 2))
    addresses = first.load(["run"])["run"], second.load(["run"])["run"]
    assert [ctypes.CFUNCTYPE(ctypes.c_int32)(at)() for at in addresses] == [1, 2]


def test_libc_is_found_in_the_process() -> None:
    """`fmodf` is what a remainder of floats becomes."""
    text = "define float @rest(float %a, float %b) { %r = frem float %a, %b\n ret float %r }"
    library = Library(compile_objects([text], HOST), HOST)
    rest = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float, ctypes.c_float)(library.load(["rest"])["rest"])
    assert rest(7.5, 2.0) == 1.5


def test_a_broken_module_is_told() -> None:
    """The text that LLVM refuses does not pass silently."""
    with pytest.raises(RuntimeError):
        compile_objects(["define i32 @f() { ret i64 0 }"], HOST)
