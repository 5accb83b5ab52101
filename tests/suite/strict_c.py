"""Generated C under everything that its users put it under: sanitizers, compilers with all warnings, cppcheck.

    python strict_c.py FOLDER [--target c:cortex-m4] [--tools run,gcc,...] [--share N] < names

Writes the sources of cases of the ONNX suite to FOLDER, a folder each, and runs them there as a program under ASan and UBSan:
inputs, outputs and the arena lie on the heap with the sizes that the interface states, outputs are compared with the expected
ones. Then compilers and cppcheck read all of the files. A name that is a path stands for a model file with random inputs, whose
outputs are compared with those of the plain build; it gets a self-test, which is read and run, too. Prints `TOOL NAME finding` for
each finding.
"""

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.runner import Runner as OnnxRunner

sys.path.insert(0, str(Path(__file__).parent))

from cases import all_cases, data_of

import onnxc
from onnxc.backends.c.artifact import CArtifact
from onnxc.backends.c.emulator.boards import PROCESSORS
from onnxc.backends.c.emulator.emulate import sizes_of
from onnxc.backends.c.emulator.toolchains import TEMPLATES, find_zig
from onnxc.backends.c.self_test import print_self_test
from onnxc.backends.c.shim import print_shim
from onnxc.compiler.onnx_backend import CompiledRep
from onnxc.compiler.program.runner import Runner

HERE = Path(__file__).parent
WARNINGS = (
    "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror",
    "-Wsign-conversion", "-Wdouble-promotion", "-Wcast-qual", "-Wundef", "-Wvla", "-Wstrict-prototypes", "-Wmissing-prototypes",
)  # fmt: skip
SANITIZERS = (
    "-std=c99", "-O0", "-g1", "-ffp-contract=off",
    "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all",
)  # fmt: skip
_CROSS = {"arm-m0": "cortex-m0", "arm-m4": "cortex-m4", "arm-m55": "cortex-m55", "riscv": "rv32imc", "riscv-f": "rv32imfc"}
_FREESTANDING = ("-isystem", str(TEMPLATES / "freestanding"))


def _tools() -> dict[str, tuple[str, ...]]:
    """Commands that read C files, by name; files are appended."""
    found = {
        "gcc": ("gcc", *WARNINGS, "-O2", "-c"),
        "clang": ("clang", *WARNINGS, "-fsyntax-only"),
        "g++": ("g++", "-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only"),
        "cppcheck": ("cppcheck", "-q", "--std=c99", "--enable=warning,performance,portability", "--error-exitcode=1"),
        "avr": ("avr-gcc", "-mmcu=atmega2560", *WARNINGS, "-Wno-double-promotion", "-Wno-overflow", "-Os", "-c"),
    }
    for name, processor in _CROSS.items():
        row = PROCESSORS[processor]
        found[name] = (row.board.architecture.gcc, *row.flags, *row.board.architecture.specs, *WARNINGS, "-O2", "-c")
    zig = PROCESSORS["cortex-m4"].zig
    found["zig"] = (*find_zig(), "cc", *zig, *WARNINGS, "-O2", *_FREESTANDING, "-fno-sanitize=all", "-c")
    return found


TOOLS = _tools()


def is_installed(tool: str) -> bool:
    """True if the tool of a name is on this machine."""
    command = TOOLS[tool][0]
    return bool(find_zig()) if tool == "zig" else shutil.which(command) is not None


