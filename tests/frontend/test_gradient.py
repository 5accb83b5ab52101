"""The Gradient operator, against differences of the function's values."""

import numpy as np
import pytest
from onnx import helper, parser

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph

TRAINING = "ai.onnx.preview.training"
HEAD = f'<ir_version: 8, opset_import: ["": 20, "{TRAINING}": 1]> g '


def function(text, xs, y="y", zs=(), points=None):
    """The graph of a text, with the derivatives of `y` by `xs` as further outputs."""
    model = parser.parse_model(HEAD + text)
    names = [f"d{y}_d{x}" for x in xs]
    attrs = {"xs": list(xs), "y": y, **({"zs": list(zs)} if zs else {})}
    node = helper.make_node("Gradient", points or [*xs, *zs], names, "gradient", domain=TRAINING, **attrs)
    model.graph.node.append(node)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return load_graph(model)


def assert_gradients(text, *xs):
    """The derivatives in a random direction."""
    graph, rng, step = function(text, xs), np.random.default_rng(3), 1e-5
    inputs = {v.name: rng.uniform(0.2, 1.0, v.type.shape) for v in graph.inputs}
    results = run_graph(graph, inputs)
    for x in xs:
        way = rng.uniform(-1.0, 1.0, inputs[x].shape)
        above, below = (run_graph(graph, {**inputs, x: inputs[x] + sign * step * way})["y"].sum() for sign in (1, -1))
        np.testing.assert_allclose((results[f"dy_d{x}"] * way).sum(), (above - below) / (2 * step), rtol=1e-6, atol=1e-8, err_msg=x)


@pytest.mark.parametrize(
    "op",
    [
        "Abs",
        "Atan",
        "Cos",
        "Cosh",
        "Erf",
        "Exp",
        "Identity",
        "Log",
        "LogSoftmax",
        "Neg",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Sin",
        "Sinh",
        "Softmax",
        "Softplus",
        "Sqrt",
        "Tanh",
    ],
)
def test_functions_of_one_operand(op):
    assert_gradients(f"(double[2,3] x, double[2,3] w) => (double[2,3] y) {{ u = {op}(x) y = Mul(u, w) }}", "x")


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Sum"])
def test_operands_that_are_broadcast(op):
    text = f"(double[2,1,3] a, double[4,3] b, double[2,4,3] w) => (double[2,4,3] y) {{ u = {op}(a, b) y = Mul(u, w) }}"
    assert_gradients(text, "a", "b")


@pytest.mark.parametrize(("a", "b"), [("2,3", "3,4"), ("5,2,3", "3,4"), ("3", "5,3,4"), ("2,3", "3"), ("3", "3")])
def test_products(a, b):
    assert_gradients(
        f"(double[{a}] a, double[{b}] b) => (double y) {{ u = MatMul(a, b) v = Mul(u, u) y = ReduceSum<keepdims=0>(v) }}", "a", "b"
    )


@pytest.mark.parametrize("turn_a", [0, 1])
@pytest.mark.parametrize("turn_b", [0, 1])
def test_gemm(turn_a, turn_b):
    a, b = ("3,2" if turn_a else "2,3"), ("4,3" if turn_b else "3,4")
    gemm = f"Gemm<transA={turn_a}, transB={turn_b}, alpha=0.5, beta=2.0>(a, b, c)"
    assert_gradients(f"(double[{a}] a, double[{b}] b, double[4] c) => (double[2,4] y) {{ u = {gemm} y = Mul(u, u) }}", "a", "b", "c")


@pytest.mark.parametrize(
    "body",
    [
        "u = Transpose<perm=[1,2,0]>(x)",
        "u = Reshape(x, shape)",
        "u = Flatten<axis=2>(x)",
        "v = Unsqueeze(x, one) u = Squeeze(v, one)",
        "u = Concat<axis=1>(x, x, x)",
        "u = ReduceMean<keepdims=0>(x, one)",
        "u = ReduceSum<keepdims=1>(x)",
        "c = Less(x, half) z = Neg(x) u = Where(c, x, z)",
        "low = CastLike(half, x) u = Clip(x, low)",
        "f = Floor(x) u = Sub(x, f)",
        "u = ReduceL2(x, one)",
        "u = ReduceSumSquare<keepdims=0>(x, one)",
        "u = LpNormalization<p=2, axis=1>(x)",
    ],
)
def test_shapes_and_choices(body):
    constants = "<int64[2] shape = {4, 6}, int64[1] one = {1}, double half = {0.5}>"
    assert_gradients(f"(double[2,3,4] x) => (double y) {constants} {{ {body} y = Mul(u, u) }}", "x")


def test_a_value_used_twice_and_one_that_does_not_matter():
    text = "(double[3] x, double[3] z, double[3] w) => (double[3] y) { u = Mul(x, x) v = Exp(u) t = Add(u, v) y = Mul(t, w) }"
    assert_gradients(text, "x", "z")


def test_the_second_derivative():
    model = parser.parse_model(HEAD + "(double[3] x) => (double[3] y) { u = Mul(x, x) y = Mul(u, x) }")
    for y, dy in (("y", "first"), ("first", "second")):
        model.graph.node.append(helper.make_node("Gradient", ["x"], [dy], domain=TRAINING, xs=["x"], y=y))
        model.graph.output.append(helper.make_empty_tensor_value_info(dy))
    x = np.array([1.0, -2.0, 0.5])
    results = run_graph(load_graph(model), {"x": x})
    np.testing.assert_allclose(results["first"], 3 * x * x)
    np.testing.assert_allclose(results["second"], 6 * x)


def test_derivatives_at_another_point_and_by_an_intermediate_value():
    text = "(double[3] x, double[3] h1) => (double[3] y) { h = Exp(x) y = Mul(h, h) }"
    graph = function(text, ["h"], points=["h1"])
    results = run_graph(graph, {"x": np.ones(3), "h1": np.array([1.0, 2.0, 3.0])})
    np.testing.assert_allclose(results["dy_dh"], [2.0, 4.0, 6.0])


def test_a_symbolic_batch():
    graph = function("(double[n,3] x, double[3] b) => (double[n,3] y) { u = Add(x, b) y = Mul(u, u) }", ["x", "b"])
    x, b = np.arange(6.0).reshape(2, 3), np.ones(3)
    results = run_graph(graph, {"x": x, "b": b})
    np.testing.assert_allclose(results["dy_db"], 2 * (x + b).sum(axis=0))


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("(double[3] x) => (double[3] y) { y = CumSum(x, zero) }", "E0201", "the derivative of CumSum is not known"),
        ("(double[n] x, double[m] z) => (double[k] y) { y = Mul(x, z) }", "E0204", "must be known when compiling"),
    ],
)
def test_what_is_refused(text, code, message):
    with pytest.raises(CompileError) as error:
        function(text.replace(" {", " <int64 zero = {0}> {", 1), ["x"])
    assert error.value.code == code
    assert message in str(error.value)
