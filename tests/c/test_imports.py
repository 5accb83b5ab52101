"""A compile for a microcontroller loads little: no LLVM, none of the heavy libraries that a firmware engineer may not have."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import parser

HEAVY = {"llvmlite", "scipy", "onnxruntime", "networkx", "pandas", "rich", "torch", "tensorflow"}

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
    loads (int8[1,2,6,6] x) => (int8[1,2,6,6] y)
    <float s = {0.25}, int8 z = {-3}, float t = {0.1}, int8 zero = {0}, int8[2,2,1,1] w = {1, 2, 3, 4}>
    { d = DequantizeLinear(x, s, z)
      v = DequantizeLinear(w, t, zero)
      c = Conv(d, v)
      r = Relu(c)
      y = QuantizeLinear(r, s, z) }"""


@pytest.mark.parametrize("options", [[], ["--max-ram", "1M", "--self-test", "--layout", "arduino", "--depfile", "d"]], ids=["plain", "all"])
def test_a_firmware_build_loads_no_heavy_library(options: list[str], tmp_path: Path) -> None:
    onnx.save(parser.parse_model(MODEL), tmp_path / "m.onnx")
    code = (
        "import sys\nfrom onnxc.compiler.cli import run\n"
        f"status = run(['compile', 'm.onnx', '-t', 'c:cortex-m4', '-o', 'out', '--no-cache', *{options}])\n"
        "print(*sys.modules, file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    assert [name for name in loaded if name.startswith(("onnxc.backends.llvm", "onnxc.backends.cuda", "onnx.reference"))] == []
    assert "onnxc.backends.c.package" in loaded
