"""The commands that compile and run models, and ONNX's own backend interface."""

import json

import numpy as np
import onnx.parser
import pytest

import onnxc
from onnxc import onnx_backend
from onnxc.compiler import cli

MODEL = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[N, 3] x, float[N, 3] b) => (float[N, 3] y, float[N, 3] z) {
    s = Add(x, b)
    y = Relu(s)
    z = Mul(s, s)
}
"""
X = np.array([[1, -2, 3], [-4, 5, 6]], np.float32)
B = np.array([[1, 1, 1], [0.5, 0.5, 0.5]], np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path):
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "m.onnx")
    return str(tmp_path / "m.onnx")


def called(capsys, *arguments: str) -> dict:
    assert cli.run([*arguments, "--json"]) == cli.OK, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_compile_then_run_the_artifact(model, tmp_path, capsys):
    folder = str(tmp_path / "out")
    found = called(capsys, "compile", model, "-o", folder)
    assert found["folder"] == folder
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(found["files"])
    np.savez(tmp_path / "in.npz", x=X, b=B)
    np.save(tmp_path / "b.npy", B + 1)
    called(capsys, "run", folder, "--inputs", str(tmp_path / "in.npz"), "-i", f"b={tmp_path / 'b.npy'}", "-o", str(tmp_path / "out.npz"))
    outputs = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(outputs["y"], np.maximum(X + B + 1, 0))
    np.testing.assert_array_equal(outputs["z"], (X + B + 1) ** 2)


def test_an_artifact_is_not_compiled_otherwise(model, tmp_path, capsys):
    folder = str(tmp_path / "out")
    called(capsys, "compile", model, "-t", "c", "-o", folder)
    assert called(capsys, "run", folder, "-t", "c", "--dim", "N=5")["outputs"][0]["shape"] == [5, 3]
    for given in ("run -t cpu", "run --bind N=7", "bench --max N=7 --kv-cache", f"verify --artifact {folder} -t cpu"):
        command, *options = given.split()
        assert cli.run([command, model if command == "verify" else folder, *options]) == cli.USAGE
        assert "compiled already, for target 'c'" in capsys.readouterr().err


def test_compile_twice_gives_the_same_bytes(model, tmp_path, capsys):
    files = []
    for name in ("a", "b"):
        called(capsys, "compile", model, "-o", str(tmp_path / name), "--no-cache")
        files.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert files[0] == files[1]


def test_the_cache_gives_the_same_artifact(model, tmp_path, capsys):
    for name in ("a", "b"):
        called(capsys, "compile", model, "-o", str(tmp_path / name))
    assert list((tmp_path / "cache").glob("??/*.onnxc"))
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}


def test_run_on_random_inputs(model, capsys):
    found = called(capsys, "run", model, "--dim", "N=5", "--seed", "3")
    assert [(o["name"], o["dtype"], o["shape"]) for o in found["outputs"]] == [("y", "float32", [5, 3]), ("z", "float32", [5, 3])]
    assert found["outputs"][0]["min"] == 0


def test_bind_fixes_an_extent(model, capsys):
    assert called(capsys, "run", model, "--bind", "N=7")["outputs"][0]["shape"] == [7, 3]


def test_tables_for_people(model, capsys):
    assert cli.run(["run", model]) == cli.OK
    assert "float32" in capsys.readouterr().out


def test_verify_passes(model, capsys):
    found = called(capsys, "verify", model)
    assert found["reference"].startswith("onnx.reference")
    assert [o["passed"] for o in found["outputs"]] == [True, True]


def test_verify_finds_a_difference(model, monkeypatch, capsys):
    def off_by_one(reference, path, inputs):
        y = np.maximum(inputs["x"] + inputs["b"], 0)
        return {"y": y + 1, "z": (inputs["x"] + inputs["b"]) ** 2}, "a wrong reference"

    monkeypatch.setattr("onnxc.compiler.cli.compare.run_reference", off_by_one)
    assert cli.run(["verify", model]) == cli.FAULT
    error = capsys.readouterr().err
    assert "error[E0601]: output 'y' differs" in error
    assert "'z'" not in error


def test_bench(model, capsys):
    found = called(capsys, "bench", model, "--seconds", "0.05", "--vs", "onnxruntime")
    assert set(found["engines"]) == {"onnxc", "onnxruntime"}
    assert all(engine["median_us"] > 0 for engine in found["engines"].values())


def test_wrong_inputs_are_the_users_fault(model, tmp_path, capsys):
    np.save(tmp_path / "x.npy", X.astype(np.int32))
    assert cli.run(["run", model, "-i", f"x={tmp_path / 'x.npy'}"]) == cli.FAULT
    assert "error[E0401]" in capsys.readouterr().err


def test_data_under_a_wrong_name_is_refused(model, tmp_path, capsys):
    np.savez(tmp_path / "data.npz", x=X, B=B)
    assert cli.run(["run", model, "--inputs", str(tmp_path / "data.npz")]) == cli.FAULT
    assert "input 'B' is unknown" in capsys.readouterr().err
    np.savez(tmp_path / "data.npz", x=X, b=B, label=B)
    assert cli.run(["run", model, "--inputs", str(tmp_path / "data.npz")]) == cli.OK


def test_data_that_cannot_be_read_are_told_plainly(model, tmp_path, capsys):
    (tmp_path / "data.npz").write_text("hello")
    for file, told in (("data.npz", "it is no archive of arrays"), ("absent.npz", "No such file")):
        assert cli.run(["run", model, "--inputs", str(tmp_path / file)]) == cli.FAULT
        error = capsys.readouterr().err
        assert told in error
        assert "pickle" not in error


def test_unknown_targets_are_named(model, capsys):
    assert cli.run(["compile", model, "-t", "abacus"]) == cli.FAULT
    assert "error[E0301]" in capsys.readouterr().err


def test_passes_and_targets(capsys):
    assert called(capsys, "passes", "-t", "cpu")["graph"]
    assert "cpu" in called(capsys, "targets")["targets"]


def test_backend_interface():
    model = onnx.parser.parse_model(MODEL)
    by_position = onnx_backend.run_model(model, [X, B], cache=False)
    by_name = onnx_backend.run_model(model, {"b": B, "x": X}, cache=False)
    for outputs in (by_position, by_name):
        np.testing.assert_array_equal(outputs[0], np.maximum(X + B, 0))
        np.testing.assert_array_equal(outputs.z, (X + B) ** 2)


def test_backend_runs_single_nodes():
    node = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    (found,) = onnx_backend.run_node(node, [X, np.float32(2)])
    np.testing.assert_array_equal(found, X + 2)


def test_backend_devices():
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("TPU")


WRONG_CALLS = {
    "3 inputs are given, the model has 2": lambda model: model(X, B, B),
    "input 'x' is given twice": lambda model: model(X, x=X, b=B),
    "input 'b' is missing": lambda model: model(X),
    "inputs are given by name, not as list": lambda model: model.run([X, B]),
    "not an array: on another device": lambda model: model(Elsewhere(), B),
}


class Elsewhere:
    def __dlpack__(self, **options):
        raise BufferError("on another device")

    def __dlpack_device__(self):
        return (2, 0)


def test_wrong_calls_are_refused(model):
    compiled = onnxc.compile(model)
    for told, call in WRONG_CALLS.items():
        with pytest.raises(onnxc.CompileError, match=told) as caught:
            call(compiled)
        assert caught.value.code == "E0401"


def test_integers_of_numpy_are_extents(model):
    assert onnxc.compile(model, bind={"N": np.int64(2)}).inputs[0].shape == (2, 3)


@pytest.mark.parametrize("target", ["cpu", "c"])
def test_what_max_allows_is_checked(model, target):
    compiled = onnxc.compile(model, target, max={"N": 2})
    np.testing.assert_array_equal(compiled(X, B)[0], np.maximum(X + B, 0))
    with pytest.raises(onnxc.CompileError, match="N is larger than 2, the most that was allowed for"):
        compiled(np.zeros((3, 3), np.float32), np.zeros((3, 3), np.float32))


def test_wrong_options_are_refused(model):
    for threads in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="threads is a number from 1 on"):
            onnxc.compile(model, threads=threads)
    with pytest.raises(onnxc.CompileError, match="E0301"):
        onnxc.compile(model, target=None)


def test_the_face():
    model = onnxc.compile(onnx.parser.parse_model(MODEL), cache=False)
    y, z = model(X, B)
    np.testing.assert_array_equal(y, np.maximum(X + B, 0))
    np.testing.assert_array_equal(z, (X + B) ** 2)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = onnxc.nonsense
