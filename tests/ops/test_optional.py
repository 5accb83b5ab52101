"""Optionals that are plain tensors."""

import numpy as np


def test_a_tensor_is_a_present_optional(check):
    x = np.arange(3, dtype=np.float32)
    check("OptionalHasElement", [x], expected=[np.array(True)])
    check("OptionalGetElement", [x], expected=[x])


def test_an_operand_that_is_left_out_is_absent(check):
    check("OptionalHasElement", [], expected=[np.array(False)])
    check("OptionalHasElement", [None], expected=[np.array(False)])
