"""The same definitions with extents that are known only at run time: equal results, and shapes that stay symbolic."""

from __future__ import annotations

import numpy as np
import pytest

import onnxc
from onnxc.compiler.diagnostics import CompileError

from .conftest import assert_equal, model_of, run_model

CASES = [
    # operator, shapes of the inputs, attributes, inputs that are constants
    ("Add", [(2, 3, 4), (3, 1)], {}, ()),
    ("Max", [(2, 1), (2, 3)], {}, ()),
    ("PRelu", [(2, 3, 4), (3, 1)], {}, (1,)),
    ("Softmax", [(2, 3, 4)], {"axis": 1}, ()),
    ("LogSoftmax", [(2, 3, 4)], {}, ()),
    ("Hardmax", [(2, 3, 4)], {}, ()),
    ("ArgMax", [(2, 3, 4)], {"axis": 1, "keepdims": 0}, ()),
    ("ReduceMean", [(2, 3, 4)], {}, ()),
    ("ReduceLogSumExp", [(2, 3, 4)], {"keepdims": 0}, ()),
    ("LayerNormalization", [(2, 3, 4), (4,), (4,)], {}, (1, 2)),
    ("RMSNormalization", [(2, 3, 4), (4,)], {}, (1,)),
    ("BatchNormalization", [(2, 4, 3), (4,), (4,), (4,), (4,)], {}, (1, 2, 3, 4)),
    ("InstanceNormalization", [(2, 4, 3), (4,), (4,)], {}, (1, 2)),
    ("GroupNormalization", [(2, 4, 3), (4,), (4,)], {"num_groups": 2}, (1, 2)),
    ("MeanVarianceNormalization", [(2, 3, 4, 5)], {}, ()),
    ("LpNormalization", [(3, 4)], {}, ()),
    ("LRN", [(4, 4, 3, 3)], {"size": 3}, ()),
    ("QuantizeLinear", [(2, 3), (3,)], {}, (1,)),
    ("DynamicQuantizeLinear", [(2, 3)], {}, ()),
]


@pytest.mark.parametrize(("op", "shapes", "attrs", "constants"), CASES, ids=[case[0] for case in CASES])
def test_symbolic_extents(rng, op, shapes, attrs, constants):
    inputs = [rng.uniform(0.5, 2, shape).astype(np.float32) for shape in shapes]
    model = model_of(op, inputs, attrs, constants=constants, outputs=3 if op == "DynamicQuantizeLinear" else 1)
    expected = run_model(model, inputs)
    for value in model.graph.input:
        for axis, extent in enumerate(value.type.tensor_type.shape.dim):
            extent.dim_param = f"{value.name}_{axis}"
    for found, wanted in zip(run_model(model, inputs), expected, strict=True):
        assert_equal(found, wanted)


MISFITS = [
    # operator, shapes of the inputs, attributes, inputs that are constants; the last input does not fit
    ("RNN", [(4, 2, 3), (1, 5, 3), (1, 5, 5), (1, 10), (2,), (1, 3, 5)], {"hidden_size": 5}, (1, 2, 3, 4)),
    ("GRU", [(4, 2, 3), (1, 15, 3), (1, 15, 5), (1, 29)], {"hidden_size": 5}, (1, 2)),
    ("DeformConv", [(1, 2, 5, 5), (1, 2, 3, 3), (1, 18, 3, 2)], {}, (1,)),
    ("DeformConv", [(1, 2, 5, 5), (1, 2, 3, 3), (1, 18, 3, 3), (1,), (1, 8, 3, 3)], {}, (1,)),
    ("GridSample", [(3, 1, 4, 4), (2, 2, 2, 2)], {}, ()),
    ("RoiAlign", [(1, 1, 4, 4), (2, 4), (1,)], {}, ()),
    ("NonMaxSuppression", [(1, 6, 4), (1, 1, 7)], {}, ()),
    ("RotaryEmbedding", [(1, 1, 4, 8), (1, 4, 4), (1, 3, 4)], {}, ()),
    ("NegativeLogLikelihoodLoss", [(3, 4), (5,)], {}, ()),
    ("ReverseSequence", [(4, 3), (2,)], {}, ()),
    ("ScatterElements", [(4, 2), (2, 3), (2, 3)], {}, ()),
    ("ScatterND", [(4, 2), (3, 1), (2, 2)], {}, (1,)),
    ("STFT", [(1, 16, 1), (), (4,), ()], {}, (1, 3)),
]


INTEGERS = {
    ("NegativeLogLikelihoodLoss", 1): np.int64, ("ReverseSequence", 1): np.int64, ("RNN", 4): np.int32, ("RoiAlign", 2): np.int64,
    ("ScatterElements", 1): np.int64, ("ScatterND", 1): np.int64, ("STFT", 1): np.int64, ("STFT", 3): np.int64,
}  # fmt: skip


@pytest.mark.parametrize(("op", "shapes", "attrs", "constants"), MISFITS, ids=[case[0] for case in MISFITS])
def test_open_extents_that_do_not_fit_are_told(op, shapes, attrs, constants):
    """Nothing is read beyond the end of an operand."""
    inputs = [np.full(shape, 3, INTEGERS.get((op, k), np.float32)) for k, shape in enumerate(shapes)]
    model = model_of(op, inputs, attrs, constants=constants)
    for value in model.graph.input:
        for axis, extent in enumerate(value.type.tensor_type.shape.dim):
            extent.dim_param = f"{value.name}_{axis}"
    compiled = onnxc.compile(model, threads=1, cache=False)
    with pytest.raises(CompileError) as caught:
        compiled.run({value.name: inputs[int(value.name[1:])] for value in model.graph.input})
    assert caught.value.code == "E0402"
