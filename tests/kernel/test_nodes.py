"""Interning: equal nodes are one object."""

import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel.nodes import Buffer, Const, Load, Var


def test_a_default_and_its_value_make_the_same_node() -> None:
    x = Buffer("x", DType.INT8, 3)
    assert Var("a") is Var("a", DType.INT64, 1, 0)
    assert Load(x, Var("i")) is Load(x, Var("i"), None)


def test_constants_differ_by_their_bits() -> None:
    assert Const(0.0, DType.FLOAT32) is not Const(-0.0, DType.FLOAT32)
    assert Const(float("nan"), DType.FLOAT32) is Const(float("nan"), DType.FLOAT32)
    assert Const(1, DType.INT64) is not Const(1, DType.INT32)


def test_a_missing_field_is_an_error() -> None:
    with pytest.raises(TypeError):
        Var()
