"""Builds with CMake and Make, as users write them: the model becomes a program, and is compiled again only when it changes."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxc.backends.c.names import HEADERS, model_prefix
from onnxc.compiler.cli import OK, run

ROOT = Path(__file__).parents[2]
COMMAND = f"{sys.executable} -P -m onnxc.compiler.cli"

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
    half (float[N,8] x) => (float[N,8] y)
    { y = Mul(x, w) }"""

MAIN = """#include "half_it.h"
#include <stdio.h>
int main(void) {
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[8];
    static int64_t arena[HALF_IT_ARENA_BYTES / 8 + 1];
    const int status = half_it_run(x, y, arena);
    printf("%g\\n", (double)y[7]);
    return status;
}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a model, a main program, and the command onnxc."""
    write_model(tmp_path, 0.5)
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "onnxc").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {COMMAND} "$@"\n')
    (tmp_path / "bin" / "onnxc").chmod(0o755)
    return tmp_path


def write_model(folder: Path, factor: float) -> None:
    model = parser.parse_model(MODEL)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((8,), factor, np.float32), "w"))
    onnx.save(model, folder / "Half-it.onnx", save_as_external_data=True, location="half.bin", size_threshold=0)


def call(command: list[str], folder: Path, expected: int = 0) -> str:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "ONNXC_CACHE": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (expected == 0), done.stdout + done.stderr
    return done.stdout + done.stderr


def compiles(folder: Path) -> int:
    """How often a model was compiled."""
    path = folder / "calls"
    return len(re.findall(r"^compile ", path.read_text(), flags=re.M)) if path.exists() else 0


def later(folder: Path, *names: str) -> None:
    """Make files newer than all that was built, which was some milliseconds ago."""
    for name in names:
        os.utime(folder / name)


def needs(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")


# --- CMake --------------------------------------------------------------------------------------

CONFIGURE = ["cmake", "-S", ".", "-B", "build"]
LISTS = """cmake_minimum_required(VERSION 3.20)
project(try C)
find_package(onnxc 0.1 REQUIRED)
add_executable(app main.c)
onnxc_add_model(app MODEL Half-it.onnx {arguments})
"""


def configure(project: Path, generator: str, arguments: str) -> str:
    (project / "CMakeLists.txt").write_text(LISTS.format(arguments=arguments))
    package = call(["onnxc", "cmake-dir"], project).strip()
    return call([*CONFIGURE, "-G", generator, f"-Donnxc_DIR={package}"], project)


@pytest.mark.parametrize(("generator", "tool"), [("Ninja", "ninja"), ("Unix Makefiles", "make")])
def test_cmake_builds_a_model_and_again_only_if_it_changes(generator: str, tool: str, project: Path) -> None:
    needs("cmake", tool, "gcc")
    configure(project, generator, "TARGET c:cortex-m4 BIND N=1 MAX_RAM 64K MAX_FLASH 64K")
    call(["cmake", "--build", "build"], project)
    assert call([str(project / "build" / "app")], project) == "4\n"
    assert compiles(project) == 1
    later(project, "main.c")
    call(["cmake", "--build", "build"], project)
    assert compiles(project) == 1
    write_model(project, 0.25)  # the weights stand in a file of their own
    later(project, "half.bin")
    os.utime(project / "Half-it.onnx", (1, 1))
    call(["cmake", "--build", "build"], project)
    assert call([str(project / "build" / "app")], project) == "2\n"
    assert compiles(project) == 2


def test_cmake_takes_weights_apart_and_self_tests(project: Path) -> None:
    needs("cmake", "ninja", "gcc")
    np.savez(project / "data.npz", x=np.ones((1, 8), np.float32))
    (project / "main.c").write_text('#include "h_selftest.h"\nint main(void) { return h_selftest(0); }\n')
    configure(project, "Ninja", "TARGET c:separate-weights,static-arena NAME h BIND N=1 SELF_TEST data.npz")
    call(["cmake", "--build", "build"], project)
    call([str(project / "build" / "app")], project)
    assert "--self-test=" in (project / "calls").read_text()
    configure(project, "Ninja", "NAME h BIND N=1 OPTIONS --no-cache SELF_TEST")
    call(["cmake", "--build", "build"], project)
    assert not (project / "build" / "onnxc" / "h" / "h_weights.c").exists()


DENSE = """<ir_version: 10, opset_import: ["" : 21]>
    dense (float[N,8] x) => (float[N,8] y)
    { m = MatMul(x, w)
      y = Relu(m) }"""
CODES = """#include "half_it.h"
int main(void) {
    int8_t x[8], y[8];
    static int64_t arena[HALF_IT_ARENA_BYTES / 8 + 1];
    for (int k = 0; k < 8; k++) {
        x[k] = half_it_quantize_in_x(1.0f);
    }
    const int status = half_it_run(x, y, arena);
    const float found = half_it_dequantize_out_y(y[0]);
    return status != 0 || found < 3.9f || found > 4.1f;
}
"""


def test_cmake_quantizes_first(project: Path) -> None:
    needs("cmake", "ninja", "gcc")
    model = parser.parse_model(DENSE)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((8, 8), 0.5, np.float32), "w"))
    onnx.save(model, project / "Half-it.onnx")
    np.savez(project / "data.npz", x=np.linspace(-1, 1, 50, dtype=np.float32)[:, None].repeat(8, axis=1))
    (project / "main.c").write_text(CODES)
    configure(project, "Ninja", "BIND N=1 QUANTIZE data.npz QUANTIZE_OPTIONS --integer-io --method minmax")
    call(["cmake", "--build", "build"], project)
    call([str(project / "build" / "app")], project)
    later(project, "data.npz")
    call(["cmake", "--build", "build"], project)
    assert compiles(project) == 2


