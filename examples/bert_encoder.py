"""Builds a BERT encoder as an ONNX model, with weights from a seed: the architecture of BERT at a size of choice.

python examples/bert_encoder.py bert.onnx --layers 4
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Size:
    """Size of the encoder; the defaults are those of BERT-mini with fewer words."""

    layers: int = 4
    hidden: int = 256
    heads: int = 4
    intermediate: int = 1024
    words: int = 2000
    positions: int = 128


class _Builder:
    """Collects nodes and weights; names follow the layer they belong to."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def op(self, op_type: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str, *shape: int) -> str:
        scale = 1.0 / math.sqrt(shape[0]) if len(shape) == 2 else 0.1
        return self.constant(name, (self._random.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, name: str, data: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(data, name))
        return name

    def ints(self, name: str, values: Sequence[int]) -> str:
        return self.constant(name, np.array(values, np.int64))

    def linear(self, name: str, x: str, inputs: int, outputs: int) -> str:
        product = self.op("MatMul", f"{name}.matmul", x, self.weight(f"{name}.weight", inputs, outputs))
        return self.op("Add", f"{name}.bias_add", product, self.weight(f"{name}.bias", outputs))

    def norm(self, name: str, x: str, hidden: int) -> str:
        scale = self.constant(f"{name}.scale", 1 + 0.1 * self._random.standard_normal(hidden).astype(np.float32))
        return self.op("LayerNormalization", name, x, scale, self.weight(f"{name}.shift", hidden), axis=-1, epsilon=1e-12)


def build(size: Size = Size(), *, batch: int | str = 1, sequence: int | str = 128, seed: int = 0) -> onnx.ModelProto:
    """Build the model.

    Args:
        size: of the encoder.
        batch: extent of the batch, or a name for a symbolic one.
        sequence: extent of the sequence, or a name.
        seed: of the weights.

    Returns:
        A model from `input_ids` [batch, sequence] int64 and `attention_mask` [batch, sequence] int64 to
        `last_hidden_state` [batch, sequence, hidden] float32.
    """
    b = _Builder(seed)
    x = _embed(b, size)
    bias = _mask_bias(b)
    for layer in range(size.layers):
        x = _layer(b, f"layer{layer}", x, bias, size)
    b.op("Identity", "last_hidden_state", x)
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, sequence]) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [batch, sequence, size.hidden])
    graph = helper.make_graph(b.nodes, "bert_encoder", ids, [output], b.weights)
    model = helper.make_model(graph, producer_name="onnxc-examples", opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _embed(b: _Builder, size: Size) -> str:
    words = b.op("Gather", "embed.words", b.weight("embed.word_table", size.words, size.hidden), "input_ids")
    length = b.op("Shape", "embed.length", "input_ids", start=1, end=2)
    table = b.weight("embed.position_table", size.positions, size.hidden)
    positions = b.op("Slice", "embed.positions", table, b.ints("embed.zero", [0]), length, b.ints("embed.axis", [0]))
    return b.norm("embed.norm", b.op("Add", "embed.sum", words, positions), size.hidden)


def _mask_bias(b: _Builder) -> str:
    """[batch, 1, 1, sequence]: 0 where the mask is 1, a large negative number where it is 0."""
    mask = b.op("Cast", "mask.float", "attention_mask", to=TensorProto.FLOAT)
    wide = b.op("Unsqueeze", "mask.wide", mask, b.ints("mask.axes", [1, 2]))
    absent = b.op("Sub", "mask.absent", b.constant("mask.one", np.float32(1)), wide)
    return b.op("Mul", "mask.bias", absent, b.constant("mask.large", np.float32(-1e4)))


def _layer(b: _Builder, name: str, x: str, bias: str, size: Size) -> str:
    attended = b.op("Add", f"{name}.attention.residual", _attention(b, f"{name}.attention", x, bias, size), x)
    middle = b.norm(f"{name}.attention.norm", attended, size.hidden)
    wide = b.op("Gelu", f"{name}.gelu", b.linear(f"{name}.up", middle, size.hidden, size.intermediate))
    narrow = b.linear(f"{name}.down", wide, size.intermediate, size.hidden)
    return b.norm(f"{name}.norm", b.op("Add", f"{name}.residual", narrow, middle), size.hidden)


def _attention(b: _Builder, name: str, x: str, bias: str, size: Size) -> str:
    width = size.hidden // size.heads
    split = b.ints(f"{name}.split", [0, 0, size.heads, width])
    q, k, v = (b.op("Reshape", f"{name}.{p}.heads", b.linear(f"{name}.{p}", x, size.hidden, size.hidden), split) for p in "qkv")
    q = b.op("Transpose", f"{name}.q.t", q, perm=[0, 2, 1, 3])
    k = b.op("Transpose", f"{name}.k.t", k, perm=[0, 2, 3, 1])
    v = b.op("Transpose", f"{name}.v.t", v, perm=[0, 2, 1, 3])
    scores = b.op("Div", f"{name}.scaled", b.op("MatMul", f"{name}.scores", q, k), b.constant(f"{name}.root", np.float32(math.sqrt(width))))
    shares = b.op("Softmax", f"{name}.softmax", b.op("Add", f"{name}.masked", scores, bias), axis=-1)
    mixed = b.op("Transpose", f"{name}.mixed.t", b.op("MatMul", f"{name}.mixed", shares, v), perm=[0, 2, 1, 3])
    joined = b.op("Reshape", f"{name}.joined", mixed, b.ints(f"{name}.join", [0, 0, size.hidden]))
    return b.linear(f"{name}.out", joined, size.hidden, size.hidden)


def sample_inputs(size: Size = Size(), *, batch: int = 1, sequence: int = 128, seed: int = 0) -> dict[str, np.ndarray]:
    """Word numbers at random, with the last quarter of each sentence masked."""
    ids = np.random.default_rng(seed).integers(0, size.words, (batch, sequence), dtype=np.int64)
    mask = np.ones((batch, sequence), np.int64)
    mask[:, sequence - sequence // 4 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def main() -> None:
    """Write a model file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dynamic", action="store_true", help="leave batch and sequence symbolic")
    arguments = parser.parse_args()
    extents = {"batch": "batch", "sequence": "sequence"} if arguments.dynamic else {}
    onnx.save(build(Size(layers=arguments.layers), **extents), arguments.output)


if __name__ == "__main__":
    main()
