"""Decoders step by step against ONNX Runtime: the cache grows in place, and is copied only where the caller has it elsewhere."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxc
from onnxc.compiler.graph.parse import parse_graph
from onnxc.compiler.graph.text import print_graph
from onnxc.compiler.pipeline import Options, make_graph
from onnxc.compiler.target import load_target

FOLDER = Path(__file__).parents[2] / "examples" / "text_generation"
PROMPTS = ([3, 5, 9, 2, 7], [4], [1], [8, 8, 6], [0])
"""Tokens of each run: the prompt, single tokens, and several at once."""


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """The example as a module."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))


def build(example: ModuleType, name: str) -> onnx.ModelProto:
    return example.MODELS[name](example.Size(words=len(example.ALPHABET), layers=1))


Compiled = Callable[..., onnxc.CompiledModel]
"""(name of the model, kv_cache=True) -> the model."""


@pytest.fixture(scope="module")
def compiled_model(example: ModuleType) -> Compiled:
    """Compiles each model once."""
    return functools.cache(lambda name, kv_cache=True: onnxc.compile(build(example, name), kv_cache=kv_cache, threads=1))


def feeds(tokens: list[int], before: int, batch: int = 1) -> dict[str, np.ndarray]:
    return {"input_ids": np.array([tokens] * batch), "attention_mask": np.ones((batch, before + len(tokens)), np.int64)}


def no_past(session: object, batch: int = 1) -> dict[str, np.ndarray]:
    shapes = {i.name: i.shape for i in session.get_inputs() if i.name.startswith("past")}  # type: ignore[attr-defined]
    return {name: np.zeros((batch, shape[1], 0, shape[3]), np.float32) for name, shape in shapes.items()}


def close(found: np.ndarray, expected: np.ndarray, error: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_runs_with_a_cache(example: ModuleType, compiled_model: Compiled, name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    model, batch = build(example, name), 2 if name == "gpt" else 1  # ONNX Runtime's limit for several tokens at once
    session, compiled = ort.InferenceSession(model.SerializeToString()), compiled_model(name)
    past, cache = no_past(session, batch), compiled.new_cache(16, batch=batch)
    places = {array: buffer.ctypes.data for array, buffer in cache.buffers.items()}
    for tokens in PROMPTS:
        inputs = feeds(tokens, cache.length, batch)
        expected = dict(zip((o.name for o in session.get_outputs()), session.run(None, {**inputs, **past}), strict=True))
        rows_before = {position: rows.copy() for position, rows in cache.rows().items()}
        outputs = compiled.run(inputs, cache)
        assert list(outputs) == ["logits"]
        close(outputs["logits"], expected["logits"])
        past = {port: expected[port.replace("past_key_values", "present")] for port in past}
        for position, rows in cache.rows().items():
            close(rows, past[compiled.inputs[position].name])
            kept = rows_before[position].shape[2]
            np.testing.assert_array_equal(rows[:, :, :kept], rows_before[position])
    assert cache.length == sum(map(len, PROMPTS))
    assert {array: buffer.ctypes.data for array, buffer in cache.buffers.items()} == places


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_runs_with_arrays(compiled_model: Compiled, name: str) -> None:
    """Without a cache object the rows are copied, and nothing that the caller has is written."""
    compiled, plain = compiled_model(name), compiled_model(name, kv_cache=False)
    past = {port.name: np.zeros((1, port.shape[1], 0, port.shape[3]), np.float32) for port in plain.inputs[2:]}  # type: ignore[arg-type]
    for tokens in PROMPTS[:2]:
        inputs = {**feeds(tokens, next(iter(past.values())).shape[2]), **past}
        before = {name: array.copy() for name, array in inputs.items()}
        found, expected = compiled.run(inputs), plain.run(inputs)
        assert list(found) == list(expected)
        for port, array in expected.items():
            close(found[port], array)
        for port, array in before.items():
            np.testing.assert_array_equal(inputs[port], array)
        past = {port: expected[port.replace("past_key_values", "present")] for port in past}


def test_the_cache_can_be_cut(compiled_model: Compiled) -> None:
    compiled = compiled_model("gpt")
    cache = compiled.new_cache(8, batch=1)
    first = compiled.run(feeds([1, 2, 3], 0), cache)["logits"]
    compiled.run(feeds([9], 3), cache)
    cache.length = 2
    np.testing.assert_array_equal(compiled.run(feeds([3], 2), cache)["logits"][:, -1], first[:, -1])
    with pytest.raises(ValueError, match="cannot be cut"):
        cache.length = 4


def test_refusals(example: ModuleType, compiled_model: Compiled) -> None:
    compiled, other = compiled_model("gpt"), compiled_model("llama")
    cache = compiled.new_cache(4, batch=1)
    for run, text in (
        (lambda: compiled.run(feeds([1] * 5, 0), cache), "has room for 4 rows, the run needs 5"),
        (lambda: other.run(feeds([1], 0), cache), "made for another model"),
        (lambda: compiled.new_cache(4), "extent 'batch' of the cache"),
        (lambda: compiled_model("gpt", kv_cache=False).new_cache(4, batch=1), "no cache that grows in place"),
        (lambda: onnxc.compile(build(example, "gpt"), "cuda:sm_80", kv_cache=True), "no caches that grow in place"),
    ):
        with pytest.raises(onnxc.CompileError, match=text):
            run()
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    relu = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ports[:1], ports[1:]))
    with pytest.raises(onnxc.CompileError, match="the model has no cache of keys and values"):
        onnxc.compile(relu, kv_cache=True)


