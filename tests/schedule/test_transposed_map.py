"""Maps that read across their output: tiles of all sizes, with rests of both axes, in the interpreter and on this machine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

import onnxc
from onnxc.compiler.kernel.nodes import Alloc, Kernel
from onnxc.compiler.kernel.traverse import walk_statements
from onnxc.compiler.program.interpret import run_program

from ..lowered import program_of

TARGETS = ("cpu:x86-64-v4", "cpu:x86-64-v3", "cpu:aarch64,cortex-a72")
TYPES = {"bool": "?", "uint8": "u1", "float16": "f2", "int16": "i2", "float": "f4", "int64": "i8"}


def _model(text: str) -> onnx.ModelProto:
    found: onnx.ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    return found


def _transpose(dtype: str, shape: object, perm: tuple[int, ...], result: object) -> onnx.ModelProto:
    return _model(f"g ({dtype}[{_list(shape)}] x) => ({dtype}[{_list(result)}] y) {{ y = Transpose<perm=[{_list(perm)}]>(x) }}")


def _list(items: object) -> str:
    return ", ".join(map(str, items))  # type: ignore[call-overload]


def _numbers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 101 % 100).astype(TYPES[dtype])


def _tiles(kernels: dict[str, Kernel]) -> int:
    allocs = [s for kernel in kernels.values() for s in walk_statements(kernel.body) if isinstance(s, Alloc)]
    return sum(alloc.buffer.name.startswith("tile") for alloc in allocs)


@pytest.mark.parametrize("target", TARGETS)
def test_tiles_have_the_meaning_of_the_map(target: str) -> None:
    """With rests along both axes, a scale along the output and an operand that runs along it, from bytes to floats."""
    model = _model(
        """g (uint8[9,3,18] x, float[3,18,9] z) => (float[3,18,9] y) {
            t = Transpose<perm=[1,2,0]>(x)
            f = Cast<to=1>(t)
            y = Add(f, z)
        }"""
    )
    x, z = _numbers("uint8", (9, 3, 18)), _numbers("float", (3, 18, 9))
    program = program_of(model, target)
    assert _tiles(dict(program.kernels)) == 1
    np.testing.assert_array_equal(run_program(program, {"x": x, "z": z})["y"], x.transpose(1, 2, 0).astype(np.float32) + z)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("perm", [(1, 2, 0), (0, 2, 1), (2, 1, 0)], ids=str)
def test_elements_of_all_sizes(dtype: str, perm: tuple[int, ...]) -> None:
    for shape in ((35, 3, 33), (4, 5, 6), (8, 0, 9)):
        x = _numbers(dtype, shape)
        compiled = onnxc.compile(_transpose(dtype, shape, perm, [shape[axis] for axis in perm]), cache=False, threads=2)
        np.testing.assert_array_equal(compiled(x), x.transpose(perm))


def test_unknown_extents() -> None:
    """One kernel for extents with whole tiles, with rests, too short for a tile, and empty."""
    compiled = onnxc.compile(_transpose("float", "ABC", (2, 0, 1), "CAB"), cache=False)
    for shape in ((16, 1, 24), (3, 11, 21), (40, 2, 3), (1, 2, 50), (0, 4, 9), (9, 4, 0)):
        x = _numbers("float", shape)
        np.testing.assert_array_equal(compiled(x), x.transpose(2, 0, 1))


def test_loads_of_a_branch_stay_in_it() -> None:
    """What a select does not choose is not read: elements outside of the operand."""
    model = _model(
        """g (float[12,10] x) => (float[14,12] y) {
            t = Transpose<perm=[1,0]>(x)
            p = Constant<value_ints=[2,0,2,0]>()
            y = Pad(t, p)
        }"""
    )
    x = _numbers("float", (12, 10))
    np.testing.assert_array_equal(run_program(program_of(model, "cpu:x86-64-v3"), {"x": x})["y"], np.pad(x.T, ((2, 2), (0, 0))))
