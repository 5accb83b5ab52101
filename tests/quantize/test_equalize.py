"""Cross-layer equalization, bias correction, and the rules that prepare a graph."""

import numpy as np
import onnx
import pytest
from networks import decibels, images, network, normal, operators, residual_network, run_reference

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.to_onnx import to_onnx
from onnxc.compiler.pipeline import Options
from onnxc.compiler.quantize.equalize import equalize
from onnxc.compiler.quantize.normalize import normalize
from onnxc.compiler.quantize.options import QuantizeOptions
from onnxc.compiler.quantize.quantize import quantize_model, read_float_graph


def unequal_network():
    """Channels of very different size between layers: depthwise and grouped ones, and matrix products."""
    factors = np.logspace(-2, 1, 8).astype(np.float32)
    return network(
        """g (float[1, 3, 12, 12] image) => (float[1, 5] y) {
            a = Conv <kernel_shape = [1, 1]> (image, w0, b0)
            b = Relu (a)
            c = Conv <kernel_shape = [3, 3], group = 8> (b, w1, b1)
            d = Relu (c)
            e = Conv <kernel_shape = [1, 1], group = 2> (d, w2, b2)
            f = GlobalAveragePool (e)
            g = Flatten (f)
            h = Gemm <transB = 1> (g, w3, b3)
            i = Relu (h)
            y = Gemm (i, w4, b4)
        }""",
        w0=normal(0, 8, 3, 1, 1) * factors[:, None, None, None], b0=normal(1, 8) * factors,
        w1=normal(2, 8, 1, 3, 3) / factors[:, None, None, None], b1=normal(3, 8),
        w2=normal(4, 6, 4, 1, 1), b2=normal(5, 6), w3=normal(6, 7, 6), b3=normal(7, 7), w4=normal(8, 7, 5), b4=normal(9, 5),
    )  # fmt: skip


def test_equalization_changes_no_result_but_the_scales():
    graph = load_graph(unequal_network())
    found, pairs = equalize(graph)
    assert pairs == 3
    inputs = {"image": images(1)["image"]}
    (before,), (after,) = run_reference(to_onnx(graph), inputs), run_reference(to_onnx(found), inputs)
    np.testing.assert_allclose(before, after, rtol=1e-3, atol=1e-4)
    name = next(n for n in graph.nodes if n.op == "Conv").inputs[1].name

    def spread(g):
        largest = np.abs(g.constants[name]).reshape(8, -1).max(1)
        return largest.max() / largest.min()

    assert spread(found) < spread(graph) / 5


def test_weights_that_two_layers_share_are_not_scaled():
    model = network(
        """g (float[1, 4, 5, 5] x) => (float[1, 4, 5, 5] y) {
            a = Conv <kernel_shape = [1, 1]> (x, w)
            b = Relu (a)
            y = Conv <kernel_shape = [1, 1]> (b, w)
        }""",
        w=normal(0, 4, 4, 1, 1),
    )
    assert equalize(load_graph(model))[1] == 0


def test_a_clip_is_not_passed():
    model = network(
        """g (float[1, 4, 5, 5] x) => (float[1, 4, 5, 5] y) {
            a = Conv <kernel_shape = [1, 1]> (x, u)
            b = Clip (a, low, high)
            y = Conv <kernel_shape = [1, 1]> (b, v)
        }""",
        u=normal(0, 4, 4, 1, 1), v=normal(1, 4, 4, 1, 1), low=np.float32(0), high=np.float32(6),
    )  # fmt: skip
    assert equalize(load_graph(model))[1] == 0


@pytest.mark.usefixtures("compiles_once")
def test_equalization_helps_where_channels_differ():
    plain, equal = (
        quantize_model(unequal_network(), images(), QuantizeOptions(method="minmax", equalize=on, per_channel=False, correct_bias=False))
        .report.outputs[0]
        .sqnr_db
        for on in (False, True)
    )
    assert equal > plain + 3


@pytest.mark.usefixtures("compiles_once")
def test_bias_correction_takes_the_mean_error_away():
    """With coarse weights the mean of a layer's sums is off; the corrected bias brings it back."""
    options = QuantizeOptions(method="minmax", per_channel=False)
    found = quantize_model(unequal_network(), images(), options)
    assert found.report.corrected == 5
    plain = quantize_model(unequal_network(), images(), QuantizeOptions(method="minmax", per_channel=False, correct_bias=False))
    inputs = [{"image": row[None]} for row in images()["image"]]
    exact, off, right = ([run_reference(m, i)[0] for i in inputs] for m in (unequal_network(), plain.model, found.model))
    assert np.abs(np.mean(np.subtract(exact, right), 0)).max() < np.abs(np.mean(np.subtract(exact, off), 0)).max()


def test_a_bias_added_to_a_matrix_product_becomes_its_own():
    model = network("g (float[n, 4] x) => (float[n, 3] y) { a = MatMul (x, w) y = Add (b, a) }", w=normal(0, 4, 3), b=normal(1, 3))
    found = to_onnx(read_float_graph(model, Options()))
    assert operators(found) == ["Gemm"]
    inputs = {"x": normal(2, 5, 4)}
    np.testing.assert_allclose(run_reference(model, inputs)[0], run_reference(found, inputs)[0], rtol=1e-5, atol=1e-6)


def test_factors_of_a_gemm_go_into_its_constants():
    model = network(
        "g (float[2, 4] x) => (float[2, 3] y) { y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w, b) }",
        w=normal(0, 3, 4),
        b=normal(1, 3),
    )
    found = to_onnx(normalize(load_graph(model)))
    (node,) = found.graph.node
    assert {a.name: a.f for a in node.attribute if a.name in ("alpha", "beta")} == {"alpha": 1.0, "beta": 1.0}
    inputs = {"x": normal(2, 2, 4)}
    np.testing.assert_allclose(run_reference(model, inputs)[0], run_reference(found, inputs)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_softmax_of_old_opsets_gets_the_form_of_new_ones(axis):
    text = f'<ir_version: 6, opset_import: ["" : 11]> g (float[2, 3, 4] x) => (float[2, 3, 4] y) {{ y = Softmax <axis = {axis}> (x) }}'
    model = onnx.parser.parse_model(text)
    found = to_onnx(normalize(load_graph(model)))
    onnx.checker.check_model(found, full_check=True)
    inputs = {"x": normal(2, 2, 3, 4)}
    np.testing.assert_allclose(run_reference(model, inputs)[0], run_reference(found, inputs)[0], rtol=1e-5, atol=1e-7)


def test_a_model_survives_the_way_through_the_graph():
    model = residual_network()
    again = to_onnx(load_graph(model))
    onnx.checker.check_model(again, full_check=True)
    assert operators(again) == operators(model)
    inputs = {"image": images(1)["image"]}
    assert decibels(run_reference(model, inputs)[0], run_reference(again, inputs)[0]) > 120
