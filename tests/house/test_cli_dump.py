"""Looking into a compile: dumps, the debug ladder, single stages; and what `verify` writes into a record."""

import dataclasses
import json
import re

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

import onnxc
from onnxc.compiler import cli
from onnxc.compiler.graph.parse import parse_graph
from onnxc.compiler.kernel.parse import parse_kernel
from onnxc.compiler.pass_runner import Pass
from onnxc.compiler.record.text import from_json
from onnxc.compiler.target import load_target
from onnxc.compiler.watch import Watch, show, watching

MODEL = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[N, 8] x) => (float[N, 4] y) <float[8, 4] w> {
    m = MatMul (x, w)
    y = Relu (m)
}
"""


WEIGHTS = {"w": np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)}


def make() -> onnx.ModelProto:
    model = onnx.parser.parse_model(MODEL)
    model.graph.initializer.append(numpy_helper.from_array(WEIGHTS["w"], "w"))
    return model


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ONNXC_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path):
    onnx.save(make(), tmp_path / "m.onnx")
    return str(tmp_path / "m.onnx")


def shown(capsys, *arguments: str) -> str:
    assert cli.run(arguments) == cli.OK, capsys.readouterr().err
    return capsys.readouterr().out


# --- Dumps --------------------------------------------------------------------------------------


def test_a_dump_holds_every_stage_in_order(model, tmp_path, capsys):
    for _ in range(2):  # the second compile does not come from the cache
        shown(capsys, "compile", model, "-o", "out", "--dump", "dump")
        names = sorted(path.name for path in (tmp_path / "dump").iterdir())
        assert [int(name[:3]) for name in names] == list(range(1, len(names) + 1))
        stages = [name[4:] for name in names]
        passes = [f"{graph_pass.name}.graph" for graph_pass in load_target("cpu").pipeline.graph_passes]
        assert stages[: len(passes) + 1] == ["frontend.graph", *passes]
        rest = stages[len(passes) + 1 :]
        assert rest[0] == "groups.txt"
        assert rest[1].endswith(".scheduled.kernel")
        assert rest[2] == rest[1].replace("scheduled", "lowered")
        assert [name for name in rest if name.endswith(".txt")] == ["groups.txt", "schedules.txt", "program.txt", "times.txt"]
        assert any(name.endswith(".ll") for name in rest)
        for path in (tmp_path / "dump").iterdir():
            path.unlink()


def test_dumped_graphs_and_kernels_are_texts_of_the_ir(model, tmp_path, capsys):
    shown(capsys, "compile", model, "-o", "out", "--dump", "dump")
    graphs, kernels = sorted((tmp_path / "dump").glob("*.graph")), sorted((tmp_path / "dump").glob("*.kernel"))
    assert graphs and kernels
    for path in graphs:
        assert parse_graph(path.read_text(), WEIGHTS).outputs[0].name == "y"
    for path in kernels:
        parse_kernel(path.read_text())


def test_groups_schedules_and_program_name_the_nodes(model, tmp_path, capsys):
    onnxc.compile(make(), cache=False, dump=tmp_path / "dump")
    texts = {path.name[4:]: path.read_text() for path in (tmp_path / "dump").glob("*.txt")}
    assert "makes y" in texts["groups.txt"]
    (kernel,) = re.findall(r"^(\w+):", texts["schedules.txt"], re.MULTILINE)
    assert f"  {kernel}(input0, weights0, output0" in texts["program.txt"]


def test_a_model_cannot_choose_where_a_dump_goes(tmp_path):
    with watching(Watch(folder=tmp_path / "dump")):
        show(1, "../../evil\n.kernel", lambda: "text")
    (path,) = (tmp_path / "dump").iterdir()
    assert path.name == "001-.._.._evil_.kernel"


# --- The ladder ---------------------------------------------------------------------------------

STEPS = [
    ("times.txt", 1),
    ("simplify.graph", 2),
    ("groups.txt", 3),
    ("schedules.txt", 3),
    ("program.txt", 3),
    ("lowered.kernel", 4),
    (".ll", 5),
]


@pytest.mark.parametrize("level", range(6))
def test_each_step_of_the_ladder_shows_more(model, level, monkeypatch, capsys):
    monkeypatch.setenv("ONNXC_DEBUG", str(level))
    assert cli.run(["compile", model, "-o", "out", "--no-cache"]) == cli.OK
    heads = [line for line in capsys.readouterr().err.splitlines() if line.startswith("--- ")]
    assert [any(head.endswith(name) for head in heads) for name, _ in STEPS] == [at <= level for _, at in STEPS]


def test_times_of_a_compile_from_the_cache(model, monkeypatch, capsys):
    shown(capsys, "compile", model, "-o", "out")
    monkeypatch.setenv("ONNXC_DEBUG", "1")
    assert cli.run(["compile", model, "-o", "out"]) == cli.OK
    error = capsys.readouterr().err
    assert "ms  cache" in error
    assert "ms  emit" not in error


def test_nobody_watches_by_default():
    show(1, "x.txt", lambda: pytest.fail("a text was made for nobody"))
    with watching(Watch(level=2)):
        show(3, "x.txt", lambda: pytest.fail("a text was made for nobody"))


def test_a_pass_that_fails_leaves_the_graph_before_it(model, tmp_path, monkeypatch, capsys):
    def broken(graph):
        raise ZeroDivisionError("oops")

    target = load_target("cpu")
    pipeline = dataclasses.replace(target.pipeline, graph_passes=(Pass(broken),))
    target = dataclasses.replace(target, make_pipeline=lambda: pipeline)
    monkeypatch.setattr("onnxc.compiler.driver.load_target", lambda text: target)
    assert cli.run(["compile", model, "-o", "out", "--no-cache"]) == cli.FAULT
    assert "error[E0901]: PassFailure: pass broken failed: ZeroDivisionError: oops" in capsys.readouterr().err
    (folder,) = tmp_path.glob("onnxc-crash-*")
    assert "MatMul" in (folder / "before-broken.graph").read_text()


# --- Single stages ------------------------------------------------------------------------------


def test_stop_after_shows_the_graph(model, capsys):
    first = shown(capsys, "compile", model, "--stop-after", "frontend")
    assert [node.op for node in parse_graph(first, WEIGHTS).nodes] == ["MatMul", "Relu"]
    last = shown(capsys, "compile", model, "--emit", "graph")
    assert last == shown(capsys, "compile", model, "--stop-after", load_target("cpu").pipeline.graph_passes[-1].name)


@pytest.mark.parametrize(
    ("stage", "found"), [("kernel", "kernel"), ("program", "program g"), ("llvm", 'define hidden i32 @"g.'), ("asm", "g_run:")]
)
def test_emit_prints_a_stage(model, stage, found, capsys):
    assert found in shown(capsys, "compile", model, "--emit", stage)


def test_emit_source_of_c(model, capsys):
    assert "int g_run(" in shown(capsys, "compile", model, "-t", "c", "--bind", "N=2", "--emit", "source")


def test_emit_writes_files(model, tmp_path, capsys):
    found = json.loads(shown(capsys, "compile", model, "--emit", "object", "-o", "objects", "--json"))
    assert all(name.endswith(".o") for name in found["files"])
    assert (tmp_path / "objects" / "code0.o").read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--emit", "nonsense"], "graph, onnx, kernel, program, llvm"),
        (["-t", "c", "--emit", "llvm"], "source"),
        (["--stop-after", "nonsense"], "frontend, "),
        (["--stop-after", "simplify", "--emit", "kernel"], "--stop-after"),
        (["--emit", "object"], "-o"),
    ],
)
def test_wrong_stages_are_wrong_usage(model, arguments, told, capsys):
    assert cli.run(["compile", model, *arguments]) == cli.USAGE
    assert told in capsys.readouterr().err


def test_a_name_for_the_products(model, tmp_path, capsys):
    shown(capsys, "compile", model, "-o", "out", "--name", "Front Door")
    shown(capsys, "compile", model, "-o", "plain")
    assert (tmp_path / "out" / "front_door.h").exists()
    assert (tmp_path / "plain" / "g.h").exists(), "the name is part of the key of the cache"
    x = np.ones((2, 8), np.float32)
    np.testing.assert_array_equal(onnxc.load(tmp_path / "out")(x), onnxc.load(tmp_path / "plain")(x))


# --- Verification of a folder -------------------------------------------------------------------


def test_verify_writes_the_validation(model, tmp_path, capsys):
    shown(capsys, "compile", model, "-o", "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    shown(capsys, "verify", model, "--artifact", "out", "--seed", "3", "--dim", "N=5")
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"record.json"}
    found = from_json(after["record.json"].decode()).validation
    assert found is not None
    assert found.reference.startswith("onnx.reference ")
    assert found.inputs == "seed 3, N=5"
    assert [(output.name, output.passed) for output in found.outputs] == [("y", True)]
    assert found.constant_bytes == 128
    assert onnxc.load(tmp_path / "out").record.validation == found


def test_a_failed_validation_is_written_too(model, tmp_path, monkeypatch, capsys):
    shown(capsys, "compile", model, "-o", "out")
    wrong = lambda reference, path, inputs: ({"y": np.full((8, 4), 9, np.float32)}, "a wrong reference")  # noqa: E731
    monkeypatch.setattr("onnxc.compiler.cli.compare.run_reference", wrong)
    assert cli.run(["verify", model, "--artifact", "out"]) == cli.FAULT
    assert "error[E0601]" in capsys.readouterr().err
    found = from_json((tmp_path / "out" / "record.json").read_text()).validation
    assert found is not None and not found.outputs[0].passed


def test_the_artifact_of_another_model_is_refused(model, tmp_path, capsys):
    shown(capsys, "compile", model, "-o", "out")
    other = make()
    other.producer_name = "someone else"
    onnx.save(other, tmp_path / "other.onnx")
    assert cli.run(["verify", "other.onnx", "--artifact", "out"]) == cli.FAULT
    assert "another model" in capsys.readouterr().err


# --- What the cache keeps -----------------------------------------------------------------------


def from_cache(source, **options) -> bool:
    return "kernels" not in onnxc.compile(source, **options).report


def test_models_from_memory_are_cached():
    assert not from_cache(make())
    assert from_cache(make())
    assert from_cache(make().SerializeToString(deterministic=True))
    assert not from_cache(make(), name="other")
    assert not from_cache(make(), bind={"N": 3})


def test_models_with_external_data_are_cached_with_it(tmp_path):
    onnx.save(make(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    x = np.ones((1, 8), np.float32)
    assert not from_cache(tmp_path / "m.onnx")
    assert from_cache(tmp_path / "m.onnx")
    first = onnxc.compile(tmp_path / "m.onnx")(x)
    data = bytearray((tmp_path / "m.data").read_bytes())
    data[:128] = np.full(32, 2, np.float32).tobytes()
    (tmp_path / "m.data").write_bytes(data)
    assert not from_cache(tmp_path / "m.onnx"), "other weights"
    second = onnxc.compile(tmp_path / "m.onnx")(x)
    np.testing.assert_array_equal(second, np.full((1, 4), 16, np.float32))
    assert not np.array_equal(first, second)


def test_missing_external_data_is_told_though_the_model_was_cached(tmp_path):
    onnx.save(make(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    onnxc.compile(tmp_path / "m.onnx")
    (tmp_path / "m.data").unlink()
    with pytest.raises(onnxc.CompileError) as error:
        onnxc.compile(tmp_path / "m.onnx")
    assert error.value.code == "E0104"


def test_something_that_is_no_model_is_told():
    with pytest.raises(onnxc.CompileError) as error:
        onnxc.compile(17)  # type: ignore[arg-type]
    assert error.value.code == "E0101"
