"""Operators that are refused by name come with what to do about them."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.frontend.remedies import OPERATORS
from onnxc.compiler.ops.table import lookup

CASES = [
    ("com.microsoft", "EPContext", "take the model that it was made of"),
    ("com.microsoft", "GreedySearch", "docs/generate-text.md"),
    ("com.microsoft", "PagedAttention", "padded batches"),
    ("com.microsoft.nchwc", "Conv", "optimized for one CPU"),
    ("org.pytorch.aten", "ATen", "newer opset"),
]


@pytest.mark.parametrize(("domain", "op", "remedy"), CASES)
def test_the_hint_is_the_remedy(domain: str, op: str, remedy: str) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], domain=domain)], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)], ir_version=8)
    with pytest.raises(CompileError, match=f"E0201.*{op}") as caught:
        load_graph(model)
    assert remedy in caught.value.diagnostics[0].hint


def test_no_operator_of_the_table_has_a_remedy() -> None:
    assert [op for op in OPERATORS if lookup(op) is not None] == []
