"""Whole quantizations: what the graph looks like, and that it computes nearly the same."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import decibels, images, network, normal, operators, residual_network, run_reference

import onnxc
from onnxc.compiler import cli
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.quantize.options import AUTOMATIC, Budget, QuantizeOptions
from onnxc.compiler.quantize.quantize import quantize_model

MINMAX = QuantizeOptions(method="minmax")


@pytest.fixture(scope="module")
def residual():
    return quantize_model(residual_network(), images(), MINMAX)


def made_by(model):
    return {name: node for node in model.graph.node for name in node.output}


def users(model, name):
    return [node for node in model.graph.node if name in node.input]


def test_a_batch_norm_ends_inside_one_quantized_convolution(residual):
    assert "BatchNormalization" not in operators(residual.model)
    makers = made_by(residual.model)
    convolutions = [node for node in residual.model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    initializers = {t.name: onnx.numpy_helper.to_array(t) for t in residual.model.graph.initializer}
    for node in convolutions:
        decoders = [makers[name] for name in node.input]
        assert [d.op_type for d in decoders] == ["DequantizeLinear"] * 3
        codes = [initializers.get(d.input[0]) for d in decoders]
        assert codes[0] is None and codes[1].dtype == np.int8 and codes[2].dtype == np.int32
        scales = [initializers[d.input[1]] for d in decoders]
        assert scales[1].shape == (8,)
        np.testing.assert_array_equal(scales[2], scales[0] * scales[1])


def test_there_are_no_codes_between_a_layer_and_its_relu(residual):
    makers = made_by(residual.model)
    relus = [node for node in residual.model.graph.node if node.op_type == "Relu"]
    assert {makers[node.input[0]].op_type for node in relus} == {"Conv", "Add"}
    for node in relus:
        assert [u.op_type for u in users(residual.model, node.output[0])] == ["QuantizeLinear"]


def test_pooling_of_largest_elements_keeps_the_scale(residual):
    makers = made_by(residual.model)
    (pool,) = [node for node in residual.model.graph.node if node.op_type == "MaxPool"]
    (after,) = users(residual.model, pool.output[0])
    assert after.op_type == "QuantizeLinear"
    assert list(after.input[1:]) == list(makers[pool.input[0]].input[1:])


def test_the_last_sums_are_not_rounded_again(residual):
    makers = made_by(residual.model)
    (softmax,) = [node for node in residual.model.graph.node if node.op_type == "Softmax"]
    assert makers[softmax.input[0]].op_type == "Gemm"


def test_results_are_close_to_the_float_model_everywhere(residual):
    onnx.checker.check_model(residual.model, full_check=True)
    compiled = onnxc.compile(residual.model, cache=False)
    for row in images(3, seed=50)["image"]:
        inputs = {"image": row[None]}
        (exact,) = run_reference(residual_network(), inputs)
        (quantized,) = run_reference(residual.model, inputs)
        assert decibels(exact, quantized) > 25
        np.testing.assert_allclose(compiled(**inputs), quantized, atol=2e-2)


def test_the_report_says_what_was_measured(residual):
    report = residual.report
    assert [(layer.op, layer.quantized) for layer in report.layers] == [
        ("Conv", True), ("Conv", True), ("Add", True), ("GlobalAveragePool", True), ("Gemm", True)
    ]  # fmt: skip
    exact = [run_reference(residual_network(), {"image": row[None]})[0] for row in images()["image"]]
    quantized = [run_reference(residual.model, {"image": row[None]})[0] for row in images()["image"]]
    assert report.outputs[0].sqnr_db == pytest.approx(decibels(exact, quantized), abs=1.5)
    assert report.outputs[0].max_error == pytest.approx(np.abs(np.subtract(exact, quantized)).max(), rel=0.3)
    assert report.quantized_bytes < report.float_bytes
    assert report.kept_float == ()


def test_per_tensor_weights_have_one_scale():
    model = quantize_model(residual_network(), images(), replace(MINMAX, per_channel=False)).model
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    decoders = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
    assert all(arrays[n.input[1]].shape == () for n in decoders)


@pytest.mark.parametrize(("dtype", "least"), [(DType.UINT8, 25), (DType.INT16, 30)])
def test_other_types_of_codes(dtype, least):
    found = quantize_model(residual_network(), images(), replace(MINMAX, activations=dtype))
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in found.model.graph.initializer}
    assert {arrays[n.input[2]].dtype for n in found.model.graph.node if n.op_type == "QuantizeLinear"} == {dtype.numpy}
    inputs = {"image": images(1, 50)["image"]}
    assert decibels(run_reference(residual_network(), inputs), run_reference(found.model, inputs)) > least


def test_nodes_stay_float_when_asked():
    found = quantize_model(residual_network(), images(), replace(MINMAX, keep_float=frozenset({"c1"})))
    assert [(x.output, x.quantized) for x in found.report.layers if x.op == "Conv"] == [("r0", True), ("c1", False)]
    arrays = {t.name: t for t in found.model.graph.initializer}
    assert [n.input[1] in arrays for n in found.model.graph.node if n.op_type == "Conv"] == [False, True]
    with pytest.raises(CompileError) as error:
        quantize_model(residual_network(), images(), replace(MINMAX, keep_float=frozenset({"nothing"})))
    assert error.value.code == "E0702" and "nothing" in str(error.value)


@pytest.mark.usefixtures("compiles_once")
def test_a_budget_keeps_as_few_layers_in_float_as_it_takes():
    plain = quantize_model(residual_network(), images(), MINMAX).report.outputs[0].sqnr_db
    loose = quantize_model(residual_network(), images(), replace(MINMAX, budget=Budget(sqnr_db=plain - 1)))
    assert loose.report.kept_float == ()
    tight = quantize_model(residual_network(), images(), replace(MINMAX, budget=Budget(sqnr_db=plain + 1)))
    assert tight.report.outputs[0].sqnr_db >= plain + 1
    assert 0 < len(tight.report.kept_float) < 3
    with pytest.raises(CompileError, match="accuracy budget"):
        quantize_model(residual_network(), images(), replace(MINMAX, budget=Budget(max_relative=1e-12)))


def test_budgets_are_read_from_text():
    assert Budget.parse("30dB") == Budget(sqnr_db=30.0)
    assert Budget.parse("0.02") == Budget(max_relative=0.02)
    for text in ("", "dB", "-3", "nan", "inf dB"):
        with pytest.raises(CompileError):
            Budget.parse(text)


def test_inputs_and_outputs_may_be_codes_themselves():
    found = quantize_model(residual_network(), images(), replace(MINMAX, integer_io=True))
    onnx.checker.check_model(found.model, full_check=True)
    kinds = [v.type.tensor_type.elem_type for v in (*found.model.graph.input, *found.model.graph.output)]
    assert kinds == [onnx.TensorProto.INT8] * 2
    assert [v.name for v in (*found.model.graph.input, *found.model.graph.output)] == ["image", "scores"]
    compiled = onnxc.compile(found.model, cache=False)
    image = images(1, 50)["image"]
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in found.model.graph.initializer}
    reader = next(n for n in found.model.graph.node if n.input[0] == "image")
    writer = next(n for n in found.model.graph.node if n.output[0] == "scores")
    codes = np.clip(np.rint(image / arrays[reader.input[1]]) + arrays[reader.input[2]], -128, 127).astype(np.int8)
    back = (compiled(codes).astype(np.float32) - arrays[writer.input[2]]) * arrays[writer.input[1]]
    assert decibels(run_reference(residual_network(), {"image": image})[0], back) > 25


def test_a_product_of_matrices_takes_its_bias_along():
    """Rank three: ONNX has no operator with a bias, so that the codes of the bias are added."""
    model = network(
        "g (float[1, 7, 6] x) => (float[1, 7, 3] y) { p = MatMul (x, w) q = Add (p, b) r = Relu (q) y = MatMul (r, v) }",
        w=normal(0, 6, 5), b=normal(1, 5), v=normal(2, 5, 3),
    )  # fmt: skip
    found = quantize_model(model, {"x": normal(3, 16, 7, 6)}, MINMAX)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in found.model.graph.initializer}
    makers = made_by(found.model)
    (add,) = [n for n in found.model.graph.node if n.op_type == "Add"]
    bias = next(makers[name] for name in add.input if makers[name].op_type == "DequantizeLinear")
    assert arrays[bias.input[0]].dtype == np.int32 and arrays[bias.input[1]].shape == (5,)
    assert {u.op_type for u in users(found.model, add.output[0])} == {"Relu"}
    inputs = {"x": normal(4, 1, 7, 6)}
    assert decibels(run_reference(model, inputs)[0], run_reference(found.model, inputs)[0]) > 30


def test_operands_of_a_concatenation_share_their_scale():
    model = network(
        """g (float[1, 2, 6, 6] x) => (float[1, 4, 6, 6] y) {
            a = Conv <kernel_shape = [1, 1]> (x, u)
            b = Conv <kernel_shape = [1, 1]> (x, v)
            c = Concat <axis = 1> (a, b)
            y = Conv <kernel_shape = [1, 1]> (c, w)
        }""",
        u=normal(0, 3, 2, 1, 1), v=normal(1, 3, 2, 1, 1, scale=20), w=normal(2, 4, 6, 1, 1),
    )  # fmt: skip
    found = quantize_model(model, {"x": normal(3, 8, 2, 6, 6)}, MINMAX)
    makers = made_by(found.model)
    (concat,) = [n for n in found.model.graph.node if n.op_type == "Concat"]
    (after,) = users(found.model, concat.output[0])
    assert {tuple(makers[name].input[1:]) for name in concat.input} == {tuple(after.input[1:])}


def test_both_operands_of_attention_become_codes_and_its_mask_does_not():
    model = network(
        """g (float[1, 4, 8] q, float[1, 8, 4] k, float[1, 1, 4] mask) => (float[1, 4, 4] y) {
            s = MatMul (q, k)
            t = Add (s, mask)
            p = Softmax <axis = -1> (t)
            y = MatMul (p, w)
        }""",
        w=normal(0, 4, 4),
    )  # fmt: skip
    data = {"q": normal(1, 8, 4, 8), "k": normal(2, 8, 8, 4), "mask": np.zeros((8, 1, 4), np.float32)}
    data["mask"][:, :, 3] = -3.4e38
    found = quantize_model(model, data, MINMAX)
    encoded = {n.input[0] for n in found.model.graph.node if n.op_type == "QuantizeLinear"}
    assert encoded == {"q", "k", "p"}
    assert found.report.outputs[0].sqnr_db > 25


def test_what_cannot_be_quantized_is_said():
    model = network("g (float[1, 4] x) => (float[1, 4] y) { y = Relu (x) }")
    with pytest.raises(CompileError) as error:
        quantize_model(model, {"x": normal(0, 4, 4)}, MINMAX)
    assert error.value.code == "E0702"


def test_weights_that_were_stored_in_codes_are_weights():
    model = network(
        "g (float[2, 4] x) => (float[2, 3] y) { w = DequantizeLinear <axis = 1> (c, s, z) y = MatMul (x, w) }",
        c=np.arange(-6, 6, dtype=np.int8).reshape(4, 3), s=np.asarray([0.5, 0.25, 1.0], np.float32), z=np.asarray([1, 0, -1], np.int8),
    )  # fmt: skip
    data = {"x": normal(0, 8, 4)}
    found = quantize_model(model, data, MINMAX)
    assert [layer.op for layer in found.report.layers] == ["MatMul"]
    assert found.report.outputs[0].sqnr_db > 30
    with pytest.raises(CompileError, match="quantized already"):
        quantize_model(found.model, data, MINMAX)


@pytest.mark.usefixtures("compiles_once")
def test_the_automatic_method_is_the_best_of_all():
    found = quantize_model(residual_network(), images(4), QuantizeOptions())
    others = [quantize_model(residual_network(), images(4), QuantizeOptions(method=m)).report for m in AUTOMATIC]
    assert found.report.outputs[0].sqnr_db == max(r.outputs[0].sqnr_db for r in others)
    assert found.report.method in [r.method for r in others]


def test_data_that_make_no_number_are_refused():
    data = images()
    data["image"][3, 0, 0, 0] = np.nan
    with pytest.raises(CompileError) as error:
        quantize_model(residual_network(), data, MINMAX)
    assert error.value.code == "E0701"


def test_the_same_data_give_the_same_bytes():
    first, second = (onnxc.quantize(residual_network(), images(), method="mse").SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.usefixtures("compiles_once")
def test_the_command_writes_model_and_report(tmp_path):
    onnx.save(residual_network(), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", **images())
    arguments = ["quantize", str(tmp_path / "m.onnx"), "--calibration", str(tmp_path / "data.npz"), "-o", str(tmp_path / "q.onnx")]
    result = CliRunner().invoke(cli.onnxc, [*arguments, "--report", str(tmp_path / "r.json"), "--method", "percentile"])
    assert result.exit_code == 0, result.output
    assert "GlobalAveragePool" in result.output and "scores" in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["method"] == "percentile 99.99%" and len(report["layers"]) == 5
    onnx.checker.check_model(tmp_path / "q.onnx", full_check=True)
    answer = json.loads(CliRunner().invoke(cli.onnxc, [*arguments, "--json", "--samples", "2"]).output)
    assert answer["ok"] and answer["report"]["samples"] == 2


def test_the_compiler_sums_integers_on_every_target(residual):
    """No weight of a layer becomes float again."""
    from onnxc.compiler.pipeline import Options, make_graph, make_program
    from onnxc.compiler.target import load_target

    for name in ("c:cortex-m4", "cpu"):
        target = load_target(name)
        program = make_program(make_graph(residual.model, target, Options(), {}), target, {})
        kinds = {constant.dtype for constant in program.constants if constant.size >= 40}
        assert {kind.kind for kind in kinds} == {"i"}, (name, kinds)