def test_lengths_that_lie_are_found(compiled_model: Compiled) -> None:
    """A mask of another length than the rows that there are: the run ends before it writes outside of the cache."""
    compiled = compiled_model("llama")
    with pytest.raises(onnxc.CompileError, match=r"E0402.*no room"):
        compiled.run(feeds([1], 30), compiled.new_cache(4, batch=1))


def test_artifacts_keep_their_caches(compiled_model: Compiled, tmp_path: Path) -> None:
    compiled = compiled_model("llama")
    loaded = onnxc.load(compiled.save(tmp_path / "model"), threads=1)
    assert loaded.interface == compiled.interface
    header = next((tmp_path / "model").glob("*.h")).read_text()
    assert "inputs[2] is written, too: a cache with room for more rows along axis 2" in header
    found, expected = (model.run(feeds([1, 2], 0), model.new_cache(4, batch=1))["logits"] for model in (loaded, compiled))
    np.testing.assert_array_equal(found, expected)


def test_shared_buffers_of_full_length(example: ModuleType) -> None:
    """GroupQueryAttention on a buffer that has all its rows from the start, as ONNX Runtime's generator passes it."""
    ort = pytest.importorskip("onnxruntime")
    model = build(example, "llama")
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past", "present")):
            value.type.tensor_type.shape.dim[2].dim_value = 12
    session, compiled = ort.InferenceSession(model.SerializeToString()), onnxc.compile(model, kv_cache=True, threads=1)
    cache = compiled.new_cache(12, batch=1)
    shared: Mapping[str, np.ndarray] = {port.name: np.zeros((1, 2, 12, 16), np.float32) for port in compiled.inputs[2:]}
    before = 0
    for tokens in PROMPTS[:3]:
        inputs = feeds(tokens, before)
        expected = dict(zip((o.name for o in session.get_outputs()), session.run(None, {**inputs, **shared}), strict=True))
        close(compiled.run(inputs, cache)["logits"], expected["logits"])
        shared = {port: expected[port.replace("past_key_values", "present")] for port in shared}
        before += len(tokens)


def test_narrow_floats(example: ModuleType) -> None:
    """A cache of float16 between sums in float32."""
    ort = pytest.importorskip("onnxruntime")
    model = build(example, "gpt")
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).clip(-6e4, 6e4).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    session, compiled = ort.InferenceSession(model.SerializeToString()), onnxc.compile(model, kv_cache=True, threads=1)
    past: Mapping[str, np.ndarray] = {name: array.astype(np.float16) for name, array in no_past(session).items()}
    cache = compiled.new_cache(8, batch=1)
    for tokens in PROMPTS[:2]:
        inputs = feeds(tokens, cache.length)
        expected = dict(zip((o.name for o in session.get_outputs()), session.run(None, {**inputs, **past}), strict=True))
        close(compiled.run(inputs, cache)["logits"].astype(np.float32), expected["logits"].astype(np.float32), 3e-3)
        past = {port: expected[port.replace("past_key_values", "present")] for port in past}
    assert {buffer.dtype for buffer in cache.buffers.values()} == {np.dtype(np.float16)}


def test_the_text_of_a_graph_says_what_grows(example: ModuleType) -> None:
    graph = make_graph(build(example, "llama"), load_target("cpu"), Options(kv_cache=True), {})
    arrays = dict(graph.constants)
    assert parse_graph(print_graph(graph), arrays).caches == graph.caches
    assert {cache.output for cache in graph.caches} == {"present.0.key", "present.0.value"}


def test_the_example_generates_the_same_text_as_whole_runs(example: ModuleType, compiled_model: Compiled) -> None:
    """Token by token with the cache, and each token from the whole text so far without one."""
    prompt, whole = example.encode("Once upon a time"), compiled_model("gpt", kv_cache=False)
    text = list(example.generate(compiled_model("gpt"), prompt, 12))
    empty = {port.name: np.zeros((1, port.shape[1], 0, port.shape[3]), np.float32) for port in whole.inputs[2:]}  # type: ignore[arg-type]
    for count, token in enumerate(text):
        tokens = [*prompt, *text[:count]]
        assert int(whole.run({**feeds(tokens, 0), **empty})["logits"][0, -1].argmax()) == token
    assert example.encode(example.decode(text)) == text
