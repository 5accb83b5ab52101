"""The deployment record: deterministic text that reads back, and artifacts that are checked against it."""

import dataclasses
import json

import onnx.parser
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.record.check import RECORD_NAME, check_folder, hash_files
from onnxc.compiler.record.describe import Hashes, describe_export, describe_source
from onnxc.compiler.record.nodes import Compilation, KernelRecord, OutputError, Record, Security, Validation
from onnxc.compiler.record.text import from_json, to_json

MODEL = """
<ir_version: 9, opset_import: ["": 18, "com.acme": 1], producer_name: "torch", producer_version: "2.1",
 metadata_props: ["licence": "CC0", "a": "b"]>
g (bool c, float[2] x) => (float[2] y) {
    z = Relu(x)
    w = com.acme.Sharpen(z)
    y = If(c) <then_branch = t () => (float[2] a) { a = Relu(w) }, else_branch = e () => (float[2] b) { b = Abs(w) }>
}
"""


def record() -> Record:
    model = onnx.parser.parse_model(MODEL)
    return Record(
        describe_source(model, Hashes("00", {"w.bin": "01"})),
        describe_export(model),
        Compilation(
            "0.1.0", "cpu", ("avx2", "fma"), ("fold", "fuse"), {"threads": 2, "bind": "batch=1", "max": None, "fast": False},
            kernels=(KernelRecord("k0", ("relu", 'evil"\n\x1b[31m'), "vector(w=16)"),),
        ),
        Security({"nodes": 100000}, {"m.so": "00"}),
        Validation("onnx.reference 1.20", "seed 0", 1e-3, 1e-7, (OutputError("y", 1e-6, float("inf"), True),), 12.5),
    )  # fmt: skip


def test_text_reads_back():
    assert from_json(to_json(record())) == record()
    unverified = dataclasses.replace(record(), validation=None)
    assert from_json(to_json(unverified)) == unverified


def test_text_is_ascii_and_deterministic():
    text = to_json(record())
    assert text.isascii()
    assert "\x1b" not in text
    assert text == to_json(record())


def test_source_and_export():
    found = record()
    assert found.source.producer_name == "torch"
    assert found.source.metadata == {"licence": "CC0", "a": "b"}
    assert list(found.source.external_sha256) == ["w.bin"]
    assert found.export.opsets == {"ai.onnx": 18, "com.acme": 1}
    assert found.export.operators == {"Abs": 1, "If": 1, "Relu": 2, "com.acme::Sharpen": 1}
    assert found.export.custom_operators == ("com.acme::Sharpen",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("source"), "source"),
        (lambda d: d.update(format=99), "format 99"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["export"].update(ir_version="nine"), "ir_version"),
        (lambda d: d["export"].update(ir_version=True), "ir_version"),
        (lambda d: d["compilation"].update(passes="fold"), "passes"),
        (lambda d: d["validation"].update(outputs=[{}]), "validation"),
    ],
)
def test_a_wrong_record_is_refused(change, message):
    data = json.loads(to_json(record()))
    change(data)
    with pytest.raises(CompileError, match=message) as caught:
        from_json(json.dumps(data))
    assert caught.value.code == "E0501"


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100000])
def test_what_is_no_record_is_refused(text):
    with pytest.raises(CompileError, match="E0501"):
        from_json(text)


@pytest.fixture
def artifact(tmp_path):
    files = {"m.so": b"code", "m.h": "int m(void);"}
    sealed = dataclasses.replace(record(), security=Security({}, hash_files(files)))
    (tmp_path / "m.so").write_bytes(b"code")
    (tmp_path / "m.h").write_text("int m(void);")
    (tmp_path / RECORD_NAME).write_text(to_json(sealed))
    return tmp_path


def test_a_sound_artifact_passes(artifact):
    assert check_folder(artifact).compilation.target == "cpu"


def test_all_damage_is_listed_at_once(artifact):
    (artifact / "m.so").write_bytes(b"c0de")
    (artifact / "m.h").unlink()
    with pytest.raises(CompileError) as caught:
        check_folder(artifact)
    assert [d.message for d in caught.value.diagnostics] == ["m.h is missing", "m.so differs from what was compiled"]


def test_a_record_cannot_point_outside(artifact):
    sealed = dataclasses.replace(record(), security=Security({}, {"../secret": "00"}))
    (artifact / RECORD_NAME).write_text(to_json(sealed))
    with pytest.raises(CompileError, match="outside"):
        check_folder(artifact)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(CompileError, match=RECORD_NAME):
        check_folder(tmp_path)
