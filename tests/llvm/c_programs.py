"""Models as C programs use them: the program's text, how it is built against a saved model, and what it should write."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

import onnxc

HEAD = '<ir_version: 9, opset_import: ["" : 18]>'
MLP = (
    f"""{HEAD}
mlp (float[N, 32] x) => (float[N, 10] y) <float[32, 48] w1, float[48] b1, float[48, 10] w2> {{
    h = MatMul (x, w1)
    s = Add (h, b1)
    r = Tanh (s)
    z = MatMul (r, w2)
    y = Softmax <axis = -1> (z)
}}""",
    {"w1": (32, 48), "b1": (48,), "w2": (48, 10)},
)
CNN = (
    f"""{HEAD}
cnn (float[1, 3, 12, 12] image) => (float[1, 5] scores) <float[8, 3, 3, 3] k, float[8] b, float[8, 1, 3, 3] d, float[8, 5] w> {{
    c = Conv <pads = [1, 1, 1, 1]> (image, k, b)
    r = Relu (c)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    e = Conv <group = 8, pads = [1, 1, 1, 1]> (m, d)
    g = GlobalAveragePool (e)
    f = Flatten (g)
    scores = MatMul (f, w)
}}""",
    {"k": (8, 3, 3, 3), "b": (8,), "d": (8, 1, 3, 3), "w": (8, 5)},
)
INPUTS = {"mlp": (3, 32), "cnn": (1, 3, 12, 12)}
TEXTS = {"mlp": MLP, "cnn": CNN}
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]

# Reads the input from a file and writes the output to another; weights from a file unless they are embedded.
MAIN = r"""
#define ONNXC_LOAD_WEIGHTS
#include "NAME.h"
#include <string.h>

static int32_t on_one_thread(void *context, onnxc_task task, void *args, int64_t n) {
  int32_t worst = 0;
  for (int64_t k = n - 1; k >= 0; --k) {
    int32_t status = task(args, k, k + 1);
    if (status > worst) worst = status;
  }
  ++*(int *)context;
  return worst;
}

int main(int argc, char **argv) {
  if (argc < 5) return 100;
  static float x[4096], y[4096];
  int64_t symbols[] = {3}, extents[8];
  FILE *file = fopen(argv[1], "rb");
  if (!file || !fread(x, sizeof *x, 4096, file)) return 101;
  fclose(file);
#ifdef MACRO_HAS_WEIGHTS
  const void *weights = NAME_weights;
#else
  void *weights = NAME_load_weights(argv[3]);
  if (NAME_load_weights(argv[1])) return 107; /* of another size */
#endif
  if (!weights) return 102;
  size_t arena_bytes = (size_t)(NAME_arena_bytes(symbols) / MACRO_ALIGN + 1) * MACRO_ALIGN;
  void *arena = aligned_alloc(MACRO_ALIGN, arena_bytes);
  int loops = 0;
  onnxc_parallel_for mine = {0, on_one_thread, &loops};
  onnxc_pool *pool = onnxc_pool_create(2);
  void *pools[] = {NULL, pool, &mine};
  const void *inputs[MACRO_INPUTS] = {x};
  void *outputs[MACRO_OUTPUTS] = {y};
  NAME_output_shapes(symbols, extents);
  size_t count = (size_t)(extents[0] * extents[1]);
  static float first[4096];
  for (int k = 0; k < 3; ++k) {
    memset(y, 0x55, sizeof y);
    if (NAME_run(inputs, outputs, symbols, weights, arena, pools[k])) return 103;
    if (k == 0) memcpy(first, y, sizeof y);
    if (memcmp(first, y, count * sizeof *y)) return 104;
  }
  onnxc_pool_destroy(pool);
  file = fopen(argv[2], "wb");
  if (!file || fwrite(y, sizeof *y, count, file) != count) return 105;
  fclose(file);
  printf("%d", loops);
  return 0;
}
"""


def make(name: str, seed: int = 0) -> onnx.ModelProto:
    """A model with random weights."""
    text, shapes = TEXTS[name]
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for weight, shape in shapes.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32) / 4, weight))
    return model


def data(name: str) -> np.ndarray:
    """The input of a model."""
    return np.random.default_rng(7).standard_normal(INPUTS[name], dtype=np.float32)


@functools.cache
def expected(name: str) -> np.ndarray:
    """What this process computes of it."""
    found = onnxc.compile(make(name), cache=False)(data(name))
    assert isinstance(found, np.ndarray)
    return found


def built(folder: Path, name: str, gcc: str, products: Path, libraries: list[str]) -> Path:
    """A program of the C text above."""
    (folder / "main.c").write_text(MAIN.replace("NAME", name).replace("MACRO", name.upper()))
    command = [gcc, *STRICT, "main.c", f"-I{products}", f"-L{products}", *libraries, "-lpthread", "-lm", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "main"


def called(folder: Path, program: list[str], name: str, products: Path, shape: tuple[int, ...]) -> np.ndarray:
    """What the program writes."""
    data(name).tofile(folder / "in.bin")
    arguments = [*program, "in.bin", "out.bin", str(products / "weights.bin"), "-"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return np.fromfile(folder / "out.bin", np.float32).reshape(shape)
