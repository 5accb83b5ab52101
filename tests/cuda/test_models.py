"""Small models in the shim, in three orders of threads, against the reference evaluator."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import onnxc
from onnxc.backends.cuda.run import nvcc, nvcc_architectures
from onnxc.compiler.diagnostics import CompileError

ORDERS = ("forward", "reverse", "random")
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

MODELS = {
    "elementwise": ("m (float[3,5] x, float[3,5] z) => (float[3,5] y) { a = Mul(x, z) b = Tanh(a) y = Add(b, x) }", {}),
    "broadcast": ("m (float[4,1,33] x, float[7,1] z) => (float[4,7,33] y) { y = Sub(x, z) }", {}),
    "transpose": ("m (float[5,7,3] x) => (float[3,5,7] y) { y = Transpose<perm=[2,0,1]>(x) }", {}),
    "softmax of long rows": ("m (float[3,700] x) => (float[3,700] y) { y = Softmax(x) }", {}),
    "softmax of short rows": ("m (float[100,7] x) => (float[100,7] y) { y = Softmax(x) }", {}),
    "softmax of rows too long for shared memory": ("m (double[2,8000] x) => (double[2,8000] y) { y = Softmax(x) }", {}),
    "layer norm": (
        "m (float[6,96] x, float[96] s, float[96] b) => (float[6,96] y) { y = LayerNormalization<axis=-1>(x, s, b) }",
        {},
    ),
    "sum of rows": ("m (float[9,333] x) => (float[9] y) { y = ReduceSum<keepdims=0>(x, a) }", {"a": np.array([1])}),
    "sum of columns": ("m (float[333,9] x) => (float[9] y) { y = ReduceSum<keepdims=0>(x, a) }", {"a": np.array([0])}),
    "mean of all": ("m (float[20,30] x) => (float y) { y = ReduceMean<keepdims=0>(x) }", {}),
    "product in tiles": ("m (float[70,33] x, float[33,50] z) => (float[70,50] y) { a = MatMul(x, z) y = Relu(a) }", {}),
    "product of batches": ("m (float[3,17,40] x, float[3,40,24] z) => (float[3,17,24] y) { y = MatMul(x, z) }", {}),
    "product with a vector": ("m (float[1,300] x, float[300,5] z) => (float[1,5] y) { y = MatMul(x, z) }", {}),
    "product, transposed": (
        "m (float[40,20] x, float[33,40] z) => (float[20,33] y) { y = Gemm<transA=1, transB=1, alpha=0.5>(x, z) }", {},
    ),
    "convolution": (
        "m (float[2,3,13,11] x, float[12,3,3,3] w, float[12] c) => (float[2,12,7,6] y) { y = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w, c) }",
        {},
    ),
    "depthwise": ("m (float[1,8,9,9] x, float[8,1,3,3] w) => (float[1,8,7,7] y) { y = Conv<group=8>(x, w) }", {}),
    "max pooling": ("m (float[1,4,8,8] x) => (float[1,4,4,4] y) { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }", {}),
    "average pooling": (
        "m (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x) }",
        {},
    ),
    "gather": ("m (float[10,6] x) => (float[3,6] y) { y = Gather(x, i) }", {"i": np.array([9, 0, -2])}),
    "top k": ("m (float[5,40] x) => (float[5,4] y, int64[5,4] z) { y, z = TopK(x, k) }", {"k": np.array([4])}),
    "half precision": ("m (float16[4,90] x) => (float16[4,90] y) { y = Softmax(x) }", {}),
    "integers": ("m (int8[50] x) => (int8[50] y) { a = Neg(x) y = Mul(a, x) }", {}),
    "dynamic rows": ("m (float[n,50] x) => (float[n,50] y) { y = Softmax(x) }", {}),
    "dynamic product": ("m (float[n,40] x, float[40,k] z) => (float[n,k] y) { y = MatMul(x, z) }", {}),
    "sizes found while running": ("m (float[30] x) => (int64[1,c] y) { a = Relu(x) y = NonZero(a) }", {}),
}  # fmt: skip


def build(name: str) -> onnx.ModelProto:
    text, constants = MODELS[name]
    model = parser.parse_model(f"{HEAD} {text}")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value.astype(np.int64), key) for key, value in constants.items())
    return model


def random_inputs(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    given = {}
    for value in model.graph.input:
        shape = [d.dim_value or 19 for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        given[value.name] = (rng.standard_normal(shape) * (1 if dtype.kind == "f" else 40)).astype(dtype)
    return given


@pytest.mark.parametrize("name", MODELS)
def test_every_order_of_threads_gives_the_same_right_result(name, monkeypatch):
    model = build(name)
    inputs = random_inputs(model)
    compiled = onnxc.compile(model, target="cuda:shim", cache=False)
    found = {}
    for order in ORDERS:
        monkeypatch.setenv("ONNXC_SHIM_ORDER", order)
        found[order] = compiled.run(inputs)
    expected = ReferenceEvaluator(model).run(None, inputs)
    for value, result in zip(found["forward"].values(), expected, strict=True):
        rtol = 2e-3 if result.dtype == np.float16 else 1e-5
        assert value.dtype == result.dtype
        np.testing.assert_allclose(value, result, rtol=rtol, atol=1e-5)
    for order in ORDERS[1:]:
        for key, value in found["forward"].items():
            np.testing.assert_array_equal(value, found[order][key], err_msg=order)


def test_an_artifact_is_loaded_again(tmp_path):
    model = build("layer norm")
    inputs = random_inputs(model)
    compiled = onnxc.compile(model, target="cuda:shim", cache=False)
    folder = compiled.save(tmp_path / "saved")
    np.testing.assert_array_equal(onnxc.load(folder).run(inputs)["y"], compiled.run(inputs)["y"])


def test_a_static_model_can_be_captured_and_a_dynamic_one_says_that_it_waits():
    header = {name: onnxc.compile(build(name), target="cuda", cache=False).artifact.files()["m.h"].decode() for name in MODELS}
    waits = {name for name, text in header.items() if "waits for the stream" in text}
    assert waits == {"sizes found while running"}
    assert all("may be captured in a CUDA graph" in text for name, text in header.items() if name not in waits)


@pytest.mark.parametrize("target", ["cuda:sm_20", "cuda:ampere", "cuda:sm_80,fast"])
def test_unknown_parts_of_a_target_are_refused(target):
    with pytest.raises(CompileError, match="E0301"):
        onnxc.compile(build("elementwise"), target=target, cache=False)


@pytest.mark.skipif(nvcc() is None, reason="nvcc is not installed")
def test_nvcc_takes_the_files_without_warnings_and_spills_nothing(tmp_path: Path):
    names = ("convolution", "layer norm", "sizes found while running")
    for name in names:
        folder = onnxc.compile(build(name), target="cuda:sm_80,sm_90a", cache=False).save(tmp_path / name)
        command = ["nvcc", "-fmad=false", "-Werror=all-warnings", "-Xptxas=-v", *nvcc_architectures(["sm_80", "sm_90a"]), "-c", "m.cu"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        spills = [line for line in done.stderr.splitlines() if "spill" in line]
        assert spills
        assert all("0 bytes spill stores, 0 bytes spill loads" in line for line in spills)
