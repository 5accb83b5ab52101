"""What stands beside the C files: self-tests, libraries of build systems, dependency files, budgets."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import onnxc
from onnxc.compiler.cli import FAULT, OK, USAGE, run
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.driver import load

C = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror", "-O1"]
CPLUSPLUS = ["g++", "-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror"]

SMALL = """<ir_version: 8, opset_import: ["" : 17]>
    small (float[N,3,6,6] x) => (float[N,2,6,6] y, int64[N,6,6] k, uint8[N,2,6,6] q)
    <float sy = {0.05}, uint8 zy = {9}>
    { h = Conv<pads=[1,1,1,1]>(x, w)
      r = Relu(h)
      y = Softmax<axis=1>(r)
      k = ArgMax<axis=1, keepdims=0>(y)
      q = QuantizeLinear(r, sy, zy) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = parser.parse_model(SMALL)
    weights = np.random.default_rng(1).normal(size=(2, 3, 3, 3)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(made, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def compiled(model: Path, *options: str, bind: bool = True) -> Path:
    folder = model.parent / "out"
    arguments = ["compile", str(model), "-t", "c", "-o", str(folder), "--no-cache", *(["--bind", "N=1"] if bind else []), *options]
    assert run(arguments) == OK
    return folder


def call(command: list[str], folder: Path, expected: int = 0) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def self_tested(folder: Path, model: Path, expected: int) -> None:
    (folder / "main.c").write_text(
        '#include "small_selftest.h"\n#include "small.h"\nstatic int64_t arena[8192];\nint main(void) { return -small_selftest(arena); }\n'
    )
    call([*C, "main.c", "small.c", "small_selftest.c", "-o", "main", "-lm"], folder)
    call([str(folder / "main")], folder, expected)


@pytest.mark.parametrize("bind", [True, False])
def test_a_self_test_passes(model: Path, bind: bool) -> None:
    self_tested(compiled(model, "--self-test", bind=bind), model, 0)


@pytest.mark.parametrize(
    ("array", "was", "wrong", "status"),
    [("expected_0", r"\{\s*0\.", "{ 3.0", 1), ("expected_1", r"\{\s*\S+,", "{ INT64_C(7),", 2), ("expected_2", r"\{\s*\d+", "{ 77", 3)],
)
def test_a_self_test_finds_what_differs(model: Path, array: str, was: str, wrong: str, status: int) -> None:
    folder = compiled(model, "--self-test")
    head, tail = (folder / "small_selftest.c").read_text().split(f" {array}[", 1)
    (folder / "small_selftest.c").write_text(f"{head} {array}[{re.sub(was, wrong, tail, count=1)}")
    self_tested(folder, model, status)


def test_a_self_test_takes_the_users_inputs(model: Path) -> None:
    np.savez(model.parent / "data.npz", x=np.full((1, 3, 6, 6), 0.123, np.float32), other=np.zeros(3))
    folder = compiled(model, f"--self-test={model.parent / 'data.npz'}", "--depfile", str(model.parent / "small.d"))
    assert "0.123000003f" in (folder / "small_selftest.c").read_text()
    assert "data.npz" in (model.parent / "small.d").read_text()


@pytest.mark.parametrize("layout", ["arduino", "platformio", "esp-idf", "zephyr"])
def test_sources_of_a_layout_compile_as_their_build_systems_compile_them(layout: str, model: Path) -> None:
    folder = compiled(model, "--layout", layout, "--self-test")
    headers = sorted(folder.rglob("*.h"))
    assert {h.name for h in headers} == {"small.h", "small_selftest.h"}
    include = f"-I{headers[0].parent}"
    for source in folder.rglob("*.c"):
        call([*C, include, "-c", str(source), "-o", "unit.o"], model.parent)
        if shutil.which("g++") is not None:
            call([*CPLUSPLUS, include, "-x", "c++", "-c", str(source), "-o", "unit.o"], model.parent)
    (model.parent / "main.cpp").write_text("#include <small.h>\n#include <small_selftest.h>\nint main() { return small_selftest(0); }\n")
    if shutil.which("g++") is not None:
        call([*CPLUSPLUS, include, "-fsyntax-only", "main.cpp"], model.parent)


def test_the_arduino_library_has_its_parts(model: Path) -> None:
    folder = compiled(model, "--layout", "arduino")
    properties = dict(line.split("=", 1) for line in (folder / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"} <= set(properties)
    assert (properties["name"], properties["includes"]) == ("small", "small.h")
    assert (folder / "src" / "small.c").is_file()
    sketch = folder / "examples" / "small" / "small.ino"
    (model.parent / "Arduino.h").write_text(
        "#include <stdint.h>\nunsigned long micros();\nvoid delay(unsigned long);\n"
        "struct Port { void begin(long); template <class T> void print(T); template <class T> void println(T); };\nextern Port Serial;\n"
    )
    if shutil.which("g++") is not None:
        command = [*CPLUSPLUS, f"-I{folder / 'src'}", "-I.", "-include", "Arduino.h", "-fsyntax-only", "-x", "c++", str(sketch)]
        call(command, model.parent)


def test_a_sketch_needs_sizes_that_are_known(model: Path) -> None:
    assert not (compiled(model, "--layout", "arduino", bind=False) / "examples").exists()


def test_the_platformio_library_has_its_parts(model: Path) -> None:
    folder = compiled(model, "--layout", "platformio")
    manifest = json.loads((folder / "library.json").read_text())
    assert (manifest["name"], manifest["headers"]) == ("small", "small.h")
    assert (folder / manifest["build"]["srcDir"] / "small.c").is_file()
    assert (folder / manifest["build"]["includeDir"] / "small.h").is_file()


@pytest.mark.parametrize(("layout", "function"), [("esp-idf", "idf_component_register"), ("zephyr", "zephyr_library_sources")])
def test_cmake_files_of_components_name_the_sources(layout: str, function: str, model: Path) -> None:
    """CMake runs the file with the build system's functions replaced by ones that look at their arguments."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = compiled(model, "--layout", layout, "--self-test")
    script = "cmake_minimum_required(VERSION 3.16)\nset(COMPONENT_LIB lib)\n"
    for name in ("idf_component_register", "target_compile_options", "zephyr_library_named", "zephyr_library_sources",
                 "zephyr_library_compile_options", "zephyr_include_directories"):  # fmt: skip
        script += f'function({name})\n  message("{name} ${{ARGN}}")\nendfunction()\n'
    (model.parent / "try.cmake").write_text(f"{script}include({folder}/CMakeLists.txt)\n")
    done = subprocess.run(["cmake", "-P", "try.cmake"], cwd=model.parent, capture_output=True, text=True, check=True)
    words = next(line for line in done.stderr.splitlines() if line.startswith(function)).replace(";", " ").split()
    assert {(folder / w).name for w in words if w.endswith(".c") and (folder / w).is_file()} == {"small.c", "small_selftest.c"}


def test_a_layout_loads_again_and_replaces_another(model: Path) -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    found = [load(compiled(model, "--layout", layout)).run({"x": x})["y"] for layout in ("platformio", "arduino", "")]
    assert all((y == found[0]).all() for y in found)
    assert not (model.parent / "out" / "src").exists()


def test_a_strangers_file_is_still_refused(model: Path) -> None:
    folder = compiled(model, "--layout", "arduino")
    (folder / "notes.txt").write_text("mine")
    assert run(["compile", str(model), "-t", "c", "-o", str(folder)]) == FAULT
    assert (folder / "notes.txt").exists()


@pytest.mark.parametrize("options", [["--layout", "yocto"], ["--layout", "arduino", "-t", "cpu"], ["--self-test", "-t", "cpu"]])
def test_what_a_target_cannot_lay_out_is_an_error(options: list[str], model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", str(model), "-t", "c", "-o", str(model.parent / "o"), *options]) == FAULT
    assert "E0301" in capsys.readouterr().err


def test_a_depfile_names_the_model_and_its_data(model: Path) -> None:
    proto = onnx.load(model)
    big = onnx.numpy_helper.from_array(np.zeros((2, 3, 3, 3), np.float32), "w")
    proto.graph.initializer.remove(next(t for t in proto.graph.initializer if t.name == "w"))
    proto.graph.initializer.append(big)
    name = model.parent / "a b$#.onnx"
    onnx.save(proto, name, save_as_external_data=True, location="weights.bin", size_threshold=0)
    folder, depfile = model.parent / "out", model.parent / "m.d"
    assert run(["compile", str(name), "-t", "c", "-o", str(folder), "--depfile", str(depfile)]) == OK
    makefile = f"include m.d\n.PHONY: show\nshow: {folder}/record.json\n{folder}/record.json:\n\t@echo $(subst $$,_,$^)\n"
    (model.parent / "Makefile").write_text(makefile)
    (folder / "record.json").unlink()
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shown = call(["make", "-s", "show"], model.parent)
    assert "weights.bin" in shown
    assert "a b_#.onnx" in shown


# --- Budgets ------------------------------------------------------------------------------------


def test_a_model_within_its_budget_compiles(model: Path) -> None:
    compiled(model, "--max-ram", "64K", "--max-flash", "1MiB")


def test_a_model_beyond_its_budget_names_what_takes_most(model: Path) -> None:
    with pytest.raises(CompileError) as error:
        onnxc.compile(model, target="c", bind={"N": 8}, max_ram=1024, max_flash=100)
    lines = [d.message for d in error.value.diagnostics]
    assert {d.code for d in error.value.diagnostics} == {"E0305"}
    ram, flash = ([line for line in lines if line.startswith(memory)] for memory in ("RAM", "flash"))
    assert "1,024 are allowed" in ram[0]
    assert any("2,304 bytes" in line and "layers" in line for line in ram[1:])
    assert "221 of weights" in flash[0]
    assert re.search(r" 216 bytes  layer +0 ", flash[1])


LOOP = """<ir_version: 8, opset_import: ["" : 17]>
    loops (float[4,8] x, bool c) => (float[4,8] y)
    <int64 n = {3}, bool t = {1}>
    { a = Softmax(x)
      b = Softmax<axis=0>(a)
      l = Loop(n, t, b) <body = inner (int64 i, bool more, float[4,8] s) => (bool next, float[4,8] r)
        { next = Identity(more) q = Softmax(s) p = Add(q, a) r = Softmax<axis=0>(p) }>
      k = If(c) <then_branch = one () => (float[4,8] u) { u = Softmax(l) },
                 else_branch = two () => (float[4,8] v) { w = Softmax<axis=0>(l) v = Add(w, b) }>
      y = Softmax(k) }"""


@pytest.mark.parametrize("text", [SMALL, LOOP], ids=["straight", "control flow"])
def test_the_peak_is_that_of_the_plan(text: str, model: Path) -> None:
    """Live bytes at the peak are at most the arena, and the arena is not far above."""
    from onnxc.compiler.pipeline import Options, make_graph, make_program
    from onnxc.compiler.program.memory_use import memory_use
    from onnxc.compiler.target import load_target

    target = load_target("c")
    source = str(model) if text is SMALL else parser.parse_model(text)
    program = make_program(make_graph(source, target, Options({"N": 8} if text is SMALL else {}), {}), target, {})
    use = memory_use(program)
    assert 0 < use.live_bytes(use.peak) <= use.arena_bytes <= use.live_bytes(use.peak) + 64 * len(use.tensors)
    assert use.weight_bytes == sum(w.bytes for w in use.weights)
    assert all(0 <= t.first <= t.last < len(use.layers) for t in use.tensors)
    assert all(t.offset + t.bytes <= use.arena_bytes for t in use.tensors)
    for layer in range(len(use.layers)):
        assert use.live_bytes(layer) <= use.arena_bytes


def test_a_budget_needs_known_sizes(model: Path) -> None:
    with pytest.raises(CompileError) as error:
        onnxc.compile(model, target="c", max_ram=1 << 20)
    assert error.value.code == "E0304"


def test_a_budget_counts_what_bounded_extents_take_at_most(model: Path) -> None:
    fixed, bounded = (refusal(model, **extents) for extents in ({"bind": {"N": 8}}, {"max": {"N": 8}}))
    assert fixed[0].startswith("RAM") and [re.sub(r"'[^']*'", "", line) for line in bounded] == [
        re.sub(r"'[^']*'", "", line) for line in fixed
    ]
    assert onnxc.compile(model, target="c", max={"N": 8}, max_ram=1 << 20)


def refusal(model: Path, **options: object) -> list[str]:
    """What a compile with a RAM of one byte says."""
    with pytest.raises(CompileError) as error:
        onnxc.compile(model, target="c", max_ram=1, **options)
    return [d.message for d in error.value.diagnostics]


def test_a_budget_holds_though_the_cache_has_the_model(model: Path) -> None:
    onnxc.compile(model, target="c", bind={"N": 8})
    with pytest.raises(CompileError):
        onnxc.compile(model, target="c", bind={"N": 8}, max_ram=64)


@pytest.mark.parametrize("text", ["64Q", "", "-1", "K"])
def test_sizes_that_are_none_are_usage_errors(text: str, model: Path) -> None:
    assert run(["compile", str(model), "-t", "c", f"--max-ram={text}"]) == USAGE


@pytest.mark.parametrize("layout", ["arduino", "platformio", "esp-idf", "zephyr"])
def test_no_name_of_a_model_gets_into_the_files_of_build_systems(layout: str, model: Path) -> None:
    evil = 'a"}\\n\nevil=1\n#]] ${HOME} $(rm) \' " /* // \\'
    folder = compiled(model, "--name", evil, "--layout", layout)
    own = {"interface.json", "record.json", "target.txt"}  # which escape what they quote
    for path in (p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".c", ".h") and p.name not in own):
        assert not re.search(r"^evil|\$\(rm|\$\{HOME|/\*", path.read_text(), flags=re.M), path
    for path in folder.glob("library.*"):
        text = path.read_text()
        if path.suffix == ".json":
            assert set(json.loads(text)) == {"name", "version", "description", "frameworks", "platforms", "headers", "build"}
        else:
            assert "evil" not in dict(line.split("=", 1) for line in text.splitlines())
    if (folder / "CMakeLists.txt").exists():
        assert not re.search(r"^\s*(evil|rm)", (folder / "CMakeLists.txt").read_text(), flags=re.M)
        assert "${HOME}" not in (folder / "CMakeLists.txt").read_text()


def test_the_estimates_of_code_and_stack_are_near_what_a_compiler_makes(model: Path) -> None:
    from onnxc.compiler.pipeline import Options, make_graph, make_program
    from onnxc.compiler.program.memory_use import memory_use
    from onnxc.compiler.target import load_target

    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    folder, target = compiled(model), load_target("c")
    use = memory_use(make_program(make_graph(str(model), target, Options({"N": 1}), {}), target, {}))
    flags = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-O2", "-fstack-usage"]
    call(["arm-none-eabi-gcc", *flags, "-c", "small.c"], folder)
    sections = [line.split() for line in call(["arm-none-eabi-size", "-A", "small.o"], folder).splitlines()]
    text = sum(int(line[1]) for line in sections if line and line[0].startswith(".text"))
    frames = [int(line.split("\t")[1]) for line in (folder / "small.su").read_text().splitlines()]
    assert text / 2 < use.code_bytes < 3 * text
    assert max(frames) < use.stack_bytes < max(frames) + 1024
