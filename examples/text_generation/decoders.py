"""Builds two small decoders as ONNX models, with weights from a seed and a cache of keys and values.

`gpt` is written as PyTorch exports GPT-2: plain operators, and `present = Concat(past, new)`. `llama` is written as ONNX
Runtime's model builder writes Llama: GroupQueryAttention with rotary embedding, and weights of four bits (MatMulNBits).
Both take any number of tokens behind any number of earlier ones, so that one model serves the prompt and each next token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
BLOCK = 32
"""Weights that share a scale."""


@dataclass(frozen=True)
class Size:
    """Size of a decoder."""

    words: int
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    key_heads: int = 2
    """Heads of keys and values in `llama`, where several heads of queries share one."""
    inner: int = 128
    positions: int = 512

    @property
    def head(self) -> int:
        """Size of a head."""
        return self.hidden // self.heads


class _Builder:
    """Collects nodes, weights, and the inputs and outputs of the caches."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)
        names = {"input_ids": "sequence", "attention_mask": "total"}
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", extent]) for name, extent in names.items()]
        self.outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", size.words])]

    def op(self, op_type: str, name: str, *inputs: str, more: Sequence[str] = (), domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, list(inputs), [name, *more], name=name, domain=domain, **attributes))
        return name

    def constant(self, name: str, data: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(data, name))
        return name

    def ints(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def matrix(self, name: str, *shape: int) -> str:
        return self.constant(name, (self.random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))

    def scale(self, name: str) -> str:
        return self.constant(name, self.random.uniform(0.8, 1.2, self.size.hidden).astype(np.float32))

    def linear(self, name: str, x: str, rows: int, columns: int) -> str:
        return self.op("MatMul", name, x, self.matrix(f"{name}.weight", rows, columns))

    def linear_int4(self, name: str, x: str, rows: int, columns: int) -> str:
        """A product with weights of four bits, two in a byte, and a scale for each block of them."""
        codes = self.random.integers(0, 256, (columns, rows // BLOCK, BLOCK // 2)).astype(np.uint8)
        scales = (self.random.uniform(0.1, 0.3, columns * rows // BLOCK) / np.sqrt(rows)).astype(np.float32)
        operands = (self.constant(f"{name}.codes", codes), self.constant(f"{name}.scales", scales))
        attributes = {"K": rows, "N": columns, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
        return self.op("MatMulNBits", name, x, *operands, domain=MICROSOFT, **attributes)

    def cache(self, layer: int, heads: int) -> list[tuple[str, str]]:
        """Names of past and present of keys and values."""
        found = []
        for part in ("key", "value"):
            past, present = f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"
            self.inputs.append(helper.make_tensor_value_info(past, TensorProto.FLOAT, ["batch", heads, "past", self.size.head]))
            self.outputs.append(helper.make_tensor_value_info(present, TensorProto.FLOAT, ["batch", heads, "total", self.size.head]))
            found.append((past, present))
        return found

    def model(self, name: str) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, producer_name="onnxc-examples", opset_imports=opsets, ir_version=10)


# --- GPT --------------------------------------------------------------------------------------


def gpt(size: Size, seed: int = 0) -> onnx.ModelProto:
    """Layer normalization, learned positions, GELU; the cache is a `Concat`."""
    b = _Builder(size, seed)
    x = b.op("Add", "embedded", b.op("Gather", "words", b.matrix("words.table", size.words, size.hidden), "input_ids"), _positions(b))
    bias = _causal_bias(b)
    for layer in range(size.layers):
        name = f"layer{layer}"
        x = b.op("Add", f"{name}.attended", x, _attention(b, layer, _normalized(b, f"{name}.norm1", x), bias))
        wide = b.op("Gelu", f"{name}.gelu", b.linear(f"{name}.up", _normalized(b, f"{name}.norm2", x), size.hidden, size.inner))
        x = b.op("Add", f"{name}.out", x, b.linear(f"{name}.down", wide, size.inner, size.hidden))
    b.linear("logits", _normalized(b, "norm", x), size.hidden, size.words)
    return b.model("gpt")


def _normalized(b: _Builder, name: str, x: str) -> str:
    return b.op("LayerNormalization", name, x, b.scale(f"{name}.scale"), axis=-1)


def _positions(b: _Builder) -> str:
    """Embeddings of the last positions of all: those of the new tokens."""
    b.op("Shape", "length", "input_ids", start=1, end=2)
    b.op("Shape", "total_length", "attention_mask", start=1, end=2)
    b.op("Sub", "past_length", "total_length", "length")
    table = b.matrix("positions.table", b.size.positions, b.size.hidden)
    return b.op("Slice", "positions", table, "past_length", "total_length", b.ints("zero", 0))


def _causal_bias(b: _Builder) -> str:
    """`[sequence, total]`: 0 for keys that a query may see, a large negative number for those of later tokens."""
    b.op("Squeeze", "total.scalar", "total_length")
    b.op("Squeeze", "past.scalar", "past_length")
    zero, one = b.constant("scalar.zero", np.int64(0)), b.constant("scalar.one", np.int64(1))
    keys = b.op("Range", "keys.places", zero, "total.scalar", one)
    queries = b.op("Unsqueeze", "queries.places", b.op("Range", "queries", "past.scalar", "total.scalar", one), b.ints("one", 1))
    later = b.op("Greater", "later", keys, queries)
    return b.op("Where", "bias", later, b.constant("large", np.float32(-1e9)), b.constant("nothing", np.float32(0)))


def _attention(b: _Builder, layer: int, x: str, bias: str) -> str:
    size, name = b.size, f"layer{layer}"
    parts = []
    for part in "qkv":
        flat = b.op("Reshape", f"{name}.{part}.heads", b.linear(f"{name}.{part}", x, size.hidden, size.hidden),
                    b.ints(f"{name}.{part}.shape", 0, 0, size.heads, size.head))  # fmt: skip
        parts.append(b.op("Transpose", f"{name}.{part}.turned", flat, perm=[0, 2, 1, 3]))
    query, *new = parts
    key, value = (b.op("Concat", present, past, x, axis=2) for (past, present), x in zip(b.cache(layer, size.heads), new, strict=True))
    turned = b.op("Transpose", f"{name}.keys", key, perm=[0, 1, 3, 2])
    scaled = b.op("Mul", f"{name}.scaled", query, b.constant(f"{name}.scale", np.float32(size.head**-0.5)))
    scores = b.op("Add", f"{name}.masked", b.op("MatMul", f"{name}.scores", scaled, turned), bias)
    mixed = b.op("MatMul", f"{name}.mixed", b.op("Softmax", f"{name}.shares", scores, axis=-1), value)
    joined = b.op("Reshape", f"{name}.joined", b.op("Transpose", f"{name}.back", mixed, perm=[0, 2, 1, 3]),
                  b.ints(f"{name}.join", 0, 0, size.hidden))  # fmt: skip
    return b.linear(f"{name}.o", joined, size.hidden, size.hidden)


# --- Llama ------------------------------------------------------------------------------------


def llama(size: Size, seed: int = 0) -> onnx.ModelProto:
    """RMS normalization, rotary positions, gated SiLU, grouped queries, weights of four bits."""
    b = _Builder(size, seed)
    _lengths(b)
    angles = np.outer(np.arange(size.positions), 10000.0 ** -(np.arange(0, size.head, 2) / size.head)).astype(np.float32)
    b.constant("cos", np.cos(angles)), b.constant("sin", np.sin(angles))
    x = b.op("Gather", "words", b.matrix("words.table", size.words, size.hidden), "input_ids")
    h = b.op("SimplifiedLayerNormalization", "norm", x, b.scale("norm.scale"), axis=-1, epsilon=1e-5)
    for layer in range(size.layers):
        x, h = _skip(b, f"layer{layer}.norm1", x, _grouped_attention(b, layer, h))
        x, h = _skip(b, f"layer{layer}.norm2", x, _gated(b, f"layer{layer}", h))
    b.linear_int4("logits", h, size.hidden, size.words)
    return b.model("llama")


def _lengths(b: _Builder) -> None:
    """Number of the last token of each sequence, and the length of all, as GroupQueryAttention wants them."""
    sums = b.op("ReduceSum", "mask.sum", "attention_mask", b.ints("one", 1), keepdims=0)
    b.op("Cast", "last", b.op("Sub", "mask.last", sums, "one"), to=TensorProto.INT32)
    total = b.op("Gather", "mask.total", b.op("Shape", "mask.shape", "attention_mask"), b.constant("axis", np.int64(1)))
    b.op("Cast", "total", total, to=TensorProto.INT32)


def _grouped_attention(b: _Builder, layer: int, x: str) -> str:
    size, name = b.size, f"layer{layer}"
    widths = {"q": size.hidden, "k": size.key_heads * size.head, "v": size.key_heads * size.head}
    parts = [b.linear_int4(f"{name}.{part}", x, size.hidden, width) for part, width in widths.items()]
    (past_key, key), (past_value, value) = b.cache(layer, size.key_heads)
    attended = b.op(
        "GroupQueryAttention", f"{name}.attention", *parts, past_key, past_value, "last", "total", "cos", "sin", more=(key, value),
        domain=MICROSOFT, num_heads=size.heads, kv_num_heads=size.key_heads, do_rotary=1,
    )  # fmt: skip
    return b.linear_int4(f"{name}.o", attended, size.hidden, size.hidden)


def _gated(b: _Builder, name: str, x: str) -> str:
    gate, up = (b.linear_int4(f"{name}.{part}", x, b.size.hidden, b.size.inner) for part in ("gate", "up"))
    silu = b.op("Mul", f"{name}.silu", gate, b.op("Sigmoid", f"{name}.sigmoid", gate))
    return b.linear_int4(f"{name}.down", b.op("Mul", f"{name}.gated", silu, up), b.size.inner, b.size.hidden)


def _skip(b: _Builder, name: str, x: str, branch: str) -> tuple[str, str]:
    """The sum of a branch and what goes around it, as it is and normalized."""
    operands, attributes = (x, branch, b.scale(f"{name}.scale")), {"domain": MICROSOFT, "epsilon": 1e-5}
    b.op("SkipSimplifiedLayerNormalization", f"{name}.out", *operands, more=("", "", f"{name}.sum"), **attributes)  # type: ignore[arg-type]
    return f"{name}.sum", f"{name}.out"
