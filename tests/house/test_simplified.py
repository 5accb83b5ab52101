"""`onnxc compile --emit onnx`: the simplified model computes the same, and keeps what the exporter said."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from onnxc.compiler import cli
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.pipeline import Options
from onnxc.compiler.simplified import model_files, simplified_model
from onnxc.compiler.target import load_target

MODELS = {
    "constants and functions": (
        """<ir_version: 10, opset_import: ["" : 21, "acme" : 1]>
        g (float[n, 4] x) => (float[n, 4] y) <float[4] a = {1, 2, 3, 4}, float one = {1}> {
            b = Mul(a, a) c = acme.Twice(b) d = Mul(x, one) e = Identity(d) y = Add(e, c)
        }
        <domain: "acme", opset_import: ["" : 21]> Twice (x) => (y) { y = Add(x, x) }""",
        ["Add"],
    ),
    "regions": (
        """<ir_version: 10, opset_import: ["" : 18]>
        g (float[n, 4] x, bool c, int64 trips) => (float[n, 4] y, float[k, n, 4] s) <float two = {2}> {
            a = If(c) <then_branch = t () => (float[n, 4] p) { q = Neg(x) p = Identity(q) },
                       else_branch = e () => (float[n, 4] r) { r = Mul(x, two) }>
            y, s = Loop(trips, , a) <body = b (int64 i, bool k, float[n, 4] v) => (bool l, float[n, 4] w, float[n, 4] u) {
                l = Identity(k) w = Add(v, x) u = Mul(w, two) }>
        }""",
        ["If", "Loop"],
    ),
    "a softmax of opset 11": (
        """<ir_version: 6, opset_import: ["" : 11]> g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax<axis = 1>(x) }""",
        ["Flatten", "Softmax", "Shape", "Reshape"],
    ),
    "a softmax of opset 11 over the last axis": (
        """<ir_version: 6, opset_import: ["" : 11]> g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax<axis = 2>(x) }""",
        ["Softmax"],
    ),
    "a dropout of opset 10": (
        """<ir_version: 5, opset_import: ["" : 10]> g (float[2] x) => (float[2] y) {
            a = Relu(x) y, m = Dropout<ratio = 0.7>(a)
        }""",
        ["Relu"],
    ),
}


def inputs_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        shape = [d.dim_value or 3 for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        made[value.name] = np.asarray(np.random.default_rng(5).standard_normal(shape) * 2 + 2, dtype)
    return made


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


@pytest.mark.parametrize("name", MODELS)
def test_it_computes_the_same_with_fewer_nodes(name):
    text, operators = MODELS[name]
    model = parser.parse_model(text)
    found = simplified_model(model, load_target("cpu"), Options())
    onnx.checker.check_model(found, full_check=True)
    assert [node.op_type for node in found.graph.node] == operators
    for ours, theirs in ((found.graph.input, model.graph.input), (found.graph.output, model.graph.output)):
        assert [value.name for value in ours] == [value.name for value in theirs]
    inputs = inputs_of(model)
    for result, wanted in zip(run(found, inputs), run(model, inputs), strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_metadata_stays():
    model = parser.parse_model(MODELS["constants and functions"][0])
    model.producer_name, model.producer_version, model.model_version, model.doc_string = "exporter", "1.2", 3, "about it"
    model.metadata_props.add(key="labels", value="a,b")
    model.graph.input[0].doc_string = "what goes in"
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    found = simplified_model(model, load_target("cpu"), Options())
    for field in ("producer_name", "producer_version", "model_version", "doc_string", "metadata_props"):
        assert getattr(found, field) == getattr(model, field)
    assert found.graph.name == model.graph.name
    assert found.graph.input[0] == model.graph.input[0]


def test_too_many_weights_go_beside_the_model(tmp_path):
    model = parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float[1000] x) => (float[1000] y) { y = Add(x, w) }')
    weights = [np.random.default_rng(seed).standard_normal(1000).astype(np.float32) for seed in (1, 2)]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for w, name in zip(weights, "wv", strict=True))
    model.graph.node.append(onnx.helper.make_node("Mul", ["y", "v"], ["z"]))
    model.graph.output[0].name = "z"
    simple = simplified_model(model, load_target("cpu"), Options())
    assert list(model_files(simple, "m.onnx")) == ["m.onnx"]
    for name, data in model_files(simple, "m.onnx", most_bytes=5000).items():
        (tmp_path / name).write_bytes(data)
    assert (tmp_path / "m.onnx.data").stat().st_size == 4096 + 4000  # each begins at a page
    onnx.checker.check_model(tmp_path / "m.onnx")
    loaded = onnx.load(tmp_path / "m.onnx")
    (found,) = ReferenceEvaluator(loaded).run(None, {"x": weights[0]})
    np.testing.assert_array_equal(found, (weights[0] + weights[0]) * weights[1])


def test_the_command_writes_a_file_or_a_folder(tmp_path, capsys):
    onnx.save(parser.parse_model(MODELS["constants and functions"][0]), tmp_path / "m.onnx")
    for output in ("simple.onnx", "folder"):
        assert cli.run(["compile", str(tmp_path / "m.onnx"), "--emit", "onnx", "-o", str(tmp_path / output)]) == cli.OK
    assert (tmp_path / "simple.onnx").read_bytes() == (tmp_path / "folder" / "model.onnx").read_bytes()
    assert cli.run(["compile", str(tmp_path / "m.onnx"), "--emit", "onnx"]) == cli.USAGE
    assert "MODEL.onnx" in capsys.readouterr().err


def test_what_a_file_cannot_say_is_refused():
    model = parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (string[2] x) => (string[2] y) { y = Identity(x) }')
    with pytest.raises(CompileError, match="E0202"):
        simplified_model(model, load_target("cpu"), Options())
