"""Makes the modules beside the tests importable, and compiles for tests that quantize the same network in several ways."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from onnxc.compiler.graph.nodes import Graph
from onnxc.compiler.graph.text import print_graph
from onnxc.compiler.quantize import execute, quantize, shadow

sys.path.insert(0, str(Path(__file__).parent))

COMPILED: dict[tuple[str, tuple[str, ...]], execute.Run] = {}


@pytest.fixture
def compiles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantizer compiles no graph again that such a test has compiled before: that takes most of the time."""

    def runner(graph: Graph, names: Sequence[str]) -> execute.Run:
        key = print_graph(graph), tuple(names)
        if key not in COMPILED:
            COMPILED[key] = execute.runner(graph, names)
        return COMPILED[key]

    for module in (quantize, shadow):
        monkeypatch.setattr(module, "runner", runner)
