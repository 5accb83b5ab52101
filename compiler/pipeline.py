"""The stages of a compile, one after another: graph, passes, program. `driver.py` puts files and the cache around them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from .diagnostics import CompileError
from .pass_runner import Timing, Verify, run_passes
from .watch import GRAPHS, GROUPS, TARGET, is_wanted, show

if TYPE_CHECKING:
    import onnx

    from .graph.nodes import Graph
    from .pass_runner import Pass
    from .program.nodes import Program
    from .target import Target

Model: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto"
"""What is compiled: a path, the bytes of a model, or a model."""
T = TypeVar("T")
FRONTEND = "frontend"
"""Name of the first stage where passes are named."""


@dataclass(frozen=True, slots=True)
class Options:
    """What changes the result of a compile, besides model and target."""

    bind: Mapping[str, int] = field(default_factory=dict)
    """Extents for symbolic dimensions."""
    max: Mapping[str, int] = field(default_factory=dict)
    """Upper bounds for symbolic dimensions."""
    name: str = ""
    """Name of the model in the products; empty for that of its graph."""
    max_ram: int | None = None
    """Bytes of working memory that the model may take."""
    max_flash: int | None = None
    """Bytes of weights and code that the model may take."""
    kv_cache: bool = False
    """Whether caches of keys and values grow in place, in memory that the caller keeps."""

    def as_record(self) -> dict[str, int | str]:
        """The options by name, for the deployment record."""
        found: dict[str, int | str] = {f"bind {name}": value for name, value in self.bind.items()}
        found |= {f"max {name}": value for name, value in self.max.items()}
        limits = {"max-ram": self.max_ram, "max-flash": self.max_flash}
        found |= {name: value for name, value in limits.items() if value is not None}
        found |= {"kv-cache": 1} if self.kv_cache else {}
        return found | ({"name": self.name} if self.name else {})


def make_graph(source: Model, target: Target, options: Options, seconds: dict[str, float], stop_after: str = "") -> Graph:
    """Read a model and run the target's passes over its graph.

    Args:
        source: the model.
        target: whose passes to run.
        options: what the user wants of it.
        seconds: gets the time of each pass.
        stop_after: name of the pass after which to stop; empty to run all.

    Raises:
        CompileError: for every fault of the model.
    """
    from .frontend import load_graph
    from .graph.verify import verify

    graph = timed(seconds, FRONTEND, lambda: load_graph(source, bind=options.bind, max=options.max))
    if options.name:
        graph = replace(graph, name=options.name)
    shown = _Shown()
    shown.after(FRONTEND, graph, 0.0)
    if stop_after == FRONTEND:
        return graph
    checks: tuple[Verify[Graph], ...] = (Verify(verify),) if is_wanted(GRAPHS) else ()
    return run_passes(graph, _passes(target, options), (Timing(seconds), shown, *checks), stop_after)


def _passes(target: Target, options: Options) -> tuple[Pass[Graph], ...]:
    """The passes of a target over a graph; E0301 if it has none for what the user wants."""
    passes, cache_pass = target.pipeline.graph_passes, target.pipeline.cache_pass
    if not options.kv_cache:
        return passes
    if cache_pass is None:
        raise CompileError("E0301", f"target {target.name} has no caches that grow in place", hint="leave --kv-cache out, or use: -t cpu")
    return (*passes, cache_pass)


def make_program(graph: Graph, target: Target, seconds: dict[str, float]) -> Program:
    """Form groups, schedule them and plan the memory.

    Raises:
        CompileError: E0302 for nodes that the target cannot run, all of them at once.
    """
    from .program.text import print_program, print_schedules

    program = timed(seconds, "lower", lambda: target.pipeline.build(graph))
    show(GROUPS, "schedules.txt", lambda: print_schedules(program))
    show(GROUPS, "program.txt", lambda: print_program(program))
    for stage in ("llvm", "source"):
        if is_wanted(TARGET) and stage in target.pipeline.stages:
            for name, text in target.pipeline.stages[stage](program).items():
                show(TARGET, name, text.decode)
    return program


def stage_files(source: Model, target: Target, options: Options, stage: str, stop_after: str = "") -> dict[str, bytes]:
    """The text (or bytes) of one stage of a compile, by file name.

    Args:
        source: the model.
        target: what to compile for.
        options: what the user wants of it.
        stage: one of `stage_names(target)`.
        stop_after: for the stage `graph`, the pass after which to look.
    """
    from .graph.text import print_graph
    from .kernel.text import print_kernel
    from .program.text import print_program

    if stage == "onnx":
        from .simplified import model_files, simplified_model

        return model_files(simplified_model(source, target, options), "model.onnx")
    seconds: dict[str, float] = {}
    graph = make_graph(source, target, options, seconds, stop_after)
    if stage == "graph":
        return {"model.graph": print_graph(graph).encode()}
    program = make_program(graph, target, seconds)
    if stage == "kernel":
        return {f"{name}.kernel": print_kernel(kernel).encode() for name, kernel in program.kernels.items()}
    if stage == "program":
        return {"program.txt": print_program(program).encode()}
    return dict(target.pipeline.stages[stage](program))


def stage_names(target: Target) -> tuple[str, ...]:
    """What `stage_files` can show for a target."""
    return ("graph", "onnx", "kernel", "program", *target.pipeline.stages)


def pass_names(target: Target) -> tuple[str, ...]:
    """Where `make_graph` can stop."""
    return (FRONTEND, *(graph_pass.name for graph_pass in target.pipeline.graph_passes))


def timed(seconds: dict[str, float], name: str, work: Callable[[], T]) -> T:
    """Do something and add its time to a table."""
    started = time.perf_counter()
    try:
        return work()
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


class _Shown:
    """Shows the graph after each pass; an instrument of `run_passes`."""

    def after(self, name: str, ir: Graph, seconds: float) -> None:
        """See `pass_runner.Instrument`."""
        from .graph.text import print_graph

        show(GRAPHS, f"{name}.graph", lambda: print_graph(ir))
