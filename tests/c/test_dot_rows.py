"""Sums of products of bytes: the schedules' kernels in the interpreter and as C, against the nest's own meaning."""

from dataclasses import replace

import numpy as np
import pytest

from onnxc.backends.c.mma import ROWS, TEXTS, add_texts
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.nest import Combine
from onnxc.passes.kernel.schedule_depthwise import schedule_depthwise
from onnxc.passes.kernel.schedule_dot import schedule_dot

from .byte_layers import DOT_ROWS, LAYERS, arrays_of, conv_group, is_constant, layer, meanings
from .conftest import Run


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("processor", DOT_ROWS)
def test_layers(name: str, processor: str, run_c: Run) -> None:
    group, nest, scheduled = layer(name, processor)
    arrays, wanted = arrays_of(group, nest, scheduled)
    for run in (lambda kernel, memory: run_kernel(kernel, memory, {}, meanings()), lambda kernel, memory: run_c(kernel, memory, {})):
        memory = dict(zip(scheduled.kernel.buffers, (a.copy() for a in arrays), strict=True))
        run(scheduled.kernel, memory)
        found = memory[scheduled.kernel.buffers[scheduled.operands.index(group.outputs[0])]]
        np.testing.assert_array_equal(found, wanted)


def test_what_is_not_a_sum_of_products_of_bytes_is_refused() -> None:
    rows = DOT_ROWS["any"]
    group, _ = conv_group((4, 3, 3), 4, (1, 1))
    assert "neither factor is a constant" in str(schedule_dot(group, rows, lambda value: False))
    assert schedule_depthwise(group, rows, is_constant) == "the channels are mixed"
    depthwise, _ = conv_group((4, 3, 3), 4, (3, 3), depthwise=True)
    assert schedule_dot(depthwise, rows, is_constant) == "each channel reads only itself"
    (stage,) = group.stages
    most = replace(stage, nest=replace(stage.nest, combine=Combine.MAX))
    assert schedule_dot(replace(group, stages=(most,)), rows, is_constant) == "no sum over products"


def test_a_file_holds_what_its_functions_call_and_nothing_else() -> None:
    for name in ROWS:
        helpers: dict[str, str] = {}
        add_texts(name, helpers)
        assert [*helpers][-1] == name
        before: set[str] = set()
        for key, text in helpers.items():
            mentioned = {other for other in TEXTS if other in text.replace(key, "") and other != key and f"{other}(" in text}
            assert mentioned <= before, f"{key} calls what stands behind it"
            before.add(key)
