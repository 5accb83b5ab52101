"""The frame of the command line: commands, exit codes, and what becomes of an error."""

import json
import subprocess
import sys

import onnx.parser
import pytest
from click.testing import CliRunner

from onnxc.compiler import cli
from onnxc.compiler.diagnostics import CompileError

MODEL = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) <float[4, 3, 3, 3] w = {0.0}> {
    c = Conv <kernel_shape = [3, 3]> (x, w)
    y = Relu(c)
}
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    proto = onnx.parser.parse_model(MODEL.replace("<float[4, 3, 3, 3] w = {0.0}>", "<float[4, 3, 3, 3] w>"))
    proto.graph.initializer.append(onnx.helper.make_tensor("w", 1, [4, 3, 3, 3], [0.5] * 108))
    onnx.save(proto, path)
    return path


def test_help_lists_every_command():
    result = CliRunner().invoke(cli.onnxc, ["--help"])
    assert result.exit_code == 0
    for command in cli.COMMANDS:
        assert f"  {command} " in result.output


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command):
    result = CliRunner().invoke(cli.onnxc, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_choices_are_those_of_the_code():
    """They are written down again at the command line, so that help need not import numpy."""
    from onnxc.compiler.cli.compare import REFERENCES
    from onnxc.compiler.quantize.options import ACTIVATIONS, METHODS

    def choices(command, option):
        (found,) = (p for p in cli.onnxc.get_command(None, command).params if p.name == option)
        return tuple(found.type.choices)

    assert choices("verify", "reference") == REFERENCES
    assert choices("quantize", "method") == ("auto", *METHODS)
    assert choices("quantize", "activations") == tuple(ACTIVATIONS)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from onnxc.compiler import cli; cli.run(['--help'])\n"
        "found = {'numpy', 'onnx', 'llvmlite', 'rich', 'networkx', 'jinja2', 'ml_dtypes'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_module_is_a_program():
    result = subprocess.run([sys.executable, "-m", "onnxc.compiler.cli", "nonsense"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "nonsense" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["compile"],
        ["compile", "m.onnx", "--bind", "batch"],
        ["compile", "m.onnx", "--bind", "n=0"],
        ["run", "m.onnx", "--oops"],
        ["compile", "."],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    assert cli.run(arguments) == cli.USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_model_is_exit_code_1(tmp_path, capsys):
    assert cli.run(["inspect", str(tmp_path / "absent.onnx")]) == cli.FAULT
    error = capsys.readouterr().err
    assert "error[E0101]" in error
    assert "Traceback" not in error


def test_errors_in_json(tmp_path, capsys):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    assert cli.run(["inspect", "--json", str(tmp_path / "bad.onnx")]) == cli.FAULT
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["errors"][0]["code"] == "E0101"


def test_a_fault_of_onnxc_leaves_a_reproducer(tmp_path, monkeypatch, capsys, model):
    def broken(path):
        raise ZeroDivisionError("a bug\x1b[31m of ours")

    monkeypatch.setattr("onnxc.compiler.cli.model_facts.inspect_model", broken)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["inspect", str(model)]) == cli.FAULT
    error = capsys.readouterr().err
    assert "error[E0901]" in error
    assert "Traceback" not in error
    assert "\x1b" not in error
    (folder,) = tmp_path.glob("onnxc-crash-*")
    assert {p.name for p in folder.iterdir()} == {"traceback.txt", "crash.json", "m.onnx"}
    assert "ZeroDivisionError" in (folder / "traceback.txt").read_text()
    assert json.loads((folder / "crash.json").read_text())["arguments"] == ["inspect", str(model)]
    assert (folder / "m.onnx").read_bytes() == model.read_bytes()


def test_all_diagnostics_are_printed(monkeypatch, capsys, model):
    from onnxc.compiler.diagnostics import Diagnostic

    def failing(path):
        raise CompileError.collect([Diagnostic("E0201", "first"), Diagnostic("E0201", "second", hint="do this")])

    monkeypatch.setattr("onnxc.compiler.cli.model_facts.inspect_model", failing)
    assert cli.run(["inspect", str(model)]) == cli.FAULT
    assert capsys.readouterr().err == "error[E0201]: first\nerror[E0201]: second\n  hint: do this\n"


def test_inspect(model, capsys):
    assert cli.run(["inspect", "--json", str(model)]) == cli.OK
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == {"x": ["float32", ["N", 3, 8, 8]]}
    assert found["operators"] == {"Conv": 1, "Relu": 1}
    assert found["parameters"] == 108
    assert found["macs"] is None, "N is not known"


def test_inspect_counts_the_work(tmp_path, capsys):
    proto = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]>
        g (float[2, 3, 8, 8] x, float[4, 3, 3, 3] w, float[7, 5] a, float[7, 6] b) => (float[2, 4, 6, 6] y, float[5, 6] z) {
            y = Conv(x, w)
            z = Gemm <transA = 1> (a, b)
        }""")
    onnx.save(proto, tmp_path / "m.onnx")
    assert cli.run(["inspect", "--json", str(tmp_path / "m.onnx")]) == cli.OK
    assert json.loads(capsys.readouterr().out)["macs"] == 2 * 4 * 6 * 6 * 27 + 5 * 6 * 7


def test_version(capsys):
    assert cli.run(["version", "--json"]) == cli.OK
    assert {"onnxc", "onnx", "llvmlite"} <= set(json.loads(capsys.readouterr().out))
