"""LSTM, GRU and RNN against ONNX Runtime."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel.nodes import Var
from onnxc.compiler.ops import recurrent_blocks
from onnxc.compiler.ops.recurrent_blocks import Tiling, rows_together

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ROWS = [
    ("LSTM", {}), ("LSTM", {"direction": "reverse"}), ("LSTM", {"direction": "bidirectional", "clip": 0.5}),
    ("LSTM", {"activations": ["HardSigmoid", "Relu", "Softsign"], "activation_alpha": [0.3], "activation_beta": [0.4]}),
    ("LSTM", {"input_forget": 1}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("GRU", {"direction": "bidirectional"}),
    ("GRU", {"direction": "reverse", "linear_before_reset": 1}), ("RNN", {}), ("RNN", {"direction": "bidirectional"}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.7], "activation_beta": [0.1]}), ("RNN", {"activations": ["LeakyRelu"]}),
]  # fmt: skip


def operands(rng, op, attrs, time=4, batch=2, width=3, hidden=5):
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    d, g = 2 if attrs.get("direction") == "bidirectional" else 1, GATES[op]
    lengths = np.array([time, 2], np.int32)
    inputs = [normal(time, batch, width), normal(d, g * hidden, width), normal(d, g * hidden, hidden), normal(d, 2 * g * hidden), lengths]
    inputs.append(normal(d, batch, hidden))
    return [*inputs, normal(d, batch, hidden), normal(d, 3 * hidden)] if op == "LSTM" else inputs


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("op", "attrs"), ROWS)
def test_all_inputs(runtime, rng, op, attrs, symbolic):
    inputs = operands(rng, op, attrs)
    runtime(op, inputs, {"hidden_size": 5, **attrs}, outputs=3 if op == "LSTM" else 2, symbolic={0: ["t", "b", 3]} if symbolic else None)


@pytest.mark.parametrize(("op", "attrs"), [ROWS[2], ("LSTM", {}), ROWS[6], ROWS[7], ROWS[10]])
@pytest.mark.parametrize(("hidden", "batch"), [(19, 1), (11, 2), (9, 5)])
def test_blocks_of_units_and_rows(runtime, rng, op, attrs, hidden, batch):
    """Blocks of several sizes; batch elements that go through the steps together, the last group not full."""
    inputs = operands(rng, op, attrs, 3, batch, hidden=hidden)
    constants = (1, 2, 3, 7) if op == "LSTM" else (1, 2, 3)
    inputs[4] = None
    runtime(op, inputs, {"hidden_size": hidden, **attrs}, outputs=3 if op == "LSTM" else 2, constants=constants)


@pytest.mark.parametrize("batch", [5, 9, 10])
@pytest.mark.parametrize(("op", "attrs"), [("LSTM", {}), ("GRU", {"linear_before_reset": 1}), ("GRU", {}), ("RNN", {})])
def test_tiles_of_rows_that_share_large_weights(runtime, rng, monkeypatch, op, attrs, batch):
    """The last group has fewer tiles, the last tile fewer rows."""
    monkeypatch.setattr(recurrent_blocks, "NEAR_BYTES", 0)
    inputs = operands(rng, op, attrs, 3, batch, hidden=9)
    inputs[4] = None
    runtime(op, inputs, {"hidden_size": 9, **attrs}, outputs=3 if op == "LSTM" else 2, constants=(1, 2, 3))


@pytest.mark.parametrize("hidden", [5, 21, 70])
@pytest.mark.parametrize(("gates", "rows"), [(1, 1), (3, 1), (4, 2)])
def test_columns_are_a_permutation_in_blocks(hidden, gates, rows):
    tiling = Tiling(hidden, gates, DType.FLOAT32, rows)
    columns, segments = tiling.columns(gates), list(tiling.segments)
    assert sorted(columns) == list(range(gates * hidden))
    assert [s.start for s in segments] == list(np.cumsum([0, *(s.blocks * s.size for s in segments)])[:-1])
    assert all(s.size % s.lanes == 0 for s in segments)
    size = segments[0].size
    assert list(columns[: gates * size]) == [gate * hidden + unit for gate in range(gates) for unit in range(size)]


@pytest.mark.parametrize(("batch", "rows"), [(Var("b"), 1), (1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (32, 3)])
def test_rows_that_share_weights(batch, rows):
    assert rows_together(batch) == rows


@pytest.mark.parametrize("op", GATES)
def test_only_the_needed_inputs(check, rng, op):
    check(op, operands(rng, op, {})[:3], {"hidden_size": 5}, outputs=2, rtol=1e-5)


def test_batch_first(check, rng):
    x, w, r, *_ = operands(rng, "LSTM", {})
    check("LSTM", [x, w, r], {"hidden_size": 5, "layout": 1}, outputs=3, rtol=1e-5)


@pytest.mark.parametrize("attrs", [{"activations": ["Tan", "Tanh", "Tanh"]}, {"activations": ["Tanh"]}, {"direction": "bidirectional"}])
def test_what_does_not_fit_is_refused(check, rng, attrs):
    with pytest.raises(CompileError, match="E0203"):
        check("LSTM", operands(rng, "LSTM", {})[:3], {"hidden_size": 5, **attrs}, expected=[])
