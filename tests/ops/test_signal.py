"""DFT, STFT, Det, Inverse, TensorScatter and the fused products of com.microsoft."""

import numpy as np
import pytest

from .conftest import model_of, run_model

MICROSOFT = "com.microsoft"


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("length", [None, 5, 12])
@pytest.mark.parametrize(
    ("parts", "attrs"), [(1, {}), (2, {}), (1, {"onesided": 1}), (2, {"inverse": 1}), (2, {"inverse": 1, "onesided": 1})]
)
def test_dft(check, rng, parts, attrs, length):
    inputs = [normal(rng, 2, 8, 3, parts), None if length is None else np.array(length), np.array(1)]
    check("DFT", inputs, attrs, constants=[1, 2], rtol=2e-5)


@pytest.mark.parametrize("length", [9, 60, 128])
@pytest.mark.parametrize("known", [True, False])
def test_dft_in_stages(check, rng, length, known):
    inputs = [normal(rng, 2, length, 2), np.array(length), np.array(1)]
    expected = np.fft.fft(inputs[0].astype(np.float64) @ [1, 1j], axis=1)
    expected = np.stack([expected.real, expected.imag], axis=-1).astype(np.float32)
    check("DFT", inputs, constants=[1, 2] if known else [2], expected=[expected], rtol=2e-5)


def test_the_middle_of_the_transform_of_real_numbers_is_real(rng):
    inputs = [normal(rng, 1, 30, 1), None, np.array(1)]
    model = model_of("DFT", inputs, constants=[2])
    (result,) = run_model(model, inputs)
    assert not result[0, [0, 15], 1].any()
    assert result[0, 1:15, 1].all()


def test_dft_of_symbolic_length(runtime, rng):
    runtime("DFT", [normal(rng, 2, 9, 1), None, np.array(1)], constants=[2], symbolic={0: ["n", "t", 1]}, rtol=2e-5)


@pytest.mark.parametrize(("op", "operands"), [("DFT", [None, np.array(1)]), ("STFT", [np.array(4), np.ones(8, np.float32)])])
def test_whether_numbers_are_real_or_complex_may_be_known_while_running(runtime, rng, op, operands):
    constants = [k + 1 for k, operand in enumerate(operands) if operand is not None]
    runtime(op, [normal(rng, 2, 16, 1), *operands], constants=constants, symbolic={0: ["n", "t", "parts"]}, rtol=2e-5)


@pytest.mark.parametrize("axis", [0, 1, -2, -3])
@pytest.mark.parametrize(("parts", "attrs"), [(1, {"onesided": 1}), (2, {"inverse": 1}), (2, {"inverse": 1, "onesided": 1})])
def test_dft_over_an_axis_that_is_known_while_running(check, rng, parts, attrs, axis):
    check("DFT", [normal(rng, 4, 8, 3, parts), None, np.array(axis)], attrs, rtol=2e-5)


def test_roots_of_a_length_that_is_known_while_running_are_exact(check):
    x = np.ones((1, 12, 1), np.float32)
    expected = np.zeros((1, 12, 2), np.float32)
    expected[0, 0, 0] = 12
    check("DFT", [x, np.array(12), np.array(1)], constants=[2], expected=[expected], rtol=2e-6)


@pytest.mark.parametrize("windowed", [True, False])
def test_stft_of_frames_that_are_known_while_running(check, rng, windowed):
    window = [np.hanning(16).astype(np.float32), None] if windowed else [None, np.array(16)]
    check("STFT", [normal(rng, 2, 64, 1), np.array(8), *window], rtol=2e-5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [True, False])
def test_stft(check, rng, onesided, windowed):
    window = [np.hanning(16).astype(np.float32)] if windowed else [None]
    inputs = [normal(rng, 2, 64, 1), np.array(8), *window, np.array(16)]
    check("STFT", inputs, {"onesided": onesided}, constants=[1, 3], rtol=2e-5)


def test_determinant_and_inverse(check, runtime, rng):
    x = normal(rng, 2, 3, 5, 5)
    check("Det", [x], rtol=1e-4)
    check("Det", [np.zeros((3, 3), np.float32)], expected=[np.array(0, np.float32)])
    runtime("Inverse", [x], domain=MICROSOFT, rtol=1e-3)
    runtime("Inverse", [x], domain=MICROSOFT, rtol=1e-3, symbolic={0: ["n", 3, "rows", 5]})


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(check, rng, mode):
    past, update = normal(rng, 2, 3, 6, 4), normal(rng, 2, 3, 2, 4)
    check("TensorScatter", [past, update, np.array([1, 4 if mode == "linear" else 5])], {"mode": mode})
    check("TensorScatter", [past, update], {"mode": mode})


@pytest.mark.parametrize(
    ("a", "b", "attrs"),
    [((2, 3, 4), (2, 5, 4), {"transB": 1, "alpha": 0.5}), ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}), ((2, 4, 3), (4, 5), {"transA": 1})],
)
def test_fused_matmul(runtime, rng, a, b, attrs):
    runtime("FusedMatMul", [normal(rng, *a), normal(rng, *b)], attrs, domain=MICROSOFT)
    if "transBatchA" not in attrs:  # its older name
        runtime("TransposeMatMul", [normal(rng, *a), normal(rng, *b)], attrs, domain=MICROSOFT)


def test_fused_gemm(runtime, rng):
    attrs = {"activation": "LeakyRelu", "activation_alpha": 0.2, "beta": 0.5}
    runtime("FusedGemm", [normal(rng, 3, 4), normal(rng, 4, 5), normal(rng, 5)], attrs, domain=MICROSOFT)


@pytest.mark.parametrize("attrs", [{"activation": "Relu"}, {"activation": "Clip", "activation_params": [-0.5, 0.5]}])
def test_fused_conv(runtime, rng, attrs):
    inputs = [normal(rng, 1, 4, 6, 6), normal(rng, 6, 2, 3, 3), normal(rng, 6), normal(rng, 1, 6, 6, 6)]
    runtime("FusedConv", inputs, {"group": 2, "pads": [1, 1, 1, 1], **attrs}, domain=MICROSOFT)