class Sanitized:
    """A model built as a program with sanitizers, as a function that `Runner` can call: it copies what lies at the addresses."""

    def __init__(self, artifact: CArtifact, folder: Path, main: Path) -> None:
        self.face, self.folder = artifact.interface, folder
        (folder / "shim.c").write_text(print_shim(self.face))
        sources = [name for name in artifact.sources if name.endswith(".c")]
        done = call(["gcc", *SANITIZERS, *sources, "shim.c", str(main), "-o", "program", "-lm"], folder)
        (folder / "shim.c").unlink()
        if done.returncode:
            raise AssertionError(f"does not build: {done.stderr}")

    def __call__(self, inputs: int, outputs: int, symbols: int, arena: int) -> int:
        """Run the program once."""
        del arena
        count = len(self.face.symbols)
        table = (ctypes.c_int64 * (count + len(self.face.locals))).from_address(symbols)
        sizes = sizes_of(self.face, list(table[:count]))
        numbers = [len(sizes.inputs), len(sizes.outputs), len(table), sizes.arena, *sizes.inputs, *sizes.outputs, *table]
        places = (ctypes.c_void_p * len(sizes.inputs)).from_address(inputs)
        parts = [ctypes.string_at(address or 0, size) for address, size in zip(places, sizes.inputs, strict=True)]
        (self.folder / "inputs.bin").write_bytes(np.array(numbers, "<i8").tobytes() + b"".join(parts))
        done = call([str(self.folder / "program"), "inputs.bin", "outputs.bin"], self.folder)
        if done.returncode:
            raise AssertionError(f"stops with {done.returncode}: {_first_finding(done.stderr)}")
        return self._take((self.folder / "outputs.bin").read_bytes(), outputs, table, sizes.outputs)

    def _take(self, data: bytes, outputs: int, table: ctypes.Array[ctypes.c_int64], sizes: Sequence[int]) -> int:
        status, *found = np.frombuffer(data, "<i8", 1 + len(table)).tolist()
        table[:] = found
        at, places = 8 * (1 + len(table)), (ctypes.c_void_p * len(sizes)).from_address(outputs)
        for address, size in zip(places, sizes, strict=True):
            ctypes.memmove(address or 0, data[at : at + size], size)
            at += size
        return int(status)