def test_cmake_stops_at_a_budget_with_the_table(project: Path) -> None:
    needs("cmake", "ninja", "gcc")
    configure(project, "Ninja", "BIND N=1 MAX_FLASH 16")
    assert "E0305" in call(["cmake", "--build", "build"], project, expected=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("MODEL Half-it.onnx BINDS N=1", "unknown arguments BINDS"),
        ("", "MODEL is missing"),
        ("MODEL Half-it.onnx TARGET cpu", "TARGET is cpu"),
    ],
)
def test_cmake_refuses_wrong_arguments(arguments: str, message: str, project: Path) -> None:
    needs("cmake", "ninja")
    (project / "CMakeLists.txt").write_text(LISTS.replace("MODEL Half-it.onnx {arguments}", arguments or "TARGET c"))
    assert message in call([*CONFIGURE, "-G", "Ninja", f"-Donnxc_DIR={ROOT}/templates/cmake"], project, expected=1)


def test_cmake_makes_the_same_names_as_the_compiler(tmp_path: Path) -> None:
    needs("cmake")
    names = ["Half-it", "kws.v2 (int8)", "9lives", "_a__b_", "x" * 40, "a" * 31 + "-b", "Int", *sorted(HEADERS)]
    calls = "".join(f'_onnxc_clean("{name}" found)\nmessage("<${{found}}>")\n' for name in names)
    (tmp_path / "try.cmake").write_text(f"include({ROOT}/templates/cmake/onnxcConfig.cmake)\n{calls}")
    command = ["cmake", "-DONNXC_EXECUTABLE=/bin/true", "-P", "try.cmake"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    assert found.split() == [f"<{model_prefix(name)}>" for name in names]


def test_the_cmake_package_has_the_version_of_onnxc() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'PACKAGE_VERSION "{version}"' in (ROOT / "templates" / "cmake" / "onnxcConfigVersion.cmake").read_text()


def test_the_package_is_a_zephyr_module(project: Path) -> None:
    """Zephyr adds the folder that the module file names; what it finds there defines the function."""
    needs("cmake", "ninja", "gcc")
    package = Path(call(["onnxc", "cmake-dir"], project).strip())
    assert re.search(r"^name: onnxc$", (package / "zephyr" / "module.yml").read_text(), flags=re.M)
    lists = LISTS.format(arguments="BIND N=1").replace("find_package(onnxc 0.1 REQUIRED)", f"add_subdirectory({package} module)")
    (project / "CMakeLists.txt").write_text(lists)
    call([*CONFIGURE, "-G", "Ninja"], project)
    call(["cmake", "--build", "build"], project)


# --- Make ---------------------------------------------------------------------------------------

MAKEFILE = """include $(shell onnxc make-include)
$(eval $(call onnxc_model,half_it,Half-it.onnx,{target},--bind N=1 {options}))
app: main.c $(ONNXC_SOURCES) $(ONNXC_HEADERS)
\t$(CC) -O1 -o $@ $(ONNXC_CPPFLAGS) main.c $(ONNXC_SOURCES) -lm
"""


@pytest.mark.parametrize(("target", "options"), [("c:cortex-m4", "--max-ram 64K"), ("c:separate-weights", "--self-test")])
def test_make_builds_a_model_and_again_only_if_it_changes(target: str, options: str, project: Path) -> None:
    needs("make", "gcc")
    (project / "Makefile").write_text(MAKEFILE.format(target=target, options=options))
    call(["make"], project)
    assert call([str(project / "app")], project) == "4\n"
    assert "up to date" in call(["make"], project)
    assert compiles(project) == 1
    write_model(project, 0.25)
    later(project, "half.bin")
    os.utime(project / "Half-it.onnx", (1, 1))
    call(["make"], project)
    assert call([str(project / "app")], project) == "2\n"
    assert compiles(project) == 2


def test_the_commands_name_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cmake-dir"]) == OK
    assert run(["make-include"]) == OK
    folder, include = capsys.readouterr().out.split()
    assert (Path(folder) / "onnxcConfig.cmake").is_file()
    assert Path(include).is_file()


def test_all_templates_are_shipped() -> None:
    """Setuptools takes what the patterns of pyproject.toml match, hidden files excepted."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["onnxc"]
    shipped = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    assert {path for path in (ROOT / "templates").rglob("*") if path.is_file()} <= shipped
    assert not [path for path in shipped if any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
