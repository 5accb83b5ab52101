"""The header and what hangs on it: macros, quantization, C++, a static arena, layers one by one, the profile hook."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import onnxc
from onnxc.backends.c.names import comment
from onnxc.compiler.diagnostics import CompileError

CPLUSPLUS = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-fsyntax-only"]
C = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror", "-O1"]

QUANTIZED = """<ir_version: 8, opset_import: ["" : 17]>
    codes (int8[1,2,6] x, float[2] unused) => (uint8[2,6] y)
    <float sx = {0.25}, int8 zx = {-3}, float sy = {0.5}, uint8 zy = {7}>
    { t = Transpose<perm=[0,2,1]>(x)
      u = Transpose<perm=[0,2,1]>(t)
      d = DequantizeLinear(u, sx, zx)
      n = Neg(d)
      q = QuantizeLinear(n, sy, zy)
      y = Squeeze(q, axes) }"""

CHAIN = """<ir_version: 8, opset_import: ["" : 17]>
    chain (float[N,4] x, bool c) => (float[N,4] y)
    { a = Softmax(x)
      b = If(c) <then_branch = one () => (float[N,4] t) { t = Softmax<axis=0>(a) },
                 else_branch = two () => (float[N,4] e) { f = Softmax(a) e = Softmax<axis=0>(f) }>
      y = Softmax(b) }"""


def quantized() -> onnx.ModelProto:
    model = parser.parse_model(QUANTIZED)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0], np.int64), "axes"))
    return model


def write(model: onnx.ModelProto, folder: Path, target: str = "c", **options: object) -> dict[str, str]:
    files = {k: v.decode() for k, v in onnxc.compile(model, target=target, **options).artifact.files().items()}
    for name, text in files.items():
        (folder / name).write_text(text)
    return files


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_macros_state_shapes_sizes_and_codes(tmp_path: Path) -> None:
    header = write(quantized(), tmp_path)["codes.h"]
    macros = dict(re.findall(r"#define (\w+) (.+)", header))
    assert macros["CODES_IN_X_TYPE"] == "int8_t"
    assert [macros[f"CODES_IN_X_DIM{k}"] for k in range(3)] == ["1", "2", "6"]
    assert (macros["CODES_IN_X_ELEMENTS"], macros["CODES_IN_X_BYTES"]) == ("12", "(12 * sizeof(int8_t))")
    assert (macros["CODES_IN_X_SCALE"], macros["CODES_IN_X_ZERO_POINT"]) == ("0.25f", "(-3)")
    assert (macros["CODES_OUT_Y_SCALE"], macros["CODES_OUT_Y_ZERO_POINT"]) == ("0.5f", "7")
    assert "CODES_IN_UNUSED_SCALE" not in macros
    assert "quantize" not in write(parser.parse_model(CHAIN), tmp_path)["chain.h"]


def test_helpers_convert_as_the_operators_do(tmp_path: Path) -> None:
    write(quantized(), tmp_path)
    reals = np.array([0.0, 0.125, 0.375, -0.125, -0.375, 31.0, 32.5, -31.3, -31.5, 1e30, -1e30, 0.1], np.float32)
    wanted = np.clip(np.rint(reals / np.float32(0.25)) - 3, -128, 127).astype(int)
    values = ", ".join(f"{x:.9g}f" if "." in f"{x:.9g}" else f"{x:.9g}.0f" if "e" not in f"{x:.9g}" else f"{x:.9g}f" for x in reals)
    (tmp_path / "main.c").write_text(
        f'#include "codes.h"\n#include <stdio.h>\nint main(void) {{\n    const float real[] = {{{values}}};\n'
        f'    for (int i = 0; i < {len(reals)}; i++) {{ printf("%d ", codes_quantize_in_x(real[i])); }}\n'
        '    printf("%g", (double)codes_dequantize_out_y(9));\n    return 0;\n}\n'
    )
    run([*C, "main.c", "-o", "main"], tmp_path)
    assert run([str(tmp_path / "main")], tmp_path) == " ".join(map(str, wanted)) + " 1"


@pytest.mark.parametrize("target", ["c", "c:steps,static-arena"])
def test_the_header_is_for_cplusplus_too(target: str, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    write(quantized(), tmp_path, target)
    (tmp_path / "main.cpp").write_text('#include "codes.h"\n#include "codes.h"\nint main() { return codes_quantize_in_x(0.5f); }\n')
    run([*CPLUSPLUS, "main.cpp"], tmp_path)


def test_names_that_differ_in_case_only_have_macros_of_their_own(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> cases (float[3] a, float[2] A) => (float[3] b, float[2] B) { b = Neg(a) B = Neg(A) }'
    write(parser.parse_model(text), tmp_path)
    run([*C, "-c", "cases.c"], tmp_path)


def test_no_name_of_a_model_gets_out_of_its_place(tmp_path: Path) -> None:
    evil = 'x"); system("rm"); /* */ \\\n#define N'
    node = onnx.helper.make_node("Neg", [evil], ["y*/ int z;"], name=evil, doc_string=evil)
    face = [onnx.helper.make_tensor_value_info(name, 1, [3]) for name in (evil, "y*/ int z;")]
    graph = onnx.helper.make_graph([node], evil, face[:1], face[1:], doc_string=evil)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8, doc_string=evil)
    files = write(model, tmp_path, "c:separate-weights,steps,static-arena")
    text = "".join(files[name] for name in files if name.endswith((".c", ".h")))
    code = re.sub(r'/\*.*?\*/|"[^"\n]*"', "", text, flags=re.S)
    assert "system_rm" in code
    assert not re.search(r"\bsystem\b|\brm\b|\bz\b|define N\b", code)
    for name in (name for name in files if name.endswith(".c")):
        run([*C, "-c", name], tmp_path)
    assert comment('"\\') == "__"


@pytest.mark.parametrize("name", ["math", "stdint", "String"])
def test_a_model_named_like_a_header_leaves_the_header_alone(name: str, tmp_path: Path) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 17]> {name} (float[3] x) => (float[3] y) {{ y = Floor(x) }}'
    files = write(parser.parse_model(text), tmp_path)
    assert f"{name.lower()}_model.h" in files
    run([*C, "-I.", "-c", f"{name.lower()}_model.c"], tmp_path)
    assert (onnxc.compile(parser.parse_model(text), target="c").run({"x": np.full(3, 1.5, np.float32)})["y"] == 1).all()


def test_a_static_arena_stands_in_for_null(tmp_path: Path) -> None:
    write(parser.parse_model(CHAIN), tmp_path, "c:static-arena", bind={"N": 3})
    (tmp_path / "main.c").write_text(
        '#include "chain.h"\n#include <string.h>\nstatic int64_t own[(CHAIN_ARENA_BYTES + 7) / 8];\nint main(void) {\n'
        "    float x[CHAIN_IN_X_ELEMENTS] = {1, 2, 3, 4, 5, 6}, y[CHAIN_OUT_Y_ELEMENTS], z[CHAIN_OUT_Y_ELEMENTS];\n"
        "    const uint8_t c[1] = {1};\n    int status = chain_run(x, c, y, NULL, own) | chain_run(x, c, z, NULL, NULL);\n"
        "    return status != 0 || memcmp(y, z, sizeof y) != 0;\n}\n"
    )
    flags = ['-DCHAIN_WEIGHTS_ATTRIBUTE=__attribute__((section(".w")))', '-DCHAIN_ARENA_ATTRIBUTE=__attribute__((section(".a")))']
    run(["gcc", *C[1:], *flags, "main.c", "chain.c", "-lm", "-o", "main"], tmp_path)
    run([str(tmp_path / "main")], tmp_path)
    assert " .a " in run(["objdump", "-h", "main"], tmp_path)


def test_a_static_arena_of_unknown_size_is_refused() -> None:
    with pytest.raises(CompileError) as error:
        onnxc.compile(parser.parse_model(CHAIN), target="c:static-arena", cache=False)
    assert error.value.code == "E0304"


def test_bounds_of_extents_make_sizes_constant(tmp_path: Path) -> None:
    header = write(parser.parse_model(CHAIN), tmp_path, "c:static-arena", max={"N": 6}, cache=False)["chain.h"]
    assert "the extent of that name, at most 6" in header
    (tmp_path / "main.c").write_text(
        '#include "chain.h"\n#include <string.h>\nstatic int64_t own[(CHAIN_ARENA_BYTES + 7) / 8];\n'
        "static float x[CHAIN_IN_X_ELEMENTS], y[CHAIN_OUT_Y_ELEMENTS], z[CHAIN_OUT_Y_ELEMENTS];\nint main(void) {\n"
        "    const uint8_t c[1] = {1};\n    for (int64_t n = 0; n <= 6; n++) {\n"
        "        if (chain_run(x, c, y, n, NULL, own) != 0) { return 1; }\n    }\n"
        "    if (sizeof x != 6 * 4 * sizeof *x) { return 2; }\n"
        "    return chain_run(x, c, z, 6, NULL, NULL) != 0 || memcmp(y, z, sizeof y) != 0 ? 3 : chain_run(x, c, y, 7, NULL, own) == 0;\n}\n"
    )
    run([*C, "-fsanitize=address,undefined", "main.c", "chain.c", "-lm", "-o", "main"], tmp_path)
    run([str(tmp_path / "main")], tmp_path)


STEPPING = """#include "chain.h"
#include <stdio.h>
#include <string.h>
static int64_t arena[4096];
void hook(int layer, const char *name, int ended);
void hook(int layer, const char *name, int ended) { if (!ended) { printf("%d:%s ", layer, name); } }
int main(void) {
    float x[12] = {1, 2, 3, 4, 5, 6}, y[12], z[12];
    for (uint8_t c = 0; c < 2; c++) {
        chain_cursor cursor = {0};
        while (cursor.next < CHAIN_STEPS) {
            if (chain_step(&cursor, x, &c, y, 3, arena) != 0) { return 2; }
            printf("| ");
        }
        if (chain_step(&cursor, x, &c, y, 3, arena) != 0 || cursor.next != CHAIN_STEPS) { return 3; }
        printf("\\n");
        if (chain_run(x, &c, z, 3, NULL, arena) != 0 || memcmp(y, z, sizeof y) != 0) { return 4; }
        printf("\\n");
    }
    return 0;
}
"""


def test_steps_run_a_layer_each_and_a_branch_as_one(tmp_path: Path) -> None:
    files = write(parser.parse_model(CHAIN), tmp_path, "c:steps")
    (tmp_path / "main.c").write_text(STEPPING)
    run([*C, "-DCHAIN_PROFILE=hook", "main.c", "chain.c", "-lm", "-o", "main"], tmp_path)
    lines = run([str(tmp_path / "main")], tmp_path).splitlines()
    steps = int(re.search(r"CHAIN_STEPS (\d+)", files["chain.h"]).group(1))
    layers = int(re.search(r"CHAIN_LAYERS (\d+)", files["chain.h"]).group(1))
    stepped, whole, other, _ = lines
    assert stepped.count("|") == steps == 3
    assert stepped.replace("| ", "") == whole
    seen = {int(n) for n in re.findall(r"(\d+):", stepped)}, {int(n) for n in re.findall(r"(\d+):", other)}
    assert seen[0] | seen[1] == set(range(layers))
    assert seen[0] != seen[1]


def test_each_kernel_is_called_in_one_place(tmp_path: Path) -> None:
    """No second copy of the code: the run goes through the steps."""
    text = write(parser.parse_model(CHAIN), tmp_path, "c:steps")["chain.c"]
    plain = write(parser.parse_model(CHAIN), tmp_path)["chain.c"]
    assert len(re.findall(r"_BEGIN\(\d", text)) == len(re.findall(r"_BEGIN\(\d", plain))
