"""The pass runner: order, instruments, and what happens when a pass fails."""

from __future__ import annotations

import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.graph.parse import parse_graph
from onnxc.compiler.graph.text import print_graph
from onnxc.compiler.graph.verify import verify
from onnxc.compiler.pass_runner import Pass, PassFailure, Timing, Verify, run_passes
from onnxc.passes.graph.pipeline import GRAPH_PASSES


def double(text: str) -> str:
    """Say it twice."""
    return text * 2


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def fail(text: str) -> str:
    """Go wrong."""
    raise ZeroDivisionError(text)


def blame(text: str) -> str:
    """Find a mistake of the user."""
    raise CompileError("E0203", text)


def test_passes_run_in_order_and_say_what_they_do() -> None:
    steps = (Pass(double), Pass(shout))
    assert run_passes("ab", steps) == "ABAB"
    assert [(step.name, step.doc) for step in steps] == [("double", "Say it twice."), ("shout", "Say it loudly.")]
    assert run_passes("ab", steps, stop_after="double") == "abab"


def test_instruments_see_every_result() -> None:
    timing: Timing[str] = Timing()
    seen: list[tuple[str, str]] = []
    run_passes("a", (Pass(double), Pass(shout)), (timing, Verify(lambda text, name: seen.append((name, text)))))
    assert list(timing.seconds) == ["double", "shout"]
    assert seen == [("double", "aa"), ("shout", "AA")]


def test_a_failure_names_the_pass_and_keeps_what_it_was_given() -> None:
    with pytest.raises(PassFailure, match="pass fail failed: ZeroDivisionError") as caught:
        run_passes("a", (Pass(double), Pass(fail)))
    assert caught.value.ir == "aa"


def test_a_failed_check_blames_the_pass_before_it() -> None:
    def check(text: str, name: str) -> None:
        assert text.islower(), name

    with pytest.raises(PassFailure, match="pass shout failed"):
        run_passes("a", (Pass(double), Pass(shout)), (Verify(check),))


def test_a_mistake_of_the_user_is_passed_on() -> None:
    with pytest.raises(CompileError):
        run_passes("a", (Pass(blame),))


GRAPH = """\
graph "net"(%x: float32[N, 2, 4, 4]) {
  const %w: float32[2, 2, 1, 1] = [1.0, 2.0, 3.0, 4.0]
  const %a: float32[2] = [2.0, 3.0]
  const %p: int64[8] = [0, 0, 1, 1, 0, 0, 1, 1]
  %i: float32[N, 2, 4, 4] = Identity(%x)
  %d: float32[N, 2, 6, 6] = Pad(%i, %p)
  %c: float32[N, 2, 6, 6] = Conv(%d, %w)
  %n: float32[N, 2, 6, 6] = BatchNormalization(%c, %a, %a, %a, %a) {epsilon = 0.0}
  %y: float32[N, 2, 6, 6] = Relu(%n)
  return %y
}
"""


def test_the_pipeline_leaves_one_convolution() -> None:
    result = run_passes(parse_graph(GRAPH), GRAPH_PASSES, (Verify(verify),))
    assert [node.op for node in result.nodes] == ["Conv", "Relu"]
    assert print_graph(run_passes(result, GRAPH_PASSES)) == print_graph(result)
    assert all(step.doc for step in GRAPH_PASSES)
