"""Which schedule and which tile things get."""

import pytest
from onnx import parser

import onnxc
from onnxc.passes.kernel.place_on_grid import block_size
from onnxc.passes.kernel.schedule_grid_contraction import choose_tile


@pytest.mark.parametrize(
    ("batch", "rows", "columns", "largest", "tile"),
    [
        (1, 4096, 4096, 128, (128, 128)),
        (1, 4096, 4096, 64, (64, 64)),
        (1, 100, 100, 128, (32, 32)),  # large tiles would leave most multiprocessors idle
        (64, 512, 64, 128, (128, 64)),
        (1, 9, 1 << 16, 128, (16, 128)),
    ],
)
def test_tiles_are_large_if_that_leaves_enough_blocks(batch, rows, columns, largest, tile):
    assert choose_tile(batch, rows, columns, largest) == tile


def test_blocks_are_small_for_few_iterations():
    assert [block_size(n) for n in (1, 33, 1000, 1 << 20)] == [32, 64, 64, 256]


@pytest.mark.parametrize(
    ("text", "launch"),
    [
        ("(float[1000,7] x) => (float[1000,7] y) { y = Softmax(x) }", "16, 64, false"),  # a thread for each row
        ("(float[1000,700] x) => (float[1000,700] y) { y = Softmax(x) }", "1000, 256, true"),  # a block for each row
        ("(float[5000,16] x, float[16,16] w) => (float[5000,16] y) { y = MatMul(x, w) }", "79, 256, true"),  # tiles of 64 x 16
        ("(float[3000] x) => (float[3000] y) { y = Neg(x) }", "47, 64, false"),
    ],
)
def test_the_launch_of_a_kernel(text, launch):
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> m {text}')
    source = onnxc.compile(model, target="cuda", cache=False).artifact.files()["m.cu"].decode()
    lines = [line for line in source.splitlines() if "ONNXC_LAUNCH(" in line and "stream, (" in line]
    assert len(lines) == 1
    assert f", {launch}, stream" in lines[0]
