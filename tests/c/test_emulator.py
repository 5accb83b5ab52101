"""`onnxc verify --on qemu`: results, exact counts, stack and memory on emulated boards, and what it says where it cannot."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import onnxc
from onnxc.backends.c.artifact import CArtifact
from onnxc.backends.c.emulator.boards import ARM, PROCESSORS, RISCV, Architecture
from onnxc.backends.c.emulator.emulate import emulate
from onnxc.backends.c.emulator.stack_bound import stack_bound
from onnxc.backends.c.emulator.toolchains import find_zig
from onnxc.backends.c.target import PROCESSORS as TARGETS
from onnxc.compiler import cli
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.emulation import Emulation, EmulationOptions
from onnxc.compiler.program.interface import Interface, Port

CONVOLUTION = """<ir_version: 8, opset_import: ["" : 17]>
tiny (float[1,3,8,8] x) => (float[1,4] y, int64[1] k) <float[4,3,3,3] w, float[4] c> {
    h = Conv<pads=[1,1,1,1]>(x, w, c)
    r = Relu(h)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Softmax(f)
    k = ArgMax<axis=1, keepdims=0>(y) }"""
EXTENTS = """<ir_version: 8, opset_import: ["" : 17]>
rows (float[N,4] x) => (float[N,4] y, float[N] m) {
    y = Tanh(x)
    m = ReduceMax<axes=[1], keepdims=0>(y) }"""
LATE = """<ir_version: 8, opset_import: ["" : 17]>
positive (float[6] x) => (float[6] y) {
    zero = Constant<value = float {0}>()
    more = Greater(x, zero)
    y = Compress<axis=0>(x, more) }"""


def needs(architecture: Architecture) -> None:
    missing = [tool for tool in (architecture.gcc, architecture.emulator) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")


def write(folder: Path, text: str) -> str:
    model, rng = parser.parse_model(text), np.random.default_rng(3)
    for info in model.graph.value_info:
        weights = rng.normal(size=[d.dim_value for d in info.type.tensor_type.shape.dim]).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, info.name))
    onnx.save(model, folder / "model.onnx")
    return str(folder / "model.onnx")


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert cli.run(["verify", *arguments, "--on", "qemu", "--json"]) == cli.OK
    return json.loads(capsys.readouterr().out)


# --- Models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_model_gives_the_reference_s_results_on_every_board(processor, tmp_path, capsys):
    needs(PROCESSORS[processor].board.architecture)
    found = verified(capsys, write(tmp_path, CONVOLUTION), "-t", f"c:{processor}", "-O2")
    assert found["match"] is True
    counts = found["instructions"]
    assert counts["total"] == counts["outside_layers"] + sum(layer["instructions"] for layer in counts["layers"])
    assert counts["total"] == sum(counts["functions"].values())
    assert all(layer["instructions"] > 0 and layer["function"] and layer["nodes"] for layer in counts["layers"])
    memory = found["memory"]
    assert 0 < memory["stack_bytes"] < 4096
    assert memory["io_bytes"] == 4 * 3 * 64 + 4 * 4 + 8
    assert memory["arena_bytes"] == onnxc.compile(tmp_path / "model.onnx", f"c:{processor}").interface.arena_bytes
    assert found["flash"]["bytes"] == found["flash"]["code_bytes"] + found["flash"]["weights_bytes"]
    assert found["flash"]["weights_bytes"] >= 4 * 108


@pytest.mark.parametrize("compiler", ["clang", "zig"])
@pytest.mark.parametrize("processor", ["cortex-m4", "rv32imc"])
def test_other_compilers_build_it_too(processor, compiler, tmp_path, capsys):
    needs(PROCESSORS[processor].board.architecture)
    if not (find_zig() if compiler == "zig" else shutil.which(compiler)):
        pytest.skip(f"{compiler} is not installed")
    found = verified(capsys, write(tmp_path, CONVOLUTION), "-t", f"c:{processor}", "--cc", compiler)
    assert found["match"] is True
    assert found["compiler"].startswith(compiler)
    assert found["memory"]["stack_bound_bytes"] is None


@pytest.mark.parametrize("choices", ["steps", "separate-weights"])
def test_extents_of_the_inputs_are_the_caller_s(choices, tmp_path, capsys):
    needs(ARM)
    path, target, folder = write(tmp_path, EXTENTS), f"c:cortex-m4,{choices}", tmp_path / "built"
    onnxc.compile(path, target).save(folder)
    found = verified(capsys, path, "-t", target, "--artifact", str(folder), "--dim", "N=6")
    assert found["match"] is True
    assert found["memory"]["io_bytes"] == 4 * (24 + 24 + 6)
    assert found["inputs"] == {"x": [6, 4]}
    assert verified(capsys, path, "-t", target, "--artifact", str(folder))["inputs"] == {"x": [1, 4]}


def test_the_extents_of_the_run_are_fixed_in_the_code(tmp_path, capsys):
    needs(ARM)
    path = write(tmp_path, EXTENTS)
    found = verified(capsys, path, "-t", "c:cortex-m4", "--dim", "N=6")
    assert found["inputs"] == {"x": [6, 4]}
    assert (
        found
        == verified(capsys, path, "-t", "c:cortex-m4", "--bind", "N=6")
        == verified(capsys, path, "-t", "c:cortex-m4", "--bind", "x:0=6")
    )
    np.savez(tmp_path / "x.npz", x=np.ones((6, 4), np.float32))
    given = verified(capsys, path, "-t", "c:cortex-m4", "--inputs", str(tmp_path / "x.npz"))
    assert given["instructions"]["total"] < found["instructions"]["total"] * 1.1
    assert given["inputs"] == {"x": [6, 4]}


def test_extents_that_the_run_finds_out(tmp_path, capsys):
    needs(ARM)
    found = verified(capsys, write(tmp_path, LATE), "-t", "c:cortex-m4")
    assert found["match"] is True
    assert found["memory"]["io_bytes"] == 4 * (6 + 6)


def test_a_model_with_an_arena_of_its_own(tmp_path, capsys):
    needs(ARM)
    memory = verified(capsys, write(tmp_path, CONVOLUTION), "-t", "c:cortex-m4,static-arena")["memory"]
    assert memory["static_bytes"] >= memory["arena_bytes"] > 0
    assert verified(capsys, str(tmp_path / "model.onnx"), "-t", "c:cortex-m4")["memory"]["static_bytes"] == 0


def test_two_runs_count_the_same(tmp_path, capsys):
    needs(ARM)
    path = write(tmp_path, CONVOLUTION)
    assert verified(capsys, path, "-t", "c:cortex-m4") == verified(capsys, path, "-t", "c:cortex-m4")


def test_a_table_for_people(tmp_path, capsys):
    needs(ARM)
    assert cli.run(["verify", write(tmp_path, CONVOLUTION), "-t", "c:cortex-m0", "--on", "qemu"]) == cli.OK
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("mps2-an385", "between layers", "flash", "arena", "stack", "at most", "note: "))


def test_a_difference_is_a_fault(tmp_path, capsys, monkeypatch):
    needs(ARM)
    path = write(tmp_path, CONVOLUTION)
    truth = onnxc.compile(path, "c")

    def wrong(reference: str, model: Path, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
        outputs = truth.run(inputs)
        return {"y": outputs["y"], "k": outputs["k"] + 1}, "a wrong reference"

    monkeypatch.setattr("onnxc.compiler.cli.compare.run_reference", wrong)
    assert cli.run(["verify", path, "-t", "c:cortex-m4", "--on", "qemu", "--json"]) == cli.FAULT
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["match"]) == (False, False)
    assert [(o["name"], o["passed"]) for o in found["outputs"]] == [("y", True), ("k", False)]
    assert "'k' differs" in found["errors"][0]["message"]
    assert "--atol 1" in found["errors"][0]["hint"]


# --- What is measured ------------------------------------------------------------------------


def run_by_hand(body: str, processor: str = "cortex-m4") -> Emulation:
    """A model whose run is these instructions: int32 x -> int32 y."""
    needs(PROCESSORS[processor].board.architecture)
    head = "#include <stdint.h>\nint hand_run(const int32_t *x, int32_t *y, void *arena);\n"
    text = f'#include "hand.h"\n__attribute__((naked)) int hand_run(const int32_t *x, int32_t *y, void *arena) {{\n__asm__({body});\n}}\n'
    port = Port("x", DType.INT32, (1,))
    face = Interface("hand", (port,), (replace(port, name="y"),), (), (), 16, frozenset(), messages={3: "the third check fails"})
    return emulate(CArtifact(face, {"hand.h": head, "hand.c": text}), processor, {"x": np.int32([20])}, EmulationOptions())


def test_every_instruction_counts_once():
    loop = r'"ldr r3, [r0]\n1: subs r3, #1\nbne 1b\nmovs r0, #7\nstr r0, [r1]\nmovs r0, #0\nbx lr"'
    found = run_by_hand(loop)
    assert found.outputs["y"] == 7
    assert found.instructions == found.outside_instructions == found.functions["hand_run"] == 1 + 20 * 2 + 4
    assert found.code_bytes in (14, 16), "with or without what aligns it"


def test_every_instruction_counts_once_on_riscv():
    loop = r'"lw t0, 0(a0)\n1: addi t0, t0, -1\nbnez t0, 1b\nsw t0, 0(a1)\nli a0, 0\nret"'
    assert run_by_hand(loop, "rv32imc").instructions == 1 + 20 * 2 + 3


def test_the_stack_is_what_is_written_to():
    assert run_by_hand(r'"sub sp, #508\nstr r0, [sp]\nadd sp, #508\nmovs r0, #0\nbx lr"').stack_bytes == 508
    assert run_by_hand(r'"movs r0, #0\nbx lr"').stack_bytes == 0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (r'"movs r0, #3\nbx lr"', "E0402", "the third check fails"),
        (r'"udf #1"', "E0602", "the processor faults"),
        (r'"ldr r3, =stack_limit\nstr r0, [r3]\nmovs r0, #0\nbx lr\n.ltorg"', "E0602", "the stack overflows"),
        (r'"bl nobody"', "E0602", "undefined reference to `nobody'"),
        (r'"nonsense"', "E0602", "refuses hand.c: "),
    ],
)
def test_a_run_that_goes_wrong(body, code, message):
    with pytest.raises(CompileError) as error:
        run_by_hand(body)
    assert error.value.code == code
    assert message in str(error.value)


def test_memory_that_reads_before_writes_is_no_number():
    found = run_by_hand(r'"ldr r3, [r2]\nstr r3, [r1]\nmovs r0, #0\nbx lr"')
    assert found.outputs["y"] == -1


def test_unaligned_accesses_fault_where_the_processor_has_none():
    unaligned = r'".syntax unified\nadds r0, #1\nldr r3, [r0]\nstr r3, [r1]\nmovs r0, #0\nbx lr"'
    assert run_by_hand(unaligned).outputs["y"].shape == (1,)
    with pytest.raises(CompileError, match="the processor faults"):
        run_by_hand(unaligned, "cortex-m0")


def test_the_bound_of_the_stack_follows_the_calls():
    frames = {"m.c:leaf": 8, "m.c:kernel": 40, "m.c:other": 16, "run": 24}
    nodes = "".join(f'node: {{ title: "{n}" label: "{n}\\nm.c:1:2\\n{size} bytes (static)" }}\n' for n, size in frames.items())
    pairs = [("run", "m.c:kernel"), ("run", "m.c:other"), ("m.c:kernel", "m.c:leaf"), ("m.c:leaf", "memcpy")]
    edges = "".join(f'edge: {{ sourcename: "{a}" targetname: "{b}" label: "m.c:1:2" }}\n' for a, b in pairs)
    assert stack_bound(nodes + edges, "run") == 24 + 40 + 8
    assert stack_bound(nodes + edges, "m.c:other") == 16
    circle = 'edge: { sourcename: "m.c:leaf" targetname: "m.c:kernel" label: "m.c:1:2" }\n'
    assert stack_bound(nodes + edges + circle, "run") is None
    assert stack_bound("", "run") is None


def test_the_bound_holds(tmp_path):
    needs(ARM)
    model = onnxc.compile(write(tmp_path, CONVOLUTION), "c:cortex-m4")
    assert model.target.emulate is not None
    found = model.target.emulate(model.artifact, {"x": np.zeros((1, 3, 8, 8), np.float32)}, EmulationOptions())
    assert found.stack_bound_bytes is not None
    if not found.stack_bound_lacks:
        assert found.stack_bytes <= found.stack_bound_bytes


# --- Boards ----------------------------------------------------------------------------------


def test_every_processor_has_a_board_but_those_without_an_emulator():
    assert set(TARGETS) - set(PROCESSORS) == {"avr"}
    assert set(PROCESSORS) <= set(TARGETS)


def on_small_board(monkeypatch, tmp_path, **sizes: int) -> Emulation:
    needs(ARM)
    processor = PROCESSORS["cortex-m4"]
    board = processor.board
    regions = {name: replace(getattr(board, name), bytes=size) for name, size in sizes.items()}
    monkeypatch.setitem(PROCESSORS, "cortex-m4", replace(processor, board=replace(board, **regions)))
    model = onnxc.compile(write(tmp_path, CONVOLUTION), "c:cortex-m4")
    assert model.target.emulate is not None
    return model.target.emulate(model.artifact, {"x": np.zeros((1, 3, 8, 8), np.float32)}, EmulationOptions())


def test_what_the_chip_does_not_hold_goes_into_external_memory(monkeypatch, tmp_path):
    assert on_small_board(monkeypatch, tmp_path, code=64 << 10, ram=32 << 10).instructions > 0


def test_a_model_that_no_memory_holds(monkeypatch, tmp_path):
    with pytest.raises(CompileError, match=r"does not fit mps2-an386: it has [\d,]+ bytes of constants and") as error:
        on_small_board(monkeypatch, tmp_path, code=64 << 10, large=64)
    assert error.value.code == "E0305"
    assert "4096 KiB of RAM" in error.value.diagnostics[0].hint


# --- What is missing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "target", "tool"),
    [(ARM, "c:cortex-m4", "gcc"), (ARM, "c:cortex-m4", "emulator"), (RISCV, "c:rv32imc", "gcc"), (RISCV, "c:rv32imc", "emulator")],
)
def test_a_missing_tool_is_named_with_its_package(architecture, target, tool, tmp_path, capsys, monkeypatch):
    path = write(tmp_path, CONVOLUTION)
    for name in (architecture.gcc, architecture.emulator):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    missing = getattr(architecture, tool)
    (tmp_path / missing).unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ziglang", None)
    assert cli.run(["verify", path, "-t", target, "--on", "qemu"]) == cli.FAULT
    error = capsys.readouterr().err
    assert f"error[E0303]: verifying on an emulated device needs {missing}" in error
    assert architecture.packages[0 if tool == "gcc" else 2] in error
    assert ("pip install ziglang" in error) == (tool == "gcc")


@pytest.mark.parametrize(
    ("target", "message"), [("c", "names no processor"), ("c:avr", "no board with avr"), ("cpu", "target cpu has no emulated device")]
)
def test_targets_without_a_board(target, message, tmp_path, capsys):
    assert cli.run(["verify", write(tmp_path, CONVOLUTION), "-t", target, "--on", "qemu"]) == cli.FAULT
    error = capsys.readouterr().err
    assert "error[E0301]" in error
    assert message in error


def test_options_of_the_device_need_one(tmp_path, capsys):
    assert cli.run(["verify", write(tmp_path, CONVOLUTION), "-t", "c:cortex-m4", "--cc", "gcc"]) == cli.USAGE
    assert "--on qemu" in capsys.readouterr().err