def call(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; a program that hangs is a finding."""
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "ZIG_LOCAL_CACHE_DIR": str(folder)}
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=600, env=environment
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "takes more than 600 s")


def _first_finding(text: str) -> str:
    lines = text.splitlines()
    told = [line for line in lines if "error:" in line or "ERROR:" in line or "warning:" in line or "takes more" in line]
    return (told or lines or [""])[0]


def slug(name: str) -> str:
    """A folder name of the name of a case or the path of a model."""
    return Path(name).stem if name.endswith(".onnx") else name.replace("/", "__")


def run_strictly(name: str, cases: Mapping[str, Any], target: str, folder: Path, main: Path, *, run: bool = True) -> None:
    """Write the sources of a case or model to a folder, and run it with sanitizers; raises on any finding."""
    model, sets = data_of(cases[name]) if name in cases else (onnx.load(name), iter([([], [])]))
    bind = _ones(model) if "static-arena" in target and name not in cases else {}
    compiled = onnxc.compile(model, target, bind=bind, cache=False)
    assert isinstance(compiled.artifact, CArtifact)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in compiled.artifact.sources.items():
        (folder / file).write_text(text)
    if not run:
        return
    with tempfile.TemporaryDirectory(dir=folder) as work:
        for file, text in compiled.artifact.sources.items():
            (Path(work) / file).write_text(text)
        if name not in cases:
            inputs = _random_inputs(compiled, name)
            outputs = compiled.run(inputs)
            _test_itself(compiled.artifact, inputs, outputs, folder)
            sets = iter([([*inputs.values()], [*outputs.values()])])
        rtol, atol = (cases[name].rtol, cases[name].atol) if name in cases else (1e-3, 1e-3)
        strict = Runner(compiled.interface, Sanitized(compiled.artifact, Path(work), main))
        compiled.artifact.runner, compiled._runner = lambda threads: strict, None
        for inputs, expected in sets:
            OnnxRunner.assert_similar_outputs(expected, list(CompiledRep(compiled).run(inputs)), rtol, atol)


def _test_itself(artifact: CArtifact, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], folder: Path) -> None:
    """Add a self-test to the files in a folder, and run it with sanitizers."""
    face = artifact.interface
    tests = print_self_test(face, inputs, outputs)
    for file, data in tests.items():
        (folder / file).write_bytes(data)
    arena = sizes_of(face, [inputs[face.inputs[s.input].name].shape[s.axis] for s in face.symbols]).arena
    name = next(file for file in tests if file.endswith(".h")).removesuffix("_selftest.h")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        text = f'#include <stdlib.h>\n#include "{name}_selftest.h"\nint main(void) {{ return {name}_selftest(malloc({max(arena, 1)})); }}\n'
        (Path(work) / "main.c").write_text(text)
        sources = [str(path) for path in folder.glob("*.c")]
        done = call(["gcc", *SANITIZERS, f"-I{folder}", *sources, "main.c", "-o", "program", "-lm"], Path(work))
        done = done if done.returncode else call(["./program"], Path(work))
    if done.returncode:
        raise AssertionError(f"self-test stops with {done.returncode}: {_first_finding(done.stderr)}")


def _ones(model: onnx.ModelProto) -> dict[str, int]:
    """All symbolic extents of the inputs, bound to 1."""
    extents = [d.dim_param for value in model.graph.input for d in value.type.tensor_type.shape.dim]
    return dict.fromkeys(filter(None, extents), 1)


def _random_inputs(compiled: onnxc.CompiledModel, path: str) -> dict[str, np.ndarray]:
    recorded = Path(path).with_suffix(".testdata.npz")
    if recorded.exists():
        data = np.load(recorded)
        found = {p.name: data[f"in0:{p.name}"] for p in compiled.inputs if f"in0:{p.name}" in data}
        if len(found) == len(compiled.inputs):
            return found
    random = np.random.default_rng(0)
    shapes = {p.name: [d if isinstance(d, int) else 2 for d in p.shape] for p in compiled.inputs}
    return {p.name: (random.uniform(0, 1, shapes[p.name]) * 5).astype(p.dtype.numpy) for p in compiled.inputs}


def build_main(folder: Path) -> Path:
    """The program around a model as an object, made once."""
    done = call(["gcc", *SANITIZERS, "-c", str(HERE / "strict_main.c"), "-o", "strict_main.o"], folder)
    assert done.returncode == 0, done.stderr
    return folder / "strict_main.o"


def findings_of(tool: str, folders: Sequence[Path], batch: int = 40) -> Iterator[tuple[str, str]]:
    """What a tool says about the files in folders: folder name and the first finding. Many at once, and alone those that fail together."""
    for start in range(0, len(folders), batch):
        some = folders[start : start + batch]
        files = [str(path) for folder in some for path in sorted(folder.glob("*.c"))]
        if not files:
            continue
        with tempfile.TemporaryDirectory(dir=some[0].parent) as work:
            done = call([*TOOLS[tool], *files], Path(work))
        if done.returncode and len(some) > 1:
            yield from findings_of(tool, some, max(1, batch // 8))
        elif done.returncode:
            yield some[0].name, _first_finding(done.stdout + done.stderr)


def main() -> None:
    """Sweep the cases named on standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=lambda text: Path(text).resolve())
    parser.add_argument("--target", default="c")
    parser.add_argument("--tools", default=",".join(["run", *(tool for tool in TOOLS if is_installed(tool))]))
    parser.add_argument("--share", type=int, default=1, help="one in so many cases")
    options = parser.parse_args()
    np.seterr(all="ignore")
    names = [n for n in sys.stdin.read().split() if zlib.crc32(n.encode()) % options.share == 0]
    cases = {} if all(n.endswith(".onnx") for n in names) else all_cases()
    options.folder.mkdir(parents=True, exist_ok=True)
    tools = options.tools.split(",")
    if {"run", "write"} & {*tools}:
        work = build_main(options.folder)
        for name in names:
            folder = options.folder / slug(name)
            if folder.exists():
                continue
            try:
                run_strictly(name, cases, options.target, folder, work, run="run" in tools)
            except Exception as error:  # noqa: BLE001 (any failure is a finding)
                print("run", name, f"{type(error).__name__}: {str(error).strip()[:400]!r}", flush=True)
    folders = [folder for name in names if (folder := options.folder / slug(name)).is_dir()]
    for tool in tools:
        if tool in TOOLS:
            for name, finding in findings_of(tool, folders):
                print(tool, name, finding, flush=True)
            print("done", tool, flush=True)


if __name__ == "__main__":
    main()
