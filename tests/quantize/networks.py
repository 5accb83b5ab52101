"""Small networks and data for the tests of the quantizer; weights from a seed."""

import numpy as np
import onnx

HEADER = '<ir_version: 9, opset_import: ["" : 18]>'


def network(text, **weights):
    """A model of ONNX text, with these initializers added."""
    model = onnx.parser.parse_model(f"{HEADER} {text}")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def normal(seed, *shape, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def residual_network():
    """Conv, BatchNormalization and Relu; a residual; pooling; a matrix product with a bias; Softmax."""
    return network(
        """
        residual (float[1, 3, 12, 12] image) => (float[1, 5] scores) {
            c0 = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (image, w0)
            n0 = BatchNormalization (c0, gamma, beta, mean, variance)
            r0 = Relu (n0)
            c1 = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3], group = 8> (r0, w1, b1)
            s = Add (r0, c1)
            r1 = Relu (s)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r1)
            a = GlobalAveragePool (m)
            f = Flatten (a)
            d = MatMul (f, w2)
            e = Add (d, b2)
            scores = Softmax <axis = -1> (e)
        }""",
        w0=normal(0, 8, 3, 3, 3, scale=0.3), gamma=1 + normal(1, 8, scale=0.2), beta=normal(2, 8), mean=normal(3, 8),
        variance=np.abs(normal(4, 8)) + 0.5, w1=normal(5, 8, 1, 3, 3, scale=0.4), b1=normal(6, 8), w2=normal(7, 8, 5), b2=normal(8, 5),
    )  # fmt: skip


def images(count=12, seed=9):
    return {"image": normal(seed, count, 3, 12, 12)}


def operators(model):
    return [node.op_type for node in model.graph.node]


def run_reference(model, inputs):
    """ONNX Runtime without optimizations: every node on its own, in float where it is in float."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, inputs)


def decibels(exact, other):
    exact, other = np.asarray(exact, np.float64), np.asarray(other, np.float64)
    return 10 * np.log10((exact**2).sum() / max(((exact - other) ** 2).sum(), 1e-300))
