"""Models as libraries: C programs include the header, link, and get the numbers that this process gets.

Also for another machine: cross-compiled, linked statically, and run by an emulator.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import pytest

import onnxc
from onnxc.backends.llvm import target
from onnxc.backends.llvm.archive import defined_symbols
from onnxc.backends.llvm.data_object import data_object
from onnxc.backends.llvm.names import model_name
from onnxc.compiler.diagnostics import CompileError

from .c_programs import HEAD, STRICT, TEXTS, built, called, data, expected, make

ARM = "cpu:aarch64-linux-gnu,cortex-a72"
needs_cc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@needs_cc
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("embed", [False, True])
def test_a_program_links_the_static_library(name: str, embed: bool, tmp_path: Path) -> None:
    """With weights from a file and from the library; one thread, a pool, and the caller's own loop give the same bits."""
    products = onnxc.compile(make(name), cache=False).save(tmp_path / "m", embed_weights=embed)
    program = built(tmp_path, name, "gcc", products, [f"-l:lib{name}.a"])
    wanted = expected(name)
    np.testing.assert_array_equal(called(tmp_path, [str(program)], name, products, wanted.shape), wanted)


@needs_cc
@pytest.mark.parametrize("name", TEXTS)
def test_a_program_links_the_shared_library(name: str, tmp_path: Path) -> None:
    """It finds the library by its soname, and sees nothing but the public names."""
    products = onnxc.compile(make(name), cache=False).save(tmp_path / "m")
    program = built(tmp_path, name, "gcc", products, [f"-l{name}", f"-Wl,-rpath,{products}"])
    wanted = expected(name)
    np.testing.assert_array_equal(called(tmp_path, [str(program)], name, products, wanted.shape), wanted)
    listed = subprocess.run(["nm", "-D", "--defined-only", str(products / f"lib{name}.so")], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    own = {f"{name}_run", f"{name}_arena_bytes", f"{name}_output_shapes"}
    assert names == own | {"onnxc_parallel", "onnxc_pool_create", "onnxc_pool_destroy"}


@needs_cc
def test_the_callers_loop_is_used(tmp_path: Path) -> None:
    """A model with enough work hands its loops to the caller."""
    text = f"{HEAD}\nbig (float[1, 64, 64] x) => (float[1, 64, 64] y) {{ s = Exp (x)\n y = Softmax <axis = -1> (s) }}"
    model = onnx.parser.parse_model(text)
    products = onnxc.compile(model, cache=False).save(tmp_path / "m")
    (tmp_path / "main.c").write_text(
        """
        #include "big.h"
        static float x[4096], y[4096];
        static int32_t run(void *context, onnxc_task task, void *args, int64_t n) { ++*(int *)context; return task(args, 0, n); }
        static int32_t fail(void *context, onnxc_task task, void *args, int64_t n) {
          (void)context, (void)task, (void)args;
          return (int32_t)n;
        }
        int main(void) {
          static _Alignas(64) char arena[BIG_ARENA_BYTES + 1];
          int loops = 0;
          onnxc_parallel_for mine = {0, run, &loops}, broken = {0, fail, 0};
          const void *inputs[] = {x};
          void *outputs[] = {y};
          int64_t extents[] = BIG_OUTPUT0_SHAPE;
          if (big_run(inputs, outputs, 0, 0, arena, &mine) || loops < 1) return 1;
          if (big_run(inputs, outputs, 0, 0, arena, &broken) <= 0) return 2;
          return extents[2] == 64 && BIG_OUTPUT0_RANK == 3 && BIG_INPUT0_ELEMENTS == 4096 && y[5] == 1.0f / 64 ? 0 : 3;
        }"""
    )
    subprocess.run(["gcc", *STRICT, "main.c", f"-I{products}", f"-L{products}", "-l:libbig.a", "-lpthread", "-lm", "-o", "main"],
                   cwd=tmp_path, check=True)  # fmt: skip
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


@needs_cc
def test_the_program_of_the_documentation(tmp_path: Path) -> None:
    """It compiles without a warning, and runs."""
    page = (Path(__file__).parents[2] / "docs" / "use-from-c.md").read_text()
    (tmp_path / "main.c").write_text(page.partition("```c\n")[2].partition("```")[0])
    products = onnxc.compile(make("mlp"), bind={"N": 2}, cache=False).save(tmp_path / "m")
    shutil.copy(products / "weights.bin", tmp_path)
    subprocess.run(["gcc", *STRICT, "main.c", f"-I{products}", f"-L{products}", "-l:libmlp.a", "-lpthread", "-lm", "-o", "main"],
                   cwd=tmp_path, check=True)  # fmt: skip
    assert subprocess.run([tmp_path / "main"], cwd=tmp_path, check=False).returncode == 0


@needs_cc
def test_several_models_in_one_program(tmp_path: Path) -> None:
    """Two models, one of them twice under two names, whole archives: no symbol clashes, and the pool is there once."""
    folders = [
        onnxc.compile(make("mlp"), cache=False).save(tmp_path / "a", embed_weights=True),
        onnxc.compile(make("cnn"), cache=False).save(tmp_path / "b", embed_weights=True),
        onnxc.compile(make("mlp", seed=1), name="Other one", cache=False).save(tmp_path / "c", embed_weights=True),
    ]
    (tmp_path / "main.c").write_text(
        """
        #include "mlp.h"
        #include "cnn.h"
        #include "other_one.h"
        int main(void) {
          onnxc_pool *pool = onnxc_pool_create(2);
          onnxc_pool_destroy(pool);
          return (void *)mlp_run != (void *)other_one_run && mlp_weights[0] | cnn_weights[0] ? 0 : 1;
        }"""
    )
    options = [option for folder in folders for option in (f"-I{folder}", *map(str, folder.glob("*.a")))]
    command = ["gcc", "-std=c11", "-Wall", "-Werror", "main.c", "-Wl,--whole-archive", *options, "-Wl,--no-whole-archive", "-lpthread",
               "-lm", "-o", "main"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


@needs_cc
def test_the_header_is_cpp_too(tmp_path: Path) -> None:
    """And clean under the compiler's warnings."""
    products = onnxc.compile(make("mlp"), cache=False).save(tmp_path / "m", embed_weights=True)
    (tmp_path / "main.cpp").write_text('#define ONNXC_LOAD_WEIGHTS\n#include "mlp.h"\n')
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{products}", "-fsyntax-only", "main.cpp"], cwd=tmp_path, check=True
    )


@needs_cc
def test_outputs_of_unknown_size(tmp_path: Path) -> None:
    """The run allocates them and tells their extents."""
    model = onnx.parser.parse_model(f"{HEAD}\nfind (float[8] x) => (int64[1, M] y) {{ y = NonZero (x) }}")
    products = onnxc.compile(model, cache=False).save(tmp_path / "m")
    (tmp_path / "main.c").write_text(
        """
        #include "find.h"
        #include <stdlib.h>
        int main(void) {
          float x[] = {0, 1, 0, 0, 2, 3, 0, 0};
          static _Alignas(64) char arena[65536];
          const void *inputs[] = {x};
          void *outputs[] = {0};
          int64_t symbols[FIND_SYMBOLS] = {0}, extents[2];
          if (find_arena_bytes(symbols) > (int64_t)sizeof arena) return 1;
          if (find_run(inputs, outputs, symbols, 0, arena, 0)) return 2;
          find_output_shapes(symbols, extents);
          FIND_OUTPUT0_TYPE *y = outputs[0];
          int good = extents[0] == 1 && extents[1] == 3 && y[0] == 1 && y[1] == 4 && y[2] == 5;
          free(y);
          return good ? 0 : 3;
        }"""
    )
    subprocess.run(["gcc", *STRICT, "main.c", f"-I{products}", f"-L{products}", "-l:libfind.a", "-lpthread", "-lm", "-o", "main"],
                   cwd=tmp_path, check=True)  # fmt: skip
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_saved_twice_and_loaded(tmp_path: Path) -> None:
    """The libraries are reproducible, named in the record, and no hindrance to loading."""
    compiled = onnxc.compile(make("mlp"), cache=False)
    folders = [compiled.save(tmp_path / name) for name in "ab"]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert {"mlp.h", "libmlp.a", "weights.bin", "interface.json", "record.json", "target.txt"} <= set(files[0])
    loaded = onnxc.load(folders[0])
    assert loaded.record is not None
    assert set(loaded.record.security.files_sha256) == set(files[0]) - {"record.json"}
    np.testing.assert_array_equal(loaded(data("mlp")), expected("mlp"))
    (folders[0] / "libmlp.a").write_bytes(b"something else")
    with pytest.raises(CompileError, match=r"libmlp\.a differs"):
        onnxc.load(folders[0])


def test_without_a_linker_there_is_no_shared_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else is written."""
    monkeypatch.setenv("PATH", "")
    folder = onnxc.compile(make("mlp"), cache=False).save(tmp_path / "m")
    assert (folder / "libmlp.a").exists()
    assert not (folder / "libmlp.so").exists()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("My Model", "my_model"),
        ("3d-net", "x3d_net"),
        ("", "x"),
        ("*/ #define x", "define_x"),
        ("a__b_", "a_b"),
        ("é", "x"),
        ("n" * 99, "n" * 32),
    ],
)
def test_names_are_identifiers(given: str, name: str) -> None:
    """Whatever the model is called."""
    assert model_name(given) == name


def test_a_model_cannot_put_code_into_the_header(tmp_path: Path) -> None:
    """Names that end comments or lines."""
    model = make("mlp")
    model.graph.name = "x */ int evil; /*"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["*/ evil\nint evil2;" if name == "x" else name for name in names]
    model.graph.input[0].name = "*/ evil\nint evil2;"
    folder = onnxc.compile(model, cache=False).save(tmp_path / "m")
    (header,) = (path.read_text() for path in folder.glob("*.h"))
    outside = "".join(part.partition("*/")[2] for part in ("*/" + header).split("/*"))
    assert "evil2" not in outside
    assert "int evil" not in outside.replace("x_int_evil", "")


@pytest.mark.parametrize(
    ("cpu", "magic", "library"),
    [("riscv64", b"\x7fELF", True), ("wasm32", b"\0asm", False), ("arm64-apple-macosx,apple-m1", b"\xcf\xfa\xed\xfe", False)],
)
def test_machines_without_an_emulator_here(cpu: str, magic: bytes, library: bool, tmp_path: Path) -> None:
    """They get objects of their format, also where there are no threads; a static library of ELF objects only."""
    folder = onnxc.compile(make("mlp"), f"cpu:{cpu}", cache=False).save(tmp_path / "m")
    objects = sorted(folder.glob("code*.o"))
    assert objects and all(path.read_bytes().startswith(magic) for path in objects)
    assert (folder / "libmlp.a").exists() == library
    assert (folder / "mlp.h").exists()


def test_libraries_can_be_left_out(tmp_path: Path) -> None:
    """What remains is what `load` needs."""
    folder = onnxc.compile(make("mlp"), cache=False).save(tmp_path / "m", libraries=False)
    assert not [path for path in folder.iterdir() if path.suffix in (".a", ".so", ".h")]
    np.testing.assert_array_equal(onnxc.load(folder)(data("mlp")), expected("mlp"))


def test_a_linker_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    (tmp_path / "cc").write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(CompileError, match="no such luck") as error:
        onnxc.compile(make("mlp"), cache=False).save(tmp_path / "m")
    assert error.value.code == "E0303"
    assert not (tmp_path / "m").exists()


def test_data_as_an_object() -> None:
    """The symbol is defined, for the machine of the object that it is made like."""
    like = onnxc.compile(make("mlp"), ARM, cache=False).artifact.files()["code0.o"]
    made = data_object(like, "numbers", b"abc", 64)
    assert defined_symbols(made) == [b"numbers"]
    assert made[18:20] == like[18:20]
    with pytest.raises(CompileError) as error:
        data_object(b"\0asm", "numbers", b"abc", 64)
    assert error.value.code == "E0302"


def test_code_for_another_machine_is_not_run_here() -> None:
    """Compiled, but refused."""
    compiled = onnxc.compile(make("mlp"), ARM, cache=False)
    if target.parse(ARM).is_host:
        pytest.skip("this machine is one")
    with pytest.raises(CompileError) as error:
        compiled(data("mlp"))
    assert error.value.code == "E0302"


@pytest.mark.parametrize(
    ("name", "arch", "cpu"),
    [("mlp", "aarch64", "cortex-a72"), ("cnn", "aarch64", "cortex-a72"), ("cnn", "aarch64", "cortex-a76"), ("cnn", "riscv64", "")],
)
def test_an_emulator_runs_the_code(name: str, arch: str, cpu: str, tmp_path: Path) -> None:
    """Linked statically; the numbers are those of this machine, up to the order of sums."""
    gcc, emulators = f"{arch}-linux-gnu-gcc", (f"qemu-{arch}", f"qemu-{arch}-static")
    emulator = next((found for found in map(shutil.which, emulators) if found), None)
    if not shutil.which(gcc) or emulator is None:
        pytest.skip(f"{gcc} or qemu-{arch} is not installed (.ci/toolchains)")
    text = f"cpu:{arch}-linux-gnu,{cpu}" if cpu else f"cpu:{arch}"
    products = onnxc.compile(make(name), text, cache=False).save(tmp_path / "m", embed_weights=True)
    program = built(tmp_path, name, gcc, products, [f"-l:lib{name}.a", "-static"])
    wanted = expected(name)
    found = called(tmp_path, [emulator, *(["-cpu", cpu] if cpu else []), str(program)], name, products, wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
